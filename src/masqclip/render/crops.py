"""Segments cut out of their picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from masqclip.data.named_masks import NamedMask
from masqclip.errors import MasqclipError


def crop_box(segment: NamedMask, size: tuple[int, int], margin: int) -> tuple[int, int, int, int]:
    """The box of a segment in pixels, ends exclusive, with a margin, cut to (height, width).

    Raises:
        MasqclipError: the margin is no whole number of pixels.
    """
    if isinstance(margin, bool) or not isinstance(margin, int | np.integer) or margin < 0:
        raise MasqclipError(f"margin {margin!r:.80}: give a whole number of pixels, 0 or more")
    x0, y0, x1, y1 = segment.box
    if not segment.area:
        return (0, 0, 0, 0)
    height, width = size
    return (
        max(x0 - margin, 0),
        max(y0 - margin, 0),
        min(x1 + margin, width),
        min(y1 + margin, height),
    )


def crop(image: NDArray[np.uint8], segment: NamedMask, margin: int) -> Image.Image:
    """The part of a picture [H,W,3] in a segment's box, with a margin in pixels: RGB."""
    x0, y0, x1, y1 = crop_box(segment, image.shape[:2], margin)
    return _picture(image[y0:y1, x0:x1])


def cut_out(image: NDArray[np.uint8], segment: NamedMask, margin: int) -> Image.Image:
    """The same as RGBA: what lies outside of the mask is transparent."""
    x0, y0, x1, y1 = crop_box(segment, image.shape[:2], margin)
    alpha = segment.mask[y0:y1, x0:x1].astype(np.uint8) * np.uint8(255)
    return _picture(np.dstack([image[y0:y1, x0:x1], alpha]))


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.size:
        return Image.fromarray(np.ascontiguousarray(pixels))
    return Image.new("RGBA" if pixels.shape[2] == 4 else "RGB", (0, 0))
