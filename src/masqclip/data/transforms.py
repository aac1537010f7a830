"""Pictures and their masks, flipped, resized, jittered and padded together, in plain torch.

Every random choice comes from the generator that is handed in, so a batch is a function of its
seed. Shapes: `N` masks, `H W` the picture's size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# ImageNet's channel means and deviations, for pixels in 0..255: what published proposers expect.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
#: What jitter pads with, as published: a gray near the mean, which is part of the picture.
JITTER_PADDING = 128


def normalise(pixels: Tensor, pixel_mask: Tensor | None = None) -> Tensor:
    """Pixels [..., 3, H, W] in 0..255 to zero mean and unit deviation, in float32.

    Args:
        pixels: the picture, or pictures.
        pixel_mask: [..., H, W] bool, false on padding, which becomes zero.
    """
    mean = torch.tensor(PIXEL_MEAN, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    values = (pixels.float() - mean) / std
    return values if pixel_mask is None else values * pixel_mask.unsqueeze(-3)


def flip(image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror left and right: image [3, H, W], masks [N, H, W]."""
    return image.flip(-1), masks.flip(-1)


def resize(image: Tensor, masks: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Resize a uint8 image [3, H, W] (bilinear, antialiased) and its masks (nearest)."""
    if image.shape[-2:] == (height, width):
        return image, masks
    resized = F.interpolate(
        image[None].float(), size=(height, width), mode="bilinear", antialias=True
    )[0]
    small = masks.new_zeros((0, height, width))
    if len(masks):
        small = F.interpolate(
            masks[None].to(torch.uint8), size=(height, width), mode="nearest-exact"
        )[0].bool()
    return resized.round().clamp(0, 255).to(torch.uint8), small


def pad(
    image: Tensor, masks: Tensor, height: int, width: int, value: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pad at the bottom right, the image with `value`, the masks with false.

    Returns:
        The image [3, height, width], the masks [N, height, width] and the pixel mask
        [height, width], true where the picture is.
    """
    below, right = height - image.shape[-2], width - image.shape[-1]
    if below < 0 or right < 0:
        raise ValueError(f"{tuple(image.shape[-2:])} pixels do not fit in {height} x {width}")
    pixel_mask = torch.ones(image.shape[-2:], dtype=torch.bool)
    edges = (0, right, 0, below)
    return F.pad(image, edges, value=value), F.pad(masks, edges), F.pad(pixel_mask, edges)


def jittered_size(height: int, width: int, size: int, factor: float) -> tuple[int, int]:
    """(height, width) of a picture that fits a square of `size` times `factor`, its shape kept.

    Halves are rounded to even, as numpy does in detectron2's scaling; at least one pixel.
    """
    ratio = factor * size / max(height, width)
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def large_scale_jitter(
    image: Tensor,
    masks: Tensor,
    size: int,
    scales: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Large-scale jitter (Ghiasi et al., 2021): random size, then a random crop, then padding.

    The picture is scaled, its shape kept, to fit a square of `size` times a factor drawn uniformly
    from `scales`; where it is larger than the square a random window of it stays. As in detectron2,
    one number draws the window's place along both sides, and the padding is gray and counts as
    picture.

    Returns:
        Image [3, size, size] and masks [N, size, size] (some may be empty now).
    """
    factor = _uniform(*scales, generator)
    tall, wide = jittered_size(image.shape[-2], image.shape[-1], size, factor)
    image, masks = resize(image, masks, tall, wide)
    place = _uniform(0, 1, generator)
    top, left = round(max(0, tall - size) * place), round(max(0, wide - size) * place)
    window = (..., slice(top, top + size), slice(left, left + size))
    return pad(image[window], masks[window], size, size, JITTER_PADDING)[:2]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
