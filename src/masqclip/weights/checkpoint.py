"""Checkpoint files to a state dict, reading tensors and nothing that can run code."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from masqclip.weights.tensor_files import named_tensors, read_tensor_file, require_finite

# What training programs wrap the weights in: detectron2, Lightning and many others.
_WRAPPERS = ("model", "state_dict")
_PARALLEL = "module."  # what torch's data parallelism puts before every name


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a ``.safetensors``, ``.pth``, ``.pkl`` or TorchScript file.

    A dict that holds the weights under ``model`` or ``state_dict`` is unwrapped; optimizer and
    scheduler states beside them are dropped, and so is what is not a tensor.

    Raises:
        MasqclipError: the file is missing, broken, or holds anything that only an unsafe load
            could read; or a number in it is NaN or infinite.
    """
    source = f"the checkpoint {str(path)!r}"
    loaded = read_tensor_file(path)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    tensors = named_tensors(loaded, source=source)
    if all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    require_finite(tensors, source=source)
    return tensors
