"""How long scoring takes without the model, and in how much memory.

    python benchmarks/evaluation.py --sprites sprites --images 1000

Draws scenes, makes predictions of the truth by shifting it (100 instances a picture, a class map, a
panoptic map), writes both as `masqclip data stickers` and `masqclip evaluate` do, and scores all
three tasks in a process of its own. The bar: 1,000 scenes in 30 s on 2 cores, in less than 2 GB.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cyclopts
import numpy as np

from masqclip.data.published import load_truth
from masqclip.data.rle import encode_rle
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.truth import TASKS, GroundTruth
from masqclip.evaluation.evaluate import make_manifest, score
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.protocol import Protocol
from masqclip.evaluation.vocabularies import dataset_vocabulary

INSTANCES = 100


def predict(truth: GroundTruth, folder: PredictionFolder, seed: int = 0) -> None:
    """Predictions that are the truth, shifted by a few pixels, some of them of a wrong class."""
    rng = np.random.default_rng(seed)
    words, protocol = dataset_vocabulary(truth), Protocol(128, 256, 0.3, 0.3)
    model = {"name": "shifted truth", "version": str(seed)}
    folder.claim(make_manifest(model, truth, words, protocol, TASKS))
    things = [entry.id for entry in truth.classes if entry.thing]
    for picture in truth.pictures:
        shift = rng.integers(-4, 5, 2)
        ids, segments = truth.panoptic_of(picture)
        folder.write_panoptic(picture.id, np.roll(ids, shift, (0, 1)), segments)
        classes = np.roll(truth.class_map_of(picture), shift, (0, 1))
        folder.write_semantic(picture.id, classes, len(truth.classes))
        masks, positions = truth.masks_of(picture)
        results = []
        for number in range(INSTANCES):
            chosen = number % len(masks)
            moved = np.roll(masks[chosen], rng.integers(-6, 7, 2), (0, 1))
            entry = truth.classes[positions[chosen]]
            results.append(
                {
                    "image_id": picture.id,
                    "category_id": entry.id
                    if entry.thing and rng.random() < 0.5
                    else int(rng.choice(things)),
                    "score": float(rng.random()),
                    "segmentation": encode_rle(moved),
                }
            )
        folder.write_records("instance", picture.id, results)


def measure(scenes: Path, predictions: Path) -> None:
    """Score in this process, and print seconds and memory as JSON."""
    started = time.perf_counter()
    report = score(PredictionFolder(predictions), load_truth("stickers", scenes))
    seconds = time.perf_counter() - started
    processor = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    figures = {
        name: report.figures[task][name]
        for task, name in zip(TASKS, ("AP", "mIoU", "PQ"), strict=True)
    }
    print(json.dumps({"seconds": seconds, "processor": processor, "GiB": memory, **figures}))


def main(
    *,
    sprites: Path = Path("sprites"),
    images: int = 1000,
    out: Path | None = None,
    score_only: bool = False,
) -> None:
    """Time scoring.

    Args:
        sprites: the sprite cache ("masqclip data sprites").
        images: how many scenes.
        out: keep scenes and predictions here, and use what is there.
        score_only: score what is in `out`, in this process.
    """
    if out is None:
        with tempfile.TemporaryDirectory() as scratch:
            main(sprites=sprites, images=images, out=Path(scratch))
        return
    scenes, predictions = out / "scenes", out / "predictions"
    if score_only:
        measure(scenes, predictions)
        return
    world = StickerWorld(load_sprites(sprites), SceneSettings())
    write_stickers(scenes, world, images=images, seed=5000)
    if not (predictions / "manifest.json").exists():
        predict(load_truth("stickers", scenes), PredictionFolder(predictions))
    command = [sys.executable, __file__, "--out", str(out), "--score-only"]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    cyclopts.run(main)
