"""Pictures whose pixels are numbers: class maps, and segment ids in COCO's panoptic colours."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from masqclip.data.images import MAX_PIXELS
from masqclip.errors import MasqclipError

_CODE = np.array([1, 256, 65536], np.int32)
_LARGEST = 65_535  # label


def ids_to_rgb(ids: NDArray[Any]) -> NDArray[np.uint8]:
    """Segment ids [H,W] as COCO panoptic colours [H,W,3] uint8: id = R + 256 G + 65536 B."""
    flat = ids.astype(np.int64)
    return np.stack([flat % 256, flat // 256 % 256, flat // 65536 % 256], axis=-1).astype(np.uint8)


def rgb_to_ids(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The inverse of `ids_to_rgb`: [H,W,3] uint8 to [H,W] int32."""
    return (colours.astype(np.int32) @ _CODE).astype(np.int32)


def png_bytes(pixels: NDArray[Any] | Image.Image) -> bytes:
    """A picture or a map as a PNG file."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read_labels(path: Path) -> NDArray[np.int32]:
    """A greyscale or palette picture of labels, 8 or 16 bits: [H,W].

    Raises:
        MasqclipError: it is missing, broken, a colour picture, or of other numbers.
    """
    labels = _read_pixels(path)
    if labels.ndim != 2:
        raise MasqclipError(f"{path} is a colour picture; labels are greyscale: replace it")
    with np.errstate(invalid="ignore"):  # of no number: told below
        found = labels.astype(np.int32)
    if (found != labels).any() or not 0 <= found.min(initial=0) <= found.max(initial=0) <= _LARGEST:
        raise MasqclipError(f"{path} holds other values than whole numbers of 16 bits: replace it")
    return found


def read_segment_ids(path: Path) -> NDArray[np.int32]:
    """A picture of COCO panoptic colours: [H,W] segment ids.

    Raises:
        MasqclipError: it is missing, broken, or not a colour picture.
    """
    colours = _read_pixels(path)
    if colours.ndim != 3 or colours.shape[2] < 3:
        raise MasqclipError(f"{path} is greyscale; segment ids are RGB colours: replace it")
    return rgb_to_ids(colours[..., :3])


def read_panoptic_map(
    path: Path, segments: Iterable[Mapping[str, Any]], size: tuple[int, ...]
) -> tuple[NDArray[np.int32], frozenset[int]]:
    """The map of a panoptic picture, and seen to be of its segments.

    Args:
        path: of the map.
        segments: all that its annotation lists.
        size: height and width of the picture.

    Returns:
        The segment ids [H,W], 0 = void, and those that have a pixel.

    Raises:
        MasqclipError: as `read_segment_ids`; or it is of another size than the picture, or pixels
            have an id that no segment has.
    """
    ids = read_segment_ids(path)
    if ids.shape != tuple(size):
        raise MasqclipError(
            f"the map {path} is {ids.shape[0]} x {ids.shape[1]} pixels (height x width), its "
            f"picture {size[0]} x {size[1]}: they must be the same"
        )
    present = frozenset(np.unique(ids).tolist()) - {0}
    if unknown := present - {segment["id"] for segment in segments}:
        raise MasqclipError(
            f"the map {path} holds the segment {min(unknown)}, which 'segments_info' does not "
            "list: add it there, or restore the map"
        )
    return ids, present


def _read_pixels(path: Path) -> NDArray[Any]:
    if not os.path.exists(path):
        raise MasqclipError(f"the map {path} is missing: restore it")
    if not os.path.isfile(path):  # a pipe would be waited for
        raise MasqclipError(f"the map {path} is not a regular file: restore it")
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS:,} pixels")
            return np.asarray(picture)
    except Exception as error:  # decoders raise nearly anything
        raise MasqclipError(f"the map {path} cannot be read ({error}): restore it") from error
