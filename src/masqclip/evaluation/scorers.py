"""From a picture's truth and its prediction in a folder to the metric of a task."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from masqclip.data.rle import decode_rle
from masqclip.data.truth import GroundTruth, Picture
from masqclip.errors import MasqclipError
from masqclip.evaluation.groups import all_groups, split_groups
from masqclip.evaluation.instance import AveragePrecision
from masqclip.evaluation.oracle import MaskAccuracy, ProposalRecall
from masqclip.evaluation.panoptic import PanopticQuality
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.semantic import ConfusionMatrix


class Scorer(Protocol):
    """One task of a dataset. The metric alone can be pickled and merged."""

    metric: Any

    def add(self, predictions: PredictionFolder, picture: Picture) -> float:
        """Score one picture; returns how good it is by itself, 0..1."""

    def figures(self) -> dict[str, float]:
        """The dataset's figures, 0..1."""

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """Figures of each class of the dataset; NaN where the truth has none."""


def make_scorer(task: str, truth: GroundTruth) -> Scorer:
    """The scorer of a task or an oracle."""
    kinds: dict[str, type[Any]] = {
        "instance": _Instance,
        "semantic": _Semantic,
        "panoptic": _Panoptic,
        "masks": _Masks,
        "classes": _Classes,
    }
    scorer: Scorer = kinds[task](truth)
    return scorer


class _Instance:
    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self.things = [i for i, entry in enumerate(truth.classes) if entry.thing is not False]
        thing_ids = [truth.classes[i].id for i in self.things]
        self._thing_ids = frozenset(thing_ids)
        self.metric = AveragePrecision(thing_ids)

    def add(self, predictions: PredictionFolder, picture: Picture) -> float:
        image = {"id": picture.id, "height": picture.height, "width": picture.width}
        results = predictions.read_records("instance", picture.id)
        for result in results:  # what counts them is native code and does not look
            size = result["segmentation"]["size"]
            if list(size) != [picture.height, picture.width]:
                raise MasqclipError(
                    f"{predictions.path}: a mask of picture {picture.id} is of {size!r:.60} "
                    f"pixels, {picture.path.name} of {picture.height} x {picture.width} (height x "
                    "width): they belong to different pictures"
                )
        annotations = [
            entry
            for entry in self.truth.instances_of(picture)
            if entry["category_id"] in self._thing_ids
        ]
        return self.metric.update(image, annotations, results)

    def figures(self) -> dict[str, float]:
        return self.metric.results(split_groups([self.truth.classes[i] for i in self.things]))

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        columns = {}
        for name, values in self.metric.per_class().items():
            columns[name] = np.full(len(self.truth.classes), np.nan)
            columns[name][self.things] = values
        return columns


class _Semantic:
    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self.metric = ConfusionMatrix(len(truth.classes))

    def add(self, predictions: PredictionFolder, picture: Picture) -> float:
        target = self.truth.class_map_of(picture)
        guess = predictions.read_semantic(picture.id, len(self.truth.classes))
        _check_size(predictions, picture, guess, target)
        return self.metric.update(guess, target, ignore=-1)

    def figures(self) -> dict[str, float]:
        return self.metric.results(split_groups(self.truth.classes))

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        return self.metric.per_class()


class _Panoptic:
    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self.metric = PanopticQuality({c.id: c.thing is not False for c in truth.classes})

    def add(self, predictions: PredictionFolder, picture: Picture) -> float:
        target, true = self.truth.panoptic_of(picture)
        guess, segments = predictions.read_panoptic(picture.id)
        _check_size(predictions, picture, guess, target)
        return self.metric.update(guess, segments, target, true)

    def figures(self) -> dict[str, float]:
        return self.metric.results(split_groups(self.truth.classes))

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        return self.metric.per_class()


class _Masks:
    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self.metric = MaskAccuracy(len(truth.classes))

    def add(self, predictions: PredictionFolder, picture: Picture) -> float:
        masks, positions = self.truth.masks_of(picture)
        records = []
        named = predictions.read_records("masks", picture.id)
        if [record["class"] for record in named] != positions:
            raise MasqclipError(f"{predictions.path}: picture {picture.id} has other masks now")
        for record, mask in zip(named, masks, strict=True):
            given = decode_rle(record["segmentation"])
            iou = np.count_nonzero(given & mask) / np.count_nonzero(given | mask)
            records.append({**record, "iou": iou, "area": np.count_nonzero(mask)})
        return self.metric.update(records)

    def figures(self) -> dict[str, float]:
        return self.metric.results(all_groups(self.truth.classes))

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        return self.metric.per_class()


class _Classes:
    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self.metric = ProposalRecall()

    def add(self, predictions: PredictionFolder, picture: Picture) -> float:
        return self.metric.update(predictions.read_records("classes", picture.id))

    def figures(self) -> dict[str, float]:
        return self.metric.results(all_groups(self.truth.classes))

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        return self.metric.per_class(len(self.truth.classes))


def _check_size(
    predictions: PredictionFolder,
    picture: Picture,
    guess: NDArray[Any],
    target: NDArray[Any],
) -> None:
    if guess.shape != target.shape:
        raise MasqclipError(
            f"{predictions.path}: the prediction of picture {picture.id} is {guess.shape[0]} x "
            f"{guess.shape[1]} pixels (height x width), its annotation {target.shape[0]} x "
            f"{target.shape[1]}: they belong to different pictures"
        )
