"""The presets at full size: what they take, and whether they see photographs as published.

    python benchmarks/first_photograph.py FOLDER [--preset photo]

Weights cannot be told by their time: parts of the published sizes are made at random, in the
repositories' own layout, into FOLDER/PRESET (gigabytes), and asked about a photograph of 640 x 480
and one of 12 megapixels that a telephone has turned on its side, in three tasks, by `masqclip
segment --model`, by `masqclip serve` and by `Segmenter.from_parts`. Seconds are those of
encoding and all naming on all cores, the median of three for the small one; memory is the most that
the process held by then. Input size, mean
and deviation are compared with what transformers' own processors make of the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PICTURES = {"640x480.jpg": (480, 640), "12-megapixels.jpg": (3024, 4032)}
TASKS = ("instance", "semantic", "panoptic")
WORDS = "car, person, road, sky"
OPENAI = {"image_mean": [0.48145466, 0.4578275, 0.40821073],
          "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
TOWERS = {
    "clip-l14-336": (1024, 24, 16, 14, 336, 768, 12, 768),
    "datacomp-b16": (768, 12, 12, 16, 224, 512, 8, 512),
    "dfn-h14-378": (1280, 32, 16, 14, 378, 1024, 16, 1024),
    "eva02-l14-336": (1024, 24, 16, 14, 336, 768, 12, 768),
}
EOMTS = {"eomt-l-640-coco": (1024, 24, 16, 640, 4), "eomt-s-640-coco": (384, 12, 6, 640, 3),
         "eomt-l-1280-coco": (1024, 24, 16, 1280, 4)}  # fmt: skip


def clip_of(name: str) -> Any:
    """A CLIP of random weights and the published sizes."""
    from transformers import CLIPConfig, CLIPModel

    from masqclip.towers.eva02 import Eva02ClipConfig, Eva02ClipModel

    width, layers, heads, patch, side, words, text_heads, shared = TOWERS[name]
    eva = name.startswith("eva02")
    vision = {"hidden_size": width, "intermediate_size": 2 * (4 * width // 3) if eva else 4 * width,
              "num_hidden_layers": layers, "num_attention_heads": heads, "patch_size": patch,
              "image_size": side}  # fmt: skip
    text = {"hidden_size": words, "intermediate_size": 4 * words, "vocab_size": 49_408,
            "num_attention_heads": text_heads, "eos_token_id": 2,
            "num_hidden_layers": 24 if words == 1024 else 12}  # fmt: skip
    model, described = (Eva02ClipModel, Eva02ClipConfig) if eva else (CLIPModel, CLIPConfig)
    return model(described(vision_config=vision, text_config=text, projection_dim=shared))


def make_parts(preset: Any, folder: Path) -> None:
    """Random parts of the published sizes, unless they are there."""
    from transformers import CLIPImageProcessorPil, EomtConfig, EomtForUniversalSegmentation
    from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

    from masqclip.towers.tokenizer import load_tokenizer

    clip, proposer = folder / "clip", folder / "proposer"
    if not (clip / "preprocessor_config.json").is_file():
        side = TOWERS[preset.clip][4]
        clip_of(preset.clip).save_pretrained(clip)
        load_tokenizer().save_pretrained(clip)
        CLIPImageProcessorPil(**OPENAI, size=side, crop_size=side).save_pretrained(clip)
    if not (proposer / "preprocessor_config.json").is_file():
        width, layers, heads, side, blocks = EOMTS[preset.proposer]
        described = EomtConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            image_size=side, num_blocks=blocks, num_labels=133,
        )  # fmt: skip
        EomtForUniversalSegmentation(described).save_pretrained(proposer)
        size = {"shortest_edge": side, "longest_edge": side}
        EomtImageProcessorPil(size=size, do_pad=True).save_pretrained(proposer)


def make_pictures(folder: Path) -> None:
    """Noise with structure; the large one lies on its side and says so (EXIF orientation 6)."""
    for name, (height, width) in PICTURES.items():
        small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        if name.startswith("12"):
            exif[0x0112] = 6
        picture.save(folder / name, quality=90, exif=exif)


def compare(folder: Path) -> list[str]:
    """Differences of input size, mean and deviation between ours and transformers' processors."""
    from transformers import AutoImageProcessor, CLIPImageProcessorPil
    from transformers.image_transforms import get_size_with_aspect_ratio

    from masqclip.configuration import MasQClipConfig
    from masqclip.data.frames import resized_size
    from masqclip.parts import parts_settings

    told = parts_settings(folder / "clip", folder / "proposer")
    config = MasQClipConfig(**told)
    theirs = AutoImageProcessor.from_pretrained(folder / "proposer", backend="pil")
    clips = CLIPImageProcessorPil.from_pretrained(folder / "clip")
    lines = []
    for name, (height, width) in PICTURES.items():
        tall, wide = (width, height) if name.startswith("12") else (height, width)
        edges = theirs.size["shortest_edge"], theirs.size["longest_edge"]
        expected = get_size_with_aspect_ratio((tall, wide), *edges)
        ours = resized_size(tall, wide, config)
        lines.append(f"{name}: {ours[1]} x {ours[0]}, difference "
                     f"{abs(ours[0] - expected[0]) + abs(ours[1] - expected[1])}")  # fmt: skip
    for what, ours, expected in (
        ("proposer's mean", config.pixel_mean, [255 * n for n in theirs.image_mean]),
        ("proposer's deviation", config.pixel_std, [255 * n for n in theirs.image_std]),
        ("CLIP's mean", config.clip_mean, clips.image_mean),
        ("CLIP's deviation", config.clip_std, clips.image_std),
    ):
        gap = max(abs(a - b) for a, b in zip(ours, expected, strict=True))
        lines.append(f"{what}: difference {gap:g}")
    return lines


def measure(folder: Path) -> dict[str, Any]:
    """One process: load the parts, ask three tasks of both pictures, time them."""
    from masqclip import Segmenter

    started = time.perf_counter()
    segmenter = Segmenter.from_parts(folder / "clip", folder / "proposer", device="cpu")
    found: dict[str, Any] = {"load": time.perf_counter() - started}
    for name in PICTURES:
        path, times = folder.parent / name, []
        for _ in range(1 if name.startswith("12") else 3):
            began = time.perf_counter()
            encoded = segmenter.encode(path)
            for task in TASKS:
                result = segmenter(encoded, WORDS, task, min_score=0.0)
            times.append(time.perf_counter() - began)
        found[name] = statistics.median(times)
        found[f"{name} notes"] = result.notes
        found[f"{name} gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return found


def ask_command(preset: str, folder: Path) -> None:
    """`masqclip segment --model PRESET` in three tasks, from where the preset's folder lies."""
    for task in TASKS:
        words = ["segment", *PICTURES, "-v", WORDS, "-t", task, "-m", preset, "-q", "-o", "out"]
        subprocess.run([sys.executable, "-m", "masqclip.cli.main", *words], cwd=folder, check=True)


def ask_service(preset: str, folder: Path) -> None:
    """`masqclip serve --model PRESET`, asked in three tasks."""
    import httpx

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "masqclip.cli.main", "serve", "-m", preset,
               "--port", str(port), "--deadline", "300"]  # fmt: skip
    service = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                httpx.get(f"{address}/healthz").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        for name in PICTURES:
            for task in TASKS:
                files = {"image": (folder / name).read_bytes()}
                asked = {"vocabulary": WORDS, "task": task, "min_score": "0"}
                answer = httpx.post(f"{address}/v1/segment", files=files, data=asked, timeout=400)
                answer.raise_for_status()
                shape = (answer.json()["height"], answer.json()["width"])
                upright = PICTURES[name][::-1] if name.startswith("12") else PICTURES[name]
                assert shape == upright, (name, shape)
    finally:
        service.terminate()
        service.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", action="append", default=None)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only-figures", action="store_true", help="ask from_parts only")
    parser.add_argument("--no-figures", action="store_true", help="ask the commands only")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.folder)))
        return 0
    from masqclip.hub.registry import find_preset

    given.folder.mkdir(parents=True, exist_ok=True)
    make_pictures(given.folder)
    wrong = False
    for name in given.preset or ["photo"]:
        preset, folder = find_preset(name), given.folder / name
        make_parts(preset, folder)
        for line in compare(folder):
            print(f"{name}: {line}")
            wrong |= not line.endswith("difference 0")
        if not given.no_figures:
            command = [sys.executable, __file__, str(folder), "--measure"]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(told.splitlines()[-1])
            print(f"{name}: {json.dumps(found)}, {os.cpu_count()} cores")
        if not given.only_figures:
            ask_command(name, given.folder)
            print(f"{name}: masqclip segment: {len(TASKS)} tasks of {len(PICTURES)} pictures")
            ask_service(name, given.folder)
            print(f"{name}: masqclip serve: {len(TASKS)} tasks of {len(PICTURES)} pictures")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
