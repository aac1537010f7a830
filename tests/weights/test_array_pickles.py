"""NumPy's arrays as pickles describe them: what is read, and what is refused in which words."""

from __future__ import annotations

import math
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pytest
import torch

from masqclip.weights.arrays import Array, Dtype, array_names
from masqclip.weights.budget import Budget

NONE = (None, None, None)


def dtype(code: str = "f4", order: str | None = "<") -> Dtype:
    made = Dtype(code)
    if order is not None:
        made.set_state((3, order, *NONE, -1, -1, 0))
    return made


def refused(function: Any, *arguments: Any) -> str:
    with pytest.raises(UnpicklingError) as caught:
        function(*arguments)
    return str(caught.value)


def call(name: str, *arguments: Any, core: str = "numpy._core") -> Any:
    return array_names(Budget(0))[f"{core}.{name}".rsplit(".", 1)[0], name.split(".")[-1]].call(
        *arguments
    )


@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"])
@pytest.mark.parametrize("order", ["<", ">", "=", "|", None])
def test_numbers_of_every_kind_in_every_order(code: str, order: str | None) -> None:
    kind = dtype(code, order).numpy
    assert kind == np.dtype((order or "=").replace("|", "=") + code)
    values = np.array([[1, 0, 1], [0, 0, 1]], kind)
    array = Array(Budget(0))
    array.set_state((1, (2, 3), dtype(code, order), False, values.tobytes()))
    assert array.tensor.tolist() == values.tolist()
    assert array.tensor.element_size() == kind.itemsize


@pytest.mark.parametrize("code", ["O8", "u2", "U4", "V8", "c8", "", "f16", "S1"])
def test_other_numbers_are_none(code: str) -> None:
    said = f"it holds an array of {code!r}, which are no plain numbers"
    assert refused(lambda: dtype(code).numpy) == said
    assert refused(lambda: dtype("x" * 50).numpy) == said.replace(repr(code), repr("x" * 20))


def test_the_state_of_a_dtype_is_an_order_of_bytes() -> None:
    for length in (5, 6, 8):
        made = Dtype("f4")
        made.set_state((3, ">", *NONE, -1, -1, 0)[:length])
        assert made.numpy == np.dtype(">f4")
    more = "it asks for a dtype of more than plain numbers"
    for state in (
        [3, "<", *NONE], (3, "<", None, None), (3, "!", *NONE), (3, "<", 1, None, None),
        (3, "<", None, ("a",), None), (3, "<", None, None, {}), None, (), (3, None, *NONE),
    ):  # fmt: skip
        assert refused(Dtype("f4").set_state, state) == more
    again = "it changes a dtype that has its state already"
    assert refused(dtype().set_state, (3, ">", *NONE)) == again


@pytest.mark.parametrize("columns_first", [True, 1])
def test_columns_first(columns_first: Any) -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    array = Array(Budget(0))
    array.set_state((1, (2, 3), dtype(), columns_first, values.tobytes("F")))
    assert array.tensor.tolist() == values.tolist()


def test_the_state_of_an_array_has_five_parts() -> None:
    said = "it holds an array without shape, dtype and numbers"
    whole = (1, (1,), dtype(), False, bytes(4))
    for state in (list(whole), whole[:4], (*whole, None), None):
        assert refused(Array(Budget(0)).set_state, state) == said
    array = Array(Budget(0))
    assert refused(lambda: array.tensor) == "it holds an array without numbers"
    array.set_state(whole)
    assert refused(array.set_state, whole) == "it changes an array that has its numbers already"


def test_a_shape_is_a_tuple_of_up_to_sixteen_sizes() -> None:
    def fill(shape: Any, content: bytes = bytes(4)) -> torch.Tensor:
        array = Array(Budget(0))
        array.fill(shape, dtype(), False, content)
        return array.tensor

    assert fill(()).shape == ()
    assert fill((1,) * 16).ndim == 16
    assert fill((0, 3), b"").shape == (0, 3)
    for shape in ([1], 1, None, (1,) * 17, (-1,), (1.0,), (True,), ("1",)):
        assert refused(fill, shape) == "it holds an array whose shape is none"


def test_an_array_has_as_many_bytes_as_its_shape_takes() -> None:
    for length in (0, 23, 25):
        said = f"it holds an array of {length} bytes where its shape takes 24"
        assert refused(Array(Budget(0)).fill, (2, 3), dtype(), False, bytes(length)) == said
    assert math.prod((2, 3)) * 4 == 24


def test_bytes_may_be_text_of_python_2_and_nothing_else() -> None:
    raw = bytes(range(252, 256))
    array = Array(Budget(0))
    array.fill((4,), dtype("u1"), False, raw.decode("latin-1"))
    assert array.tensor.tolist() == [252, 253, 254, 255]
    said = "it holds an array of objects, which no weights need"
    for content in ([1, 2, 3, 4], None, bytearray(4)):
        assert refused(Array(Budget(0)).fill, (1,), dtype(), False, content) == said


def test_an_array_needs_a_dtype() -> None:
    for kind in ("f4", None, np.dtype("f4")):
        said = "it holds an array without a dtype"
        assert refused(Array(Budget(0)).fill, (1,), kind, False, bytes(4)) == said


def test_arrays_count_in_the_budget() -> None:
    budget, million = Budget(0), ((1_000_000,), dtype("u1"), False, bytes(1_000_000))
    for _ in range(16):
        Array(budget).fill(*million)
    said = "what it describes is many times larger than the file itself"
    assert refused(Array(budget).fill, *million) == said


# What stands for NumPy's names


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_names_before_and_since_numpy_2(core: str) -> None:
    assert isinstance(call("multiarray._reconstruct", None, (0,), b"b", core=core), Array)
    for order, expected in (("C", [[0, 1], [2, 3]]), ("F", [[0, 2], [1, 3]])):
        made = call("numeric._frombuffer", b"\0\1\2\3", dtype("u1"), (2, 2), order, core=core)
        assert made.tensor.tolist() == expected
    assert call("multiarray.scalar", dtype("i2", ">"), b"\1\2", core=core) == 258


def test_a_number_by_itself() -> None:
    assert call("multiarray.scalar", dtype("f8"), np.float64(0.5).tobytes()) == 0.5
    assert call("multiarray.scalar", dtype("b1"), b"\1") is True
    assert call("multiarray.scalar", dtype("u1"), "\u00ff", "more") == 255
    for content in (b"", b"\0" * 3, b"\0" * 5):
        said = "it holds a number of the wrong length"
        assert refused(call, "multiarray.scalar", dtype(), content) == said
    assert refused(call, "multiarray.scalar", dtype()) == said
    assert refused(call, "multiarray.scalar", None, b"") == "it holds an array without a dtype"


def plain(module: str, name: str, *arguments: Any) -> Any:
    return array_names(Budget(0))[module, name].call(*arguments)


def test_a_dtype_is_named_by_text_or_bytes() -> None:
    for code in ("f4", b"f4"):
        assert plain("numpy", "dtype", code, False, True).numpy == np.dtype("f4")
    for code in (4, None, ("f4",)):
        said = "it holds an array of no plain numbers"
        assert refused(plain, "numpy", "dtype", code) == said


def test_text_is_encoded_as_latin_1_alone() -> None:
    for encoding in ((), ("latin1",), ("latin-1",), ("latin1", "strict")):
        assert plain("_codecs", "encode", "\u00ff", *encoding) == b"\xff"
    said = "it asks for another encoding than Latin-1"
    for arguments in (("a", "utf-8"), ("a", None), (b"a", "latin1"), (1,)):
        assert refused(plain, "_codecs", "encode", *arguments) == said


def test_an_array_is_not_made_by_its_class() -> None:
    said = "it makes an array in a way that pickles of arrays do not"
    assert refused(plain, "numpy", "ndarray", (3,)) == said
