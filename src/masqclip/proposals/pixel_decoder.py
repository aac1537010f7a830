"""Mask2Former's pixel decoder in less memory; the same results.

On a processor and without gradients its encoder layers run over bands of positions, for all of a
layer but its values belongs to one position at a time: what is made of a band stays in the
processor's cache, where transformers writes and reads tensors of dozens of megabytes. Within a
band:

- A sample of deformable attention is a weighted sum of four pixels, so an output is one of
  4 x L x P rows of the values: what processors do fastest in this library is called an embedding
  bag.
- x, y and weights of the samples come from one linear layer, in that order, so that the arithmetic
  on them runs over contiguous memory.

Shapes: `B` images, `M` heads, `D` channels a head, `L` levels, `P` points a level, `S` positions
of all levels together, `N` positions of a band, `C` = M x D.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from masqclip.proposals.deformable import pixel_centres

BAND = 1536  # positions


def decode_pixels(decoder: Any, features: tuple[Tensor, ...]) -> tuple[list[Tensor], Tensor]:
    """Run a pixel decoder once.

    Args:
        decoder: transformers' `Mask2FormerPixelDecoder`, in evaluation mode.
        features: of the backbone, finest first, [B, C', h, w].

    Returns:
        The three levels' features, coarsest first, and the finest of all, of which the decoder's
        `mask_projection` makes the mask features; [B, C, h, w] each.
    """
    projections = decoder.input_projections
    levels = [project(x) for project, x in zip(projections, reversed(features), strict=False)]
    shapes = [(level.shape[2], level.shape[3]) for level in levels]
    hidden = torch.cat([_lined_up(level) for level in levels], dim=1)
    positions = torch.cat(
        [
            _lined_up(decoder.position_embedding((1, *x.shape[1:]), x.device, x.dtype)) + embedding
            for x, embedding in zip(levels, decoder.level_embed, strict=True)
        ],
        dim=1,
    )
    layers = decoder.encoder.layers
    if hidden.device.type == "cpu" and not torch.is_grad_enabled():
        samples = Samples(shapes, layers[0].self_attn, batch=len(hidden))
        for layer in layers:
            hidden = _encode(layer, hidden, positions[0], samples)
    else:
        for layer in layers:
            (hidden,) = layer(
                hidden, None, position_embeddings=positions, spatial_shapes_list=shapes
            )
    per_level = hidden.split([height * width for height, width in shapes], dim=1)
    # In this order of views PyTorch sees that channels are innermost, and does not copy them.
    maps = [x.unflatten(1, s).permute(0, 3, 1, 2) for x, s in zip(per_level, shapes, strict=True)]
    finest = maps[-1]
    extra = reversed(features[: decoder.num_fpn_levels])
    for lateral, (convolve, normalise, _), feature in zip(
        decoder.lateral_convolutions, decoder.output_convolutions, extra, strict=True
    ):
        finer = lateral(feature)
        size = finer.shape[-2:]
        finer += F.interpolate(finest, size=size, mode="bilinear", align_corners=False)
        finest = normalise(convolve(finer)).relu_()
    return maps, finest


def _lined_up(level: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h x w, C]."""
    return level.flatten(2).transpose(1, 2)


def _encode(layer: Any, hidden: Tensor, positions: Tensor, samples: Samples) -> Tensor:
    """A deformable encoder layer; [B, S, C] in and out, positions [S, C]."""
    attention = layer.self_attn
    table = samples.fill(attention.value_proj(hidden))
    projection = samples.projection(attention)
    output = torch.empty_like(hidden)
    # A compiler joins the steps itself, and would only have more of them to read.
    size = hidden.shape[1] if torch.compiler.is_compiling() else BAND
    for picture in range(len(hidden)):
        for start in range(0, hidden.shape[1], size):
            band = slice(start, start + size)
            states = hidden[picture, band]
            mixed = samples.attend(projection, states + positions[band], table, picture, band)
            mixed = attention.output_proj(mixed.to(states.dtype))
            states = layer.self_attn_layer_norm(mixed.add_(states))
            widened = layer.fc1(states).relu_()
            output[picture, band] = layer.final_layer_norm(layer.fc2(widened).add_(states))
    return output


class Samples:
    """Deformable attention (Deformable DETR, equation 3) over levels of given shapes.

    The values become a table of rows, one a head and pixel, in which each level is framed with
    zeros: there end up the samples outside. Per-column constants have the columns of the
    projections of offsets and weights, M x L x P.

    Args:
        shapes: (height, width) of each level.
        attention: transformers' deformable attention; of it the numbers M, L, P and C.
        batch: B.
    """

    def __init__(self, shapes: list[tuple[int, int]], attention: Any, *, batch: int) -> None:
        self.shapes, self.heads = shapes, attention.n_heads
        self.bag = attention.n_levels * attention.n_points
        starts = [0]
        for height, width in shapes:  # one column of zeros ends a row and begins the next
            starts.append(starts[-1] + (height + 2) * (width + 1))
        # Behind the last corner a few more rows are touched, with weight zero.
        self.rows = starts[-1] + shapes[-1][1] + 3
        self.values = torch.zeros(batch, self.rows, attention.d_model, dtype=torch.float32)
        self.centres = pixel_centres(shapes, torch.device("cpu"))

        def columns(of_level: list[int]) -> Tensor:
            level = torch.tensor(of_level, dtype=torch.float32)
            return level.repeat_interleave(attention.n_points).repeat(self.heads)

        self.width = columns([width for _, width in shapes])
        self.height = columns([height for height, _ in shapes])
        self.step = columns([width + 1 for _, width in shapes])
        self.first = columns([start + w + 2 for start, (_, w) in zip(starts, shapes, strict=False)])
        self.head = torch.arange(self.heads, dtype=torch.int32).repeat_interleave(self.bag)
        self.below = self.step.int().view(self.heads, -1) * self.heads

    def fill(self, value: Tensor) -> Tensor:
        """The table [B x rows x M, D] of values [B, S, C], until the next ones are filled in."""
        start = 0
        per_level = value.split([h * w for h, w in self.shapes], dim=1)
        for (h, w), level in zip(self.shapes, per_level, strict=True):
            rows = (h + 2) * (w + 1)
            framed = self.values[:, start : start + rows].unflatten(1, (h + 2, w + 1))
            framed[:, 1:-1, 1:] = level.unflatten(1, (h, w))
            start += rows
        return self.values.view(-1, value.shape[-1] // self.heads)

    @staticmethod
    def projection(attention: Any) -> tuple[Tensor, Tensor]:
        """Weight and bias of one linear layer to x, y and weights, M x L x P each."""
        offsets, weights = attention.sampling_offsets, attention.attention_weights
        return (
            torch.cat([offsets.weight[0::2], offsets.weight[1::2], weights.weight]),
            torch.cat([offsets.bias[0::2], offsets.bias[1::2], weights.bias]),
        )

    def attend(
        self,
        projection: tuple[Tensor, Tensor],
        states: Tensor,
        table: Tensor,
        picture: int,
        band: slice,
    ) -> Tensor:
        """Weighted sums of the samples around each position.

        Args:
            projection: from `projection`.
            states: [N, C], with position encodings, of one picture.
            table: from `fill`.
            picture: its number in the batch.
            band: which positions of S these are.

        Returns:
            [N, C], float32.
        """
        # Positions need float32 in any model: in bfloat16 two neighbours are one.
        x, y, weights = F.linear(states, *projection).float().chunk(3, dim=1)
        corners, right, below = self._corners(x, y, picture, band)
        weights = weights.unflatten(1, (self.heads, -1))
        # A softmax over a dozen numbers is six times slower than its parts.
        weights = (weights - weights.amax(-1, keepdim=True)).exp_()
        weights.div_(weights.sum(-1, keepdim=True))
        lower = below.mul_(weights)
        upper = weights.sub_(lower)
        shares = weights.new_empty(corners.shape)
        torch.mul(upper, right, out=shares[:, :, 1])
        torch.sub(upper, shares[:, :, 1], out=shares[:, :, 0])
        torch.mul(lower, right, out=shares[:, :, 3])
        torch.sub(lower, shares[:, :, 3], out=shares[:, :, 2])
        bags = F.embedding_bag(
            corners.view(-1, 4 * self.bag),
            table,
            per_sample_weights=shares.view(-1, 4 * self.bag),
            mode="sum",
        )
        return bags.view(len(states), -1)

    def _corners(
        self, x: Tensor, y: Tensor, picture: int, band: slice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The four pixels around each sample, and how far it is from the first of them.

        Args:
            x, y: [N, M x L x P], offsets in pixels of their level; they are overwritten.
            picture, band: as in `attend`.

        Returns:
            Rows of the table [N, M, 4, L x P]: upper left, upper right, lower left, lower right;
            and 0..1 to the right and below, [N, M, L x P].
        """
        centres = self.centres[band]
        x.sub_(0.5).addcmul_(centres[:, :1], self.width).clamp_(min=-1)
        y.sub_(0.5).addcmul_(centres[:, 1:], self.height).clamp_(min=-1)
        torch.minimum(x, self.width, out=x)
        torch.minimum(y, self.height, out=y)
        column, row = x.floor(), y.floor()
        right = x.sub_(column).unflatten(1, (self.heads, -1))
        below = y.sub_(row).unflatten(1, (self.heads, -1))
        # Whole numbers below 2 ** 24 are exact in float32; the rest is done in integers.
        index = column.add_(self.first).addcmul_(row, self.step).int().mul_(self.heads)
        index = index.add_(self.head + picture * self.rows * self.heads)
        index = index.unflatten(1, (self.heads, -1))
        corners = index.new_empty(len(index), self.heads, 4, self.bag)
        corners[:, :, 0] = index
        torch.add(index, self.heads, out=corners[:, :, 1])
        torch.add(index, self.below, out=corners[:, :, 2])
        torch.add(index, self.below + self.heads, out=corners[:, :, 3])
        return corners, right, below
