"""MaskFormer as a proposer that trains: what its layers say, how it starts, that it loads again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import FAMILIES
from torch import nn
from transformers import MaskFormerForInstanceSegmentation, PreTrainedConfig, ResNetBackbone

from masqclip.errors import MasqclipError
from masqclip.proposals.adapters import (
    ARCHITECTURES,
    TRAINABLE,
    build_proposer,
    load_proposer,
    load_trainable,
)
from masqclip.proposals.maskformer import MaskFormerProposer, miniature_maskformer_config
from masqclip.weights.configs import describe


def tiny_config(layers: int = 3) -> PreTrainedConfig:
    return miniature_maskformer_config(
        num_queries=5, width=32, backbone_widths=(8, 8, 16, 16), backbone_depths=(1, 1, 1, 1),
        decoder_layers=layers,
    )  # fmt: skip


@pytest.fixture(scope="module")
def proposer() -> MaskFormerProposer:
    torch.manual_seed(0)
    made = MaskFormerProposer(tiny_config()).eval()
    with torch.no_grad():  # as after some training: the last norm tells itself
        made.segmenter.model.transformer_module.decoder.layernorm.weight.normal_(1.0, 0.5)
        made.segmenter.model.transformer_module.decoder.layernorm.bias.normal_()
    return made


@torch.no_grad()
def test_every_decoder_layer_proposes_and_the_last_is_the_answer(
    proposer: MaskFormerProposer,
) -> None:
    pixels = torch.randn(2, 3, 64, 96)
    layers = proposer.layer_proposals(pixels)
    assert len(layers) == 3
    for layer in layers:
        assert layer.mask_logits.shape == (2, 5, 16, 24)
        assert layer.object_logits.shape == (2, 5, 2)
    final = proposer(pixels)
    assert torch.equal(final.mask_logits, layers[-1].mask_logits)
    assert torch.equal(final.object_logits, layers[-1].object_logits)


@torch.no_grad()
def test_a_layer_says_what_a_shorter_decoder_would(proposer: MaskFormerProposer) -> None:
    """As published: after the last norm, and not of the queries' zeros."""
    pixels = torch.randn(2, 3, 64, 64)
    layers = proposer.layer_proposals(pixels)
    weights = proposer.segmenter.state_dict()
    for count in (1, 2, 3):
        short = MaskFormerForInstanceSegmentation(tiny_config(count)).eval()
        short.load_state_dict({name: weights[name] for name in short.state_dict()})
        found = short(pixel_values=pixels)
        torch.testing.assert_close(layers[count - 1].mask_logits, found.masks_queries_logits)
        torch.testing.assert_close(layers[count - 1].object_logits, found.class_queries_logits)


@torch.no_grad()
def test_a_picture_is_proposed_alone_as_in_a_batch(proposer: MaskFormerProposer) -> None:
    pixels = torch.randn(3, 3, 64, 64)
    together, alone = proposer.layer_proposals(pixels), proposer.layer_proposals(pixels[1:2])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both.mask_logits[1:2], one.mask_logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(both.object_logits[1:2], one.object_logits, atol=1e-5, rtol=1e-4)


def test_a_folder_loads_again_here_and_in_transformers(
    proposer: MaskFormerProposer, tmp_path: Path
) -> None:
    proposer.save_pretrained(tmp_path / "one")
    assert {file.name for file in (tmp_path / "one").iterdir()} == {
        "config.json", "model.safetensors",
    }  # fmt: skip
    document = json.loads((tmp_path / "one" / "config.json").read_text())
    assert document["architectures"] == ["MaskFormerForInstanceSegmentation"]
    again = load_proposer(tmp_path / "one")
    assert type(again) is MaskFormerProposer
    again.eval().save_pretrained(tmp_path / "two")
    theirs = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path / "two").eval()
    pixels = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, found = proposer.layer_proposals(pixels), again.layer_proposals(pixels)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.mask_logits, b.mask_logits)
            assert torch.equal(a.object_logits, b.object_logits)
        masks = theirs(pixel_values=pixels).masks_queries_logits
    torch.testing.assert_close(masks, expected[-1].mask_logits)


def test_what_a_model_says_of_its_proposer_builds_it_again(proposer: MaskFormerProposer) -> None:
    built = build_proposer("maskformer", json.loads(json.dumps(describe(proposer.config))))
    assert isinstance(built, MaskFormerProposer)
    built.load_state_dict(proposer.state_dict())
    assert built.num_queries == proposer.num_queries == 5
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(built.eval()(pixels).mask_logits, proposer(pixels).mask_logits)


def test_auxiliary_losses_of_transformers_do_not_matter() -> None:
    config = tiny_config()
    config.use_auxiliary_loss = config.decoder_config.auxiliary_loss = True
    torch.manual_seed(0)
    asked = MaskFormerProposer(config).eval()
    torch.manual_seed(0)
    plain = MaskFormerProposer(tiny_config()).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(asked(pixels).mask_logits, plain(pixels).mask_logits)


def test_it_starts_as_published() -> None:
    """Queries that differ, matrices of DETR's size, batch norms that let pass."""
    torch.manual_seed(0)
    proposer = MaskFormerProposer(miniature_maskformer_config())
    module = proposer.segmenter.model.transformer_module
    assert module.queries_embedder.weight.std().item() == pytest.approx(1.0, abs=0.1)
    own = module.decoder.layers[0].self_attn
    joint = nn.MultiheadAttention(64, 4)
    for matrix, like in ((own.q_proj, joint.in_proj_weight), (own.v_proj, joint.in_proj_weight)):
        assert matrix.weight.std().item() == pytest.approx(like.std().item(), rel=0.05)
    norms = [m for m in proposer.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(bool((norm.weight == 1).all()) for norm in norms)
    with torch.no_grad():
        states = proposer.segmenter(
            pixel_values=torch.randn(1, 3, 64, 64), output_hidden_states=True
        ).transformer_decoder_hidden_states
    for state in states:
        assert state.std(dim=1).mean() > 0.05  # with transformers' own weights 0.0002


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    proposer = MaskFormerProposer(miniature_maskformer_config()).train()
    layers = proposer.layer_proposals(torch.randn(2, 3, 64, 64))
    sum(x.mask_logits.square().mean() + x.object_logits.square().mean() for x in layers).backward()
    idle = [n for n, p in proposer.named_parameters() if p.grad is None or not p.grad.any()]
    # Queries start at zero, and so do the first layer's values of them.
    first = "segmenter.model.transformer_module.decoder.layers.0.self_attn"
    assert all(name.startswith(first) for name in idle), idle


@pytest.mark.parametrize(
    ("name", "parameters", "queries"),
    [
        ("resnet50", 44_003_074, 100),
        ("miniature", 1_991_234, 28),
        ("maskformer", 41_269_570, 100),
        ("miniature-maskformer", 2_207_842, 28),
    ],
)
def test_the_architectures_there_are(name: str, parameters: int, queries: int) -> None:
    config = ARCHITECTURES[name]()
    assert config.num_labels == 1
    with torch.device("meta"):
        proposer = TRAINABLE[config.model_type](config)
    assert sum(p.numel() for p in proposer.parameters()) == parameters
    assert proposer.num_queries == queries


def test_the_published_sizes() -> None:
    config = ARCHITECTURES["maskformer"]()
    decoder, backbone = config.decoder_config, config.backbone_config
    assert (config.fpn_feature_size, config.mask_feature_size) == (256, 256)
    assert (decoder.d_model, decoder.decoder_ffn_dim, decoder.decoder_layers) == (256, 2048, 6)
    assert (decoder.decoder_attention_heads, decoder.num_queries) == (8, 100)
    assert decoder.dropout == 0  # published: 0.1
    assert (backbone.layer_type, list(backbone.depths)) == ("bottleneck", [3, 4, 6, 3])
    small = ARCHITECTURES["miniature-maskformer"]().backbone_config
    assert small.to_dict() == ARCHITECTURES["miniature"]().backbone_config.to_dict()


def test_a_backbone_comes_pretrained_and_its_norms_can_be_frozen(tmp_path: Path) -> None:
    config = tiny_config()
    torch.manual_seed(1)
    ResNetBackbone(config.backbone_config).save_pretrained(tmp_path)
    proposer = MaskFormerProposer(config, freeze_batch_norm=True)
    proposer.load_backbone(tmp_path)
    norms = [m for m in proposer.train().backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    proposer.save_pretrained(tmp_path / "proposer")
    assert not load_trainable(tmp_path / "proposer").freeze_batch_norm
    kept = MaskFormerProposer.from_pretrained(tmp_path / "proposer", freeze_batch_norm=True)
    assert kept.freeze_batch_norm
    with pytest.raises(MasqclipError, match="the backbone cannot start from"):
        MaskFormerProposer(miniature_maskformer_config()).load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("family", "called"),
    [("sam", "a SAM"), ("eomt", "an EoMT"), ("oneformer", "an OneFormer")],
)
def test_what_cannot_be_trained_is_named(family: str, called: str, tmp_path: Path) -> None:
    FAMILIES[family]().save_pretrained(tmp_path)
    with pytest.raises(MasqclipError) as refused:
        load_trainable(tmp_path)
    message = str(refused.value)
    assert f"{str(tmp_path)!r} is {called}" in message
    assert message.endswith("cannot be trained here: use a Mask2Former or a MaskFormer")
    assert "\n" not in message


@pytest.mark.parametrize("family", ["mask2former-swin", "mask2former-resnet", "maskformer"])
def test_published_models_of_many_classes_can_go_on(family: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    FAMILIES[family]().save_pretrained(tmp_path)
    proposer = load_trainable(tmp_path).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        final, layers = proposer(pixels), proposer.layer_proposals(pixels)
    torch.testing.assert_close(final.mask_logits, layers[-1].mask_logits, atol=1e-4, rtol=1e-4)
    assert final.object_logits.shape == (1, 7, 2)
