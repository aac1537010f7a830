"""Photographs with annotations that nobody here made, from reading to learning them by heart.

    python benchmarks/photographs.py FOLDER
    python benchmarks/photographs.py FOLDER --learn learned    # half an hour of one core more

FOLDER holds `coco/` (photographs of train2017 with panoptic annotations), `coco-captions/` (others
with instances) and `fruits_nuts/` (an annotation tool's instances), each as its publisher has it.

- `truth`: predictions made from the annotations are perfect: AP, mIoU and PQ are 100.
- `damaged`: of predictions that are shifted, dropped and renamed, PQ, SQ and RQ are those of
  panopticapi's program where it is installed, else of the definition written down plainly.
- `tuned`: `masqclip train tune` reads the annotation tool's file as it is.
- `learned`: `masqclip train teacher`, with the recipe beside this file, learns the first twenty
  panoptic photographs (by name), reduced to 320 pixels, until its proposals find their segments:
  every one of them counts, however small. Stopped, it goes on when it is started again.

The exit code is 1 where a bar is missed. Figures of one run: docs/evaluation.md, docs/training.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks

from masqclip.cli.main import main as masqclip
from masqclip.data.label_maps import ids_to_rgb, png_bytes, rgb_to_ids
from masqclip.data.published import load_truth
from masqclip.data.truth import GroundTruth, Picture
from masqclip.evaluation.evaluate import make_manifest, score
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.protocol import Protocol
from masqclip.evaluation.vocabularies import dataset_vocabulary

PHOTOGRAPHS, SIDE, RECALL = 20, 320, 0.9
RECIPE = Path(__file__).with_suffix(".toml")
_PARTS = {"": (True, False), " things": (True,), " stuff": (False,)}
_TOOLS_PARTS = {"": "All", " things": "Things", " stuff": "Stuff"}

Segments = list[dict[str, Any]]
#: A picture's prediction and truth: segment ids [H,W] and what each segment is.
Case = tuple[NDArray[Any], Segments, NDArray[Any], Segments]
#: What was measured, its figure, the bar, and whether it is met.
Row = tuple[str, str, str, bool]


def new_predictions(folder: Path, truth: GroundTruth, tasks: Sequence[str]) -> PredictionFolder:
    """An empty folder of predictions of a dataset."""
    predictions = PredictionFolder(folder)
    words, model = dataset_vocabulary(truth), {"name": "the truth", "version": "1"}
    predictions.claim(make_manifest(model, truth, words, Protocol(), tasks))
    return predictions


def coco_drawing(segmentation: Any, picture: Picture) -> dict[str, Any]:
    """A mask as COCO's own code draws it: what predictions are compared with in AP."""
    if isinstance(segmentation, list):
        parts = coco_masks.frPyObjects(segmentation, picture.height, picture.width)
        rle = coco_masks.merge(parts)
    else:
        rle = coco_masks.frPyObjects(segmentation, picture.height, picture.width)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def panoptic_truth(panoptic: GroundTruth, folder: Path) -> list[Row]:
    """PQ and mIoU of the truth."""
    predictions = new_predictions(folder, panoptic, ("semantic", "panoptic"))
    for picture in panoptic.pictures:
        ids, segments = panoptic.panoptic_of(picture)
        predictions.write_panoptic(picture.id, ids, [dict(segment) for segment in segments])
        classes = panoptic.class_map_of(picture)
        predictions.write_semantic(picture.id, classes, len(panoptic.classes))
    figures = score(predictions, panoptic).figures
    found = {"mIoU": figures["semantic"]["mIoU"], "PQ": figures["panoptic"]["PQ"]}
    what = f"{len(panoptic.pictures)} photographs, truth"
    return [
        (f"{name}, {what}", f"{100 * value:.12g}", "100", value == 1)
        for name, value in found.items()
    ]


def instance_truth(instances: GroundTruth, folder: Path) -> list[Row]:
    """AP of the truth."""
    predictions = new_predictions(folder, instances, ("instance",))
    for picture in instances.pictures:
        records = [
            {
                "image_id": picture.id,
                "category_id": entry["category_id"],
                "score": 0.5,
                "segmentation": coco_drawing(entry["segmentation"], picture),
            }
            for entry in instances.instances_of(picture)
            if not entry["iscrowd"]
        ]
        predictions.write_records("instance", picture.id, records)
    value = score(predictions, instances).figures["instance"]["AP"]
    what = f"AP, {len(instances.pictures)} photographs, truth"
    return [(what, f"{100 * value:.12g}", "100", abs(value - 1) < 1e-12)]


def damage(
    rng: np.random.Generator, ids: NDArray[Any], segments: Segments, categories: Sequence[int]
) -> tuple[NDArray[Any], Segments]:
    """The truth shifted by a few pixels, a fifth of its segments dropped and a fifth renamed."""
    moved = np.roll(ids, rng.integers(-8, 9, 2), axis=(0, 1))
    kept = []
    for segment in segments:
        fate = rng.random()
        if fate < 0.2:
            moved = np.where(moved == segment["id"], 0, moved)
        elif fate < 0.4:
            kept.append({**segment, "iscrowd": 0, "category_id": int(rng.choice(categories))})
        else:
            kept.append({**segment, "iscrowd": 0})
    return moved, kept


def plain_quality(cases: Sequence[Case], things: Mapping[int, bool]) -> dict[str, float]:
    """PQ, SQ and RQ from "Panoptic Segmentation" (CVPR 2019), section 4: one mask at a time."""
    overlaps: dict[int, list[float]] = {category: [] for category in things}
    unmatched = dict.fromkeys(things, 0.0)
    for guess, guessed, target, true in cases:
        labelled, free = target > 0, {segment["id"] for segment in guessed}
        for wanted in (segment for segment in true if not segment["iscrowd"]):
            mask, hits = target == wanted["id"], []
            for segment in guessed:
                if segment["category_id"] == wanted["category_id"]:
                    seen = (guess == segment["id"]) & labelled
                    hits.append(
                        (int((seen & mask).sum()) / int((seen | mask).sum()), segment["id"])
                    )
            best, taken = max(hits, default=(0.0, 0))
            if best > 0.5:
                overlaps[wanted["category_id"]].append(best)
                free.remove(taken)
            else:
                unmatched[wanted["category_id"]] += 0.5
        for segment in (segment for segment in guessed if segment["id"] in free):
            mask, excused = guess == segment["id"], ~labelled
            for crowd in (s for s in true if s["iscrowd"]):
                if crowd["category_id"] == segment["category_id"]:
                    excused = excused | (target == crowd["id"])
            if mask.any() and 2 * int((mask & excused).sum()) <= int(mask.sum()):
                unmatched[segment["category_id"]] += 0.5
    rows = {}
    for category, values in overlaps.items():
        weight = len(values) + unmatched[category]
        if weight:
            quality = sum(values) / len(values) if values else 0.0
            rows[category] = (sum(values) / weight, quality, len(values) / weight)
    return {
        name + part: float(np.mean([row[i] for c, row in rows.items() if things[c] in wanted]))
        for part, wanted in _PARTS.items()
        for i, name in enumerate(("PQ", "SQ", "RQ"))
    }


def tool_quality(file: Path, cases: Mapping[Picture, Case], folder: Path) -> dict[str, float]:
    """The same by panopticapi's program, which is not on PyPI; ImportError without it."""
    from panopticapi.evaluation import pq_compute  # type: ignore[import-not-found]

    maps, entries = folder / "maps", []
    maps.mkdir()
    for picture, (ids, segments, _, _) in cases.items():
        name = f"{picture.id}.png"
        (maps / name).write_bytes(png_bytes(ids_to_rgb(ids)))
        entries.append({"image_id": picture.id, "file_name": name, "segments_info": segments})
    document = {**json.loads(file.read_text()), "annotations": entries}
    (folder / "guesses.json").write_text(json.dumps(document))
    with contextlib.redirect_stdout(io.StringIO()):
        found = pq_compute(
            str(file), str(folder / "guesses.json"), str(file.with_suffix("")), str(maps)
        )
    return {
        name + ours: float(found[theirs][name.lower()])
        for ours, theirs in _TOOLS_PARTS.items()
        for name in ("PQ", "SQ", "RQ")
    }


def damaged(file: Path, truth: GroundTruth, folder: Path) -> list[Row]:
    """PQ of damaged predictions, beside a reference's."""
    rng, categories = np.random.default_rng(0), [entry.id for entry in truth.classes]
    predictions = new_predictions(folder / "predictions", truth, ("panoptic",))
    cases: dict[Picture, Case] = {}
    for picture in truth.pictures:
        ids, segments = truth.panoptic_of(picture)
        true = [dict(segment) for segment in segments]
        # The reference wants every listed segment to have a pixel.
        guess, guessed = damage(rng, ids, true, categories)
        guessed = [segment for segment in guessed if (guess == segment["id"]).any()]
        predictions.write_panoptic(picture.id, guess, guessed)
        cases[picture] = (guess, guessed, ids, true)
    figures = score(predictions, truth).figures["panoptic"]
    try:
        reference, name = tool_quality(file, cases, folder), "panopticapi"
    except ImportError:
        things = {entry.id: entry.thing is not False for entry in truth.classes}
        reference, name = plain_quality(list(cases.values()), things), "the definition"
    rows = []
    for key, value in reference.items():
        close = abs(figures[key] - value) < 1e-12
        what = f"{key}, {len(cases)} photographs, damaged"
        rows.append((what, f"{100 * figures[key]:.10f}", f"{100 * value:.10f} ({name})", close))
    return rows


def tuned(folder: Path, out: Path) -> list[Row]:
    """Three steps of tuning on an annotation tool's file."""
    words = ["train", "tune", "--data", str(folder / "data/trainval.json"), "--images"]
    words += [str(folder / "data/images"), "--model", "masqclip-mini", "--out", str(out)]
    code = masqclip([*words, "--device", "cpu", "--set", "steps=3", "--set", "workers=0"])
    return [("fruits_nuts, train tune, 3 steps", f"exit code {code}", "0", code == 0)]


def reduce(coco: Path, out: Path) -> Path:
    """Write the first photographs by name, their longer side `SIDE`; returns their annotations."""
    file, maps = out / "panoptic.json", out / "panoptic"
    if file.exists():
        return file
    source = coco / "annotations/panoptic_train2017"
    document = json.loads(source.with_suffix(".json").read_text())
    annotated = {entry["image_id"]: entry for entry in document["annotations"]}
    ours = sorted((i for i in document["images"] if i["id"] in annotated), key=_by_name)
    document["images"] = ours[:PHOTOGRAPHS]
    document["annotations"] = [annotated[image["id"]] for image in document["images"]]
    for folder in (out / "images", maps):
        folder.mkdir(parents=True, exist_ok=True)
    for image, entry in zip(document["images"], document["annotations"], strict=True):
        with Image.open(coco / "train2017" / image["file_name"]) as photograph:
            share = SIDE / max(photograph.size)
            size = (round(photograph.width * share), round(photograph.height * share))
            image["file_name"] = f"{Path(image['file_name']).stem}.png"
            image["width"], image["height"] = size
            small = photograph.convert("RGB").resize(size, Image.Resampling.BILINEAR)
            small.save(out / "images" / image["file_name"])
        with Image.open(source / entry["file_name"]) as colours:
            drawn = colours.convert("RGB").resize(size, Image.Resampling.NEAREST)
            drawn.save(maps / entry["file_name"])
        present = set(np.unique(rgb_to_ids(np.asarray(drawn))).tolist())
        lost = [s["id"] for s in entry["segments_info"] if s["id"] not in present]
        if lost:
            raise SystemExit(f"{entry['file_name']}: at {SIDE} pixels {lost} are lost; raise SIDE")
    file.write_text(json.dumps(document))
    return file


def _by_name(image: Mapping[str, Any]) -> str:
    return str(image["file_name"])


def learned(coco: Path, out: Path) -> list[Row]:
    """Recall of the segments of photographs that were trained on."""
    data = str(reduce(coco, out / "photographs"))
    words = ["train", "teacher", "--data", data, "--held-out", data]
    words += ["--images", str(out / "photographs/images"), "--recipe", str(RECIPE)]
    code = masqclip([*words, "--device", "cpu", "--out", str(out / "run")])
    last: dict[str, float] = {}
    for figures in _evaluations(out / "run/log.jsonl"):
        last = figures
        shares = ", ".join(
            f"{name} {100 * figures[f'evaluation/recall {name}']:.1f} %"
            for name in ("all", "things", "stuff")
        )
        print(f"step {figures['step']:g}: {shares}")
    value = last.get("evaluation/recall all", 0.0)
    what = f"recall at IoU 0.5, {PHOTOGRAPHS} photographs, learned"
    return [(what, f"{100 * value:.1f}", "above 90", code == 0 and value > RECALL)]


def _evaluations(log: Path) -> Iterator[dict[str, float]]:
    lines = (json.loads(line) for line in log.read_text().splitlines())
    yield from (line for line in lines if "evaluation/recall all" in line)


def main(folder: Path, *, learn: Path | None = None) -> None:
    """Measure.

    Args:
        folder: with coco, coco-captions and fruits_nuts.
        learn: also train; the run stays in this folder.
    """
    coco, captions = folder / "coco", folder / "coco-captions"
    file = coco / "annotations/panoptic_train2017.json"
    panoptic = load_truth(str(file), Path(), images=coco / "train2017")
    other = captions / "annotations/instances_train2017.json"
    instances = load_truth(str(other), Path(), images=captions / "train2017")
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        steps: list[Callable[[], list[Row]]] = [
            lambda: panoptic_truth(panoptic, here / "panoptic"),
            lambda: instance_truth(instances, here / "instances"),
            lambda: damaged(file, panoptic, here),
            lambda: tuned(folder / "fruits_nuts", here / "tuned"),
        ]
        if learn is not None:
            steps.append(lambda: learned(coco, learn))
        rows = [row for step in steps for row in step()]
    print("| what | figure | bar | |\n| --- | ---: | ---: | --- |")
    for what, figure, bar, met in rows:
        print(f"| {what} | {figure} | {bar} | {'met' if met else 'MISSED'} |")
    if not all(met for *_, met in rows):
        sys.exit(1)


if __name__ == "__main__":
    cyclopts.run(main)
