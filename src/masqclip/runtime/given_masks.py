"""Masks that come from elsewhere, as the graph of masks takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.bit_masks import binary_mask
from masqclip.errors import MasqclipError
from masqclip.picture import Masks, misfit


def checked_masks(masks: Masks, size: tuple[int, int]) -> list[NDArray[np.bool_]]:
    """Masks one by one, each [H,W] bool.

    Args:
        masks: N of them, in an array, a tensor or a list.
        size: (H, W) of the picture that they lie on.

    Raises:
        MasqclipError: they are of another size, or hold anything but 0 and 1.
    """
    if not isinstance(masks, list | tuple):
        shape = getattr(masks, "shape", None)
        if shape is None:
            raise MasqclipError(
                f"masks are of type {type(masks).__name__}: give an array [N, height, width] of "
                "bool"
            )
        if len(shape) != 3 or tuple(shape[1:]) != size:
            raise misfit(f"masks of shape {tuple(shape)} do", size)
    return [_checked(mask, number, size) for number, mask in enumerate(masks, start=1)]


def _checked(mask: Any, number: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        array = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
    except (ValueError, TypeError, RuntimeError):  # rows of several lengths; no plain tensor
        array = np.array(None)
    if array.dtype.kind not in "buif":
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise MasqclipError(f"mask {number} is of type {kind}: give bool, or 0 and 1")
    if array.shape != size:
        raise misfit(f"mask {number} of shape {array.shape} does", size)
    return binary_mask(array, what=f"place {number}")
