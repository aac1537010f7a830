"""What the bytes of a picture's file say of the work in it, before a decoder sees them.

Decoders do what a file asks. A JPEG of 2 MB may ask for a hundred thousand passes over its pixels,
a PNG for a million chunks, and either holds a processor for minutes. Here the structure is walked
and such files are refused; what passes decodes in a time that its pixels bound. Formats whose
structure is not walked here are decoded in a process that can be ended (`image_readers`).
"""

from __future__ import annotations

import re
import struct

from masqclip.errors import MasqclipError

#: Formats that are decoded, by Pillow's names; nothing else is, whatever Pillow could do. Each has
#: its size in its header, so that nothing is decoded before the size is known to be allowed.
READABLE_FORMATS = (
    "JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "TGA",
)  # fmt: skip

# Progressive pictures have about ten passes over their pixels; no encoder makes a hundred.
MAX_JPEG_SCANS = 500
# Passes times pixels: a pass without data costs some nanoseconds a pixel all the same.
MAX_JPEG_WORK = 1_500_000_000
_MAX_JPEG_SEGMENTS = 4096
_MAX_JPEG_JUNK = 65_536  # bytes before the picture that belong to nothing
_JPEG_MARK = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_MAX_PNG_CHUNKS = 4096
_PNG_BYTES_A_CHUNK = 1024  # beyond these, as many chunks as such pieces would make
_MAX_PPM_HEADER = 4096
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_MAX_BRANDS = 256  # bytes

_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_WEBP_AT = slice(8, 12)
_UNCOMPRESSED_BMP = (0, 3)  # BI_RGB and BI_BITFIELDS; run lengths are unpacked pixel by pixel


def check_structure(data: bytes, name: str) -> str | None:
    """Refuse a file that asks for far more work than its pixels are worth.

    Args:
        data: of the file.
        name: what it is called in errors.

    Returns:
        The file's format, where the work is bounded by the pixels: it may be decoded where it is
        read. None of all others, which belong into a process that can be ended.

    Raises:
        MasqclipError: the file was built to take long.
    """
    if data.startswith(_JPEG):
        check_jpeg_work(data, 1, name)
        _check_jpeg_header(data, name)
        return "JPEG"
    if data.startswith(_PNG):
        _check_png(data, name)
        return "PNG"
    if data.startswith(b"RIFF") and data[_WEBP_AT] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in b"123456" and not _ends_soon(data):
        raise MasqclipError(f"{name}: broken: its header does not end; save it again")
    if data.startswith(_BMP) and len(data) > 34:
        return "BMP" if struct.unpack_from("<I", data, 30)[0] in _UNCOMPRESSED_BMP else None
    return None


def header_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a PNG, whose header says it without more; None of anything else."""
    if data.startswith(_PNG) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    return None


def is_heif(data: bytes) -> bool:
    """Whether a file is HEIF, whose pictures are coded as HEVC: HEIC, as telephones write it."""
    if data[4:8] != b"ftyp":
        return False
    # The main brand may be any HEIF's, AVIF's too; then one of the others tells.
    brands = data[8 : min(struct.unpack_from(">I", data)[0], _MAX_BRANDS)]
    return any(brands[at : at + 4] in _HEIC_BRANDS for at in range(0, len(brands), 4))


def check_jpeg_work(data: bytes, pixels: int, name: str) -> None:
    """Refuse a JPEG that passes over its pixels far more often than any encoder has it.

    Raises:
        MasqclipError: the file was built to take long.
    """
    # The mark of a pass cannot stand in compressed data, where 0 follows 0xff. Those of embedded
    # previews count as well, which matters little.
    passes = data.count(b"\xff\xda")
    if passes > MAX_JPEG_SCANS or passes * pixels > MAX_JPEG_WORK:
        raise _built_to_take_long(name, f"{passes:,} passes over its pixels")


def _check_jpeg_header(data: bytes, name: str) -> None:
    at, end, junk, segments = 2, len(data), 0, 0
    while at + 4 <= end:
        mark = data[at + 1]
        if data[at] != 0xFF or mark in (0x00, 0xFF):  # decoders look for the next mark, by bytes
            found = _JPEG_MARK.search(data, at + 1, at + _MAX_JPEG_JUNK + 3)
            junk += (found.start() if found else end) - at
            at = found.start() if found else end
        elif mark == 0xDA:
            return  # the picture itself
        else:
            alone = mark == 0x01 or 0xD0 <= mark <= 0xD9  # marks without a segment
            at += 2 if alone else 2 + struct.unpack_from(">H", data, at + 2)[0]
            segments += 1
        if junk > _MAX_JPEG_JUNK:
            raise _built_to_take_long(name, f"more than {_MAX_JPEG_JUNK:,} bytes of nothing")
        if segments > _MAX_JPEG_SEGMENTS:
            raise _built_to_take_long(name, f"more than {_MAX_JPEG_SEGMENTS:,} segments")


def _check_png(data: bytes, name: str) -> None:
    at, end, chunks = len(_PNG), len(data), 0
    allowed = _MAX_PNG_CHUNKS + end // _PNG_BYTES_A_CHUNK
    while at + 8 <= end:
        at += 12 + struct.unpack_from(">I", data, at)[0]
        chunks += 1
        if chunks > allowed:
            raise _built_to_take_long(name, f"more than {allowed:,} chunks")


def _ends_soon(data: bytes) -> bool:
    """Whether a PPM's header, which may hold comments, is short: a name and three numbers."""
    words = 0
    for line in data[:_MAX_PPM_HEADER].split(b"\n"):
        words += len(line.partition(b"#")[0].split())
        if words >= 3:  # a bitmap has no third number
            return True
    return len(data) < _MAX_PPM_HEADER


def _built_to_take_long(name: str, what: str) -> MasqclipError:
    return MasqclipError(f"{name}: built to take long ({what}); save it again as a plain picture")
