"""detectron2's Mask2Former in transformers, against proposals that the authors' code recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from masqclip.convert.checkpoint import read_state_dict
from masqclip.convert.mask2former import mask2former_to_transformers
from masqclip.data.transforms import normalise
from masqclip.errors import MasqclipError
from masqclip.proposals.mask2former import Mask2FormerProposer

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
