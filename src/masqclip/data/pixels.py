"""Arrays and tensors to 8-bit RGB: which shapes and values are pictures, and which are mistakes.

An array is a picture when its shape and its values leave one reading only. Everything else
(channels first, a batch, values normalised for a network, NaN) is refused with what to do instead,
because a wrong guess here shows up much later, as masks that make no sense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    import torch

# Resampling oversteps 0..1 by rounding; that much is clipped without a word.
_FLOAT_SLACK = 1e-3


Channels = Literal["rgb", "bgr"]
"""The order of an array's colours: red first, or blue first as OpenCV has them."""


def check_channels(value: object) -> Channels:
    """The order of colours, if it is one.

    Raises:
        MasqclipError: it is none.
    """
    for order in get_args(Channels):
        if isinstance(value, str) and value == order:
            return cast(Channels, order)
    raise MasqclipError(f"channels {value!r:.80}: give 'rgb', or 'bgr' for arrays of OpenCV")


def array_to_rgb(
    array: np.ndarray, name: str, *, channels: Channels = "rgb"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A picture as uint8 RGB [H, W, 3], copied, and notes on what was decided.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (RGBA) of bool, uint8, uint16, or float
            in 0..1.
        name: what to call it in an error.
        channels: the order of its colours; an alpha channel is the last in either.

    Raises:
        MasqclipError: another shape or type, no pixels, values out of range, or NaN.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise MasqclipError(f"{name}: {_shape_advice(array)}")
    if array.size == 0:
        raise MasqclipError(f"{name}: shape {array.shape}: there is nothing in it")
    values, notes = _to_bytes(array, name)
    if channels == "bgr" and values.shape[2] != 1:
        values = values[:, :, [2, 1, 0, 3][: values.shape[2]]]
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    if values.shape[2] == 4:
        colour, alpha = values[:, :, :3].astype(np.uint16), values[:, :, 3:].astype(np.uint16)
        values = values[:, :, :3]
        if alpha.min() < 255:
            values = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
            notes += ("transparency composited on white",)
    return np.array(values, dtype=np.uint8, order="C"), notes


def tensor_to_array(tensor: torch.Tensor, name: str) -> np.ndarray:
    """A tensor as an array with channels last; [C, H, W] is turned, [H, W, C] and [H, W] are not.

    Where both readings fit ([3, W, 3]), channels come first, as torch has it.
    """
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    if tensor.ndim == 4:
        raise MasqclipError(
            f"{name}: shape {tuple(tensor.shape)} is a batch; give the pictures as a list"
        )
    if tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4):
        tensor = tensor.permute(1, 2, 0)
    return np.asarray(tensor.numpy())


def grey_scaling(
    parts: Iterable[np.ndarray], name: str
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """How grey values deeper than 8 bit (a 16-bit PNG, a float TIFF) become uint8, and a note.

    16-bit values are divided by 257. Wider integers are taken for 16-bit ones, floats for 0..1 or
    0..255, where they fit; other values are stretched from their smallest to their largest.

    Args:
        parts: of the picture's values, all together.
        name: what to call the picture in an error.

    Returns:
        A function from a part's values to uint8 of the same shape.

    Raises:
        MasqclipError: a value is no number.
    """
    low, high, kind = np.inf, -np.inf, ""
    for part in parts:
        kind = part.dtype.kind
        if kind == "f" and not np.isfinite(part).all():
            raise MasqclipError(f"{name}: holds values that are no numbers (NaN or infinite)")
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if kind == "f" and low >= 0 and high <= 1:
        return lambda values: _round(values * 255.0), "values 0..1 scaled to 8 bit"
    if kind == "f" and low >= 0 and high <= 255:
        return _round, "values rounded to 8 bit"
    if kind != "f" and low >= 0 and high <= 65535:
        return _divide_by_257, "16-bit values scaled to 8 bit (divided by 257)"
    factor = 255.0 / max(high - low, 1e-30)
    note = f"values {low:g}..{high:g} stretched to 8 bit"
    return lambda values: _round((values.astype(np.float64) - low) * factor), note


def _to_bytes(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if array.dtype == np.uint8:
        return array, ()
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255), ()
    if array.dtype == np.uint16:
        return _divide_by_257(array), ("16-bit values scaled to 8 bit (divided by 257)",)
    if array.dtype.kind != "f":
        raise MasqclipError(
            f"{name}: type {array.dtype} is not read; "
            "convert to uint8 (0..255), for instance with .astype(np.uint8)"
        )
    if not np.isfinite(array).all():
        raise MasqclipError(f"{name}: holds values that are no numbers (NaN or infinite)")
    low, high = float(array.min()), float(array.max())
    if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
        if low >= 0 and high <= 255:
            advice = "divide by 255, or convert to uint8"
        else:
            advice = "give the picture as it was before it was normalised"
        raise MasqclipError(
            f"{name}: float values run from {low:.4g} to {high:.4g}, not within 0..1; {advice}"
        )
    return _round(array.astype(np.float32) * 255.0), ()


def _shape_advice(array: np.ndarray) -> str:
    shape = tuple(array.shape)
    if array.ndim == 4:
        return f"shape {shape} is a batch; give the pictures as a list"
    if array.ndim == 3 and shape[0] in (1, 3, 4):
        return f"shape {shape} has channels first; turn it with .transpose(1, 2, 0)"
    return f"shape {shape} is not a picture; give [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]"


def _divide_by_257(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _round(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
