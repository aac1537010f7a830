"""Pictures in, from wherever: a path, bytes, a PIL image, an array or a tensor.

`read_image` gives upright 8-bit RGB and says, in `LoadedImage.notes`, whatever it had to decide on
the way; what it cannot read it refuses in one line. Notable choices:

- the size stands in a file's header, so a huge picture is refused before a pixel is decoded;
- EXIF orientation is applied: masks then lie on the picture as people see it;
- transparency is composited on white, deeper values are scaled to 8 bit, and of an animation the
  first frame is taken; each of these is said;
- vector formats that Pillow hands to other programs (EPS, WMF) are refused.

Only Pillow and NumPy are needed; a torch tensor is recognised without importing torch.
"""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from masqclip.data.image_files import find_images
from masqclip.data.pixels import array_to_rgb, scale_to_bytes, tensor_to_array
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    import torch

__all__ = ["MAX_PIXELS", "LoadedImage", "find_images", "read_image"]

MAX_PIXELS: int = 50_000_000
"""The largest picture that is read, in pixels; `read_image` takes another limit."""

_READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
_VECTOR_FORMATS = frozenset({"EPS", "WMF"})
_ANIMATED_FORMATS = {"GIF": "GIF", "PNG": "PNG", "WEBP": "WebP", "AVIF": "AVIF", "FLI": "FLI"}
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION = 0x0112

# Pillow's own limit is a module-wide setting; it is lifted only while a header is parsed.
_PILLOW_LIMIT = threading.Lock()


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An upright picture, and what had to be decided to get it.

    Attributes:
        pixels: uint8 RGB, [H, W, 3], contiguous and the holder's own (never a view of the input).
        notes: one short sentence for each decision ("transparency composited on white").
        source: the path as given, or a name in angle brackets such as ``<array>``.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]
    source: str

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


def read_image(
    source: str | Path | bytes | Image.Image | np.ndarray | torch.Tensor | LoadedImage,
    *,
    max_pixels: int = MAX_PIXELS,
) -> LoadedImage:
    """Read one picture into upright 8-bit RGB.

    Args:
        source: a file's path; a file's bytes; a PIL image; an array [H, W], [H, W, 1], [H, W, 3]
            or [H, W, 4] of bool, uint8, uint16 or float in 0..1; a torch tensor of the same kinds,
            channels first or last; or a `LoadedImage`, which is returned as it is.
        max_pixels: refuse a picture with more pixels than this.

    Raises:
        MasqclipError: the picture is missing, empty, broken, too large or not a picture.
    """
    if isinstance(source, LoadedImage):
        return source
    if isinstance(source, str | Path):
        return _read_path(source, max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        if len(source) == 0:
            raise MasqclipError("<bytes>: empty (0 bytes)")
        return _read_file(io.BytesIO(source), "<bytes>", max_pixels)
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "<PIL image>")
        return _read_pillow(source, name, max_pixels)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        return _read_array(tensor_to_array(source, "<tensor>"), "<tensor>", max_pixels)
    if isinstance(source, np.ndarray):
        return _read_array(source, "<array>", max_pixels)
    raise MasqclipError(
        f"cannot read a picture from {type(source).__name__!r}: "
        "give a path, bytes, a PIL image, a NumPy array or a torch tensor"
    )


# Files and bytes


def _read_path(path: str | Path, max_pixels: int) -> LoadedImage:
    name = str(path)
    if re.match(r"(https?|s3|gs|ftp)://", name):
        raise MasqclipError(f"{name}: addresses are not fetched; download the picture first")
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        if isinstance(error, FileNotFoundError):
            raise MasqclipError(f"{name}: no such file") from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise MasqclipError(f"{name}: cannot be opened ({reason})") from error
    if stat.S_ISDIR(status.st_mode):
        raise MasqclipError(f"{name}: a folder, not a picture; find_images lists what is in it")
    if not stat.S_ISREG(status.st_mode):
        raise MasqclipError(f"{name}: not a regular file; save the picture to a file first")
    if status.st_size == 0:
        raise MasqclipError(f"{name}: empty file (0 bytes)")
    try:
        file = open(path, "rb")  # noqa: SIM115 (its errors differ from the decoder's)
    except OSError as error:
        raise MasqclipError(f"{name}: cannot be opened ({error.strerror or error})") from error
    with file:
        return _read_file(file, name, max_pixels)


def _read_file(file: BinaryIO, name: str, max_pixels: int) -> LoadedImage:
    # Pillow warns, then refuses, by a limit of its own; ours is checked right after the header.
    with _PILLOW_LIMIT:
        pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file)
        except UnidentifiedImageError as error:
            raise MasqclipError(_unrecognised(name)) from error
        except Exception as error:  # a broken header may raise nearly anything
            raise MasqclipError(_broken(name, error)) from error
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit
    with image:
        return _read_pillow(image, name, max_pixels)


def _unrecognised(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix in (".svg", ".svgz", ".pdf", ".ai"):
        return f"{name}: vector art or a document, not a picture; render it to PNG first"
    if suffix in (".heic", ".heif", ".jxl", ".cr2", ".nef", ".arw", ".dng"):
        return f"{name}: {suffix[1:].upper()} is not read; convert it to JPEG or PNG first"
    return f"{name}: not a picture, or too damaged to be recognised; give {_READABLE}"


def _broken(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{name}: broken or cut short ({reason}); save or download it again"


def _check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise MasqclipError(f"{name}: {width} x {height} pixels: there is nothing in it")
    if height * width > max_pixels:
        raise MasqclipError(
            f"{name}: {width} x {height} = {height * width:,} pixels, more than the limit of "
            f"{max_pixels:,}; make it smaller first"
        )


# PIL images


def _read_pillow(image: Image.Image, name: str, max_pixels: int) -> LoadedImage:
    if image.format in _VECTOR_FORMATS:
        raise MasqclipError(f"{name}: {image.format} is vector art; render it to PNG first")
    _check_size(image.height, image.width, name, max_pixels)
    notes: list[str] = []
    try:
        image.load()
        _check_size(image.height, image.width, name, max_pixels)  # an icon may grow on loading
        notes += _frame_notes(image)
        image, turned = _upright(image)
        notes += turned
        pixels, converted = _pillow_to_rgb(image, name)
        notes += converted
    except MasqclipError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
        raise MasqclipError(_broken(name, error)) from error
    return LoadedImage(pixels=pixels, notes=tuple(notes), source=name)


def _frame_notes(image: Image.Image) -> list[str]:
    if not getattr(image, "is_animated", False):
        return []
    if image.format == "TIFF":
        return ["several pages: the first is used"]
    kind = _ANIMATED_FORMATS.get(image.format or "")
    return [f"animated {kind}: the first frame is used"] if kind else []


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        if orientation not in range(2, 9):
            return image, []
        turned = ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block does not spoil the picture
        return image, []
    return turned, [f"turned upright (EXIF orientation {orientation})"]


def _pillow_to_rgb(image: Image.Image, name: str) -> tuple[np.ndarray, list[str]]:
    """Any of Pillow's modes to uint8 RGB [H, W, 3]; the array is a copy."""
    if image.mode in _DEEP_MODES:  # Pillow itself would clip these at 255
        grey, note = scale_to_bytes(np.asarray(image), name)
        return np.repeat(grey[:, :, None], 3, axis=2), [note]
    if image.mode == "La":  # premultiplied grey, which Pillow converts in one way only
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if np.asarray(rgba.getchannel("A")).min() < 255:
            white = Image.new("RGBA", rgba.size, "white")
            flat = Image.alpha_composite(white, rgba).convert("RGB")
            return np.array(flat), ["transparency composited on white"]
        image = rgba
    return np.array(image.convert("RGB")), []


# Arrays


def _read_array(array: np.ndarray, name: str, max_pixels: int) -> LoadedImage:
    if array.ndim in (2, 3):
        _check_size(array.shape[0], array.shape[1], name, max_pixels)
    pixels, notes = array_to_rgb(array, name)
    return LoadedImage(pixels=pixels, notes=notes, source=name)
