"""Multi-scale deformable attention, level by level.

The same function of the same parameters as transformers' module (Deformable DETR, equation 3), in
less memory traffic: transformers lines the samples of all levels up in one tensor of
B x D x S x (levels x points) and weights them there, which on a CPU costs more than everything
else in a small pixel decoder. Here each level is sampled, weighted and summed on its own, with
the positions innermost, so that the weighting and its gradient run over contiguous memory.

Shapes: `B` images, `M` heads, `D` channels a head, `L` levels, `P` points a level, `S` positions
of all levels together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mask2former import modeling_mask2former


def deformable_attention(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sums of samples around each position, over all levels.

    Args:
        value: [B, S, M, D], the levels' positions one after another.
        shapes: (height, width) of each level.
        locations: [B, S, M, L, P, 2], (x, y) in 0..1 of the level; outside samples are zero.
        weights: [B, S, M, L, P], summing to one over L and P.

    Returns:
        [B, S, M x D].
    """
    batch, positions, heads, levels, points = weights.shape
    channels = value.shape[-1]
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # [L, BM, P, S, 2]
    weights = weights.permute(3, 0, 2, 4, 1).reshape(levels, -1, 1, points, positions)
    values = value.permute(0, 2, 3, 1).reshape(batch * heads, channels, -1)
    output: Tensor | None = None
    per_level = values.split([height * width for height, width in shapes], dim=-1)
    for (height, width), level, grid, weight in zip(shapes, per_level, grids, weights, strict=True):
        samples = F.grid_sample(level.unflatten(-1, (height, width)), grid, align_corners=False)
        part = (samples * weight).sum(dim=2)
        output = part if output is None else output + part
    assert output is not None
    return output.view(batch, heads * channels, positions).transpose(1, 2)


class LevelwiseAttention(
    modeling_mask2former.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention
):
    """transformers' module with `deformable_attention` inside; its parameters keep their names."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        spatial_shapes_list: list[tuple[int, int]] | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        """As in transformers: ([B, S, M x D], attention weights [B, S, M, L, P]).

        transformers' reference points, which it passes in, are the pixels' centres in the model's
        own precision; here they are made anew in float32.
        """
        assert encoder_hidden_states is not None
        assert spatial_shapes_list is not None
        if position_embeddings is not None:
            hidden_states = hidden_states + position_embeddings
        value = self.value_proj(encoder_hidden_states)
        if attention_mask is not None:
            value = value.masked_fill(attention_mask[..., None], 0.0)
        sizes = (self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(hidden_states).unflatten(-1, (*sizes, 2))
        weights = self.attention_weights(hidden_states).unflatten(-1, (self.n_heads, -1))
        weights = weights.softmax(dim=-1).unflatten(-1, sizes[1:])
        # Positions need float32 in any model: in bfloat16 two neighbours are one.
        offsets, value, sampled = offsets.float(), value.float(), weights.float()
        # One by one: a list of sizes would be a constant to whoever traces this.
        sizes_xy = torch.stack(
            [
                torch.scalar_tensor(side, dtype=torch.float32, device=offsets.device)
                for height, width in spatial_shapes_list
                for side in (width, height)
            ]
        ).view(-1, 2)
        centres = pixel_centres(spatial_shapes_list, offsets.device)
        locations = centres[:, None, None, None] + offsets / sizes_xy[:, None]
        output = deformable_attention(
            value.unflatten(-1, (self.n_heads, -1)), spatial_shapes_list, locations, sampled
        )
        return self.output_proj(output.to(hidden_states.dtype)), weights


def pixel_centres(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """[S, 2]: (x, y) in 0..1 of every position of every level, float32."""
    levels = []
    for height, width in shapes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        levels.append(torch.stack([columns, rows], dim=-1).flatten(0, 1))
    return torch.cat(levels)


def use_levelwise_attention(model: nn.Module) -> None:
    """Give every deformable attention in `model` the faster forward, in place."""
    for module in model.modules():
        if type(module) is LevelwiseAttention.__mro__[1]:
            module.__class__ = LevelwiseAttention
