"""The bytes of a picture's file, or a PIL image, to upright 8-bit RGB, in this process.

- The size stands in a file's header and is checked before a pixel is decoded; Pillow's own guard
  against bombs stays as it is.
- Conversion goes band by band, so that beside what Pillow decodes there is one copy of the pixels.
- EXIF orientation is applied: masks then lie on the picture as people see it.
- Transparency is composited on white, deeper values are scaled to 8 bit, and of an animation the
  first frame is taken; each of these is said.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (  # of Pillow's decoders these and no others: they register themselves
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    QoiImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from masqclip.data.image_files import UNREAD_SUFFIXES
from masqclip.data.image_structure import READABLE_FORMATS, check_jpeg_work, header_size, is_heif
from masqclip.data.pixels import grey_scaling
from masqclip.errors import MasqclipError, require

_DECODERS = (
    AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Jpeg2KImagePlugin, JpegImagePlugin,
    PngImagePlugin, PpmImagePlugin, QoiImagePlugin, TgaImagePlugin, TiffImagePlugin,
    WebPImagePlugin,
)  # fmt: skip

MAX_PIXELS: int = 50_000_000
"""The largest picture that is read, in pixels; `read_image` takes another limit."""

MAX_SIDE: int = 32_768
"""The longest side of a picture that is read, in pixels."""

MAX_ASPECT: int = 250
"""How many times as long as the other a side may be, in pictures of more than a line of pixels."""

_LINE_PIXELS = 4096  # a picture of so few pixels may have any shape
_BAND_PIXELS = 1 << 20
_DNG_VERSION = 0xC612
_CONVERT = "convert it to JPEG or PNG first"
_READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
_FRAME_NOTES = {
    "GIF": "animated GIF: the first frame is used",
    "PNG": "animated PNG: the first frame is used",
    "WEBP": "animated WebP: the first frame is used",
    "AVIF": "animated AVIF: the first frame is used",
    "TIFF": "several pages: the first is used",
    "MPO": "several pictures (MPO): the first is used",
    "HEIF": "several pictures (HEIC): the main one is used",
}
_VECTOR_FORMATS = ("EPS", "WMF")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
# How an array [H, W, 3] is turned upright, by the EXIF orientation.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An upright picture, and what had to be decided to get it.

    Attributes:
        pixels: uint8 RGB, [H, W, 3], contiguous and the holder's own (never a view of the input).
        notes: one short sentence for each decision ("transparency composited on white").
        source: the path as given, or a name in angle brackets such as ``<array>``.
        path: of the file that it was read from; None of what came without one.
        seconds: that reading took; None where nobody measured.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    notes: tuple[str, ...]
    source: str
    path: Path | None = None
    seconds: float | None = None

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


def check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    """Refuse a picture by its size.

    Raises:
        MasqclipError: it has no pixels, or too many, or too many in a row, or hardly a second
            dimension.
    """
    if height < 1 or width < 1:
        raise MasqclipError(f"{name}: {width} x {height} pixels: there is nothing in it")
    if height * width > max_pixels:
        raise MasqclipError(
            f"{name}: {width} x {height} = {height * width:,} pixels, more than the limit of "
            f"{max_pixels:,}; make it smaller first"
        )
    if max(height, width) > MAX_SIDE:
        raise MasqclipError(
            f"{name}: {width} x {height} pixels: a side is longer than the limit of {MAX_SIDE:,}; "
            "make it smaller, or cut it into pieces"
        )
    short, long = sorted((height, width))
    if long > MAX_ASPECT * short and height * width > _LINE_PIXELS:
        raise MasqclipError(
            f"{name}: {width} x {height} pixels: a side is more than {MAX_ASPECT} times as long as "
            "the other; cut it into pieces"
        )


def decode_image(
    data: bytes, name: str, max_pixels: int, formats: Sequence[str] = READABLE_FORMATS
) -> LoadedImage:
    """The picture in a file's bytes.

    Args:
        data: of the file.
        name: what it is called in errors and in the result.
        max_pixels: refuse a picture with more pixels than this.
        formats: what it may be.

    Raises:
        MasqclipError: it is no picture of a known format, broken, or too large.
    """
    if (size := header_size(data)) is not None:
        check_size(*size, name, max_pixels)
    if is_heif(data):
        formats = _heif_formats(name)
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(formats))
    except UnidentifiedImageError as error:
        raise MasqclipError(_unrecognised(data, name)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MasqclipError(
            f"{name}: too large: far more pixels than the limit of {max_pixels:,}; make it smaller "
            "first"
        ) from error
    except Exception as error:  # a broken header may raise nearly anything
        raise MasqclipError(broken(name, error)) from error
    with image:
        check_size(image.height, image.width, name, max_pixels)
        if image.format == "TIFF" and _is_raw(image, name):
            raise MasqclipError(f"{name}: a camera's raw file is not read; {_CONVERT}")
        if image.format in ("JPEG", "MPO"):
            check_jpeg_work(data, image.height * image.width, name)
        return decode_pillow(image, name, max_pixels)


def stated_size(data: bytes, kind: str) -> tuple[int, int]:
    """The height and width that a file says its picture has, before a pixel is decoded.

    Args:
        data: of the file.
        kind: its format, by Pillow's name.

    Returns:
        Of the picture turned upright; 0, 0 where the file does not say.
    """
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=(kind,)) as image:
        # Of a PNG Pillow decodes all pixels to look behind them.
        turned = kind != "PNG" or b"eXIf" in data or b"Raw profile" in data
        sideways = turned and _orientation(image) in _SIDEWAYS
        return (image.width, image.height) if sideways else (image.height, image.width)
    return 0, 0


def decode_pillow(image: Image.Image, name: str, max_pixels: int) -> LoadedImage:
    """The picture that a PIL image holds, or will when it is loaded. Arguments as before."""
    if image.format in _VECTOR_FORMATS:  # Pillow hands them to other programs
        raise MasqclipError(f"{name}: {image.format} is vector art; render it to PNG first")
    check_size(image.height, image.width, name, max_pixels)
    try:
        image.load()
        check_size(image.height, image.width, name, max_pixels)  # as its decoder found it to be
        notes = _frame_notes(image)
        orientation = _orientation(image)
        pixels, converted = _to_rgb(image, name)
    except MasqclipError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
        raise MasqclipError(broken(name, error)) from error
    if orientation in _UPRIGHT:
        pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
        notes.append(f"turned upright (EXIF orientation {orientation})")
    return LoadedImage(pixels=pixels, notes=(*notes, *converted), source=name)


def broken(name: str, error: BaseException) -> str:
    """What is said of a file that its decoder gave up on."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{name}: broken or cut short ({reason}); save or download it again"


def _unrecognised(data: bytes, name: str) -> str:
    suffix = Path(name).suffix.lower()
    if data.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return f"{name}: EPS is vector art; render it to PNG first"
    if data.startswith(b"%PDF") or suffix in (".svg", ".svgz", ".pdf", ".ai"):
        return f"{name}: vector art or a document, not a picture; render it to PNG first"
    if suffix in UNREAD_SUFFIXES:
        return f"{name}: {suffix[1:].upper()} is not read; {_CONVERT}"
    return f"{name}: not a picture, or too damaged to be recognised; give {_READABLE}"


def _heif_formats(name: str) -> tuple[str]:
    """Have Pillow read HEIC, by a library of its own; what it is called there."""
    heif: Any = require("pillow_heif", extra="heic", purpose=f"{name}: HEIC")
    # What lies beside the picture is not looked at; and time is counted by processors.
    heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
    )
    return ("HEIF",)


def _is_raw(image: Image.Image, name: str) -> bool:
    """Whether a TIFF is a camera's raw file, whose first picture is but a small preview."""
    tags = getattr(image, "tag_v2", {})
    return _DNG_VERSION in tags or Path(name).suffix.lower() in UNREAD_SUFFIXES


def _frame_notes(image: Image.Image) -> list[str]:
    if not getattr(image, "is_animated", False):
        return []
    note = _FRAME_NOTES.get(image.format or "")
    return [note] if note else []


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none or its block is broken."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        return 1


def _to_rgb(image: Image.Image, name: str) -> tuple[np.ndarray, list[str]]:
    """Any of Pillow's modes to uint8 RGB [H, W, 3], in memory of its own, and notes."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    if image.mode in _DEEP_MODES:  # Pillow itself would clip these at 255
        scale, note = grey_scaling((np.asarray(band) for _, band in _bands(image)), name)
        for rows, band in _bands(image):
            pixels[rows] = scale(np.asarray(band))[:, :, None]
        return pixels, [note]
    has_alpha, seen_through = image.has_transparency_data, False
    for rows, band in _bands(image):
        if band.mode == "La":  # premultiplied grey, which Pillow converts in one way only
            band = band.convert("LA")
        if has_alpha:
            band = band.convert("RGBA")
            if np.asarray(band.getchannel("A")).min() < 255:
                seen_through = True
                band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
        pixels[rows] = np.asarray(band.convert("RGB"))
    return pixels, ["transparency composited on white"] if seen_through else []


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """The image in bands of rows, each a small image: conversions then take little memory."""
    step = max(1, _BAND_PIXELS // image.width)
    if step >= image.height:
        yield slice(0, image.height), image
        return
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))
