"""Checkpoint files to a state dict, reading tensors and nothing that can run code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from masqclip.errors import MasqclipError

# What training programs wrap the weights in: detectron2, Lightning and many others.
_WRAPPERS = ("model", "state_dict")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a ``.safetensors`` file, or of a ``.pth`` read with `weights_only`.

    A dict that holds the weights under ``model`` or ``state_dict`` is unwrapped; optimizer and
    scheduler states beside them are dropped, and so is what is not a tensor.

    Raises:
        MasqclipError: the file is missing, broken, a TorchScript archive, or holds anything that
            only an unsafe load could read.
    """
    file = Path(path)
    if not file.is_file():
        raise MasqclipError(f"there is no checkpoint file {str(path)!r}: check the path")
    try:
        loaded = _load(file)
    except (
        OSError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        SafetensorError,
    ) as error:
        cause = str(error).strip().split("\n")[0]
        raise MasqclipError(
            f"the checkpoint {str(path)!r} cannot be read as plain tensors: {cause}"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    tensors = (
        {name: tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}
        if isinstance(loaded, dict)
        else {}
    )
    if not tensors:
        raise MasqclipError(f"the checkpoint {str(path)!r} holds no named tensors")
    return tensors


def _load(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return load_file(file)
    if _is_torchscript(file):
        raise MasqclipError(
            f"the checkpoint {str(file)!r} is a TorchScript archive, which holds code: save the "
            "state_dict() of torch.jit.load(...) and give that"
        )
    return torch.load(file, map_location="cpu", weights_only=True)


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
