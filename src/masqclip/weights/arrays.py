"""NumPy's arrays in pickles: stand-ins of our own, which take plain numbers only.

Nothing of NumPy's is built by a file: its dtypes and arrays accept states that make them read
memory which is not theirs. Here a file's dtype is a code out of a table, and its array some bytes
that have exactly the length which shape and code ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masqclip.weights.budget import Budget
from masqclip.weights.pickle_machine import Function, Instance

_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
_ORDERS = ("<", ">", "|", "=")
_CORES = ("numpy.core", "numpy._core")  # before NumPy 2, and since
_MAX_DIMENSIONS = 16
_TENSOR_DIMENSIONS = range(_MAX_DIMENSIONS + 1)


class Dtype(Instance):
    """The kind of numbers of an array: a code of the table above, and the order of bytes."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._order: str | None = None

    def set_state(self, state: Any) -> None:
        """NumPy's own state, of which plain numbers need the byte order alone."""
        if self._order is not None:
            raise UnpicklingError("it changes a dtype that has its state already")
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        if not plain or state[1] not in _ORDERS:
            raise UnpicklingError("it asks for a dtype of more than plain numbers")
        self._order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy's dtype, which no file has touched.

        Raises:
            pickle.UnpicklingError: the code is not one of plain numbers.
        """
        if self._code not in _CODES:
            raise UnpicklingError(
                f"it holds an array of {self._code[:20]!r}, which are no plain numbers"
            )
        return np.dtype((self._order or "=").replace("|", "=") + self._code)


class Array(Instance):
    """An array, once the file has told its numbers."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._tensor: Tensor | None = None

    def set_state(self, state: Any) -> None:
        """NumPy's own state: version, shape, dtype, whether columns come first, and bytes."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnpicklingError("it holds an array without shape, dtype and numbers")
        _, shape, dtype, columns_first, content = state
        self.fill(shape, dtype, bool(columns_first), content)

    def fill(self, shape: Any, dtype: Any, columns_first: bool, content: Any) -> None:
        """Take the numbers, if they are as many as the shape says."""
        if self._tensor is not None:
            raise UnpicklingError("it changes an array that has its numbers already")
        kind = _dtype(dtype)
        if (
            not isinstance(shape, tuple)
            or len(shape) not in _TENSOR_DIMENSIONS
            or not all(type(size) is int and size >= 0 for size in shape)
        ):
            raise UnpicklingError("it holds an array whose shape is none")
        raw = _raw(content)
        if len(raw) != math.prod(shape) * kind.itemsize:
            raise UnpicklingError(
                f"it holds an array of {len(raw)} bytes where its shape takes "
                f"{math.prod(shape) * kind.itemsize}"
            )
        self._budget.spend(len(raw))
        numbers = np.frombuffer(raw, dtype=kind).astype(kind.newbyteorder("="))
        self._tensor = torch.from_numpy(numbers.reshape(shape, order="F" if columns_first else "C"))

    @property
    def tensor(self) -> Tensor:
        """The array as a tensor.

        Raises:
            pickle.UnpicklingError: the file has not told its numbers.
        """
        if self._tensor is None:
            raise UnpicklingError("it holds an array without numbers")
        return self._tensor


def array_names(budget: Budget) -> dict[tuple[str, str], Any]:
    """What stands for NumPy's names in a file."""

    def reconstruct(*_: Any) -> Array:
        return Array(budget)

    def from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Array:
        array = Array(budget)
        array.fill(shape, dtype, order == "F", content)
        return array

    names: dict[tuple[str, str], Any] = {
        ("numpy", "dtype"): Function(_new_dtype),
        ("numpy", "ndarray"): Function(_not_called),
        ("_codecs", "encode"): Function(_encode),
    }
    functions: dict[tuple[str, str], Callable[..., Any]] = {
        ("multiarray", "_reconstruct"): reconstruct,
        ("multiarray", "scalar"): _scalar,
        ("numeric", "_frombuffer"): from_buffer,
    }
    for core in _CORES:
        for (module, name), function in functions.items():
            names[f"{core}.{module}", name] = Function(function)
    return names


def _new_dtype(code: Any, *_: Any) -> Dtype:
    name = code.decode("latin-1") if isinstance(code, bytes) else code
    if not isinstance(name, str):
        raise UnpicklingError("it holds an array of no plain numbers")
    return Dtype(name)


def _dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, Dtype):
        raise UnpicklingError("it holds an array without a dtype")
    return dtype.numpy


def _raw(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode("latin-1")  # Python 2 wrote text
    if not isinstance(content, bytes):
        raise UnpicklingError("it holds an array of objects, which no weights need")
    return content


def _scalar(dtype: Any, content: Any = b"", *_: Any) -> float | int | bool:
    kind, raw = _dtype(dtype), _raw(content)
    if len(raw) != kind.itemsize:
        raise UnpicklingError("it holds a number of the wrong length")
    number: float | int | bool = np.frombuffer(raw, dtype=kind)[0].item()
    return number


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise UnpicklingError("it asks for another encoding than Latin-1")
    return text.encode("latin-1")


def _not_called(*_: Any) -> Any:
    raise UnpicklingError("it makes an array in a way that pickles of arrays do not")
