"""Tables of names, applied; and weights as a file takes them."""

from __future__ import annotations

import pytest
import torch

from masqclip.errors import MasqclipError
from masqclip.weights.rules import QKV, below, count, in_float32, linear, rename


def test_tables_are_made_of_prefixes() -> None:
    assert linear("a", "b.c") == {"a.weight": "b.c.weight", "a.bias": "b.c.bias"}
    assert below("x.", {"a": "b"}, "y.") == {"x.a": "y.b"}


def test_layers_are_counted_by_their_highest_number() -> None:
    names = ["a.0.x", "a.2.y", "b.7.x", "xa.9.x"]
    assert count(names, r"a\.(\d+)\.") == 3
    assert count(names, r"c\.(\d+)\.") == 0
    assert count(["a.999."], r"a\.(\d+)\.") == 1000
    for number in ("1000", "9" * 5000):
        with pytest.raises(MasqclipError, match="would make more than 1000 layers"):
            count([f"a.{number}."], r"a\.(\d+)\.")


def test_stacked_tensors_are_three_and_the_order_is_the_tables() -> None:
    stacked, plain = torch.arange(6.0), torch.ones(2)
    table = {"s": f"x.{QKV}.w", "p": "y"}
    found = rename({"p": plain, "s": stacked}, table, what="a thing")
    assert [*found] == ["x.q.w", "x.k.w", "x.v.w", "y"]
    assert [found[f"x.{letter}.w"].tolist() for letter in "qkv"] == [[0, 1], [2, 3], [4, 5]]
    assert found["y"] is plain
    assert found["x.q.w"].untyped_storage().nbytes() == found["x.q.w"].nbytes
    with pytest.raises(MasqclipError, match=r"^not a thing: unknown tensor 'in\.a'$"):
        rename({"s": stacked, "p": plain, "b": plain, "a": plain}, table, what="a thing",
               prefix="in.")  # fmt: skip
    with pytest.raises(MasqclipError, match=r"not a thing, or cut short: .* no tensor 'in\.s'$"):
        rename({}, table, what="a thing", prefix="in.")


def test_fractions_are_float32_each_in_memory_of_its_own() -> None:
    whole = torch.arange(12, dtype=torch.float16).reshape(3, 4)
    single = torch.arange(12.0).reshape(3, 4)
    given = {
        "half": whole, "double": whole.double(), "count": torch.tensor(3), "row": single[1],
        "turned": single.T, "itself": single,
    }  # fmt: skip
    found = in_float32(given)
    assert [*found] == [*given]
    for name, tensor in found.items():
        assert tensor.dtype == (torch.int64 if name == "count" else torch.float32)
        assert torch.equal(tensor, given[name].to(tensor.dtype))
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    assert found["itself"] is single
    assert found["row"].data_ptr() != single[1].data_ptr()
