"""The proposer's shortcuts give what transformers gives: attention, batch norm, masked decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import Mask2FormerConfig, ResNetConfig
from transformers.models.mask2former import modeling_mask2former

from masqclip.proposals import pixel_decoder
from masqclip.proposals.deformable import LevelwiseAttention
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.proposals.mask2former_inference import FoldedConvLayer, FoldedShortCut


def config(layer_type: str = "bottleneck", feature_size: int = 32) -> Mask2FormerConfig:
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1],
        layer_type=layer_type, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return Mask2FormerConfig(
        backbone_config=backbone, feature_size=feature_size, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, dim_feedforward=32, num_attention_heads=4, encoder_layers=2,
        decoder_layers=6, num_queries=7, num_labels=1,
    )  # fmt: skip


def unsettle(model: nn.Module) -> None:
    """Move whatever starts at a value that would hide a mistake."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(std=0.2)
    for module in model.modules():
        if hasattr(module, "sampling_offsets"):
            module.sampling_offsets.weight.data.normal_(std=0.2)
            module.attention_weights.weight.data.normal_()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)


@pytest.mark.parametrize(("layer_type", "feature_size"), [("basic", 32), ("bottleneck", 64)])
@pytest.mark.parametrize("size", [(64, 96), (96, 160)])
@torch.no_grad()
def test_the_lean_pass_equals_transformers(
    layer_type: str, feature_size: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    proposer = Mask2FormerProposer(config(layer_type, feature_size)).eval()
    unsettle(proposer)
    plain = modeling_mask2former.Mask2FormerForUniversalSegmentation(proposer.config).eval()
    plain.load_state_dict(proposer.segmenter.state_dict())
    pixels = torch.randn(2, 3, *size)
    expected = plain(pixel_values=pixels)
    found = proposer(pixels)
    torch.testing.assert_close(
        found.mask_logits, expected.masks_queries_logits, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        found.object_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_gathered_samples_equal_sampled_ones() -> None:
    torch.manual_seed(0)
    shapes = [(2, 3), (4, 6), (8, 12)]
    attention = LevelwiseAttention(embed_dim=32, num_heads=4, n_levels=3, n_points=4)
    # Far beyond the picture too, and exactly on pixels and borders, where samples are cut or zero.
    attention.sampling_offsets.weight.normal_(std=0.5)
    attention.sampling_offsets.weight[::3] = 0
    attention.sampling_offsets.bias.copy_(torch.randint(-4, 5, (96,)) / 2)
    attention.attention_weights.weight.normal_(std=3.0)
    states = torch.randn(2, sum(h * w for h, w in shapes), 32)
    expected, _ = attention(states, encoder_hidden_states=states, spatial_shapes_list=shapes)
    samples = pixel_decoder.Samples(shapes, attention, batch=2)
    samples.fill(torch.randn_like(states))  # what was there before leaves no trace
    table = samples.fill(attention.value_proj(states))
    projection = samples.projection(attention)
    for picture in (0, 1):
        for band in (slice(0, 50), slice(50, None)):
            found = samples.attend(projection, states[picture, band], table, picture, band)
            found = attention.output_proj(found)
            torch.testing.assert_close(found, expected[picture, band], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    proposer = Mask2FormerProposer(config()).eval()
    unsettle(proposer)
    pixels = torch.randn(2, 3, 64, 96)
    whole = proposer(pixels).mask_logits
    monkeypatch.setattr(pixel_decoder, "BAND", 7)
    torch.testing.assert_close(proposer(pixels).mask_logits, whole, atol=1e-5, rtol=1e-5)


def test_gradients_flow_in_evaluation_too() -> None:
    """The bands are for inference; with gradients the encoder layers are transformers' own."""
    torch.manual_seed(0)
    proposer = Mask2FormerProposer(config()).eval()
    unsettle(proposer)
    pixels = torch.randn(1, 3, 64, 96)
    found = proposer(pixels).mask_logits
    found.square().mean().backward()
    offsets = proposer.segmenter.model.pixel_level_module.decoder.encoder.layers[0].self_attn
    assert offsets.sampling_offsets.weight.grad.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(proposer(pixels).mask_logits, found, atol=1e-4, rtol=1e-4)


def test_batch_norm_learns_in_training_and_is_folded_after() -> None:
    proposer = Mask2FormerProposer(config()).train()
    layers = [m for m in proposer.modules() if isinstance(m, FoldedConvLayer)]
    assert layers
    assert any(isinstance(m, FoldedShortCut) for m in proposer.modules())
    layer = layers[1]
    pixels = torch.randn(4, layer.convolution.in_channels, 16, 16)
    layer(pixels).sum().backward()
    assert layer.normalization.running_mean.abs().sum() > 0
    layer.eval()
    with torch.no_grad():
        folded = layer(pixels)
    torch.testing.assert_close(folded, layer(pixels).detach(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bfloat16_keeps_positions_exact() -> None:
    """Sampling in bfloat16 alone would be off by half a pixel on maps of a hundred."""
    torch.manual_seed(0)
    attention = Mask2FormerProposer(config()).eval().segmenter.model.pixel_level_module.decoder
    layer = attention.encoder.layers[0].self_attn
    shapes = [(12, 16), (24, 32), (96, 128)]
    states = torch.randn(1, sum(h * w for h, w in shapes), 32)
    exact, _ = layer(states, encoder_hidden_states=states, spatial_shapes_list=shapes)
    layer.bfloat16()
    states = states.bfloat16()
    rounded, _ = layer(states, encoder_hidden_states=states, spatial_shapes_list=shapes)
    samples = pixel_decoder.Samples(shapes, layer, batch=1)
    table = samples.fill(layer.value_proj(states))
    projection = samples.projection(layer)
    gathered = samples.attend(projection, states[0], table, 0, slice(None)).bfloat16()
    for found in (rounded, layer.output_proj(gathered)):
        assert (found.float() - exact).abs().max() < 0.03 * exact.abs().max()
