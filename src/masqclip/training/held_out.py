"""How well a model does on annotated pictures that it was not tuned on, before and after.

Two questions: are the annotated masks named rightly (that is what tuning learns), and does the
whole model find and name what is there (proposals, object score and all).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from masqclip.data.class_lists import ClassEntry
from masqclip.data.coco import CocoInstances
from masqclip.data.files import write_atomically
from masqclip.data.json_files import null_for_nan
from masqclip.data.open_coco import CocoFiles
from masqclip.data.truth import GroundTruth, InstanceTruth, PanopticTruth, Picture
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import evaluate
from masqclip.evaluation.instance import AveragePrecision
from masqclip.evaluation.protocol import Protocol
from masqclip.segmenter import Segmenter
from masqclip.training.annotated import dataset_vocabulary

#: The figures and what they say, in the order of the report.
FIGURES = {
    "mask accuracy": "annotated masks that get the right name",
    "AP50": "instances found and named, average precision at IoU 0.5",
    "AP": "the same, mean over IoU 0.5 to 0.95",
    "PQ": "things and stuff found and named, panoptic quality",
}
_PHASES = ("checking", "predicting", "scoring")


def held_out_truth(dataset: CocoFiles) -> GroundTruth:
    """Annotated pictures as something to measure on; those that cannot be read are left out."""
    words = dataset_vocabulary(dataset)
    classes = tuple(
        ClassEntry(id=i, name=word.name, prompts=word.prompts, thing=word.thing)
        for i, word in zip(sorted(dataset.categories.kept), words.categories, strict=True)
    )
    rows = [row for row in range(len(dataset)) if _readable(dataset, row)]
    entries = [dataset.entry(row) for row in rows]
    pictures = tuple(
        Picture(e["id"], dataset.image_folder / e["file_name"], e["height"] or 0, e["width"] or 0)
        for e in entries
    )
    truth = {e["id"]: dataset.annotations(row) for e, row in zip(entries, rows, strict=True)}
    version = dataset.fingerprint()
    if isinstance(dataset, CocoInstances):
        instances = InstanceTruth(truth, version)
        return GroundTruth("held-out pictures", classes, pictures, instances=instances)
    files = {i: dataset.mask_folder / a["file_name"] for i, found in truth.items() for a in found}
    segments = {i: a["segments_info"] for i, found in truth.items() for a in found}
    panoptic = PanopticTruth(files, segments, version)
    return GroundTruth("held-out pictures", classes, pictures, panoptic=panoptic)


def check_metrics(dataset: CocoFiles) -> None:
    """See, before any work, that what the figures of a dataset are computed by is installed.

    Raises:
        MasqclipError: it is not (extra ``eval``).
    """
    if isinstance(dataset, CocoInstances):
        AveragePrecision(sorted(dataset.categories.kept))


def measure_held_out(
    segmenter: Segmenter, dataset: CocoFiles, report: Callable[[int, int], None] | None = None
) -> dict[str, float]:
    """The figures of `FIGURES` that a dataset allows, with its own categories as vocabulary.

    Args:
        segmenter: the model.
        dataset: annotated pictures.
        report: called with how much is done, and of how much: a picture counts once for each time
            that it is worked on.

    Returns:
        Shares in 0..1, NaN where there is nothing to measure.

    Raises:
        MasqclipError: what AP is computed by is not installed (extra ``eval``).
    """
    truth = held_out_truth(dataset)
    task = "instance" if truth.instances is not None else "panoptic"
    found = evaluate(
        segmenter,
        truth,
        ("masks", task),
        protocol=Protocol(),
        report=None
        if report is None
        else lambda phase, done, total: report(done + total * _PHASES.index(phase), 3 * total),
    )
    figures = found.figures["masks"] | found.figures[task]
    return {name: figures[name] for name in FIGURES if name in figures}


def write_report(
    folder: Path, before: Mapping[str, float], after: Mapping[str, float], pictures: int
) -> list[tuple[str, str, str]]:
    """Write ``held-out.json`` and ``held-out.md`` into a folder.

    Returns:
        The rows of the table, in percent: what is measured, before, after; a heading first.
    """
    rows = [(f"{pictures} held-out pictures", "before", "after")]
    rows += [
        (
            f"{name}: {FIGURES[name]}",
            f"{100 * before.get(name, math.nan):.1f}",
            f"{100 * value:.1f}",
        )
        for name, value in after.items()
    ]
    content = null_for_nan({"pictures": pictures, "before": dict(before), "after": dict(after)})
    write_atomically(folder / "held-out.json", json.dumps(content, indent=1).encode())
    lines = [f"| {' | '.join(row)} |" for row in rows]
    table = "\n".join([lines[0], "| --- | ---: | ---: |", *lines[1:], ""])
    write_atomically(folder / "held-out.md", table.encode())
    return rows


def _readable(dataset: CocoFiles, row: int) -> bool:
    try:
        dataset[row]
    except MasqclipError:
        return False
    return True
