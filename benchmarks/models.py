"""The models that are measured: the shipped one, and the published sizes with random weights.

    python benchmarks/models.py FOLDER

writes the latter, 2 GB, for benchmarks of whole commands.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cyclopts
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, Mask2FormerConfig, ResNetConfig
from transformers.initialization import no_init_weights

from masqclip.model import MasQClipModel
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.segmenter import Segmenter
from masqclip.towers.tokenizer import load_tokenizer


def full_size(*, queries: int = 100, **settings: Any) -> Segmenter:
    """ViT-L/14 at 336 pixels and Mask2Former with a ResNet-50, with random weights.

    Args:
        queries: proposals a picture.
        settings: of the model's configuration, such as ``shortest_edge``.
    """
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
              "num_attention_heads": 16, "image_size": 336, "patch_size": 14}  # fmt: skip
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12}  # fmt: skip
    backbone = ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = Mask2FormerConfig(backbone_config=backbone, num_labels=1, num_queries=queries)
    with no_init_weights():
        clip = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=768))
    proposer = Mask2FormerProposer(config)
    _draw(clip)
    for module in proposer.modules():
        if hasattr(module, "sampling_offsets"):  # they start as if there were nothing to learn
            nn.init.normal_(module.sampling_offsets.weight, std=0.05)
            nn.init.normal_(module.attention_weights.weight, std=0.05)
    with no_init_weights():
        model = MasQClipModel.from_parts(clip.eval(), proposer.eval(), **settings)
    return Segmenter(model, load_tokenizer(), name="full size")


def tiny() -> Segmenter:
    """The same parts so small that every step of a benchmark is tried in a moment."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 32, "patch_size": 8}  # fmt: skip
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2}  # fmt: skip
    clip = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))
    proposer = Mask2FormerProposer(tiny_proposer_config())
    model = MasQClipModel.from_parts(clip.eval(), proposer.eval(), shortest_edge=64)
    return Segmenter(model, load_tokenizer(), name="tiny")


def tiny_proposer_config() -> Mask2FormerConfig:
    """A Mask2Former of eight queries."""
    return miniature_mask2former_config(
        num_queries=8, width=32, backbone_widths=(8, 8, 16, 16), backbone_depths=(1, 1, 1, 1),
        encoder_layers=1, decoder_layers=2,
    )  # fmt: skip


@torch.no_grad()
def _draw(clip: CLIPModel) -> None:
    """Weights of a trained tower's size, fast: the same block of numbers, rolled on."""
    numbers = torch.randn(1 << 20)
    for i, (name, parameter) in enumerate(clip.named_parameters()):
        if parameter.ndim < 2:  # nothing has set these either; garbage may be NaN, or slow
            parameter.fill_("norm" in name and name.endswith("weight"))
            continue
        repeats = -(-parameter.numel() // numbers.numel())
        flat = numbers.roll(977 * i).repeat(repeats)[: parameter.numel()]
        parameter.copy_(flat.view_as(parameter)).mul_(parameter.shape[-1] ** -0.5)
    clip.logit_scale.fill_(math.log(100))


def main(folder: Path, *, shortest_edge: int = 640) -> None:
    """Write the full-size model with random weights.

    Args:
        folder: where.
        shortest_edge: of the proposer's input in pixels.
    """
    segmenter = full_size(shortest_edge=shortest_edge)
    segmenter.model.save_pretrained(folder)
    load_tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    cyclopts.run(main)
