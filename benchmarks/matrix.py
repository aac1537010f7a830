"""Proposers of full size and random weights: what each costs on a processor.

    python benchmarks/matrix.py [NAME...] [--picture docs/example.jpg]

Each runs in a process of its own over one picture of 640 x 480 pixels, framed as its published
files say. Told are parameters, seconds to propose (of the clock, and of all threads together, which
other work on the machine hardly changes), and the most memory that the process held. Random weights
cost what trained ones do, but for SAM's: few of its masks pass the published thresholds, so that
comparing those that pass costs nothing here, and a second or two in truth.

Shapes are as elsewhere: see `masqclip.proposals.base`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import (
    EomtConfig,
    EomtDinov3Config,
    Mask2FormerConfig,
    PreTrainedConfig,
    Sam2Config,
    Sam3Config,
    SamConfig,
    SwinConfig,
)
from transformers.initialization import no_init_weights

from masqclip.configuration import MasQClipConfig
from masqclip.encoding import frame_picture
from masqclip.proposals.eomt import EomtDinov3Proposer, EomtProposer
from masqclip.proposals.mask2former import Mask2FormerProposer, resnet50_mask2former_config
from masqclip.proposals.sam import Sam2Proposer, SamProposer
from masqclip.proposals.sam3 import Sam3Proposer
from masqclip.proposals.seen import square_side
from masqclip.proposals.segmenters import SegmenterProposer
from masqclip.weights.configs import describe

Model = TypeVar("Model", bound=nn.Module)

PICTURE = Path(__file__).parents[1] / "docs" / "example.jpg"
SIZE = (640, 480)  # (width, height)
COCO = 133  # panoptic classes


def proposers() -> dict[str, Callable[[], SegmenterProposer]]:
    """Full-size proposers by name, each made when it is called."""
    return {
        "eomt-l-640": lambda: drawn(EomtProposer, EomtConfig(num_labels=COCO)),
        "eomt-dinov3-l-640": lambda: drawn(EomtDinov3Proposer, EomtDinov3Config(num_labels=COCO)),
        "sam-b": lambda: drawn(SamProposer, SamConfig()),
        "sam2.1-b+": lambda: drawn(Sam2Proposer, _sam2_base_plus()),
        "sam3": lambda: drawn(Sam3Proposer, Sam3Config()),
        "mask2former-swin-l": lambda: drawn(Mask2FormerProposer, _swin_large()),
        "mask2former-r50": lambda: drawn(Mask2FormerProposer, resnet50_mask2former_config()),
    }


def drawn(proposer_class: type[SegmenterProposer], config: PreTrainedConfig) -> SegmenterProposer:
    """A proposer of random weights."""
    with no_init_weights():
        return draw_weights(proposer_class(config))


def draw_weights(model: Model) -> Model:
    """Weights that are drawn quickly: some numbers, again and again."""
    numbers = 0.02 * torch.randn(65_537, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                some = numbers.repeat(-(-parameter.numel() // len(numbers)))
                parameter.copy_(some[: parameter.numel()].view_as(parameter))
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return model.eval()


def _sam2_base_plus() -> Sam2Config:
    return Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 112,
                "num_attention_heads": 2,
                "blocks_per_stage": [2, 3, 16, 3],
                "embed_dim_per_stage": [112, 224, 448, 896],
                "num_attention_heads_per_stage": [2, 4, 8, 16],
                "global_attention_blocks": [12, 16, 20],
                "window_positional_embedding_background_size": [14, 14],
            },
            "backbone_channel_list": [896, 448, 224, 112],
        }
    )


def _swin_large() -> Mask2FormerConfig:
    backbone = SwinConfig(
        embed_dim=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        image_size=384,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return Mask2FormerConfig(backbone_config=backbone, num_queries=200, num_labels=COCO)


def framed(proposer: SegmenterProposer, picture: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture as the proposer is given it: [1, 3, H, W] normalised, and where it is [1, H, W]."""
    side = square_side(proposer.config.model_type, describe(proposer.config))
    edges = {"shortest_edge": side, "longest_edge": side} if side else {}
    config = MasQClipConfig(**edges)
    pixels = np.array(Image.open(picture).convert("RGB").resize(SIZE))
    frame, (height, width) = frame_picture(pixels, config)
    inside = torch.zeros(1, *frame.shape[1:], dtype=torch.bool)
    inside[0, :height, :width] = True
    mean = torch.tensor(config.pixel_mean).view(3, 1, 1)
    std = torch.tensor(config.pixel_std).view(3, 1, 1)
    return ((frame - mean) / std)[None] * inside[:, None], inside


def measure(name: str, picture: Path, points: int | None = None) -> dict[str, object]:
    """What one proposer costs; to be asked in a process of its own, whose memory is told.

    Args:
        name: of the proposer.
        picture: a file.
        points: a side of the grid of those that have one; None = as published.
    """
    proposer = proposers()[name]()
    if points is not None and hasattr(proposer.config, "points_per_side"):
        proposer.config.points_per_side = points
    pixels, inside = framed(proposer, picture)
    started, busy = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        found = proposer(pixels, inside)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in proposer.parameters()),
        "seconds": round(seconds, 1),
        "processor_seconds": round(busy, 1),
        "gigabytes": round(peak / (1e9 if sys.platform == "darwin" else 1e6), 2),
        "threads": torch.get_num_threads(),
        "masks": list(found.mask_logits.shape),
    }


def main() -> None:
    """Measure those that are named, or all, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*proposers(), []])
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--points", type=int, help="a side of the grid of SAM and SAM 2")
    parser.add_argument("--here", action="store_true", help="in this process, for one name")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.names[0], given.picture, given.points)), flush=True)
        return
    for name in given.names or proposers():
        words = [sys.executable, __file__, name, "--here", "--picture", str(given.picture)]
        if given.points is not None:
            words += ["--points", str(given.points)]
        subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
