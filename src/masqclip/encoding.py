"""A picture between the two halves of the work: framed for the model, encoded, not yet named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.clip.masked_vision import ImageTokens
from masqclip.configuration import MasQClipConfig
from masqclip.data.images import LoadedImage
from masqclip.decoding.masks import ResizedMasks


@dataclass(frozen=True)
class EncodedImage:
    """A picture after the proposer and CLIP have seen it, before any word.

    Attributes:
        image: the picture as it was read.
        mask_logits: [Q,h,w], over the padded frame.
        object_logits: [Q,2], (object, no object).
        mask_embeddings: [Q,E].
        tokens: CLIP's keys and values, for masks that come later.
        frame_size: (H, W) of the padded frame.
        resized: (height, width) of the picture inside the frame.
    """

    image: LoadedImage
    mask_logits: Tensor
    object_logits: Tensor
    mask_embeddings: Tensor
    tokens: ImageTokens
    frame_size: tuple[int, int]
    resized: tuple[int, int]

    @property
    def masks(self) -> ResizedMasks:
        """Mask logits at the picture's own size, made as they are read."""
        size = (self.image.height, self.image.width)
        return ResizedMasks(self.mask_logits, self.frame_size, self.resized, size)


def resized_size(height: int, width: int, config: MasQClipConfig) -> tuple[int, int]:
    """(height, width) to which a model resizes a picture, its aspect kept; at least one pixel."""
    scale = config.shortest_edge / min(height, width)
    scale = min(scale, config.longest_edge / max(height, width))
    return (max(1, round(height * scale)), max(1, round(width * scale)))


def frame_picture(pixels: np.ndarray, config: MasQClipConfig) -> tuple[Tensor, tuple[int, int]]:
    """Resize a picture by the model's rule and pad it: [3,H,W] in 0..255, and its size inside."""
    height, width = pixels.shape[:2]
    new = resized_size(height, width, config)
    picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    if new != (height, width):
        picture = F.interpolate(
            picture, size=new, mode="bilinear", align_corners=False, antialias=True
        )
    divisor = config.size_divisor
    right, bottom = (-length % divisor for length in (new[1], new[0]))
    return F.pad(picture[0].float(), (0, right, 0, bottom)), new


def frame_masks(masks: Tensor, resized: tuple[int, int], frame: tuple[int, int]) -> Tensor:
    """Given masks [N,H,W] as logits over the padded frame, [N,h,w]: positive inside.

    A mask too small to fill half of any of the frame's pixels keeps those that it touches.
    """
    coverage = F.interpolate(
        (masks != 0)[None].float(), size=resized, mode="bilinear", antialias=True
    )[0]
    thin = coverage.flatten(1).amax(1) <= 0.5
    floor = torch.where(thin, 1e-3, 0.5).view(-1, 1, 1)
    right, bottom = frame[1] - resized[1], frame[0] - resized[0]
    return F.pad(coverage - floor, (0, right, 0, bottom), value=-1.0)
