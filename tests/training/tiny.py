"""The parts of the tiny model: see `conftest.py`."""

from __future__ import annotations

from pathlib import Path

from transformers import Mask2FormerConfig

from masqclip.proposals.mask2former import miniature_mask2former_config

SPRITES = Path(__file__).parent.parent / "data" / "sprites"


def tiny_proposer_config() -> Mask2FormerConfig:
    return miniature_mask2former_config(
        num_queries=10, width=32, backbone_widths=(8, 8, 16, 16), backbone_depths=(1, 1, 1, 1),
        encoder_layers=1, decoder_layers=2,
    )  # fmt: skip
