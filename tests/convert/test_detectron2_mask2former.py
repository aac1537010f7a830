"""detectron2's Mask2Former in transformers, against proposals that the authors' code recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from masqclip.convert.mask2former import mask2former_to_transformers
from masqclip.data.transforms import normalise
from masqclip.errors import MasqclipError
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.weights.checkpoint import read_state_dict
from masqclip.weights.rules import in_float32

DATA = Path(__file__).parents[1] / "data"


def proposer_weights(setting: str) -> dict[str, Tensor]:
    """The golden checkpoint without its CLIP: what a teacher or a student is."""
    weights = read_state_dict(DATA / f"masqclip_{setting}.pth")
    return {name: t for name, t in weights.items() if not name.startswith("masqclip.")}


@pytest.mark.parametrize("setting", ["instance", "panoptic"])
def test_proposals(setting: str) -> None:
    config, weights = mask2former_to_transformers(proposer_weights(setting))
    proposer = Mask2FormerProposer(config).eval()
    proposer.segmenter.load_state_dict(weights)
    golden = load_file(DATA / f"masqclip_{setting}.safetensors")
    image = golden["image"]
    height, width = image.shape[1:]
    padded = F.pad(image, (0, -width % 32, 0, -height % 32))[None].float()
    inside = torch.zeros(padded[:, 0].shape, dtype=torch.bool)
    inside[:, :height, :width] = True
    with torch.no_grad():
        found = proposer(normalise(padded, inside))
    assert (found.mask_logits - golden["proposal_masks"]).abs().max() <= 2e-4
    assert (found.object_logits - golden["proposal_logits"]).abs().max() <= 2e-4


def test_sizes_follow_the_shapes() -> None:
    config, _ = mask2former_to_transformers(proposer_weights("instance"))
    assert (config.encoder_layers, config.decoder_layers, config.num_queries) == (2, 4, 12)
    assert (config.hidden_dim, config.feature_size, config.mask_feature_size) == (32, 32, 32)
    assert (config.dim_feedforward, config.encoder_feedforward_dim) == (64, 1024)
    assert (config.num_attention_heads, config.num_labels) == (4, 1)
    backbone = config.backbone_config
    assert (backbone.depths, backbone.embedding_size) == ([3, 4, 6, 3], 8)
    # The small ResNet's outputs are twice as wide as its bottlenecks: zeros make that four times.
    assert backbone.hidden_sizes == [32, 64, 128, 256]


@pytest.mark.parametrize(
    "name",
    [
        "backbone.stem.conv1.norm.running_var",
        "backbone.res4.5.conv2.weight",
        "sem_seg_head.pixel_decoder.transformer.encoder.layers.1.norm2.bias",
        "sem_seg_head.predictor.transformer_ffn_layers.2.norm.bias",
        "sem_seg_head.predictor.query_feat.weight",
    ],
)
def test_what_is_missing_is_named(name: str) -> None:
    weights = proposer_weights("instance")
    del weights[name]
    with pytest.raises(MasqclipError, match=f"cut short: there is no tensor '{name}'"):
        mask2former_to_transformers(weights)


def test_what_is_strange_is_named() -> None:
    weights = proposer_weights("instance")
    for name in ("masqclip.visual.proj", "sem_seg_head.predictor.strange", "backbone.res6.0.x"):
        with pytest.raises(MasqclipError, match=f"unknown tensor '{name}'"):
            mask2former_to_transformers(weights | {name: torch.ones(1)})
    no_backbone = {name: t for name, t in weights.items() if not name.startswith("backbone.")}
    with pytest.raises(MasqclipError, match=r"no tensor 'backbone\.stem"):
        mask2former_to_transformers(no_backbone)


def swin_weights() -> dict[str, Tensor]:
    """A small Swin with detectron2's names and numbers of no meaning; widths as the head reads."""
    depths, heads, window = [1, 1, 2, 1], [1, 2, 4, 8], 4
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj.weight": (16, 3, 4, 4)}
    shapes |= dict.fromkeys(
        ("patch_embed.proj.bias", "patch_embed.norm.weight", "patch_embed.norm.bias"), (16,)
    )
    for stage, depth in enumerate(depths):
        width = 16 * 2**stage
        for i in range(depth):
            block = f"layers.{stage}.blocks.{i}."
            for name, size in {
                "attn.qkv": (3 * width, width),
                "attn.proj": (width, width),
                "mlp.fc1": (4 * width, width),
                "mlp.fc2": (width, 4 * width),
            }.items():
                shapes |= {f"{block}{name}.weight": size, f"{block}{name}.bias": size[:1]}
            for name in ("norm1", "norm2"):
                shapes |= {f"{block}{name}.weight": (width,), f"{block}{name}.bias": (width,)}
            table = ((2 * window - 1) ** 2, heads[stage])
            shapes[f"{block}attn.relative_position_bias_table"] = table
            shapes[f"{block}attn.relative_position_index"] = (window**2, window**2)
        if stage < 3:
            down = f"layers.{stage}.downsample."
            shapes |= {f"{down}reduction.weight": (2 * width, 4 * width)}
            shapes |= {f"{down}norm.weight": (4 * width,), f"{down}norm.bias": (4 * width,)}
        shapes |= {f"norm{stage}.weight": (width,), f"norm{stage}.bias": (width,)}
    generator = torch.Generator().manual_seed(0)
    return {f"backbone.{n}": torch.randn(s, generator=generator) for n, s in shapes.items()}


def test_a_swin_backbone(tmp_path: Path) -> None:
    head = {n: t for n, t in proposer_weights("instance").items() if not n.startswith("backbone.")}
    swin = swin_weights()
    config, weights = mask2former_to_transformers(head | swin)
    backbone = config.backbone_config
    assert (backbone.embed_dim, backbone.window_size, backbone.mlp_ratio) == (16, 4, 4.0)
    assert (backbone.depths, backbone.num_heads) == ([1, 1, 2, 1], [1, 2, 4, 8])
    config.save_pretrained(tmp_path)
    save_file(in_float32(weights), tmp_path / "model.safetensors", metadata={"format": "pt"})
    proposer = Mask2FormerProposer.from_pretrained(tmp_path)  # refuses what is missing
    attention = (
        proposer.segmenter.model.pixel_level_module.encoder.swin.encoder.layers[2]
        .blocks[1]
        .attention
    )
    stacked = swin["backbone.layers.2.blocks.1.attn.qkv.weight"]
    for layer, part in zip("qkv", stacked.chunk(3), strict=True):
        assert torch.equal(getattr(attention, f"{layer}_proj").weight, part)
    del swin["backbone.layers.1.downsample.norm.bias"]
    with pytest.raises(MasqclipError, match=r"no tensor 'backbone\.layers\.1\.downsample"):
        mask2former_to_transformers(head | swin)
