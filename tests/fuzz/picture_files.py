"""Pictures that nobody would make by accident: damaged ones of every format, and bombs.

Everything follows from a seed, so a case that fails can be made again.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

FORMATS: dict[str, dict[str, object]] = {
    "JPEG": {}, "PNG": {}, "WEBP": {}, "GIF": {}, "BMP": {}, "TIFF": {}, "AVIF": {"speed": 10},
    "JPEG2000": {}, "PPM": {}, "TGA": {}, "ICO": {}, "PCX": {}, "SGI": {}, "DDS": {}, "ICNS": {},
}  # fmt: skip
_MODES = ("RGB", "L", "RGBA", "P", "1", "CMYK", "I;16", "LA")
_SIZES = (0, 1, 2, 255, 256, 32_767, 65_535, 2**31 - 1, 2**32 - 1)


def cases(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """Damaged pictures: a name, and the file."""
    for index in range(number):
        random = np.random.default_rng((seed, index))
        kind = list(FORMATS)[int(random.integers(len(FORMATS)))]
        data = _sound(kind, random)
        damage = DAMAGES[int(random.integers(len(DAMAGES)))]
        yield f"{index:05d}-{damage.__name__.strip('_')}.{kind.lower()}", damage(data, random)


def _sound(kind: str, random: np.random.Generator) -> bytes:
    side = int(random.integers(1, 80))
    pixels = random.integers(0, 256, (side, int(random.integers(1, 80)), 3), np.uint8)
    image = Image.fromarray(pixels)
    for mode in random.permutation(_MODES)[:3]:
        buffer = io.BytesIO()
        options = dict(FORMATS[kind])
        if kind == "JPEG":
            options["progressive"] = bool(random.integers(2))
        try:
            image.convert(str(mode)).save(buffer, kind, **options)
        except (OSError, ValueError, KeyError):
            continue
        return buffer.getvalue()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _bits(data: bytes, random: np.random.Generator) -> bytes:
    spoilt = np.frombuffer(data, np.uint8).copy()
    for at in random.integers(0, len(spoilt), int(random.integers(1, 20))):
        spoilt[at] ^= 1 << int(random.integers(8))
    return spoilt.tobytes()


def _head(data: bytes, random: np.random.Generator) -> bytes:
    spoilt = bytearray(data)
    for at in random.integers(0, min(64, len(spoilt)), 3):
        spoilt[at] = int(random.integers(256))
    return bytes(spoilt)


def _cut(data: bytes, random: np.random.Generator) -> bytes:
    return data[: int(random.integers(1, len(data)))]


def _size(data: bytes, random: np.random.Generator) -> bytes:
    """An interesting number, in either order of bytes, somewhere in the head."""
    at = int(random.integers(0, max(1, min(200, len(data) - 4))))
    form = "<>"[int(random.integers(2))] + "HI"[int(random.integers(2))]
    value = _SIZES[int(random.integers(len(_SIZES)))] % 2 ** (8 * struct.calcsize(form))
    spoilt = bytearray(data)
    spoilt[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(spoilt)


def _splice(data: bytes, random: np.random.Generator) -> bytes:
    first, last = sorted(random.integers(0, len(data), 2).tolist())
    piece = data[first:last] * int(random.integers(1, 50))
    at = int(random.integers(0, len(data)))
    return data[:at] + piece + data[at:]


def _other_head(data: bytes, random: np.random.Generator) -> bytes:
    other = _sound(list(FORMATS)[int(random.integers(len(FORMATS)))], random)
    return other[:32] + data[32:]


def _noise(data: bytes, random: np.random.Generator) -> bytes:
    return data[:16] + random.bytes(int(random.integers(1, 5000)))


DAMAGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    _bits, _head, _cut, _size, _splice, _other_head, _noise,
)  # fmt: skip


# Bombs


def bombs(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """Files that are built to take all memory or all time: a name, and the file."""
    for index in range(number):
        random = np.random.default_rng((seed, index))
        name, make = list(BOMBS.items())[index % len(BOMBS)]
        yield f"{index:05d}-{name}", make(random)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    left = height * (1 + (width * channels * depth + 7) // 8)
    packer, parts = zlib.compressobj(6), []
    while left > 0:
        parts.append(packer.compress(bytes(min(left, 1 << 22))))
        left -= 1 << 22
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = _chunk(b"IHDR", header) + extra
    body += _chunk(b"IDAT", b"".join(parts) + packer.flush()) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _many_pixels(random: np.random.Generator) -> bytes:
    side = int(random.integers(4000, 7071))
    return _png(
        side, int(49_000_000 / side), *((8, 2), (8, 6), (16, 6), (8, 0), (1, 0))[random.integers(5)]
    )


def _too_many_pixels(random: np.random.Generator) -> bytes:
    side = int(random.integers(8000, 12_000))
    return _png(side, side, 8, 0)


def _line(random: np.random.Generator) -> bytes:
    length = int(random.integers(5_000, 40_000_000))
    return _png(1, length, 8, 0) if random.integers(2) else _png(length, 1, 8, 0)


def _limit(random: np.random.Generator) -> bytes:
    """As long and narrow as is let in."""
    width = int(random.integers(140, 1500))
    return _png(min(32_768, 240 * width), width, 8, 2)


def _passes(random: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    side = int(random.integers(100, 2000))
    noise = random.integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True, quality=20)
    data = buffer.getvalue()
    end = data.rindex(b"\xff\xd9")
    empty = b"\xff\xda\0\x08\1\1\x11\1\x3f\x10\0" * int(random.choice([100, 450, 5000, 150_000]))
    return data[:end] + empty + data[end:]


def _chunks(random: np.random.Generator) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    count = int(random.integers(1000, 1_500_000))
    kind = (b"aaAa", b"IDAT", b"tEXt")[random.integers(3)]
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(kind, b"") * count + _chunk(b"IEND", b"")


def _text_chunks(random: np.random.Generator) -> bytes:
    packed = zlib.compress(bytes(20_000_000))
    extra = _chunk(b"zTXt", b"a\0\0" + packed) * int(random.integers(1, 200))
    return _png(8, 8, extra=extra + _chunk(b"iCCP", b"a\0\0" + packed))


def _comments(random: np.random.Generator) -> bytes:
    length = int(random.integers(1_000_000, 20_000_000))
    kinds = (
        b"P6\n" + b"#" * length + b"\n8 8 255\n",
        b"P3\n40 40 255\n" + b"# \n" * (length // 3),
        b"GIF89a\x08\0\x08\0\0\0\0!\xfe" + (b"\xff" + b"a" * 255) * (length // 256) + b"\0;",
        b"GIF89a\x08\0\x08\0\0\0\0!\xfe" + b"\1a" * (length // 2) + b"\0;",
        b"\xff\xd8" + b"\xff\xfe\0\2" * (length // 4),
        b"\xff\xd8" + b"\xff" * length,
        b"\xff\xd8\xff\xe0\0\2" + b"\0" * length,
        b"%!PS-Adobe-3.0 EPSF-3.0\n" + b"%%x\n" * (length // 4),
    )
    return kinds[random.integers(len(kinds))]


def _python_decoders(random: np.random.Generator) -> bytes:
    side = int(random.integers(500, 7000))
    runs = b"\xc0" if random.integers(2) else b"\xfd"
    data = runs * min(side * side, 20_000_000) + bytes(7) + b"\1"
    return b"qoif" + struct.pack(">IIBB", side, side, 3, 0) + data


def _bitmap_runs(random: np.random.Generator) -> bytes:
    side = int(random.integers(1000, 7000))
    data = b"\1\0" * int(random.integers(1_000_000, 8_000_000))
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    offset = 14 + len(info) + 1024
    return (
        struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset) + info + bytes(1024) + data
    )


def _tiff_directories(random: np.random.Generator) -> bytes:
    """A chain of directories, or one that leads back to itself, or one with absurd counts."""
    count = int(random.integers(2, 200_000))
    entry = struct.pack("<HHII", 256, 3, 1, 8)
    if random.integers(2):
        entry = struct.pack("<HHII", int(random.integers(254, 340)), 5, 2**28, 8)
    chain = bytearray(b"II*\0" + struct.pack("<I", 8))
    for index in range(count):
        at = len(chain)
        following = 8 if index == count - 1 and random.integers(2) else at + 18
        chain += struct.pack("<H", 1) + entry + struct.pack("<I", following)
    return bytes(chain)


def _icon(random: np.random.Generator) -> bytes:
    inside = _png(int(random.integers(5000, 12_000)), 9000, 8, 6)
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + inside


def _lossy(random: np.random.Generator) -> bytes:
    """A flat picture in a format that packs flat pictures into nothing."""
    kind, side = (("WEBP", 7000), ("AVIF", 5000), ("JPEG2000", 3500), ("TIFF", 7000))[
        random.integers(4)
    ]
    buffer = io.BytesIO()
    options: dict[str, object] = {"AVIF": {"speed": 10}, "TIFF": {"compression": "tiff_lzw"}}.get(
        kind, {}
    )
    Image.new("RGB", (side, side), (1, 2, 3)).save(buffer, kind, **options)
    return buffer.getvalue()


BOMBS: dict[str, Callable[[np.random.Generator], bytes]] = {
    "many-pixels": _many_pixels,
    "too-many-pixels": _too_many_pixels,
    "line": _line,
    "limit": _limit,
    "passes": _passes,
    "chunks": _chunks,
    "text-chunks": _text_chunks,
    "comments": _comments,
    "python-decoders": _python_decoders,
    "bitmap-runs": _bitmap_runs,
    "tiff-directories": _tiff_directories,
    "icon": _icon,
    "lossy": _lossy,
}
