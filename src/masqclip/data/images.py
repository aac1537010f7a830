"""Pictures in, from wherever: a path, bytes, a PIL image, an array or a tensor.

`read_image` gives upright 8-bit RGB and says, in `LoadedImage.notes`, whatever it had to decide on
the way; what it cannot read it refuses in one line. Notable choices:

- Only formats on a list are read (`image_structure.READABLE_FORMATS`), and only regular files of a
  bounded size; a picture's size is checked before a pixel is decoded.
- JPEG, PNG, WebP and plain BMP are decoded right here, once their structure shows that the work is
  bounded by their pixels. Everything else is decoded in a process of its own, which is ended when
  it takes too long or too much memory (`image_readers`); `isolated` has all formats read so.

Only Pillow and NumPy are needed; a torch tensor is recognised without importing torch.
"""

from __future__ import annotations

import math
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np
from PIL import Image

from masqclip.data.files import read_bounded
from masqclip.data.image_decoding import (
    MAX_ASPECT,
    MAX_PIXELS,
    MAX_SIDE,
    LoadedImage,
    check_size,
    decode_image,
    decode_pillow,
    stated_size,
)
from masqclip.data.image_files import find_images
from masqclip.data.image_readers import ImageReaders, shared_readers
from masqclip.data.image_structure import check_structure
from masqclip.data.pixels import Channels, array_to_rgb, check_channels, tensor_to_array
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    import torch

__all__ = [
    "MAX_ASPECT",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "Channels",
    "ImageInput",
    "LoadedImage",
    "find_images",
    "image_size",
    "read_image",
]

MAX_FILE_BYTES: int = 500_000_000
"""The largest file of a picture that is read; 50 megapixels of 64 bits take 400 MB."""


ImageInput = Union[
    str,
    Path,
    bytes,
    bytearray,
    memoryview,
    Image.Image,
    np.ndarray,
    "torch.Tensor",
    LoadedImage,
]
"""What a picture is read from: see `read_image`."""


def read_image(
    source: ImageInput,
    *,
    channels: Channels = "rgb",
    max_pixels: int = MAX_PIXELS,
    max_pixels_here: int | None = None,
    isolated: ImageReaders | None = None,
    name: str = "<bytes>",
) -> LoadedImage:
    """Read one picture into upright 8-bit RGB.

    Args:
        source: a file's path; a file's bytes; a PIL image; an array [H, W], [H, W, 1], [H, W, 3]
            or [H, W, 4] of bool, uint8, uint16 or float in 0..1; a torch tensor of the same kinds,
            channels first or last; or a `LoadedImage`, which is returned as it is.
        channels: the order of the colours of an array or tensor: ``rgb``, or ``bgr`` for what
            OpenCV reads. Files and PIL images know their own.
        max_pixels: refuse a picture with more pixels than this.
        max_pixels_here: decode a file with more pixels than this in another process, which costs
            more in all, but leaves the interpreter to other threads; None = no such limit.
        isolated: processes that decode files of every format; None = only of those whose work
            cannot be foreseen, by processes that the whole program shares.
        name: what a file's bytes are called in errors and in the result.

    Raises:
        MasqclipError: the picture is missing, empty, broken, too large or not a picture, or takes
            too long to decode.
    """
    channels = check_channels(channels)
    if isinstance(source, LoadedImage):
        return source
    started = time.perf_counter()
    path: Path | None = None
    if isinstance(source, str | Path):
        data, path = _file_bytes(source), Path(source)
        loaded = _read_file(data, str(source), max_pixels, max_pixels_here, isolated)
    elif isinstance(source, bytes | bytearray | memoryview):
        loaded = _read_file(bytes(source), name, max_pixels, max_pixels_here, isolated)
    elif isinstance(source, Image.Image):
        known = str(getattr(source, "filename", "") or "")
        loaded = decode_pillow(source, known or "<PIL image>", max_pixels)
        path = Path(known) if known else None
    else:
        loaded = _read_numbers(source, max_pixels, channels)
    return replace(loaded, path=path, seconds=time.perf_counter() - started)


def image_size(path: str | Path) -> tuple[int, int]:
    """The height and width in pixels that `read_image` will give a file's picture.

    Of JPEG, PNG, WebP and BMP they are read without decoding a pixel.

    Raises:
        MasqclipError: it cannot be read, as far as it was looked at.
    """
    data, name = _file_bytes(path), str(path)
    kind = check_structure(data, name) if data else None
    size = (0, 0) if kind is None else stated_size(data, kind)
    if not all(size):
        loaded = read_image(path)
        return loaded.height, loaded.width
    return size


def _file_bytes(path: str | Path) -> bytes:
    name = str(path)
    if re.match(r"(https?|s3|gs|ftp)://", name):
        raise MasqclipError(
            f"{name}: addresses are fetched by 'masqclip segment' alone; download the picture first"
        )
    return read_bounded(path, max_bytes=MAX_FILE_BYTES)


def _read_file(
    data: bytes,
    name: str,
    max_pixels: int,
    max_pixels_here: int | None,
    isolated: ImageReaders | None,
) -> LoadedImage:
    if not data:
        kind = "empty" if name == "<bytes>" else "empty file"
        raise MasqclipError(f"{name}: {kind} (0 bytes)")
    bounded = check_structure(data, name)
    limit = max_pixels_here
    if (
        bounded is not None
        and isolated is None
        and (limit is None or math.prod(stated_size(data, bounded)) <= limit)
    ):
        return decode_image(data, name, max_pixels, [bounded])
    return (isolated or shared_readers()).read(data, name, max_pixels)


def _read_numbers(source: object, max_pixels: int, channels: Channels) -> LoadedImage:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        array, name = tensor_to_array(source, "<tensor>"), "<tensor>"
    elif isinstance(source, np.ndarray):
        array, name = source, "<array>"
    else:
        raise MasqclipError(
            f"cannot read a picture from {type(source).__name__!r}: "
            "give a path, bytes, a PIL image, a NumPy array or a torch tensor"
        )
    if array.ndim in (2, 3):
        check_size(array.shape[0], array.shape[1], name, max_pixels)
    pixels, notes = array_to_rgb(array, name, channels=channels)
    return LoadedImage(pixels=pixels, notes=notes, source=name)
