"""How well a model names and finds what is annotated in pictures it was not tuned on.

Two figures that answer two questions: are the annotated masks named rightly (that is what tuning
learns), and does the whole model find and name the things (proposals, object score and all).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from masqclip.data.coco import Sample
from masqclip.data.files import write_atomically
from masqclip.data.open_coco import CocoMasks
from masqclip.data.rle import encode_rle
from masqclip.decoding.instance import decode_instance
from masqclip.errors import MasqclipError
from masqclip.evaluation.instance import instance_precision
from masqclip.proposals.base import object_log_scores
from masqclip.segmenter import EncodedImage, Segmenter
from masqclip.training.tune import dataset_vocabulary

#: The figures and what they say, in the order of the report.
FIGURES = {
    "mask accuracy": "annotated masks (things and stuff) that get the right name",
    "AP50": "instances found and named, average precision at IoU 0.5",
    "AP": "the same, mean over IoU 0.5 to 0.95",
}


@torch.inference_mode()
def measure_held_out(
    segmenter: Segmenter,
    dataset: CocoMasks,
    *,
    object_score: bool = True,
    each: Callable[[EncodedImage, Sample], None] | None = None,
    report: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """The figures of `FIGURES` over a dataset, with its own categories as vocabulary.

    Args:
        segmenter: the model.
        dataset: annotated pictures; those that cannot be read are left out.
        object_score: multiply class probabilities with the object score (the paper's rule).
        each: called with every picture, encoded.
        report: called with the number of pictures done, after each.

    Returns:
        Shares in 0..1, NaN where there is nothing to measure; ``AP50 base`` and ``AP50 novel`` too
        where the categories state their split.

    Raises:
        MasqclipError: pycocotools is not installed (extra ``eval``).
    """
    words = dataset_vocabulary(dataset)
    ids = sorted(dataset.categories.kept)
    column = {category: i for i, category in enumerate(ids)}
    text = segmenter.text.embed_vocabulary(words)
    right: list[bool] = []
    images: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for row in range(len(dataset)):
        if report is not None:
            report(row + 1)
        try:
            sample = dataset[row]
        except MasqclipError:
            continue
        encoded = segmenter.encode(sample.image)
        if each is not None:
            each(encoded, sample)
        if len(sample.masks):
            embedded = segmenter.embed_masks(encoded, sample.masks)
            best = segmenter.model.classify(embedded[None], text, len(words))[0].argmax(-1)
            right += [
                column[int(category)] == found
                for category, found in zip(sample.category_ids, best.tolist(), strict=True)
            ]
        images.append(dataset.entry(row))
        truth += _annotations(sample, len(truth))
        classes = segmenter.model.classify(encoded.mask_embeddings[None], text, len(words))[0]
        if object_score:
            classes = classes + object_log_scores(encoded.object_logits).unsqueeze(-1)
        results += _results(encoded, classes, words.stuff_ids, ids, sample.image_id)
    accuracy = float(np.mean(right)) if right else float("nan")
    if not truth:
        return {"mask accuracy": accuracy, "AP50": float("nan"), "AP": float("nan")}
    document = {
        "images": images,
        "annotations": truth,
        "categories": [{"id": i, "name": dataset.categories.names[i]} for i in ids],
    }
    splits: dict[str, list[int]] = {}
    for i in ids:
        if split := dataset.categories.by_id[i].get("split"):
            splits.setdefault(str(split), []).append(i)
    precision = instance_precision(document, results, splits=splits)
    return {"mask accuracy": accuracy} | precision


def write_report(
    folder: Path, before: Mapping[str, float], after: Mapping[str, float], pictures: int
) -> str:
    """Write ``held-out.json`` and ``held-out.md`` into a folder.

    Returns:
        The table, Markdown.
    """
    rows = [f"| {pictures} held-out pictures | before | after |", "| --- | ---: | ---: |"]
    rows += [
        f"| {name}: {about} | {100 * before[name]:.1f} | {100 * after[name]:.1f} |"
        for name, about in FIGURES.items()
    ]
    content = {"pictures": pictures, "before": dict(before), "after": dict(after)}
    write_atomically(folder / "held-out.json", json.dumps(content, indent=1).encode())
    table = "\n".join(rows)
    write_atomically(folder / "held-out.md", f"{table}\n".encode())
    return table


def _annotations(sample: Sample, count: int) -> list[dict[str, Any]]:
    """A sample's things as COCO annotations with ids from `count` + 1 on."""
    things = np.flatnonzero(sample.is_thing)
    return [
        {
            "id": count + number,
            "image_id": sample.image_id,
            "category_id": int(sample.category_ids[i]),
            "segmentation": encode_rle(sample.masks[i]),
            "area": int(sample.masks[i].sum()),
            "iscrowd": 0,
        }
        for number, i in enumerate(things, start=1)
    ]


def _results(
    encoded: EncodedImage,
    log_probs: torch.Tensor,
    stuff_ids: frozenset[int],
    ids: list[int],
    image_id: int,
) -> list[dict[str, Any]]:
    """A picture's instances as entries of a COCO results file."""
    found = decode_instance(encoded.masks, log_probs, stuff_ids=stuff_ids)
    masks = [encode_rle(mask) for mask in found.unique_masks.cpu().numpy()]
    return [
        {
            "image_id": image_id,
            "category_id": ids[label],
            "segmentation": masks[index],
            "score": score,
        }
        for label, score, index in zip(
            found.class_ids.tolist(), found.scores.tolist(), found.mask_index.tolist(), strict=True
        )
    ]
