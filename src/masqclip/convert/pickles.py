"""Pickles of arrays and tensors, read without running what they name.

A pickle is a program that may call anything importable. The two readers here answer each of its
requests from a short table and refuse the rest, so that nothing of a file's choosing is imported
or called:

- `read_arrays`: NumPy arrays in plain containers, detectron2's ``.pkl``;
- `read_torchscript`: the tensors of a TorchScript archive, OpenAI's ``.pt``, by the names of the
  attributes that hold them (its code is neither compiled nor run).
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class _Unpickler(pickle.Unpickler):
    """Looks names up in `allowed`, and nowhere else."""

    allowed: dict[tuple[str, str], Any]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for '{module}.{name}', which no plain weights need"
            ) from None


# NumPy arrays


class _Array:
    """What an array's pickle is read into; `numbers` is the array."""

    numbers: np.ndarray

    def __setstate__(self, state: tuple[int, tuple[int, ...], np.dtype[Any], bool, Any]) -> None:
        _, shape, dtype, fortran, data = state
        raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 wrote text
        array = np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if fortran else "C")
        self.numbers = array


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return array


def _scalar(dtype: np.dtype[Any], data: Any = b"") -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the text encoding {encoding!r}")
    return text.encode("latin1")


_CORES = ("numpy.core", "numpy._core")  # before NumPy 2, and since

_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): _Array,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
}
for _core in _CORES:
    _NUMPY[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _NUMPY[f"{_core}.multiarray", "scalar"] = _scalar
    _NUMPY[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _ArrayUnpickler(_Unpickler):
    allowed = _NUMPY


def read_arrays(file: Path) -> Any:
    """A pickle of nested containers, its arrays as tensors.

    Raises:
        pickle.UnpicklingError: it asks for anything but arrays and containers.
    """
    with file.open("rb") as stream:
        loaded = _ArrayUnpickler(stream, encoding="latin1").load()
    return _to_tensors(loaded)


def _to_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_tensors(entry) for key, entry in value.items()}
    if isinstance(value, _Array):
        return torch.from_numpy(value.numbers.copy())
    return value


# TorchScript archives


class _Object:
    """What any TorchScript module is read into: its attributes, and no methods."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _strided(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _same(value: Any, *_: Any) -> Any:
    return value


_TORCHSCRIPT: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _strided,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch.jit._pickle", "restore_type_tag"): _same,
}
for _kind in ("int", "tensor", "double", "bool"):
    _TORCHSCRIPT["torch.jit._pickle", f"build_{_kind}list"] = _same
for _storage, _dtype in {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}.items():
    _TORCHSCRIPT["torch", _storage] = _dtype


class _TorchScriptUnpickler(_Unpickler):
    allowed = _TORCHSCRIPT

    def __init__(self, stream: io.BytesIO, read: Callable[[str], bytes]) -> None:
        super().__init__(stream)
        self._read = read

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":  # a class of the archive's own code
            return _Object
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid
        return torch.frombuffer(bytearray(self._read(str(key))), dtype=dtype)


def is_torchscript(file: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(file: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive, named by the path of attributes to them.

    Raises:
        pickle.UnpicklingError: the archive holds anything but modules, tensors and containers.
    """
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        root = next(name for name in names if name.count("/") == 1 and name.endswith("/data.pkl"))
        folder = root.removesuffix("data.pkl")
        unpickler = _TorchScriptUnpickler(
            io.BytesIO(archive.read(root)), lambda key: archive.read(f"{folder}data/{key}")
        )
        module = unpickler.load()
    tensors: dict[str, Tensor] = {}

    def collect(value: Any, name: str) -> None:
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, _Object):
            for attribute, entry in vars(value).items():
                collect(entry, f"{name}.{attribute}" if name else attribute)

    collect(module, "")
    return tensors
