"""The parts of a tiny model, of random weights: quick, and as good as any for what must hold."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPModel, CLIPTokenizerFast, Mask2FormerConfig

from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.training.settings import PretrainSettings
from masqclip.training.small_clip import learn_tokenizer, small_config

SPRITES = Path(__file__).parent / "data" / "sprites"


def tiny_proposer_config() -> Mask2FormerConfig:
    return miniature_mask2former_config(
        num_queries=10, width=32, backbone_widths=(8, 8, 16, 16), backbone_depths=(1, 1, 1, 1),
        encoder_layers=1, decoder_layers=2,
    )  # fmt: skip


def write_tiny_proposer(folder: Path) -> None:
    """The folder of a proposer of random weights."""
    torch.manual_seed(5)
    Mask2FormerProposer(tiny_proposer_config()).save_pretrained(folder)


def tiny_clip(vision_layers: int = 2) -> tuple[CLIPModel, CLIPTokenizerFast]:
    """A CLIP of random weights that looks at 64 pixels, and its tokenizer."""
    torch.manual_seed(1)
    settings = PretrainSettings(
        image_size=64, vision_width=32, vision_layers=vision_layers, vision_heads=2, text_width=32,
        text_layers=1, text_heads=2, embedding_size=32,
    )  # fmt: skip
    tokenizer = learn_tokenizer(["a cat and a dog on grass"] * 3, merges=20)
    return CLIPModel(small_config(settings, tokenizer)).eval(), tokenizer


def write_tiny_clip(folder: Path, vision_layers: int = 2) -> None:
    """Its folder."""
    clip, tokenizer = tiny_clip(vision_layers)
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
