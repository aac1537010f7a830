"""torch's files, piece by piece: layouts and storages at their edges, and archives' entries."""

from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch

from masqclip.errors import MasqclipError
from masqclip.weights import tensor_files
from masqclip.weights.tensor_files import named_tensors, read_tensor_file, require_finite
from masqclip.weights.torch_files import (
    Module,
    _check_layout,
    _counts,
    _named,
    _new_dict,
    _plain,
    _reference,
    _size,
)
from masqclip.weights.zip_directory import Entry, stored_entries


def refused(function: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises((UnpicklingError, MasqclipError)) as caught:
        function(*arguments, **named)
    return str(caught.value)


# Layouts


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (), ()), (5, (), ()), (0, (6,), (1,)), (1, (5,), (1,)), (0, (2, 3), (3, 1)),
     (0, (3, 2), (1, 3)), (5, (9, 9), (0, 0)), (0, (1,) * 16, (1,) * 16), (9, (0,), (1,)),
     (0, (0, 9), (9, 1)), (0, (1,), (2**60 - 1,))],
)  # fmt: skip
def test_a_tensor_inside_its_storage(offset: int, size: Any, stride: Any) -> None:
    _check_layout(6, offset, size, stride)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(6, (), ()), (0, (7,), (1,)), (1, (6,), (1,)), (0, (2, 4), (3, 1)), (6, (1,), (1,)),
     (0, (0,), (2**60,)), (0, (0, 2**60), (1, 1))],
)  # fmt: skip
def test_a_tensor_that_reaches_out_of_its_storage(offset: int, size: Any, stride: Any) -> None:
    said = f"a tensor of {size} reaches out of its storage of 6 numbers"
    assert refused(_check_layout, 6, offset, size, stride) == said


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(-1, (1,), (1,)), (0, [1], (1,)), (0, (1,), [1]), (0.0, (1,), (1,)), (True, (1,), (1,)),
     (0, (1, 1), (1,)), (0, (1,), (1, 1)), (0, (1,) * 17, (1,) * 17), (0, (-1,), (1,)),
     (0, (1,), (-1,)), (0, (1.0,), (1,)), (0, (True,), (1,)), (None, (1,), (1,))],
)  # fmt: skip
def test_a_layout_that_is_none(offset: Any, size: Any, stride: Any) -> None:
    said = "it holds a tensor whose layout is none"
    assert refused(_check_layout, 6, offset, size, stride) == said


# What refers to storages


def test_a_storage_is_named_by_five_parts_or_six() -> None:
    whole = ("storage", torch.float32, "7", "cpu", 4)
    expected = (torch.float32, "7", 4)
    assert _reference(whole) == _reference((*whole, None)) == expected
    assert _reference(("storage", torch.float32, 7, "cpu", 0)) == (torch.float32, "7", 0)
    assert _reference(("storage", torch.float32, None, "cpu", 4)) == (torch.float32, "", 4)
    for reference in (list(whole), whole[:4], ("module", *whole[1:]), None):
        assert refused(_reference, reference) == "it refers to what is not in the file"
    for reference in (
        ("storage", "float32", *whole[2:]), (*whole[:4], -1), (*whole[:4], 4.0), (*whole[:4], True)
    ):  # fmt: skip
        assert refused(_reference, reference) == "it holds a storage of no plain numbers"
    said = "it holds a view of a storage, which torch no longer writes"
    assert refused(_reference, (*whole, ("0", 0, 2))) == said


def test_small_things_beside_tensors() -> None:
    assert _new_dict() == _new_dict([]) == _new_dict(()) == {}
    for items in ([("a", 1)], {"a": 1}, {}, None, ""):
        said = "it makes a dictionary in a way that pickles of weights do not"
        assert refused(_new_dict, items) == said
    assert _counts({"a": 1}) == {"a": 1}
    assert _counts() == _counts(None) == _counts([1]) == {}
    assert _size() == _size(None) == ()
    assert _size([1, 2]) == _size((1, 2)) == (1, 2)


# Modules


def module(**attributes: Any) -> Module:
    made = Module()
    made.set_state(attributes)
    return made


def test_tensors_of_modules_are_named_by_the_way_to_them() -> None:
    a, b, c = (torch.tensor([float(i)]) for i in range(3))
    found = _named(module(first=module(weight=a, note="x", bias=b), last=c, empty=Module()))
    assert list(found) == ["first.weight", "first.bias", "last"]
    assert found["first.bias"] is b


def test_modules_may_not_hold_each_other_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masqclip.weights.torch_files._MAX_ATTRIBUTES", 200)
    one = module()
    assert one.attributes is not None
    one.attributes["self"] = one
    assert refused(_named, one) == "its modules hold each other without an end"
    wide = module(**{str(i): 0 for i in range(200)})
    assert _named(wide) == {}
    assert wide.attributes is not None
    wide.attributes["more"] = 0
    assert refused(_named, wide) == "its modules hold each other without an end"


def test_the_state_of_a_module_is_its_attributes_once() -> None:
    said = "it holds a module whose attributes are none"
    assert refused(Module().set_state, [("a", 1)]) == said
    made = Module()
    made.set_state({"a": 1, 2: 3})
    assert made.attributes == {"a": 1}
    assert refused(made.set_state, {}) == said


def test_what_is_no_dictionary_is_nothing() -> None:
    assert _plain([1]) is None
    table = {"x": 1}
    loaded = _plain({"a": table, "b": table, "c": 2})
    assert loaded == {"a": table, "b": table, "c": 2}
    assert loaded["a"] is loaded["b"]


# Whole files


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32,
     torch.int16, torch.int8, torch.uint8, torch.bool],
)  # fmt: skip
def test_tensors_of_every_kind(dtype: torch.dtype, legacy: bool, tmp_path: Path) -> None:
    base = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    written = {
        "whole": base, "turned": base.T, "part": base[1:, 1:], "again": base, "none": base[:0],
        "one": base[1, 2], "other": torch.zeros(5, dtype=dtype), "empty": torch.zeros(0).to(dtype),
        "in": {"deep": base + base},
    }  # fmt: skip
    torch.save(written, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    read = read_tensor_file(tmp_path / "a.pt")
    assert list(read) == list(written)
    for name, tensor in (*written.items(), ("deep", written["in"]["deep"])):
        found = read["in"]["deep"] if name == "deep" else read[name]
        if name != "in":
            assert found.dtype == dtype
            assert torch.equal(found, tensor)
    read["whole"][0, 0] = 1  # private to the process, and shared as it was saved
    assert read["again"][0, 0] == 1
    assert not read_tensor_file(tmp_path / "a.pt")["whole"][0, 0]


@pytest.mark.parametrize("count", [0, 3, 5])
def test_an_old_file_gives_the_length_of_a_storage_twice(count: int, tmp_path: Path) -> None:
    written = io.BytesIO()
    torch.save({"a": torch.arange(4.0)}, written, _use_new_zipfile_serialization=False)
    numbers = torch.arange(float(count)).numpy().tobytes()
    spoiled = written.getvalue()[: -8 - 16] + struct.pack("<q", count) + numbers
    assert "not as long as the file says elsewhere" in said_of(spoiled, tmp_path)


def archive(changes: dict[str, bytes | None], **options: Any) -> bytes:
    """An archive of torch's with entries changed, added or (None) taken away."""
    written, changed = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.arange(4.0)}, written)
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(changed, "w", **options) as new:
        entries = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
        entries["constants.pkl"] = b"x"
        for name, content in (entries | changes).items():
            if content is not None:
                new.writestr(f"root/{name}", content)
    return changed.getvalue()


def said_of(content: bytes, tmp_path: Path) -> str:
    (tmp_path / "a.pt").write_bytes(content)
    return refused(read_tensor_file, tmp_path / "a.pt").partition("plain tensors: ")[2]


def test_an_archive_has_one_order_of_bytes_and_all_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(archive({}))
    assert read_tensor_file(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2, 3]
    (tmp_path / "a.pt").write_bytes(archive({"byteorder": None}))
    assert read_tensor_file(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2, 3]
    order = "its numbers are in another order of bytes"
    assert said_of(archive({"byteorder": b"big"}), tmp_path) == order
    assert said_of(archive({"data/0": None}), tmp_path) == "there are no numbers of its storage '0'"
    assert said_of(archive({"data.pkl": None}), tmp_path) == (
        "it is a ZIP archive without weights of PyTorch"
    )
    for length in (0, 12, 15, 17):
        assert said_of(archive({"data/0": bytes(length)}), tmp_path) == (
            f"a storage of 4 numbers has {length} bytes, not 16"
        )
    packed = archive({}, compression=zipfile.ZIP_DEFLATED)
    assert said_of(packed, tmp_path) == "it is a ZIP archive without weights of PyTorch"


def test_a_checksum_is_looked_at_where_torch_writes_one(tmp_path: Path) -> None:
    damage = struct.pack("<4f", 0, 1, 2, 3), struct.pack("<4f", 0, 1, 2, 9)
    content = archive({})
    assert content.count(damage[0]) == 1
    wrong = "the archive is damaged: a checksum is wrong"
    assert said_of(content.replace(*damage), tmp_path) == wrong
    unchecked = archive({"constants.pkl": None}).replace(*damage)
    (tmp_path / "a.pt").write_bytes(unchecked)
    assert read_tensor_file(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2, 9]


def mapped(content: bytes, tmp_path: Path) -> mmap.mmap:
    (tmp_path / "z").write_bytes(content)
    with (tmp_path / "z").open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def test_entries_are_found_behind_names_and_comments(tmp_path: Path) -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.comment = b"c" * 65_535
        first = zipfile.ZipInfo("a/\u00e9")
        first.comment, first.extra = b"about", struct.pack("<2H4s", 0x7777, 4, b"more")
        file.writestr(first, b"abc")
        file.writestr(zipfile.ZipInfo("packed"), b"x" * 99, zipfile.ZIP_DEFLATED)
        file.writestr("b", b"de")
    content = written.getvalue()
    entries = stored_entries(mapped(content, tmp_path))
    assert list(entries) == ["a/\u00e9", "b"]
    texts = [content[e.start : e.start + e.length] for e in entries.values()]
    assert texts == [b"abc", b"de"]
    assert entries["b"] == Entry(content.index(b"de", 100), 2, zipfile.crc32(b"de"))
    assert refused(stored_entries, mapped(content[:-65_558], tmp_path)) == "the archive ends early"


def test_an_archive_has_so_many_entries_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        for number in range(3):
            file.writestr(str(number), b"")
    content = mapped(written.getvalue(), tmp_path)
    monkeypatch.setattr("masqclip.weights.zip_directory._MAX_ENTRIES", 3)
    assert list(stored_entries(content)) == ["0", "1", "2"]
    monkeypatch.setattr("masqclip.weights.zip_directory._MAX_ENTRIES", 2)
    assert refused(stored_entries, content) == "the archive has more than 2 entries"


# Files of tensors


def test_what_is_no_file_of_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("empty.pt", "it is empty"), ("pipe", "it is not a regular file")):
        path = tmp_path / name
        said = f"the checkpoint file {str(path)!r} cannot be read as plain tensors: {why}"
        assert refused(read_tensor_file, path) == said
    gone = tmp_path / "gone.pt"
    said = f"there is no checkpoint file {str(gone)!r}: check the path"
    assert refused(read_tensor_file, gone) == said


def test_names_of_tensors_are_printable_and_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.zeros(1)
    assert named_tensors({"a": one, "b": 1, "n" * 400: one}, source="x") == {
        "a": one,
        "n" * 400: one,
    }
    for name in ("", "n" * 401, "a\nb", 3):
        said = f"x holds a tensor of no usable name: {repr(name)[:60]}"
        assert refused(named_tensors, {name: one}, source="x") == said
    for loaded in ({}, {"a": 1}, [one], None, one):
        said = "x holds no named tensors: it is no file of weights"
        assert refused(named_tensors, loaded, source="x") == said
    monkeypatch.setattr(tensor_files, "MAX_TENSORS", 2)
    assert len(named_tensors({"a": one, "b": one}, source="x")) == 2
    said = "x names more than 2 tensors, as no model does"
    assert refused(named_tensors, {"a": one, "b": one, "c": one}, source="x") == said


def test_numbers_are_numbers_however_large() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        large = torch.full((9,), torch.finfo(torch.float16).max, dtype=dtype)
        require_finite({"a": large}, source="x")
        for number in (float("nan"), float("inf"), -float("inf")):
            large[4] = number
            assert refused(require_finite, {"a": large}, source="x") == (
                "x: the tensor 'a' holds NaN or infinity: the file is damaged, or its training "
                "went wrong"
            )
            require_finite({"block.attn_mask": large}, source="x")
    require_finite({"a": torch.full((9,), 3e38)}, source="x")  # whose sum is infinite
    require_finite({"a": torch.full((9,), 1)}, source="x")
