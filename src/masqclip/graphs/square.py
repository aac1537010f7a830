"""Proposers that see a square, without a size being read out of a tensor.

`masqclip.proposals.square` cuts a picture out of its frame and resizes it into the square. Where
the model's edges are the square's own side, nothing is resized: the frame is put into the square,
what is no picture is filled up, and the masks are read at the frame's pixels. Then no size needs to
be known when a graph is made.

Shapes: as in `masqclip.proposals.square`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.proposals.base import Proposals
from masqclip.proposals.eomt import EomtProposer
from masqclip.proposals.segmenters import object_logits
from masqclip.proposals.square import OUTSIDE, STRIDE


def propose_in_square(
    proposer: EomtProposer, pixel_values: Tensor, pixel_mask: Tensor
) -> Proposals:
    """What the proposer's own forward gives for frames that lie within its square.

    Args:
        proposer: an EoMT.
        pixel_values: [B,3,H,W] normalised; H and W are at most the square's side.
        pixel_mask: [B,H,W] bool.
    """
    side = int(proposer.config.image_size)
    height, width = pixel_values.shape[-2:]
    beyond = (0, side - width, 0, side - height)
    inside = F.pad(pixel_mask.to(pixel_values.dtype), beyond).unsqueeze(1)
    filling = pixel_values.new_tensor(proposer.black).view(3, 1, 1)
    square = F.pad(pixel_values, beyond) * inside + filling * (1 - inside)
    output = proposer.segmenter(square)
    masks = _at_frame(output.masks_queries_logits, side, height, width)
    centre = STRIDE // 2
    outside = ~pixel_mask[:, centre::STRIDE, centre::STRIDE].unsqueeze(1)
    return Proposals(
        masks.masked_fill(outside, OUTSIDE), object_logits(output.class_queries_logits)
    )


def _at_frame(masks: Tensor, side: int, height: int, width: int) -> Tensor:
    """Masks [B,Q,s,s] over the square at the frame's pixels of stride 4: [B,Q,h,w]."""
    places = [
        (torch.arange(length // STRIDE, dtype=torch.float32) + 0.5) * STRIDE / side * 2 - 1
        for length in (height, width)
    ]
    rows, columns = torch.meshgrid(*places, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).expand(masks.shape[0], -1, -1, -1)
    return F.grid_sample(masks, grid, padding_mode="border", align_corners=False)
