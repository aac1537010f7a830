"""Scores that mean something: what they are right for, and a least one for each name.

Found are instances; right is one whose mask covers an annotated one of its name (IoU of at least a
half) that no better one has covered. A detection of score s should then be right in a share s of
all cases (Guo et al., ICML 2017): the *calibration* (`masqclip.score_scale`) is what makes those of
the pictures likeliest, and the *expected calibration error* says how far off the shares are, on
pictures that it was not fitted on. A temperature alone leaves twice the error: masks and names go
wrong for reasons that bend the curve at both ends. The *least score* of a name is where its F1 is
best, or the lowest one that has the precision that was asked for. Of few examples it would follow
chance: each name leans on what all names together show.

Shapes: N detections, K names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.segmentations import segmentation_mask
from masqclip.data.truth import GroundTruth, Picture
from masqclip.errors import MasqclipError
from masqclip.score_scale import Calibration

if TYPE_CHECKING:
    from masqclip.segmenter import Segmenter

_LOWEST = 0.05  # the model's score below which nothing is looked at
_BINS = 15
_LEANS = 10  # annotated instances that all names together count as, beside a name's own
_CLIP = 1e-6


@dataclass(frozen=True)
class Detections:
    """What was found in annotated pictures.

    Attributes:
        names: the K names.
        classes: [N] places of names.
        scores: [N], 0..1.
        right: [N] whether it is what it says.
        annotated: [K] instances that there are.
    """

    names: tuple[str, ...]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    annotated: NDArray[np.int64]

    def at(self, calibration: Calibration) -> Detections:
        """The same with scores as a vocabulary of this calibration has them."""
        return replace(self, scores=_of(_features(self.scores), calibration))


def detect(
    segmenter: Segmenter,
    truth: GroundTruth,
    words: Vocabulary,
    pictures: Sequence[Picture],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Detections:
    """Look for all names in annotated pictures.

    Args:
        segmenter: the model.
        truth: instances.
        words: a category for each class of `truth` (`match_vocabulary`).
        pictures: some of its pictures.
        report: is told how many of how many are done.

    Raises:
        MasqclipError: there are no instances, or a picture cannot be used.
    """
    if truth.instances is None:
        raise MasqclipError(f"{truth.name} has no instances: give a COCO file of instances")
    plain = replace(
        words,
        categories=tuple(replace(one, min_score=None) for one in words.categories),
        calibration=None,
    )
    places = {entry.id: place for place, entry in enumerate(truth.classes)}
    classes: list[int] = []
    scores: list[float] = []
    right: list[bool] = []
    annotated = np.zeros(len(words), np.int64)
    for done, picture in enumerate(pictures):
        report(done, len(pictures))
        entries = truth.instances_of(picture)
        free: dict[int, list[NDArray[np.bool_]]] = {}
        for entry in entries:
            place = places[entry["category_id"]]
            if not entry.get("iscrowd"):
                annotated[place] += 1
                mask = segmentation_mask(entry.get("segmentation"), picture.height, picture.width)
                free.setdefault(place, []).append(mask)
        found = segmenter(picture.path, plain, "instance", min_score=_LOWEST)
        for segment in sorted(found, key=lambda one: -one.score):
            there = free.get(segment.class_id, [])
            ious = [_iou(segment.mask, mask) for mask in there]
            best = int(np.argmax(ious)) if ious else -1
            hit = best >= 0 and ious[best] >= 0.5
            if hit:
                there.pop(best)
            classes.append(segment.class_id)
            scores.append(segment.score)
            right.append(hit)
    report(len(pictures), len(pictures))
    return Detections(
        words.names,
        np.array(classes, np.int64),
        np.array(scores, np.float64),
        np.array(right, bool),
        annotated,
    )


def fit_calibration(found: Detections) -> Calibration:
    """The calibration that makes what is right likeliest.

    Raises:
        MasqclipError: all or none of it is right, so that nothing can be fitted.
    """
    if found.right.all() or not found.right.any():
        raise MasqclipError(
            f"of {len(found.right)} detections {int(found.right.sum())} are right: pictures that "
            "the model finds some things in, and others not, are needed to calibrate"
        )
    features = _features(found.scores)

    def surprise(numbers: NDArray[np.float64]) -> float:
        scores = _of(features, numbers).clip(_CLIP, 1 - _CLIP)
        return -float(np.where(found.right, np.log(scores), np.log1p(-scores)).mean())

    best = minimize(
        surprise, [1.0, 1.0, 0.0], method="L-BFGS-B", bounds=[(0.0, 20.0), (0.01, 20.0), (-20, 20)]
    )
    a, b, c = (round(float(number), 4) for number in best.x)
    return a, b, c


def expected_calibration_error(found: Detections) -> float:
    """The mean distance of scores from the share that is right, over fifteen bins of scores."""
    _, scores, shares, weights = reliability(found)
    return float((weights * np.abs(scores - shares)).sum())


def error_by_chance(found: Detections, *, draws: int = 50) -> float:
    """The expected calibration error that so many detections would have if their scores were
    exactly the shares that are right: what is above it is error, the rest the dice."""
    dice = np.random.default_rng(0)
    errors = [
        expected_calibration_error(
            replace(found, right=dice.random(len(found.scores)) < found.scores)
        )
        for _ in range(draws)
    ]
    return float(np.mean(errors))


def reliability(
    found: Detections,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each bin of scores that is not empty: its middle, the mean score, the share that is
    right, and the bin's share of all detections."""
    bins = np.minimum((found.scores * _BINS).astype(int), _BINS - 1)
    there = np.unique(bins)
    inside = [bins == number for number in there]
    return (
        (there + 0.5) / _BINS,
        np.array([found.scores[i].mean() for i in inside]),
        np.array([found.right[i].mean() for i in inside]),
        np.array([i.mean() for i in inside]),
    )


def fit_thresholds(found: Detections, *, precision: float | None = None) -> list[float | None]:
    """A least score for each name; None where nothing of it is annotated.

    Args:
        found: with calibrated scores, at least one.
        precision: the lowest score with this precision, in place of the best F1.
    """
    # Of what scores less than all that was looked at nothing is known.
    candidates = np.unique(np.ceil(found.scores * 1000) / 1000)
    every = _counts(found, np.ones(len(found.scores), bool), candidates)
    total = max(1, int(found.annotated.sum()))
    thresholds: list[float | None] = []
    for place, annotated in enumerate(found.annotated.tolist()):
        if not annotated:
            thresholds.append(None)
            continue
        own = _counts(found, found.classes == place, candidates)
        hits, found_ = (a + b * _LEANS / total for a, b in zip(own, every, strict=True))
        if precision is None:
            quality = 2 * hits / np.maximum(found_ + annotated + _LEANS, 1e-9)
            best = int(np.argmax(quality))
        else:
            reached = hits / np.maximum(found_, 1e-9) >= precision
            best = int(np.argmax(reached)) if reached.any() else len(candidates) - 1
        thresholds.append(float(candidates[best]))
    return thresholds


def f1_scores(found: Detections, thresholds: Sequence[float]) -> NDArray[np.float64]:
    """[K] the F1 of each name when detections below its least score are left out; NaN where
    nothing of it is annotated."""
    kept = found.scores >= np.asarray(thresholds)[found.classes]
    count = len(found.names)
    hits = np.bincount(found.classes[kept & found.right], minlength=count)
    shown = np.bincount(found.classes[kept], minlength=count)
    with np.errstate(invalid="ignore"):
        scores = 2 * hits / (shown + found.annotated)
    return np.where(found.annotated > 0, scores, np.nan)


def precision_recall(found: Detections) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision of all names together, from the highest score down."""
    order = np.argsort(-found.scores, kind="stable")
    hits = np.cumsum(found.right[order])
    return hits / max(1, int(found.annotated.sum())), hits / np.arange(1, len(order) + 1)


def _counts(
    found: Detections, chosen: NDArray[np.bool_], candidates: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many are right, and how many there are, from each candidate score up."""
    scores, right = found.scores[chosen], found.right[chosen]
    order = np.argsort(scores)
    first = np.searchsorted(scores[order], candidates)
    hits = np.concatenate([[0], np.cumsum(right[order])])
    return (hits[-1] - hits[first]).astype(float), (len(order) - first).astype(float)


def _features(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    inner = scores.clip(1e-12, 1 - 1e-12)
    return np.stack([np.log(inner), -np.log1p(-inner), np.ones_like(inner)], axis=1)


def _of(
    features: NDArray[np.float64], calibration: Calibration | NDArray[np.float64]
) -> NDArray[np.float64]:
    """As `masqclip.score_scale.calibrated`, of many."""
    scores: NDArray[np.float64] = expit(features @ np.asarray(calibration, np.float64))
    return scores


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0
