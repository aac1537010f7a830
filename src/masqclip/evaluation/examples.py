"""The best and the worst pictures of a measurement on one page: truth beside prediction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.images import read_image
from masqclip.data.rle import decode_rle
from masqclip.data.segmentations import segmentation_mask
from masqclip.data.truth import GroundTruth, Picture
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.report import Report
from masqclip.render.overlay import draw_overlay
from masqclip.render.sheet import contact_sheet
from masqclip.segment import Segment

if TYPE_CHECKING:
    from PIL import Image

_PREFERRED = ("panoptic", "semantic", "instance")


def example_sheet(
    report: Report, truth: GroundTruth, predictions: PredictionFolder, *, count: int = 4
) -> Image.Image | None:
    """Truth and prediction of the `count` best and the `count` worst pictures.

    How good a picture is by itself says `Report.quality`, of the panoptic task if it was measured,
    else of the semantic one, else of instances.

    Returns:
        The page, best first; None where no task was measured or no picture has a truth.
    """
    task = next((task for task in _PREFERRED if task in report.quality), None)
    if task is None:
        return None
    rated = {i: value for i, value in report.quality[task].items() if not math.isnan(value)}
    order = sorted(rated, key=lambda picture: (-rated[picture], picture))
    chosen = order[:count] + order[max(count, len(order) - count) :]
    if not chosen:
        return None
    by_id = {picture.id: picture for picture in truth.pictures}
    names = [entry.name for entry in truth.classes]
    pictures, captions = [], []
    for number in chosen:
        picture = by_id[number]
        pixels = read_image(picture.path).pixels
        for kind, segments in (
            ("truth", _true(task, truth, picture, pixels.shape[:2])),
            (f"{100 * rated[number]:.0f} %", _predicted(task, truth, predictions, picture)),
        ):
            pictures.append(draw_overlay(pixels, segments, names=names, scores=kind != "truth"))
            captions.append(f"{picture.path.name}: {kind}")
    return contact_sheet(pictures, captions, columns=4)


def _true(task: str, truth: GroundTruth, picture: Picture, size: tuple[int, ...]) -> list[Segment]:
    if task == "panoptic":
        return _panoptic(truth, *truth.panoptic_of(picture))
    if task == "semantic":
        return _semantic(truth, truth.class_map_of(picture))
    entries = [
        {**entry, "mask": segmentation_mask(entry["segmentation"], size[0], size[1])}
        for entry in truth.instances_of(picture)
    ]
    return _instances(truth, entries)


def _predicted(
    task: str, truth: GroundTruth, predictions: PredictionFolder, picture: Picture
) -> list[Segment]:
    if task == "panoptic":
        return _panoptic(truth, *predictions.read_panoptic(picture.id))
    if task == "semantic":
        return _semantic(truth, predictions.read_semantic(picture.id, len(truth.classes)))
    wanted = max(1, len(truth.instances_of(picture)))  # as many as there are objects
    best = sorted(predictions.read_records(task, picture.id), key=lambda entry: -entry["score"])
    return _instances(
        truth, [{**entry, "mask": decode_rle(entry["segmentation"])} for entry in best[:wanted]]
    )


def _panoptic(
    truth: GroundTruth, ids: NDArray[Any], segments: list[dict[str, Any]]
) -> list[Segment]:
    return _instances(truth, [{**segment, "mask": ids == segment["id"]} for segment in segments])


def _semantic(truth: GroundTruth, classes: NDArray[Any]) -> list[Segment]:
    present = [int(label) for label in np.unique(classes) if label >= 0]
    return _instances(
        truth,
        [{"category_id": truth.classes[label].id, "mask": classes == label} for label in present],
    )


def _instances(truth: GroundTruth, entries: list[dict[str, Any]]) -> list[Segment]:
    places = {entry.id: i for i, entry in enumerate(truth.classes)}
    found = []
    for number, entry in enumerate(entries, start=1):
        place = places[entry["category_id"]]
        found.append(
            Segment(
                id=number,
                name=truth.classes[place].name,
                class_id=place,
                score=float(entry.get("score", 1.0)),
                thing=truth.classes[place].thing is not False,
                mask=entry["mask"],
            )
        )
    return found
