"""Small random models of the compared systems, made in memory."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from transformers import CLIPModel

from masqclip.model import MasQClipModel
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.proposals.maskformer import MaskFormerProposer, miniature_maskformer_config
from masqclip.proposals.trainable import TrainableProposer
from masqclip.training.settings import PretrainSettings
from masqclip.training.small_clip import learn_tokenizer, small_config

System = TypeVar("System", bound=MasQClipModel)
#: An odd number of pixels a patch's side, so that rows and columns cannot be mistaken for others.
CLIP = PretrainSettings(
    image_size=24, patch_size=6, vision_width=16, vision_layers=4, vision_heads=2, text_width=16,
    text_layers=1, text_heads=2, embedding_size=8,
)  # fmt: skip


def clip() -> CLIPModel:
    """A CLIP of 4 blocks, which sees 4 x 4 patches of 6 x 6 pixels."""
    tokenizer = learn_tokenizer(["a cat and a dog on grass"] * 3, merges=20)
    return CLIPModel(small_config(CLIP, tokenizer)).eval()


def proposer(family: str = "mask2former") -> TrainableProposer:
    """A proposer of 5 masks."""
    sizes: dict[str, Any] = {
        "num_queries": 5, "width": 32, "backbone_widths": (8, 8, 16, 16),
        "backbone_depths": (1, 1, 1, 1), "decoder_layers": 2,
    }  # fmt: skip
    if family == "maskformer":
        return MaskFormerProposer(miniature_maskformer_config(**sizes)).eval()
    return Mask2FormerProposer(miniature_mask2former_config(encoder_layers=1, **sizes)).eval()


def joined(system: type[System], *, family: str = "mask2former", **config: Any) -> System:
    """A model of a system, untrained; the same at every call."""
    torch.manual_seed(3)
    settings = {"shortest_edge": 64, "longest_edge": 64} | config
    return system.from_parts(clip(), proposer(family), **settings)


def frames(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [B,3,64,64] and where pictures are, the last columns being padding."""
    chance = torch.Generator().manual_seed(4)
    inside = torch.ones(count, 64, 64, dtype=torch.bool)
    inside[:, :, 56:] = False
    pixels = torch.rand(count, 3, 64, 64, generator=chance) * 255
    return pixels * inside[:, None], inside
