"""Checkpoint files to a state dict, reading tensors and nothing that can run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from masqclip.convert.pickles import is_torchscript, read_arrays, read_torchscript
from masqclip.errors import MasqclipError

# What training programs wrap the weights in: detectron2, Lightning and many others.
_WRAPPERS = ("model", "state_dict")
_PARALLEL = "module."  # what torch's data parallelism puts before every name


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a ``.safetensors``, ``.pth``, ``.pkl`` or TorchScript file.

    ``.pth`` files are read with `weights_only`, the last two by `pickles.py`. A dict that holds
    the weights under ``model`` or ``state_dict`` is unwrapped; optimizer and scheduler states
    beside them are dropped, and so is what is not a tensor.

    Raises:
        MasqclipError: the file is missing, broken, or holds anything that only an unsafe load
            could read.
    """
    file = Path(path)
    if not file.is_file():
        raise MasqclipError(f"there is no checkpoint file {str(path)!r}: check the path")
    try:
        loaded = _load(file)
    except Exception as error:  # bytes that are no checkpoint make the readers fail in any way
        cause = str(error).strip().split("\n")[0] or type(error).__name__
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
    if all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def _load(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return load_file(file)
    if file.suffix == ".pkl":
        return read_arrays(file)
    if is_torchscript(file):
        return read_torchscript(file)
    return torch.load(file, map_location="cpu", weights_only=True)
