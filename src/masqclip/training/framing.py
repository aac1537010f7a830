"""From samples to a batch of training frames: flipped, scaled and padded as the settings ask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from masqclip.data.coco import Sample
from masqclip.data.transforms import flip, large_scale_jitter, pad, resize
from masqclip.training.settings import FrameSettings

#: Image [3,H,W] uint8, masks [G,H,W] bool, and where the picture is, [H,W] bool.
Frame = tuple[Tensor, Tensor, Tensor]


def tensors(sample: Sample) -> tuple[Tensor, Tensor]:
    """A sample's image [3,H,W] uint8 and masks [G,H,W] bool."""
    image = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
    return image, torch.from_numpy(sample.masks.copy())


def draw_mirror(settings: FrameSettings, generator: torch.Generator) -> bool:
    """Whether a picture is mirrored this time."""
    return settings.flip and bool(torch.rand((), generator=generator) < 0.5)


def augment(
    image: Tensor,
    masks: Tensor,
    settings: FrameSettings,
    generator: torch.Generator,
    *,
    mirror: bool | None = None,
) -> Frame:
    """Augment one picture; a crop may leave masks empty. `mirror` is drawn unless given.

    What jitter pads with is part of the picture, as published: the pixel mask is true there.
    """
    if draw_mirror(settings, generator) if mirror is None else mirror:
        image, masks = flip(image, masks)
    size = settings.image_size
    if settings.augmentation == "jitter":
        scales = (settings.min_scale, settings.max_scale)
        image, masks = large_scale_jitter(image, masks, size, scales, generator)
    if settings.augmentation == "square":
        image, masks = resize(image, masks, size, size)
    return pad(image, masks, *image.shape[-2:])


def stack(frames: Sequence[Frame], divisor: int = 32) -> tuple[Tensor, list[Tensor], Tensor]:
    """Pad frames at the bottom right to one size, a multiple of `divisor`.

    Returns:
        Images [B,3,H,W] uint8, the masks [G,H,W] of each, and where pictures are, [B,H,W] bool.
    """
    height, width = (
        -(-max(image.shape[axis] for image, _, _ in frames) // divisor) * divisor for axis in (1, 2)
    )
    padded = [pad(image, masks, height, width) for image, masks, _ in frames]
    inside = [pad(place[None], place[None], height, width)[0][0] for _, _, place in frames]
    images = torch.stack([image for image, _, _ in padded])
    return images, [masks for _, masks, _ in padded], torch.stack(inside)
