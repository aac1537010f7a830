"""Every family of CLIPs at a published size, of random weights, with every proposer.

    python benchmarks/towers.py speed
    python benchmarks/towers.py matrix --out matrix.json [--points 8]

`speed` times reading a picture with 100 masks, family by family in turns, beside OpenAI's ViT-L/14
at 336 pixels: a tower may take as many times longer as its multiplications are more. `matrix` joins
each with each proposer of `matrix.py`, in a process of its own, segments a photograph of 640 x 480
in all three tasks, and tells seconds, the most memory, and parameters; what is measured is kept,
and the same command goes on. Word towers are left small: a word is embedded once. Seconds are the
processor's, of all threads together, which other work on the machine hardly changes.
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
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPConfig,
    CLIPModel,
    MetaClip2Config,
    MetaClip2Model,
    SiglipConfig,
    SiglipModel,
    Tipsv2Config,
    Tipsv2Model,
)
from transformers.initialization import no_init_weights

from masqclip.clip.masked_vision import MaskQueries, encode_and_embed
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import read_image
from masqclip.encoding import encode_pictures
from masqclip.model import MasQClipModel
from masqclip.proposals.seen import square_side
from masqclip.segments import segment_encoded
from masqclip.towers.eva02 import Eva02ClipConfig, Eva02ClipModel
from masqclip.towers.families import tower_of
from masqclip.towers.pe import PeClipConfig, PeClipModel
from masqclip.weights.configs import describe
from matrix import PICTURE, SIZE, draw_weights, proposers

WORDS = "person, car, dog, tree, stuff: sky, stuff: road"
BESIDE = "CLIP L/14, 336 pixels"
_TEXT = {"num_hidden_layers": 1, "vocab_size": 1_000, "hidden_size": 64, "num_attention_heads": 2,
         "intermediate_size": 64}  # fmt: skip
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
          "num_attention_heads": 16}  # fmt: skip


def clips() -> dict[str, Callable[[], Any]]:
    """CLIPs by name, each made when it is called."""

    def of(model_class: Any, config_class: Any, vision: dict[str, Any], **more: Any) -> Any:
        text = dict(_TEXT)
        if model_class is Tipsv2Model:  # whose words are as wide as its pictures
            text["hidden_size"] = vision["hidden_size"]
        config = config_class(vision_config=vision, text_config=text, **more)
        with no_init_weights():
            clip = draw_weights(model_class(config))
        if model_class is Tipsv2Model:
            torch.nn.init.constant_(clip.temperature, 0.01)
        return clip

    large336 = _LARGE | {"image_size": 336, "patch_size": 14}
    return {
        BESIDE: lambda: of(CLIPModel, CLIPConfig, large336, projection_dim=768),
        "EVA02-CLIP L/14, 336 pixels": lambda: of(
            Eva02ClipModel,
            Eva02ClipConfig,
            large336 | {"intermediate_size": 2730},
            projection_dim=768,
        ),
        "SigLIP 2 L/16, 384 pixels": lambda: of(
            SiglipModel, SiglipConfig, _LARGE | {"image_size": 384, "patch_size": 16}
        ),
        "SigLIP So400m/14, 384 pixels": lambda: of(
            SiglipModel,
            SiglipConfig,
            {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
             "num_attention_heads": 16, "image_size": 384, "patch_size": 14},
        ),
        "PE-Core L/14, 336 pixels": lambda: of(
            PeClipModel,
            PeClipConfig,
            large336 | {"pooling_heads": 8, "pooling_intermediate_size": 4096},
            projection_dim=1024,
        ),
        "MetaCLIP 2 H/14, 224 pixels": lambda: of(
            MetaClip2Model,
            MetaClip2Config,
            {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
             "num_attention_heads": 16, "image_size": 224, "patch_size": 14},
            projection_dim=1024,
        ),
        "TIPS v2 L/14, 448 pixels": lambda: of(
            Tipsv2Model,
            Tipsv2Config,
            {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
             "image_size": 448, "patch_size": 14},
        ),
    }  # fmt: skip


def speed(rounds: int) -> None:
    """Print each family's seconds, multiplications, and how both compare to ViT-L's."""
    threads = torch.get_num_threads()
    made = clips()
    beside = _reading(made[BESIDE]())
    beside()
    print("| tower | parameters | GMAC | seconds | to its share of ViT-L's |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, make in made.items():
        clip = make()
        read = beside if name == BESIDE else _reading(clip)
        read()
        with FlopCounterMode(display=False) as counted:
            read()
        with FlopCounterMode(display=False) as counted_beside:
            beside()
        times = [(_seconds(read), _seconds(beside)) for _ in range(rounds)]
        work = counted.get_total_flops() / counted_beside.get_total_flops()
        ratio = median(own / other for own, other in times) / work
        numbers = sum(p.numel() for module in tower_of(clip).modules for p in module.parameters())
        print(
            f"| {name} | {numbers / 1e6:.0f} M | {counted.get_total_flops() / 2e9:.0f} | "
            f"{median(own for own, _ in times):.2f} | {ratio:.2f} |",
            flush=True,
        )
    print(f"\n{threads} threads, float32, {rounds} rounds; seconds of the processor")


def _reading(clip: Any) -> Callable[[], None]:
    """Reads a picture at the tower's own size with 100 masks that see half of it."""
    tower = tower_of(clip)
    queries = MaskQueries(tower)
    queries.start(tower)
    side = tower.image_size // tower.patch_size * tower.patch_size
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, tower.image_size, tower.image_size, generator=chance)
    seen = torch.rand(1, 100, (side // tower.patch_size) ** 2, generator=chance) > 0.5

    def read() -> None:
        with torch.inference_mode():
            encode_and_embed(tower, queries, pixels, seen)

    return read


def _seconds(run: Callable[[], None]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def pair(clip_name: str, proposer_name: str, points: int) -> dict[str, Any]:
    """What one pair costs; to be asked in a process of its own, whose memory is told."""
    clip, proposer = clips()[clip_name](), proposers()[proposer_name]()
    if hasattr(proposer.config, "points_per_side"):
        proposer.config.points_per_side = points
        # Of random weights no mask would be thought good.
        proposer.config.min_predicted_iou = proposer.config.min_stability = 0.0
    side = square_side(proposer.config.model_type, describe(proposer.config))
    edges = {"shortest_edge": side, "longest_edge": side} if side else {}
    # Random masks cover one another, and none would be left of what is mostly hidden.
    model = MasQClipModel.from_parts(clip, proposer, overlap_threshold=0.0, **edges)
    pixels = np.array(Image.open(PICTURE).convert("RGB").resize(SIZE))
    words, all_things = Vocabulary.parse(WORDS), Vocabulary.parse(WORDS.replace("stuff: ", ""))
    with torch.inference_mode():
        started = time.process_time()
        (encoded,) = encode_pictures(model, [read_image(pixels)])
        seconds = time.process_time() - started
        # Random masks are alike: half of them are a thing's, half stuff's, and none no object.
        masks = F.normalize(encoded.mask_embeddings, dim=-1)
        rows = torch.randn(len(words) + 1, masks.shape[-1])
        middle = masks.mean(dim=0)
        apart = torch.linalg.svd(masks - middle).Vh[0]
        rows[0], rows[-2], rows[-1] = middle + apart, middle - apart, -middle
        rows = F.normalize(rows, dim=-1)
        found = {}
        for task in model.tasks:
            asked = all_things if task == "instance" else words
            result = segment_encoded(model, encoded, asked, rows, task, min_score=0.0)
            found[task] = len(result)
        total = time.process_time() - started
    assert all(found.values()), found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(total, 1),
        "encoding": round(seconds, 1),
        "gigabytes": round(peak / (1e9 if sys.platform == "darwin" else 1e6), 1),
        "segments": found,
    }


def matrix(out: Path, points: int) -> None:
    """Measure all pairs that are not measured yet, and print the table."""
    kept = json.loads(out.read_text()) if out.exists() else {}
    for proposer in proposers():
        for clip in clips():
            if f"{clip} + {proposer}" in kept:
                continue
            words = [sys.executable, __file__, "pair", "--clip", clip, "--proposer", proposer]
            done = subprocess.run(
                [*words, "--points", str(points)], check=False, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"{clip} + {proposer}: {done.stderr[-2000:]}")
            kept[f"{clip} + {proposer}"] = json.loads(done.stdout.splitlines()[-1])
            out.write_text(json.dumps(kept, indent=1))
            print(clip, proposer, kept[f"{clip} + {proposer}"], flush=True)
    print("| | " + " | ".join(proposers()) + " |")
    print("| --- |" + " ---: |" * len(proposers()))
    for clip in clips():
        cells = [kept[f"{clip} + {proposer}"] for proposer in proposers()]
        told = [
            f"{c['seconds']} s, {c['gigabytes']} GB, {c['parameters'] / 1e6:.0f} M" for c in cells
        ]
        print(f"| {clip} | {' | '.join(told)} |")


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["speed", "matrix", "pair"])
    parser.add_argument("--out", type=Path, default=Path("matrix.json"))
    parser.add_argument("--points", type=int, default=8, help="a side of the grid of SAM and SAM 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clip")
    parser.add_argument("--proposer")
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.rounds)
    elif given.what == "pair":
        print(json.dumps(pair(given.clip, given.proposer, given.points)))
    else:
        matrix(given.out, given.points)


if __name__ == "__main__":
    main()
