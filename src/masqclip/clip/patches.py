"""The patches through which CLIP sees a frame: how many, and which of them a proposal covers."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Sized(Protocol):
    """A tower, or its configuration: whatever knows the sides of its square and of its patches."""

    image_size: int
    patch_size: int


def input_size(vision: Sized, frame: tuple[int, int], clip_input: str) -> tuple[int, int]:
    """(height, width) in pixels at which a tower sees a frame.

    Args:
        vision: the tower, or its configuration.
        frame: (height, width) of the frame, or of a map in its aspect.
        clip_input: ``stretch``: the tower's own square; ``aspect``: about as many patches in the
            frame's aspect.
    """
    if clip_input == "stretch":
        return vision.image_size, vision.image_size
    patches = vision.image_size // vision.patch_size
    slant = math.sqrt(frame[0] / frame[1])
    rows, columns = (max(1, round(patches * factor)) for factor in (slant, 1 / slant))
    return rows * vision.patch_size, columns * vision.patch_size


def patch_visibility(
    mask_logits: Tensor,
    *,
    image_size: int | tuple[int, int],
    patch_size: int,
    share: bool = False,
) -> Tensor:
    """Which patches a mask covers: those in which any pixel's logit is positive.

    Logits are resized bilinearly to CLIP's input and max-pooled over patches (published rule).

    Args:
        mask_logits: [B,Q,h,w] over the padded frame that CLIP sees, at any resolution.
        image_size: side, or (height, width), of CLIP's input in pixels.
        patch_size: side of its patches in pixels.
        share: tell how much of each patch is covered instead.

    Returns:
        [B,Q,P] bool, or float of 0..1, patches row by row.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    mask_logits = mask_logits.float()
    if mask_logits.device.type == "cpu":  # where masks innermost are resized several times faster
        mask_logits = mask_logits.contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)
    if share:
        return F.avg_pool2d((resized > 0).float(), patch_size).flatten(2)
    return F.max_pool2d(resized, patch_size).flatten(2) > 0
