"""Mask2Former's forward pass without what only training needs; the same results.

- Masked attention needs, after every layer, only where a mask is positive *at the size of the next
  level*. Resizing is linear, so the mask features are resized once a level and the masks are
  predicted there. transformers predicts all of them at stride 4, ten times, and then shrinks them.
- Mask features at stride 4 are never projected: the masks' few embeddings are, the other way.
- Batch norm is folded into the convolution before it; images run channels-last on a processor.
- Attention is fused; nobody reads its weights.
- The position encodings depend on sizes alone and are kept.

Modules and parameters are transformers' own, so nothing has to be kept in step when weights change.

Shapes: `B` images, `Q` queries, `C` channels, `S` positions of a level, `h w` = `H/4 W/4`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.resnet import modeling_resnet

from masqclip.proposals.pixel_decoder import decode_pixels


def propose(segmenter: Any, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Run a Mask2Former once.

    Args:
        segmenter: transformers' `Mask2FormerForUniversalSegmentation`, in evaluation mode.
        pixel_values: [B, 3, H, W] normalised.

    Returns:
        Mask logits [B, Q, h, w] and class logits [B, Q, K + 1].
    """
    model = segmenter.model
    pixels, module = model.pixel_level_module, model.transformer_module
    if pixel_values.device.type == "cpu":
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
    levels, finest = decode_pixels(pixels.decoder, pixels.encoder(pixel_values).feature_maps)
    projection = pixels.decoder.mask_projection
    states = _decode(module, levels, finest, projection)
    embedded = module.decoder.mask_predictor.mask_embedder(states)
    # Of a mask's product with projected features, the projection is taken to the mask's side.
    masks = (embedded @ projection.weight.flatten(1)) @ finest.flatten(2)
    masks += (embedded @ projection.bias).unsqueeze(-1)
    return masks.unflatten(2, finest.shape[-2:]), segmenter.class_predictor(states)


def _decode(module: Any, levels: list[Tensor], finest: Tensor, projection: nn.Module) -> Tensor:
    """The masked-attention decoder: the queries' final states, normalised, [B, Q, C].

    Args:
        module: of transformers, the queries and their decoder.
        levels: what the queries attend to, in turns.
        finest: at stride 4, and the `projection` that makes mask features of it.
    """
    decoder = module.decoder
    batch = finest.shape[0]
    content, keyed, reduced = [], [], []
    for i, level in enumerate(levels):
        position = module.position_embedder(level.shape, level.device, level.dtype, None)
        value = module.input_projections[i](level) + module.level_embed.weight[i][:, None, None]
        content.append(value.flatten(2).transpose(1, 2))  # [B, S, C]
        keyed.append((value + position).flatten(2).transpose(1, 2))
        size = level.shape[-2:]
        smaller = F.interpolate(finest, size=size, mode="bilinear", align_corners=False)
        reduced.append(projection(smaller).flatten(2))  # [B, C, S]
    positions = module.queries_embedder.weight
    hidden = module.queries_features.weight.expand(batch, -1, -1)
    for number, layer in enumerate(decoder.layers):
        i = number % len(levels)
        mask = decoder.mask_predictor.mask_embedder(decoder.layernorm(hidden)) @ reduced[i] >= 0
        # A query whose mask is empty attends everywhere.
        mask = (mask | ~mask.any(dim=-1, keepdim=True)).unsqueeze(1)
        hidden = _layer(layer, hidden, positions, keyed[i], content[i], mask)
    return decoder.layernorm(hidden)


def _layer(
    layer: Any, hidden: Tensor, positions: Tensor, keyed: Tensor, content: Tensor, mask: Tensor
) -> Tensor:
    """A decoder layer in the published order: masked attention, self-attention, MLP."""
    cross = layer.cross_attn
    weights, biases = cross.in_proj_weight.chunk(3), cross.in_proj_bias.chunk(3)
    query, key, value = (
        _split_heads(F.linear(x, weight, bias), cross.num_heads)
        for x, weight, bias in zip(
            (hidden + positions, keyed, content), weights, biases, strict=True
        )
    )
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    hidden = layer.cross_attn_layer_norm(hidden + cross.out_proj(_join_heads(mixed)))

    own = layer.self_attn
    placed = hidden + positions
    query, key, value = (
        _split_heads(x, own.num_heads)
        for x in (own.q_proj(placed), own.k_proj(placed), own.v_proj(hidden))
    )
    mixed = F.scaled_dot_product_attention(query, key, value)
    hidden = layer.self_attn_layer_norm(hidden + own.out_proj(_join_heads(mixed)))

    widened = layer.activation_fn(layer.fc1(hidden))
    return layer.final_layer_norm(hidden + layer.fc2(widened))


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class FoldedConvLayer(modeling_resnet.ResNetConvLayer):
    """A ResNet's convolution, batch norm and activation; the first two are one in evaluation."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """As in transformers, [B, C, H, W]."""
        if self.training or torch.is_grad_enabled():
            return super().forward(hidden_states)
        return self.activation(_fold(self.convolution, self.normalization, hidden_states))


class FoldedShortCut(modeling_resnet.ResNetShortCut):
    """A ResNet's projecting shortcut, its batch norm folded in evaluation."""

    def forward(self, input: Tensor) -> Tensor:
        """As in transformers, [B, C, H, W]."""
        if self.training or torch.is_grad_enabled():
            return super().forward(input)
        return _fold(self.convolution, self.normalization, input)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    # Folded at every call: a percent of the convolution's work, and never out of date.
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.float() / (norm.running_var.float() + norm.eps).sqrt()
    weight = (convolution.weight * scale.view(-1, 1, 1, 1)).to(x.dtype)
    bias = (norm.bias - norm.running_mean * scale).to(x.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):
        weight = weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(
        x, weight, bias, convolution.stride, convolution.padding,
        convolution.dilation, convolution.groups,
    )  # fmt: skip


def fold_batch_norms(model: nn.Module) -> None:
    """Give every ResNet layer in `model` the folded forward, in place; parameters stay.

    A block's last activation is written over its sum, which nothing else reads.
    """
    for module in model.modules():
        activation = getattr(module, "activation", None)
        if isinstance(activation, nn.ReLU):
            activation.inplace = True
        if type(module) is modeling_resnet.ResNetConvLayer:
            module.__class__ = FoldedConvLayer
        elif type(module) is modeling_resnet.ResNetShortCut:
            module.__class__ = FoldedShortCut
