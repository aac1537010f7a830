"""Label maps as PNG bytes: COCO's panoptic colours, and plain class maps."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from masqclip.errors import MasqclipError

#: What unlabelled pixels are in a semantic PNG.
IGNORE_LABEL = 255


def ids_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Segment ids [H,W] as COCO panoptic colours [H,W,3] uint8: id = R + 256 G + 65536 B."""
    flat = ids.astype(np.int64)
    return np.stack([flat % 256, flat // 256 % 256, flat // 65536 % 256], axis=-1).astype(np.uint8)


def rgb_to_ids(colours: np.ndarray) -> np.ndarray:
    """The inverse of `ids_to_rgb`: [H,W,3] uint8 to [H,W] int32."""
    return (colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)).astype(np.int32)


def png_bytes(pixels: np.ndarray | Image.Image) -> bytes:
    """A picture or a map as a PNG file."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, "PNG")
    return buffer.getvalue()


def semantic_png(class_map: np.ndarray, num_classes: int) -> bytes:
    """A class map [H,W] (-1 = unlabelled) as a greyscale PNG, 255 = unlabelled.

    With more than 255 classes it is a 16-bit PNG, 65535 = unlabelled.

    Raises:
        MasqclipError: more classes than 16 bits can tell apart.
    """
    if num_classes <= IGNORE_LABEL:
        return png_bytes(np.where(class_map < 0, IGNORE_LABEL, class_map).astype(np.uint8))
    if num_classes > 65535:
        raise MasqclipError(f"{num_classes} classes do not fit a 16-bit PNG; save the JSON instead")
    return png_bytes(np.where(class_map < 0, 65535, class_map).astype(np.uint16))
