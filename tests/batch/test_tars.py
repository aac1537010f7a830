"""What a tar's members are told to be, header by header."""

from __future__ import annotations

import io
import tarfile

import pytest

from masqclip.batch.tars import BLOCK, Member, parse_header, tar_members
from masqclip.errors import MasqclipError

END = bytes(2 * BLOCK)


def header(name: str = "a", size: int = 0, kind: bytes = b"0") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def member(name: str = "a", content: bytes = b"", kind: bytes = b"0") -> bytes:
    return header(name, len(content), kind) + content + bytes(-len(content) % BLOCK)


def summed(block: bytes, *, signed: bool = False) -> bytes:
    """A header with the sum that its other bytes make."""
    blank = block[:148] + b" " * 8 + block[156:]
    total = sum(byte - 256 * (signed and byte > 127) for byte in blank)
    return block[:148] + b"%06o\0 " % total + block[156:]


def record(key: str, value: str) -> bytes:
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return f"{length} {key}={value}\n".encode()


def found(content: bytes) -> list[Member]:
    return list(tar_members(io.BytesIO(content)))


def facts(content: bytes) -> list[tuple[str, int, str | None]]:
    return [(entry.name, entry.size, entry.problem) for entry in found(content)]


def test_members_lie_where_they_lie() -> None:
    whole = member("a", b"x" * 600) + member("empty") + member("b/c", b"y" * BLOCK) + END
    assert found(whole) == [
        Member("a", 512, 600), Member("empty", 2048, 0), Member("b/c", 2560, 512)
    ]  # fmt: skip
    file = io.BytesIO(whole)
    file.seek(700)
    assert list(tar_members(file)) == found(whole)


def test_an_end_mark_is_demanded_and_read_over() -> None:
    said = "it has no end mark, so more may be missing: pack it again"
    assert found(b"") == [Member("", 0, 0, said)]
    assert found(member()) == [Member("a", 512, 0), Member("", 512, 0, said)]
    assert facts(member() + bytes(BLOCK)) == [("a", 0, None)]
    assert facts(member() + END + member("b") + END) == [("a", 0, None), ("b", 0, None)]
    assert facts(member() + END + member("b")) == [("a", 0, None), ("b", 0, None), ("", 0, said)]


@pytest.mark.parametrize("count", [2, 2047, 2048, 2049, 4096, 5000])
def test_zeros_between_members_may_be_as_many_as_they_like(count: int) -> None:
    whole = member() + bytes(count * BLOCK) + member("b", b"z") + END
    assert found(whole)[1] == Member("b", (count + 2) * BLOCK, 1)
    assert len(found(whole)) == 2


def test_a_member_may_end_with_the_file_and_no_later() -> None:
    content = header(size=BLOCK) + bytes(BLOCK)
    assert found(content)[0] == Member("a", BLOCK, BLOCK)
    assert found(content[:-1]) == [
        Member("a", BLOCK, BLOCK, "cut short: 512 bytes, of which 511 are there")
    ]
    assert found(header(size=123_456) + bytes(1000))[0].problem == (
        "cut short: 123,456 bytes, of which 1,000 are there"
    )


def test_behind_a_member_that_is_cut_short_the_next_header_is_read() -> None:
    content = header("long", 5000) + bytes(BLOCK) + member("b", b"x") + END
    first, second = found(content)
    assert (first.name, first.start, first.size) == ("long", BLOCK, 5000)
    assert first.problem == "cut short: 5,000 bytes, of which 2,560 are there"
    assert second == Member("b", 3 * BLOCK, 1)


@pytest.mark.parametrize("kind", [b"0", b"\0", b"7"])
def test_files_of_each_kind(kind: bytes) -> None:
    block = header(size=3)
    block = summed(block[:156] + kind + block[157:])
    assert facts(block + bytes(BLOCK) + END) == [("a", 3, None)]


@pytest.mark.parametrize(
    ("kind", "what"),
    [(b"1", "a hard link"), (b"2", "a symbolic link"), (b"3", "a device"), (b"4", "a device"),
     (b"6", "a pipe"), (b"S", "a sparse file"), (b"M", "the rest of another volume's file"),
     (b"Q", "no regular file")],
)  # fmt: skip
def test_what_is_no_file_is_told(kind: bytes, what: str) -> None:
    content = member("odd", b"", kind) + member("b") + END
    assert facts(content) == [
        ("odd", 0, f"{what} in the tar: pack the file itself"),
        ("b", 0, None),
    ]


def test_folders_and_labels_are_left_out() -> None:
    named = header()
    named = summed(b"d/" + named[2:])
    assert facts(member("d", kind=b"5") + member("v", kind=b"V") + named + END) == []


@pytest.mark.parametrize("kind", [b"1", b"2"])
def test_a_link_has_no_bytes_whatever_size_it_states(kind: bytes) -> None:
    first, second = found(header("link", 100_000, kind) + member("b", b"x") + END)
    assert (first.start, first.size) == (BLOCK, 0)
    assert second == Member("b", 2 * BLOCK, 1)


# Headers before a header


def test_pax_records_hold_for_the_next_member_and_global_ones_for_all() -> None:
    content = (
        member("g", record("path", "global"), b"g")
        + member("g", record("comment", "x"), b"g")
        + member("x", record("path", "its own"), b"x")
        + member("a") + member("b") + END
    )  # fmt: skip
    assert facts(content) == [("its own", 0, None), ("global", 0, None)]
    old = member("X", record("path", "Sun's"), b"X") + member("a") + member("b") + END
    assert facts(old) == [("Sun's", 0, None), ("b", 0, None)]


def test_the_size_of_a_pax_header_counts_if_it_is_one() -> None:
    body = b"x" * 700 + bytes(1024 - 700)
    content = member("x", record("size", "700"), b"x") + header(size=3) + body + member("b") + END
    assert facts(content) == [("a", 700, None), ("b", 0, None)]
    for size in ("-1", "7x", "", "1" * 19):
        content = member("x", record("size", size), b"x") + member("a", b"abc") + END
        assert facts(content) == [("a", 3, None)]
    huge = member("x", record("size", "1" * 18), b"x") + member("a", b"abc") + END
    assert found(huge)[0].size == int("1" * 18)


def test_long_names_of_gnu_hold_for_the_next_member() -> None:
    long = "deep/" * 50 + "a.png"
    content = (
        member("L", long.encode() + b"\0", b"L") + member("K", b"target\0", b"K")
        + member("a") + member("b") + END
    )  # fmt: skip
    assert facts(content) == [(long, 0, None), ("b", 0, None)]


def test_which_of_several_names_counts() -> None:
    long, path = member("L", b"long\0", b"L"), record("path", "pax")
    assert facts(long + member("x", path, b"x") + member() + END) == [("pax", 0, None)]
    sparse = path + record("GNU.sparse.name", "real")
    assert facts(long + member("x", sparse, b"x") + member() + END) == [
        ("real", 0, "a sparse file in the tar: pack the file itself")
    ]


def test_pax_records_end_where_one_is_none() -> None:
    whole = record("comment", "x")
    for broken in (b"3 path=b\n", b"99 path=b\n", b"path=b\n", b"0 path=b\n", b"7 path=b\n"):
        assert facts(member("x", whole + broken, b"x") + member() + END) == [("a", 0, None)]
    assert facts(member("x", whole + b"9 path=b\n", b"x") + member() + END) == [("b", 0, None)]


def test_a_header_before_a_header_has_a_mebibyte_at_most() -> None:
    limit = 1 << 20
    name = member("L", b"n" * limit, b"L") + member() + END
    assert facts(name) == [("n" * limit, 0, None)]
    first, second = found(member("L", b"n" * (limit + 1), b"L") + member() + END)
    assert (first.name, first.start) == ("", 0)
    assert first.problem == "its header at byte 0 is cut short"
    assert second.name == "a"
    short = header("L", 100, b"L") + b"n" * 50
    assert found(member() + short)[1:] == [
        Member("", BLOCK, len(short), "its header at byte 512 is cut short")
    ]


def test_the_maps_of_sparse_files_are_read_over() -> None:
    first = header("s", BLOCK, b"S")
    first = summed(first[:482] + b"\1" + first[483:])
    more = bytes(504) + b"\1" + bytes(7)
    content = first + more + bytes(BLOCK) + b"x" * BLOCK + member("b") + END
    sparse, after = found(content)
    assert (sparse.start, sparse.size) == (3 * BLOCK, BLOCK)
    assert after.name == "b"


# Damage


@pytest.mark.parametrize(
    ("magic", "packer"),
    [(b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"),
     (b"PK\x03\x04", "zip")],
)  # fmt: skip
def test_a_packed_file_is_told_by_its_packer(magic: bytes, packer: str) -> None:
    (entry,) = found(magic + b"x" * 900)
    assert entry.problem == f"not a plain tar file: it is packed with {packer}, unpack it first"
    assert (entry.start, entry.size) == (0, len(magic) + 900)


def test_what_is_no_tar_is_told() -> None:
    for content in (b"x", b"x" * 5000):
        assert found(content) == [Member("", 0, len(content), "not a plain tar file")]


def test_damage_is_told_from_byte_to_byte() -> None:
    first, damage, last = found(member() + b"x" * 1024 + member("b") + END)
    assert (first.name, last.name) == ("a", "b")
    told = ", and what stood there is lost: pack it again"
    assert damage == Member("", 512, 1024, f"damaged from byte 512 to byte 1,536{told}")
    _, damage = found(member() + b"x" * 1024)
    assert damage == Member("", 512, 1024, f"damaged from byte 512 to its end{told}")
    damage, last = found(b"x" * BLOCK + member("b") + END)
    assert (damage.start, damage.size, last.name) == (0, BLOCK, "b")


@pytest.mark.parametrize("blocks", [2047, 2048, 2049])
def test_a_header_is_found_however_far_it_is(blocks: int) -> None:
    content = member() + b"x" * (blocks * BLOCK) + member("b") + END
    assert found(content)[1].size == blocks * BLOCK
    assert found(content)[2] == Member("b", (blocks + 2) * BLOCK, 0)


def test_a_file_that_cannot_be_read_is_told_where() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("bad sector")

    with pytest.raises(MasqclipError, match=r"^cannot be read at byte 0 \(bad sector\)$"):
        list(tar_members(Broken(member())))


# One header


def test_a_header_has_512_bytes_and_the_right_sum() -> None:
    block = header("name", 8)
    parsed = parse_header(block)
    assert parsed is not None
    assert (parsed.name, parsed.kind, parsed.size, parsed.extended) == ("name", b"0", 8, False)
    assert parse_header(block[:-1]) is None
    assert parse_header(b"m" + block[1:]) is None
    assert parse_header(block[:148] + b"x" * 8 + block[156:]) is None


def test_a_sum_of_signed_bytes_is_right_as_well() -> None:
    block = "\u00e9".encode() + header()[2:]
    for signed in (False, True):
        parsed = parse_header(summed(block, signed=signed))
        assert parsed is not None
        assert parsed.name == "\u00e9"


@pytest.mark.parametrize(
    ("field", "size"),
    [(b"00000000017\0", 15), (b"        17 \0", 15), (b"00000000017 ", 15), (bytes(12), 0),
     (b" " * 12, 0), (b"17\0" + b"9" * 9, 15), (b"00000000018\0", None), (b"-0000000017\0", None),
     (b"\x80" + bytes(9) + b"\1\2", 258), (b"\x80" + bytes(6) + b"\1" + bytes(4), 1 << 32),
     (b"\xff" * 12, None), (b"\xff" + bytes(11), None)],
)  # fmt: skip
def test_a_size_is_octal_or_of_base_256(field: bytes, size: int | None) -> None:
    block = header()
    parsed = parse_header(summed(block[:124] + field + block[136:]))
    assert (parsed and parsed.size) == size


def test_a_prefix_is_a_folder_in_ustar_alone() -> None:
    block = header("a")
    block = block[:345] + b"some/where" + block[355:]
    parsed = parse_header(summed(block))
    assert parsed is not None
    assert parsed.name == "some/where/a"
    old = parse_header(summed(block[:257] + b"ustar  \0" + block[265:]))
    assert old is not None
    assert old.name == "a"
    full = header("a" * 100)
    parsed = parse_header(summed(full[:345] + b"p" * 155 + full[500:]))
    assert parsed is not None
    assert parsed.name == "p" * 155 + "/" + "a" * 100


def test_a_sparse_map_goes_on_only_in_a_sparse_file() -> None:
    for kind, extended in ((b"S", True), (b"0", False)):
        block = header(kind=kind)
        parsed = parse_header(summed(block[:482] + b"\1" + block[483:]))
        assert parsed is not None
        assert parsed.extended is extended
