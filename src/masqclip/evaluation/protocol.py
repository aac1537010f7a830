"""How a figure is measured, and the short hash by which two figures are told comparable or not.

The published protocols differ by dataset in the size at which pictures are seen, in the panoptic
thresholds, and in what is resized to the picture: masks before they vote, or the classes' scores
after it. `published_protocol` chooses as the paper's released evaluation does.

A figure's hash covers the task, the classes with their prompts in order, distractors, templates,
the settings that bear on the task, the annotations, the pictures, and `VERSION` of this code. The
model is not in it: two models are compared under one hash.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from masqclip.data.truth import GroundTruth, digest
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.clip.category import Category
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.configuration import MasQClipConfig

#: Raised whenever the same settings would give other figures.
VERSION = 1


@dataclass(frozen=True)
class Protocol:
    """The settings of a measurement.

    Attributes:
        shortest_edge, longest_edge: the size at which a picture is seen; None = the model's own.
        object_threshold, overlap_threshold: of the panoptic rule; None = the model's own.
        top_k: instances of a picture, before things are told from stuff.
        semantic_resize: ``masks`` are resized to the picture before they vote, or the ``scores``
            of the classes after it.
        object_score: class probabilities are multiplied with the object score.
    """

    shortest_edge: int | None = None
    longest_edge: int | None = None
    object_threshold: float | None = None
    overlap_threshold: float | None = None
    top_k: int = 100
    semantic_resize: Literal["masks", "scores"] = "masks"
    object_score: bool = True

    def __post_init__(self) -> None:
        for name in ("shortest_edge", "longest_edge", "top_k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise MasqclipError(f"{name} is {value}: give 1 or more")
        for name in ("object_threshold", "overlap_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise MasqclipError(f"{name} is {value}: give a number from 0 to 1")

    def resolved(self, config: MasQClipConfig) -> Protocol:
        """The same with the model's own settings where it leaves them open."""
        names = ("shortest_edge", "longest_edge", "object_threshold", "overlap_threshold")
        own = {name: getattr(config, name) for name in names if getattr(self, name) is None}
        return replace(self, **own)

    def settings(self, task: str) -> dict[str, Any]:
        """Those that bear on a task (or on an oracle: ``masks``, ``classes``)."""
        everything = asdict(self)
        names = {
            "instance": ("top_k", "object_score"),
            "semantic": ("semantic_resize", "object_score"),
            "panoptic": ("object_threshold", "overlap_threshold", "object_score"),
        }.get(task, ())
        # How given masks are put on patches is no choice, and yet sets a figure apart from others.
        own = {"given_masks": "patch weights"} if task == "masks" else {}
        return {name: everything[name] for name in ("shortest_edge", "longest_edge", *names)} | own


_PUBLISHED = {
    "coco-instances": Protocol(800, 1333, 0.3, 0.3),
    "coco-base-novel": Protocol(800, 1333, 0.8, 0.8),
    "coco-panoptic": Protocol(800, 1333, 0.3, 0.3),
    "ade20k-150": Protocol(640, 2560, 0.3, 0.3),
    "ade20k-847": Protocol(512, 2048, 0.8, 0.8, semantic_resize="scores"),
    "pascal-context-59": Protocol(512, 2048, 0.8, 0.8, semantic_resize="scores"),
    "pascal-context-459": Protocol(512, 2048, 0.8, 0.8, semantic_resize="scores"),
}

#: Figures of the paper (ICCV 2023), 0..1, by dataset and task.
PAPER: dict[str, dict[str, dict[str, float]]] = {
    "coco-base-novel": {"instance": {"AP50 base": 0.510, "AP50 novel": 0.319, "AP50": 0.460}},
    "ade20k-150": {
        "semantic": {"mIoU": 0.304},
        "panoptic": {"PQ": 0.233, "PQ things": 0.212, "PQ stuff": 0.277},
    },
    "ade20k-847": {"semantic": {"mIoU": 0.107}},
    "pascal-context-59": {"semantic": {"mIoU": 0.578}},
    "pascal-context-459": {"semantic": {"mIoU": 0.182}},
}


def published_protocol(dataset: str) -> Protocol:
    """The protocol of the published figures; for other datasets the model's own settings."""
    return _PUBLISHED.get(dataset, Protocol())


def fingerprint(task: str, truth: GroundTruth, words: Vocabulary, protocol: Protocol) -> str:
    """Twelve digits that are equal where two figures are comparable.

    Args:
        task: a task, or an oracle.
        truth: what it is measured on.
        words: one category for each class of `truth`, in order.
        protocol: resolved.
    """
    document = {
        "version": VERSION,
        "task": task,
        "data": truth.version(task),
        "classes": [
            [entry.id, category.name, category.prompts, category.thing, *_shown(category)]
            for entry, category in zip(truth.classes, words.categories, strict=True)
        ],
        "distractors": [
            name if isinstance(name, str) else [name.name, name.prompts, *_shown(name)]
            for name in words.distractors
        ],
        "templates": words.templates,
        "settings": protocol.settings(task),
    }
    return digest(json.dumps(document, sort_keys=True))


def _shown(category: Category) -> list[object]:
    """What examples add to a category's entry; nothing where there are none."""
    if category.examples is None:
        return []
    return [category.examples.digest.hex(), category.worded]
