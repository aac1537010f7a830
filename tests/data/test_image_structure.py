"""Which files ask for more work than their pixels are worth, at the edges of each limit."""

from __future__ import annotations

import re
import struct

import pytest

from masqclip.data.image_structure import (
    MAX_JPEG_SCANS,
    MAX_JPEG_WORK,
    check_jpeg_work,
    check_structure,
    header_size,
    is_heif,
)
from masqclip.errors import MasqclipError

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
SCAN = b"\xff\xda"


def refused(data: bytes) -> str:
    with pytest.raises(MasqclipError) as caught:
        check_structure(data, "a.jpg")
    return str(caught.value)


def built(what: str) -> str:
    return f"a.jpg: built to take long ({what}); save it again as a plain picture"


# JPEG


def segment(mark: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, mark]) + struct.pack(">H", len(content) + 2) + content


def test_a_jpeg_has_so_many_passes_at_most() -> None:
    assert check_structure(JPEG + SCAN * MAX_JPEG_SCANS, "a") == "JPEG"
    assert refused(JPEG + SCAN * 501) == built("501 passes over its pixels")


def test_passes_times_pixels_are_bounded() -> None:
    data = JPEG + SCAN * 100
    check_jpeg_work(data, MAX_JPEG_WORK // 100, "a.jpg")
    with pytest.raises(MasqclipError, match=re.escape(built("100 passes over its pixels"))):
        check_jpeg_work(data, MAX_JPEG_WORK // 100 + 1, "a.jpg")


def test_a_jpeg_has_so_many_segments_at_most() -> None:
    fine = JPEG + segment(0xE0, b"x") * 4096
    assert check_structure(fine, "a") == "JPEG"
    told = built("more than 4,096 segments")
    assert refused(JPEG + segment(0xE0, b"x") * 4097) == told
    for mark in (0x01, 0xD0, 0xD5, 0xD9):  # marks alone are two bytes each
        alone = bytes([0xFF, mark])
        assert check_structure(JPEG + alone * 4096 + SCAN, "a") == "JPEG"
        assert refused(JPEG + alone * 4098 + SCAN + bytes(8)) == told
    for mark in (0x02, 0xCF, 0xDB):  # others have a length, here of what follows
        assert check_structure(JPEG + (bytes([0xFF, mark]) * 5000), "a") == "JPEG"


def test_what_follows_the_first_pass_is_not_looked_at() -> None:
    assert check_structure(JPEG + segment(0xE0) + SCAN + b"\xff\xd0" * 5000, "a") == "JPEG"


def test_a_jpeg_has_so_many_bytes_of_nothing_at_most() -> None:
    told = built("more than 65,536 bytes of nothing")
    mark = segment(0xE0, b"x")
    assert check_structure(JPEG + mark + bytes(65_536) + mark + SCAN + bytes(8), "a") == "JPEG"
    assert refused(JPEG + mark + bytes(65_537) + mark + SCAN + bytes(8)) == told
    assert refused(JPEG + mark + bytes(65_537)) == told
    parts = (bytes(30_000) + mark) * 2
    assert check_structure(JPEG + mark + parts + bytes(5_536) + mark + SCAN, "a") == "JPEG"
    assert refused(JPEG + mark + parts + bytes(5_537) + mark + SCAN + bytes(8)) == told
    filled = b"\xff" * 65_536  # what fills up before a mark is nothing, too
    assert check_structure(JPEG + mark + filled + mark + SCAN + bytes(8), "a") == "JPEG"
    assert refused(JPEG + mark + filled + b"\xff" + mark + SCAN + bytes(8)) == told


def test_a_jpeg_may_end_anywhere() -> None:
    whole = JPEG + segment(0xE0, b"x" * 20) + segment(0xDB, b"y" * 5) + bytes(7) + segment(0xC0)
    for end in range(3, len(whole)):
        assert check_structure(whole[:end], "a") == "JPEG"
    assert check_structure(JPEG, "a") is None


# PNG


def chunk(size: int = 0) -> bytes:
    return struct.pack(">I", size) + b"tEXt" + bytes(size + 4)


def test_a_png_has_so_many_chunks_at_most() -> None:
    # 4096 chunks of 12 bytes are 48 pieces of 1024 bytes: 48 more are allowed, and so on.
    allowed = 4096 + (8 + 4144 * 12) // 1024
    assert allowed == 4144
    assert check_structure(PNG + chunk() * 4144, "a") == "PNG"
    assert refused(PNG + chunk() * 4145) == built("more than 4,144 chunks")
    large = PNG + chunk(100_000)
    allowed = 4096 + (len(large) + 4195 * 12) // 1024
    assert check_structure(large + chunk() * (allowed - 1), "a") == "PNG"


def test_a_png_may_end_anywhere() -> None:
    whole = PNG + chunk(13) + chunk(3)
    for end in range(8, len(whole)):
        assert check_structure(whole[:end], "a") == "PNG"
    assert check_structure(PNG[:7], "a") is None


# Others


def test_formats_are_told_by_their_first_bytes() -> None:
    assert check_structure(b"RIFF\0\0\0\0WEBPVP8 ", "a") == "WEBP"
    for data in (b"RIFF\0\0\0\0WAVE", b"RIFX\0\0\0\0WEBP", b"GIF89a", b"", b"P", b"\0"):
        assert check_structure(data, "a") is None


@pytest.mark.parametrize(("packing", "kind"), [(0, "BMP"), (3, "BMP"), (1, None), (2, None)])
def test_a_bmp_is_bounded_where_it_has_no_run_lengths(packing: int, kind: str | None) -> None:
    data = b"BM" + bytes(28) + struct.pack("<I", packing) + b"\0"
    assert len(data) == 35
    assert check_structure(data, "a") == kind
    assert check_structure(data[:34], "a") is None
    assert check_structure(data[:33], "a") is None


@pytest.mark.parametrize("number", b"123456")
def test_the_header_of_a_ppm_ends_soon(number: int) -> None:
    start = b"P" + bytes([number])
    for header in (b" 1 2 255\n", b"\n# a comment\n1 # more\n2\n", b"\n\n\n1\n2\n"):
        assert check_structure(start + header + b"x" * 5000, "a") is None
    told = "a.jpg: broken: its header does not end; save it again"
    assert refused(start + b"\n#" + b"x" * 5000) == told
    assert refused(start + b" 1\n" + b"\n" * 5000) == told
    assert refused(start + b"\n#" + b"x" * 4092) == told  # 4096 bytes
    assert check_structure(start + b"\n#" + b"x" * 4091, "a") is None
    assert refused(start + b"\n#" + b"x" * 4089 + b"\n1 2 3" + bytes(9)) == told
    assert check_structure(start + b"\n#" + b"x" * 4088 + b"\n1 2 3" + bytes(9), "a") is None


def test_no_other_file_is_taken_for_a_ppm() -> None:
    for start in (b"P0", b"P7", b"PK", b"Q6", b"P"):
        assert check_structure(start + b"\n#" + b"x" * 5000, "a") is None


def test_the_size_in_the_header_of_a_png() -> None:
    data = PNG + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
    assert len(data) == 24
    assert header_size(data) == (480, 640)
    assert header_size(data[:-1]) is None
    assert header_size(b"\xff\xd8\xff" + data[3:]) is None


def brands(*names: bytes, size: int | None = None) -> bytes:
    body = b"ftyp" + b"".join(names)
    return struct.pack(">I", len(body) + 4 if size is None else size) + body


def test_heif_is_told_by_any_of_its_brands() -> None:
    for name in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"):
        assert is_heif(brands(name, b"\0\0\0\0"))
        assert is_heif(brands(b"mif1", b"\0\0\0\0", name))
    assert not is_heif(brands(b"avif", b"\0\0\0\0", b"mif1"))
    assert not is_heif(brands(b"xxhe", b"icxx"))
    assert not is_heif(brands(b"mif1", b"\0\0\0\0", b"heic", size=16))
    assert not is_heif(b"\0\0\0\x10free" + b"heic" * 3)
    assert not is_heif(b"")


def test_brands_are_looked_for_in_256_bytes() -> None:
    assert is_heif(brands(*[b"mif1"] * 61, b"heic"))
    assert not is_heif(brands(*[b"mif1"] * 62, b"heic"))
