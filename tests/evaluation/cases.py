"""Random truths and predictions that hit, nearly hit and miss: what metrics are compared on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from masqclip.data.rle import encode_rle

#: Category ids and whether they are things.
CATEGORIES = {3: True, 5: True, 8: False, 9: False}
SIZE = (48, 64)


def blocks(rng: np.random.Generator, ids: int, shape: tuple[int, int] = SIZE) -> np.ndarray:
    """A map of random rectangles of ids 0 .. ids, in which later ones cover earlier ones."""
    canvas = np.zeros(shape, np.int64)
    for number in rng.permutation(np.arange(1, ids + 1)):
        y, x = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
        height, width = rng.integers(6, 32, 2)
        canvas[y : y + height, x : x + width] = number
    return canvas


def nudged(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """The truth, shifted a little: segments that match, barely match or do not."""
    return np.roll(truth, rng.integers(-4, 5, 2), axis=(0, 1))


def described(rng: np.random.Generator, ids: np.ndarray, crowds: bool) -> list[dict[str, Any]]:
    """One entry for each segment that is there; one crowd per class at most, as panopticapi has."""
    info = []
    seen: set[int] = set()
    for number in np.unique(ids[ids > 0]):
        category = int(rng.choice(list(CATEGORIES)))
        crowd = crowds and CATEGORIES[category] and category not in seen and rng.random() < 0.3
        if crowd:
            seen.add(category)
        info.append(
            {
                "id": int(number),
                "category_id": category,
                "iscrowd": int(crowd),
                "area": int((ids == number).sum()),
                "bbox": [0, 0, 1, 1],
            }
        )
    return info


def panoptic_case(
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[dict[str, Any]], np.ndarray, list[dict[str, Any]]]:
    """Prediction, its segments, truth, its segments; most classes are right, some wrong."""
    target = blocks(rng, 9)
    true = described(rng, target, crowds=True)
    prediction = nudged(rng, target)
    right = {entry["id"]: entry["category_id"] for entry in true}
    predicted = described(rng, prediction, crowds=False)
    for entry in predicted:
        if rng.random() < 0.7:
            entry["category_id"] = right.get(entry["id"], entry["category_id"])
    return prediction, predicted, target, true


def instance_case(
    rng: np.random.Generator, image_id: int, first_id: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """A picture of 200 x 200 with objects of all three of COCO's sizes, a crowd now and then."""
    image = {"id": image_id, "height": 200, "width": 200}
    truth, results = [], []
    for number in range(int(rng.integers(1, 6))):
        side = int(rng.choice([12, 50, 120]))
        y, x = rng.integers(0, 200 - side, 2)
        mask = np.zeros((200, 200), bool)
        mask[y : y + side, x : x + int(rng.integers(side // 2, side + 1))] = True
        category = int(rng.choice(list(CATEGORIES)))
        truth.append(
            {
                "id": first_id + number,
                "image_id": image_id,
                "category_id": category,
                "iscrowd": int(rng.random() < 0.15),
                "area": int(mask.sum()),
                "bbox": [0, 0, 1, 1],
                "segmentation": encode_rle(mask),
            }
        )
        for _ in range(int(rng.integers(0, 4))):
            moved = np.roll(mask, rng.integers(-side // 5, side // 5 + 1, 2), axis=(0, 1))
            guess = category if rng.random() < 0.8 else int(rng.choice(list(CATEGORIES)))
            results.append(
                {
                    "image_id": image_id,
                    "category_id": guess,
                    "score": float(rng.integers(1, 8) / 8),  # scores that tie
                    "segmentation": encode_rle(moved),
                }
            )
    return image, truth, results


def definition_of_pq(
    cases: list[Any], categories: Collection[int] = tuple(CATEGORIES)
) -> dict[int, tuple[float, float, float]]:
    """PQ, SQ and RQ of each category, from "Panoptic Segmentation", section 4, in plain loops.

    Void pixels are taken out of predictions before they are matched. What is left unmatched and
    lies for more than half on void, or on a group of its own class, is no false positive.
    """
    ious: dict[int, list[float]] = {category: [] for category in categories}
    wrong = dict.fromkeys(categories, 0)
    missed = dict.fromkeys(categories, 0)
    for prediction, predicted, target, true in cases:
        void = target == 0
        for category in categories:
            segments = [t for t in true if t["category_id"] == category]
            objects = [target == t["id"] for t in segments if not t["iscrowd"]]
            groups = [target == t["id"] for t in segments if t["iscrowd"]]
            guesses = [prediction == p["id"] for p in predicted if p["category_id"] == category]
            matched: set[int] = set()
            for mask in objects:
                hit = False
                for number, guess in enumerate(guesses):
                    seen = guess & ~void
                    iou = (seen & mask).sum() / (seen | mask).sum()
                    if iou > 0.5:
                        assert not hit
                        assert number not in matched
                        hit = True
                        matched.add(number)
                        ious[category].append(iou)
                missed[category] += not hit
            for number, guess in enumerate(guesses):
                excused = void | np.any(groups, axis=0) if groups else void
                if number not in matched and (guess & excused).sum() / guess.sum() <= 0.5:
                    wrong[category] += 1
    scores = {}
    for category, values in ious.items():
        weight = len(values) + 0.5 * wrong[category] + 0.5 * missed[category]
        if weight:
            quality = sum(values) / len(values) if values else 0.0
            scores[category] = (sum(values) / weight, quality, len(values) / weight)
    return scores
