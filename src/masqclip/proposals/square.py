"""Frames of any shape for models that see one square size: there, and the masks back.

A picture keeps its aspect, lies at the square's top left, and its longer side fills it; or it is
stretched over the square, for models that were trained so. What a model says of the square, or of a
frame of its own, is sampled at the pixels of the frame at stride 4, where proposals live.

Shapes: `B` images, `Q` masks, `H W` the padded frame, `h w` = `H/4 W/4`, `S` the square's side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 4
OUTSIDE = -10.0  # a logit that says: not here


def to_square(
    pixel_values: Tensor,
    pixel_mask: Tensor,
    side: int,
    fill: Sequence[float],
    *,
    stretch: bool = False,
) -> Tensor:
    """Pictures cut out of their frames, resized and padded.

    Args:
        pixel_values: [B, 3, H, W] normalised.
        pixel_mask: [B, H, W] bool, true where the picture is.
        side: S, in pixels.
        fill: what the padding holds in each of the three channels, normalised.
        stretch: fill the square, whatever the picture's aspect.

    Returns:
        [B, 3, S, S].
    """
    padding = pixel_values.new_tensor(fill).view(3, 1, 1)
    squares = padding.expand(len(pixel_values), 3, side, side).clone()
    for square, pixels, inside in zip(squares, pixel_values, pixel_mask, strict=True):
        height, width = picture_size(inside)
        size = fitted_size(height, width, side, stretch=stretch)
        picture = pixels[None, :, :height, :width]
        if size != (height, width):
            picture = F.interpolate(picture.float(), size=size, mode="bilinear", antialias=True)
        square[:, : size[0], : size[1]] = picture[0]
    return squares


def from_square(masks: Tensor, pixel_mask: Tensor, side: int, *, stretch: bool = False) -> Tensor:
    """One picture's masks over the square, at the frame's own pixels.

    Args:
        masks: [Q, s, s] logits over the square, at any resolution.
        pixel_mask: [H, W] bool, true where the picture is.
        side: S, in pixels.
        stretch: as in `to_square`.

    Returns:
        [Q, h, w] logits over the frame at stride 4; `OUTSIDE` on its padding.
    """
    fitted = fitted_size(*picture_size(pixel_mask), side, stretch=stretch)
    return from_frame(masks, pixel_mask, size=fitted, frame=(side, side))


def from_frame(
    masks: Tensor, pixel_mask: Tensor, *, size: tuple[int, int], frame: tuple[int, int]
) -> Tensor:
    """One picture's masks over a frame that a model has seen, at the pixels of another frame.

    Args:
        masks: [Q, s, t] logits over the frame that was seen, at any resolution.
        pixel_mask: [H, W] bool of the other frame, true where the picture is.
        size: (height, width) in pixels of the picture in the frame that was seen, at its top left.
        frame: (height, width) of that frame.

    Returns:
        [Q, h, w] logits over the other frame at stride 4; `OUTSIDE` on its padding.
    """
    own = picture_size(pixel_mask)
    positions = [
        (torch.arange(length // STRIDE, dtype=torch.float32, device=masks.device) + 0.5)
        * STRIDE
        / here
        * there
        / whole
        for length, here, there, whole in zip(pixel_mask.shape, own, size, frame, strict=True)
    ]  # of the frame's pixels, as shares of the one that was seen
    rows, columns = torch.meshgrid(*(2 * place - 1 for place in positions), indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).to(masks.dtype)
    sampled = F.grid_sample(masks[None], grid[None], padding_mode="border", align_corners=False)[0]
    centre = STRIDE // 2
    inside = pixel_mask[centre::STRIDE, centre::STRIDE]
    return sampled.masked_fill(~inside, OUTSIDE)


def picture_size(pixel_mask: Tensor) -> tuple[int, int]:
    """(height, width) of the picture in a frame's mask [H, W]."""
    return int(pixel_mask.any(dim=1).sum()), int(pixel_mask.any(dim=0).sum())


def fitted_size(height: int, width: int, side: int, *, stretch: bool = False) -> tuple[int, int]:
    """(height, width) of a picture whose longer side, or both of them, has become `side`."""
    if stretch:
        return side, side
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def picture_side(size: int | Sequence[int]) -> int:
    """The side of a square in pixels, of a number or an equal pair as configurations have it."""
    return size if isinstance(size, int) else int(size[0])
