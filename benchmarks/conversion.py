"""Time and memory of converting full-size checkpoints, made of random numbers.

    python benchmarks/conversion.py --scratch DIR [--json FILE]

The three published models' names, shapes and types stand in a manifest with the tests; each is
written as a checkpoint of the authors' format, beside an OpenAI CLIP ViT-L/14-336 with the same
frozen tower, and converted by the command line in a process of its own. Needs about 8 GB of disk.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

MANIFEST = Path(__file__).parents[1] / "tests" / "data" / "official_manifest.json.gz"
TEXT_WIDTH, TEXT_LAYERS, TOKENS, CONTEXT = 768, 12, 49_408, 77


def random_weights(entries: dict[str, tuple[list[int], str]]) -> dict[str, Tensor]:
    """Small random numbers; OpenAI's towers are exact in half precision, so these are too."""
    weights = {
        name: (torch.randn(shape) * 0.02).half().to(getattr(torch, dtype))
        for name, (shape, dtype) in entries.items()
    }
    for name, tensor in weights.items():
        if name.endswith("running_var"):
            tensor.fill_(1.0)
    return weights


def text_tower() -> dict[str, Tensor]:
    """The text side of an OpenAI CLIP ViT-L."""
    width = TEXT_WIDTH
    shapes: dict[str, list[int]] = {
        "token_embedding.weight": [TOKENS, width],
        "positional_embedding": [CONTEXT, width],
        "ln_final.weight": [width],
        "ln_final.bias": [width],
        "text_projection": [width, width],
        "logit_scale": [],
    }
    for i in range(TEXT_LAYERS):
        block = f"transformer.resblocks.{i}."
        shapes |= {
            f"{block}attn.in_proj_weight": [3 * width, width],
            f"{block}attn.in_proj_bias": [3 * width],
            f"{block}attn.out_proj.weight": [width, width],
            f"{block}attn.out_proj.bias": [width],
            f"{block}ln_1.weight": [width],
            f"{block}ln_1.bias": [width],
            f"{block}mlp.c_fc.weight": [4 * width, width],
            f"{block}mlp.c_fc.bias": [4 * width],
            f"{block}mlp.c_proj.weight": [width, 4 * width],
            f"{block}mlp.c_proj.bias": [width],
            f"{block}ln_2.weight": [width],
            f"{block}ln_2.bias": [width],
        }
    return random_weights({name: (shape, "float16") for name, shape in shapes.items()})


def convert(checkpoint: Path, out: Path, clip: Path | None) -> dict[str, float]:
    """Run ``masqclip convert`` and say how long it took and how much memory it had at most."""
    words = [sys.executable, "-m", "masqclip.cli.main", "convert", str(checkpoint), str(out)]
    if clip is not None:
        words += ["--clip", str(clip)]
    started = time.perf_counter()
    process = subprocess.Popen(words)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"converting {checkpoint.name} failed")
    return {"seconds": round(seconds, 1), "gigabytes": round(usage.ru_maxrss * 1024 / 1e9, 2)}


def main() -> None:
    """Make, convert, measure, and print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    manifest = json.loads(gzip.decompress(MANIFEST.read_bytes()))
    results = {}
    for name, entries in manifest.items():
        folder = options.scratch / name
        folder.mkdir(parents=True)
        torch.manual_seed(0)
        weights = random_weights(entries)
        clip = None
        if "masqclip.mask_embeddings" in weights:
            clip = folder / "clip.pt"
            tower = {
                key.removeprefix("masqclip."): tensor.half()
                for key, tensor in weights.items()
                if key.startswith("masqclip.visual.") and "new_q_proj" not in key
            }
            torch.save(tower | text_tower(), clip)
        torch.save({"model": weights, "iteration": 9999}, folder / "model_final.pth")
        del weights
        results[name] = convert(folder / "model_final.pth", folder / "out", clip)
        size = sum(file.stat().st_size for file in (folder / "out").iterdir())
        results[name]["output_gigabytes"] = round(size / 1e9, 2)
        print(name, results[name], flush=True)
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
