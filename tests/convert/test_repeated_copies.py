"""Checkpoints of which a few bytes, said often, would copy the same large value again and again."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest

from forked import run

_LARGE = 4_000_000
_TIMES = 100_000
# It reads what it is given within 20 s of processor time and 8 GB of addresses, or is ended.
_READ = """
import resource, sys
from masqclip.weights.checkpoint import read_state_dict
from masqclip.errors import MasqclipError
resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000, 8_000_000_000))
spent = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
resource.setrlimit(resource.RLIMIT_CPU, (spent + 20, spent + 20))
try:
    read_state_dict(sys.argv[1])
except MasqclipError as error:
    print("refused:", error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def read_alone(path: Path) -> tuple[str, int]:
    """What is said of a checkpoint, and the kilobytes that it took, in a process of its own."""
    done = run(_READ, str(path), scratch=path.parent)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-500:]}"
    said, _, kilobytes = done.stdout.strip().rpartition("\n")
    return said, int(kilobytes)


_TEXT = b"X" + struct.pack("<I", _LARGE) + b"a" * _LARGE
_LIST = b"(" + b"N" * 400_000 + b"l"
_TABLE = b"(" + b"".join(b"J%sN" % struct.pack("<i", n) for n in range(100_000)) + b"d"
_CALL = b"h\x01h\x00\x85R0"


@pytest.mark.parametrize(
    ("value", "function", "step"),
    [
        (_TEXT, b"c_codecs\nencode\n", _CALL),
        (b"B" + _TEXT[1:], b"cnumpy\ndtype\n", _CALL),
        (_LIST, b"ctorch\nSize\n", _CALL),
        (_LIST.replace(b"l", b"t"), b"ctorch\ndevice\n", b"h\x01h\x00R0"),
        (_TABLE, b"c__torch__\nM\n", b"h\x01)\x81h\x00b0"),
        (
            b"X" + struct.pack("<I", _LARGE) + b"__torch__." * (_LARGE // 10),
            b"N",
            b"h\x00h\x00\x930",
        ),
    ],
    ids=["encode", "dtype", "Size", "arguments", "Module", "name"],
)
def test_a_step_does_not_copy_the_same_value_without_end(
    value: bytes, function: bytes, step: bytes, tmp_path: Path
) -> None:
    start = b"\x80\x02" + value + b"q\x000" + function + b"q\x010"
    (tmp_path / "a.pkl").write_bytes(start + step * _TIMES + b"}.")
    said, _ = read_alone(tmp_path / "a.pkl")
    assert said.startswith("refused: ")
    assert "many times larger than the file itself" in said


def test_a_table_under_many_names_is_one_table(tmp_path: Path) -> None:
    names = b"".join(b"J%sh\x00" % struct.pack("<i", n) for n in range(100_000))
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + _TABLE + b"q\x000(" + names + b"d.")
    said, kilobytes = read_alone(tmp_path / "a.pkl")
    assert said.startswith("refused: ")
    assert kilobytes < 1_500_000


def overlapping(count: int) -> bytes:
    """An archive whose storages are all the same bytes, which are not aligned."""
    pickled, content = b"\x80\x02", bytes(10 * _LARGE)
    for index in range(count):
        key = str(index).encode()
        pickled += b"(X\7\0\0\0storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key
        pickled += b"X\3\0\0\0cpuJ" + struct.pack("<i", len(content) // 4) + b"tQ0"
    out, entries = io.BytesIO(), []
    sources = [(b"a/data.pkl", pickled + b"}."), (b"a/data/0", content)]
    for name, data in sources:
        while name != b"a/data.pkl" and (out.tell() + 30 + len(name)) % 4 != 1:
            out.write(b"x")
        at, sizes = out.tell(), (zlib.crc32(data), len(data), len(data))
        local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, *sizes, len(name), 0)
        out.write(local + name + data)
        names = [name] if name == b"a/data.pkl" else [b"a/data/%d" % n for n in range(count)]
        entries += [
            struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes, len(each),
                        0, 0, 0, 0, 0, at) + each
            for each in names
        ]  # fmt: skip
    start, listed = out.tell(), b"".join(entries)
    end = (b"PK\5\6", 0, 0, len(entries), len(entries), len(listed), start, 0)
    return out.getvalue() + listed + struct.pack("<4s4H2LH", *end)


def test_entries_upon_each_other_take_no_more_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(overlapping(100))
    said, kilobytes = read_alone(tmp_path / "a.pth")
    assert said.startswith("refused: ")
    assert "many times larger than the file itself" in said
    assert kilobytes < 1_500_000
