"""Files of tensors, of every format that is in use, and whether their numbers are numbers.

A file is a regular one; what comes out of it is no larger than what is in it; nothing of it runs.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from masqclip.data.files import READ_FLAGS
from masqclip.errors import MasqclipError
from masqclip.weights.torch_files import TorchFile

#: Names of tensors in one file: the largest models have some thousand.
MAX_TENSORS = 60_000
_LONGEST_NAME = 400
_PLAIN = "plain tensors"
# A triangle of minus infinity, which old files carry along: it is computed, not learned.
_INFINITE = ("attn_mask",)


def read_tensor_file(path: str | Path) -> Any:
    """What a file of weights holds.

    Args:
        path: ``.safetensors``; any other is told by its first bytes: torch's archives and older
            files, TorchScript, or a pickle of NumPy arrays.

    Returns:
        A dictionary of tensors, perhaps with dictionaries in it, or something else that is of no
        use. Numbers are mapped from the file, and private to the process.

    Raises:
        MasqclipError: there is no such regular file, it is damaged, or it holds anything that
            only running it could read.
    """
    if Path(path).suffix == ".safetensors":
        return read_safetensors(path, what="the checkpoint file", form=_PLAIN)[0]
    with _regular_file(path, what="the checkpoint file", form=_PLAIN) as opened:
        content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        return TorchFile(content).load()


def read_safetensors(
    path: str | Path, *, what: str, form: str = "safetensors"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, mapped from it, and its metadata.

    Args:
        path: the file.
        what: what it should be, for the errors: ``"the checkpoint"``.
        form: what its content should be, for the errors.

    Raises:
        MasqclipError: as for `read_tensor_file`.
    """
    with _regular_file(path, what=what, form=form), safe_open(path, "pt") as opened:
        names = opened.keys()
        if len(names) > MAX_TENSORS:
            raise UnpicklingError(f"it names more than {MAX_TENSORS:,} tensors")
        return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}


@contextmanager
def _regular_file(path: str | Path, *, what: str, form: str) -> Iterator[BinaryIO]:
    """A file to read tensors from; what is wrong with it, also in the block, is one line."""
    name = f"{what} {str(path)!r}"
    try:
        with os.fdopen(os.open(path, READ_FLAGS), "rb") as opened:
            about = os.fstat(opened.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise UnpicklingError("it is not a regular file")
            if about.st_size == 0:
                raise UnpicklingError("it is empty")
            yield opened
    except FileNotFoundError as error:
        raise MasqclipError(
            f"there is no {what.removeprefix('the ')} {str(path)!r}: check the path"
        ) from error
    except (OSError, UnpicklingError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error_line(error)
        raise MasqclipError(f"{name} cannot be read as {form}: {reason}") from error


def named_tensors(loaded: Any, *, source: str) -> dict[str, Tensor]:
    """The entries of a dictionary that are tensors.

    Args:
        loaded: what a file held.
        source: what it is called in errors.

    Raises:
        MasqclipError: there are none, or one has a name that no model's has.
    """
    entries = loaded.items() if isinstance(loaded, dict) else ()
    tensors = {name: entry for name, entry in entries if isinstance(entry, Tensor)}
    if not tensors:
        raise MasqclipError(f"{source} holds no named tensors: it is no file of weights")
    if len(tensors) > MAX_TENSORS:
        raise MasqclipError(f"{source} names more than {MAX_TENSORS:,} tensors, as no model does")
    for name in tensors:
        if (
            not isinstance(name, str)
            or not 0 < len(name) <= _LONGEST_NAME
            or not name.isprintable()
        ):
            shown = repr(name)[:60]
            raise MasqclipError(f"{source} holds a tensor of no usable name: {shown}")
    return tensors


@torch.no_grad()
def require_finite(tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse weights in which a number is none: a model that has one finds nothing.

    Args:
        tensors: by name.
        source: what holds them, for the error.

    Raises:
        MasqclipError: a tensor holds NaN or infinity; the message names it.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or name.endswith(_INFINITE):
            continue
        # A sum is not finite if a number is not; large numbers alone do that too, in theory.
        if not _finite_sum(tensor) and not tensor.float().isfinite().all():
            raise MasqclipError(
                f"{source}: the tensor {name!r} holds NaN or infinity: the file is damaged, or its "
                "training went wrong"
            )


def _finite_sum(tensor: Tensor) -> bool:
    if tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return bool(tensor.sum(dtype=torch.float32).isfinite())


def error_line(error: BaseException) -> str:
    """What a library says of a broken file, in one line that is not too long."""
    line = " ".join(str(error).split())
    return line[:300] or type(error).__name__
