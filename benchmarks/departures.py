"""What the departures from the published training do, where that can be measured on a CPU.

    python benchmarks/departures.py --annotations instances.json

- ``means``: losses and gradients when every mean is over the whole batch (ours), against the mean
  of several GPUs' own means (published), on scenes of the miniature world and the shipped model.
- ``masks``: an annotation drawn and then resized (ours), against its polygons resized and then
  drawn (published), at the sizes that large-scale jitter gives; on COCO instances.
- ``overlap``: the Dice of distillation over all pixels (ours), against the published estimate on
  random points with one added above and below; on pairs of masks of the same annotations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cyclopts
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from masqclip.data.coco import CocoInstances, is_base
from masqclip.data.segmentations import segmentation_mask
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.transforms import jittered_size
from masqclip.hub import model_folders
from masqclip.model import MasQClipModel
from masqclip.towers.tokenizer import load_tokenizer
from masqclip.training.distill import dice
from masqclip.training.recipes import load_recipe
from masqclip.training.settings import TeacherSettings
from masqclip.training.stage import Share, Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage

MODEL = "masqclip-mini"
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0)
FRAME = 1024
POINTS = 12_544
THRESHOLD = 0.1


def gradients(stage: Stage, step: int, processes: int, *, own_means: bool) -> tuple[float, Tensor]:
    """The loss of a step's batch on so many processes, and its gradient as one vector.

    Args:
        stage: what trains.
        step: which batch.
        processes: how many parts it has.
        own_means: weigh means by each process's own counts and average them, as published; masks
            are counted over all processes either way.
    """
    parts = [stage.prepare(stage.batch(step, Share(i, processes))) for i in range(processes)]
    totals = {name: sum(counts[name] for _, counts in parts) for name in parts[0][1]}
    stage.module.zero_grad()
    loss = 0.0
    for batch, counts in parts:
        if own_means:
            counts = {**counts, "masks": totals["masks"] / processes}
        share = stage.losses(batch, counts if own_means else totals)["loss"]
        share = share / processes if own_means else share
        share.backward()
        loss += float(share.detach())
    found = [p.grad.flatten() for p in stage.module.parameters() if p.grad is not None]
    return loss, torch.cat(found).double()


def compare_means(stage: Stage, processes: int, steps: int) -> dict[str, float]:
    """Mean relative difference of the loss and cosine of the gradients, over several batches."""
    losses, cosines, lengths = [], [], []
    for step in range(steps):
        ours, whole = gradients(stage, step, processes, own_means=False)
        theirs, averaged = gradients(stage, step, processes, own_means=True)
        losses.append(abs(theirs - ours) / ours)
        cosines.append(float(F.cosine_similarity(whole, averaged, dim=0)))
        lengths.append(float(averaged.norm() / whole.norm()))
    return {
        "processes": processes,
        "loss, mean relative difference": float(np.mean(losses)),
        "gradient, least cosine": min(cosines),
        "gradient, mean cosine": float(np.mean(cosines)),
        "gradient, mean ratio of lengths": float(np.mean(lengths)),
    }


def measure_means(sprites: Path, steps: int) -> dict[str, Any]:
    """Teacher and tuning on base instances of 64 scenes, from the shipped model's weights."""
    (folder,) = model_folders(MODEL)
    with TemporaryDirectory() as scenes:
        write_stickers(Path(scenes), StickerWorld(load_sprites(sprites)), images=64, seed=77)
        dataset = CocoInstances(scenes, keep=is_base)
        model = MasQClipModel.from_pretrained(folder)
        settings = TeacherSettings(
            freeze_batch_norm=False, image_size=128, batch_size=16, num_points=1024
        )
        teacher = TeacherStage(dataset, model.proposer.config, settings)
        teacher.module.load_state_dict(model.proposer.state_dict())
        teacher.module.eval()  # batch norm is another matter: frozen, it has no batch
        tuning, _ = load_recipe("miniature", "tune")
        tune = TuneStage(model, load_tokenizer(folder), dataset, replace(tuning, batch_size=16))
        return {
            "teacher": [compare_means(teacher, n, steps) for n in (4, 8)],
            "tune": [compare_means(tune, n, steps) for n in (4, 8)],
        }


Polygons = list[list[float]]


def polygons(annotations: Path) -> Iterator[tuple[int, int, int, Polygons]]:
    """(picture, height, width, polygons) of every annotation that has polygons."""
    document = json.loads(annotations.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    for entry in document["annotations"]:
        if isinstance(entry["segmentation"], list) and entry["segmentation"]:
            yield entry["image_id"], *sizes[entry["image_id"]], entry["segmentation"]


def measure_masks(annotations: Path, limit: int) -> list[dict[str, float]]:
    """For each scale of the jitter, how far the two orders of drawing and resizing agree."""
    rows = []
    for scale in SCALES:
        overlaps, lost_here, lost_there, count = [], 0, 0, 0
        for _, height, width, shape in islice(polygons(annotations), limit):
            tall, wide = jittered_size(height, width, FRAME, scale)
            drawn = torch.from_numpy(segmentation_mask(shape, height, width).copy())
            if not drawn.any():
                continue
            count += 1
            ours = F.interpolate(
                drawn[None, None].to(torch.uint8), size=(tall, wide), mode="nearest-exact"
            )[0, 0].bool()
            factors = np.array([wide / width, tall / height])
            moved = [(np.reshape(p, (-1, 2)) * factors).ravel().tolist() for p in shape]
            theirs = torch.from_numpy(segmentation_mask(moved, tall, wide).copy())
            lost_here += int(theirs.any() and not ours.any())
            lost_there += int(ours.any() and not theirs.any())
            if ours.any() and theirs.any():
                overlaps.append(float((ours & theirs).sum() / (ours | theirs).sum()))
        rows.append(
            {
                "scale": scale,
                "masks": count,
                "mean IoU": float(np.mean(overlaps)),
                "median IoU": float(np.median(overlaps)),
                "empty in ours only": lost_here,
                "empty in theirs only": lost_there,
            }
        )
    return rows


def measure_overlap(annotations: Path, pairs: int) -> dict[str, float]:
    """How often exact and estimated Dice fall on different sides of the threshold.

    A pair is an annotation and another one of its picture (or itself), moved by up to a picture's
    half: overlaps of every size.
    """
    chance = np.random.default_rng(0)
    by_picture: dict[int, list[np.ndarray]] = {}
    for picture, height, width, shape in polygons(annotations):
        by_picture.setdefault(picture, []).append(segmentation_mask(shape, height, width).copy())
    pictures = [masks for masks in by_picture.values() if masks]
    # Of at most nine points in both masks, one divided by all of them and one is no less than 0.1.
    names = ("differ", "differ without the added ones", "overlapping by the estimate only")
    kinds = dict.fromkeys((*names, "at most 9 points"), 0)
    for _ in range(pairs):
        masks = pictures[int(chance.integers(len(pictures)))]
        first, second = (masks[int(i)] for i in chance.integers(len(masks), size=2))
        height, width = first.shape
        down, right = (int(chance.integers(-side // 2, side // 2)) for side in (height, width))
        a = torch.from_numpy(first)[None]
        b = torch.from_numpy(np.roll(second, (down, right), (0, 1)).copy())[None]
        exact = float(dice(a, b))
        grid = torch.from_numpy(chance.random((1, 1, POINTS, 2), dtype=np.float32)) * 2 - 1
        values = F.grid_sample(torch.stack([a, b], 1).float(), grid, align_corners=False)[0, :, 0]
        shared, both = float((values[0] * values[1]).sum()), float(values.sum())
        overlapping = exact >= THRESHOLD
        found = (2 * shared + 1) / (both + 1) >= THRESHOLD
        kinds["differ"] += overlapping != found
        kinds["differ without the added ones"] += overlapping != (
            2 * shared / max(both, 1) >= THRESHOLD
        )
        kinds["overlapping by the estimate only"] += found and not overlapping
        kinds["at most 9 points"] += both <= 9
    return {"pairs": pairs, "threshold": THRESHOLD} | kinds


def main(
    *,
    annotations: Path,
    sprites: Path = Path("tests/data/sprites"),
    steps: int = 4,
    limit: int = 100_000,
    pairs: int = 3_000,
) -> None:
    """Measure all three and print each as JSON when it is done.

    Args:
        annotations: a COCO instances file with polygons; its pictures are not read.
        sprites: a folder of "masqclip data sprites".
        steps: batches over which losses and gradients are compared.
        limit: annotations that are drawn.
        pairs: pairs of masks.
    """
    torch.manual_seed(0)
    for name, measure in (
        ("overlap", lambda: measure_overlap(annotations, pairs)),
        ("masks", lambda: measure_masks(annotations, limit)),
        ("means", lambda: measure_means(sprites, steps)),
    ):
        print(json.dumps({name: measure()}, indent=1), flush=True)


if __name__ == "__main__":
    cyclopts.run(main)
