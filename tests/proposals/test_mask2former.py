"""Mask2Former as a proposer: the contract's order of logits, faster attention, equal results."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Mask2FormerConfig, ResNetConfig, SwinConfig
from transformers.models.mask2former import modeling_mask2former

from masqclip.errors import MasqclipError
from masqclip.hub import model_folders
from masqclip.proposals.base import object_log_scores
from masqclip.proposals.deformable import LevelwiseAttention, deformable_attention
from masqclip.proposals.mask2former import (
    Mask2FormerProposer,
    mask2former_config,
    miniature_mask2former_config,
    resnet50_mask2former_config,
)


def tiny_config(labels: int = 1, backbone: str = "resnet") -> Mask2FormerConfig:
    resnet = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    swin = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return Mask2FormerConfig(
        backbone_config={"resnet": resnet, "swin": swin}[backbone], feature_size=32,
        mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32, dim_feedforward=32,
        num_attention_heads=4, encoder_layers=1, decoder_layers=3, num_queries=5,
        num_labels=labels,
    )  # fmt: skip


@pytest.fixture(scope="module")
def proposer() -> Mask2FormerProposer:
    torch.manual_seed(0)
    return Mask2FormerProposer(tiny_config()).eval()


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
@torch.no_grad()
def test_proposals_are_at_stride_four_after_every_layer(backbone: str) -> None:
    proposer = Mask2FormerProposer(tiny_config(backbone=backbone)).eval()
    pixels = torch.randn(2, 3, 64, 96)
    layers = proposer.layer_proposals(pixels)
    assert len(layers) == 3  # the queries themselves and two attention layers
    for layer in layers:
        assert layer.mask_logits.shape == (2, 5, 16, 24)
        assert layer.object_logits.shape == (2, 5, 2)
    final = proposer(pixels, torch.ones(2, 64, 96, dtype=torch.bool))
    torch.testing.assert_close(final.mask_logits, layers[-1].mask_logits)


@torch.no_grad()
def test_a_picture_is_proposed_alone_as_in_a_batch(proposer: Mask2FormerProposer) -> None:
    pixels = torch.randn(3, 3, 64, 64)
    together, alone = proposer(pixels), proposer(pixels[1:2])
    torch.testing.assert_close(together.mask_logits[1:2], alone.mask_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        together.object_logits[1:2], alone.object_logits, atol=1e-4, rtol=1e-4
    )


def test_object_comes_first() -> None:
    logits = torch.tensor([[[3.0, 0.0], [-2.0, 1.0]]])
    expected = torch.tensor([[3.0, -2.0]]) - logits.logsumexp(-1)
    torch.testing.assert_close(object_log_scores(logits), expected)


@torch.no_grad()
def test_many_classes_count_as_one_object() -> None:
    torch.manual_seed(0)
    proposer = Mask2FormerProposer(tiny_config(labels=7)).eval()
    pixels = torch.randn(1, 3, 64, 64)
    classes = proposer.segmenter(pixel_values=pixels).class_queries_logits
    scores = object_log_scores(proposer(pixels).object_logits).exp()
    torch.testing.assert_close(scores, classes.softmax(-1)[..., :-1].sum(-1))


def test_a_folder_loads_again(proposer: Mask2FormerProposer, tmp_path: Path) -> None:
    proposer.save_pretrained(tmp_path)
    again = Mask2FormerProposer.from_pretrained(tmp_path).eval()
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(pixels).mask_logits, proposer(pixels).mask_logits)
    assert any(isinstance(module, LevelwiseAttention) for module in again.modules())


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=str(tmp_path)):
        Mask2FormerProposer.from_pretrained(tmp_path)


def test_frozen_batch_norm_stays_as_it_is() -> None:
    pixels = torch.randn(2, 3, 64, 64)
    for frozen in (True, False):
        proposer = Mask2FormerProposer(tiny_config(), freeze_batch_norm=frozen).train()
        with torch.no_grad():
            proposer(pixels)
        norms = [m for m in proposer.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        unchanged = all(bool((norm.running_mean == 0).all()) for norm in norms)
        assert unchanged is frozen


def test_the_backbone_starts_with_live_batch_norm(proposer: Mask2FormerProposer) -> None:
    # transformers' Mask2Former starts batch norm at gain 0.02, its ResNet at 1: ResNet's must win.
    for module in proposer.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))


def test_resnet_backbones_are_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers.models.mask2former.configuration_mask2former")
    before = logger.level
    with caplog.at_level(logging.WARNING):
        miniature_mask2former_config()
    assert "not a supported model" not in caplog.text
    assert logger.level == before


def test_the_miniature_is_small_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    proposer = Mask2FormerProposer(miniature_mask2former_config()).train()
    assert sum(p.numel() for p in proposer.parameters()) < 2_500_000
    layers = proposer.layer_proposals(torch.randn(2, 3, 64, 64))
    sum(x.mask_logits.square().mean() + x.object_logits.square().mean() for x in layers).backward()
    # Deformable attention starts with zero offsets and weights: at first positions do not matter.
    idle = [n for n, p in proposer.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == ["segmenter.model.pixel_level_module.decoder.level_embed"]


def test_levelwise_attention_equals_transformers() -> None:
    torch.manual_seed(0)
    shapes, batch, heads, channels, points = [(2, 3), (4, 6), (8, 12)], 2, 4, 8, 4
    size = sum(h * w for h, w in shapes)
    value = torch.randn(batch, size, heads, channels, dtype=torch.float64, requires_grad=True)
    # Beyond 0..1 too: samples outside are zero.
    locations = torch.rand(batch, size, heads, 3, points, 2, dtype=torch.float64) * 1.4 - 0.2
    locations.requires_grad_()
    weights = torch.rand(batch, size, heads, 3, points, dtype=torch.float64, requires_grad=True)
    inputs = (value, locations, weights)
    ours = deformable_attention(value, shapes, locations, weights)
    theirs = modeling_mask2former.multi_scale_deformable_attention(
        value, shapes, locations, weights
    )
    torch.testing.assert_close(ours, theirs)
    direction = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, direction),
        torch.autograd.grad(theirs, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_the_whole_model_equals_transformers(proposer: Mask2FormerProposer) -> None:
    plain = modeling_mask2former.Mask2FormerForUniversalSegmentation(tiny_config()).eval()
    plain.load_state_dict(proposer.segmenter.state_dict())
    # Sampling offsets start at whole pixels; move them off, or they would hide a mistake.
    for model in (plain, proposer.segmenter):
        torch.manual_seed(1)
        for module in model.modules():
            if hasattr(module, "sampling_offsets"):
                module.sampling_offsets.weight.normal_(std=0.1)
                module.attention_weights.weight.normal_()
    pixels = torch.randn(2, 3, 64, 96)
    expected = plain(pixel_values=pixels)
    found = proposer(pixels)
    torch.testing.assert_close(found.mask_logits, expected.masks_queries_logits)
    torch.testing.assert_close(found.object_logits, expected.class_queries_logits)


def test_the_published_architecture() -> None:
    """ResNet-50, 100 queries, 6 encoder and 9 decoder layers, one class, sizes of Mask2Former."""
    config = resnet50_mask2former_config()
    assert (config.num_queries, config.num_labels) == (100, 1)
    assert (config.encoder_layers, config.decoder_layers) == (6, 10)  # and the queries themselves
    assert config.hidden_dim == config.feature_size == config.mask_feature_size == 256
    assert (config.dim_feedforward, config.encoder_feedforward_dim) == (2048, 1024)
    assert (config.num_attention_heads, config.dropout) == (8, 0.0)
    backbone = config.backbone_config
    assert list(backbone.depths) == [3, 4, 6, 3]
    assert list(backbone.hidden_sizes) == [256, 512, 1024, 2048]
    assert backbone.layer_type == "bottleneck"
    assert list(backbone.out_features) == ["stage1", "stage2", "stage3", "stage4"]
    with torch.device("meta"):
        assert not Mask2FormerProposer(config).freeze_batch_norm


def test_the_miniature_as_it_ships_and_as_asked_for() -> None:
    config = miniature_mask2former_config()
    shipped = json.loads((model_folders("masqclip-mini")[0] / "config.json").read_text())
    shipped = mask2former_config(shipped["proposer_config"])
    for name in (
        "num_queries", "num_labels", "encoder_layers", "decoder_layers", "hidden_dim",
        "feature_size", "mask_feature_size", "dim_feedforward", "encoder_feedforward_dim",
        "num_attention_heads",
    ):  # fmt: skip
        assert getattr(config, name) == getattr(shipped, name), name
    for name in ("hidden_sizes", "depths", "out_features"):
        own = getattr(shipped.backbone_config, name)
        assert list(getattr(config.backbone_config, name)) == list(own), name
    assert config.backbone_config.layer_type == shipped.backbone_config.layer_type == "basic"
    assert config.backbone_config.embedding_size == shipped.backbone_config.embedding_size
    other = miniature_mask2former_config(
        num_queries=3, width=32, backbone_widths=(8, 9, 10, 11), backbone_depths=(1, 1, 2, 3),
        encoder_layers=5, decoder_layers=7,
    )  # fmt: skip
    assert (other.num_queries, other.encoder_layers, other.decoder_layers) == (3, 5, 7)
    assert other.hidden_dim == other.feature_size == other.mask_feature_size == 32
    assert other.dim_feedforward == other.encoder_feedforward_dim == 128
    assert list(other.backbone_config.hidden_sizes) == [8, 9, 10, 11]
    assert other.backbone_config.embedding_size == 8
    assert list(other.backbone_config.depths) == [1, 1, 2, 3]


def test_frozen_norms_stay_frozen_whatever_is_switched_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    Mask2FormerProposer(tiny_config()).save_pretrained(tmp_path)
    loaded = Mask2FormerProposer.from_pretrained(tmp_path, freeze_batch_norm=True)
    assert not Mask2FormerProposer.from_pretrained(tmp_path).freeze_batch_norm
    norms = [m for m in loaded.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for switch in (lambda: None, loaded.train, lambda: loaded.requires_grad_(True).train()):
        switch()
        assert not any(p.requires_grad for norm in norms for p in norm.parameters())
        assert not any(norm.training for norm in norms)
    loaded.freeze_batch_norm = False
    assert all(p.requires_grad for norm in norms for p in norm.parameters())
    assert all(norm.training for norm in norms)
    half = Mask2FormerProposer.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
