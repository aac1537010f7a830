"""Every setting of a protocol changes what it is meant to change, and the published ones."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from masqclip import Segmenter
from masqclip.data.published import load_truth
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.truth import GroundTruth
from masqclip.decoding.masks import ResizedMasks
from masqclip.errors import MasqclipError
from masqclip.evaluation.oracle import COUNTS
from masqclip.evaluation.predict import Predictor, _best_so_far, seen_at
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.protocol import PAPER, Protocol, published_protocol
from masqclip.evaluation.vocabularies import dataset_vocabulary

SPRITES = Path(__file__).parents[1] / "data" / "sprites"
TASKS = ("instance", "semantic", "panoptic")
BASE = Protocol(192, 256, 0.02, 0.3)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    folder = tmp_path_factory.mktemp("scenes")
    write_stickers(folder, StickerWorld(load_sprites(SPRITES), SceneSettings()), images=1, seed=77)
    return load_truth("stickers", folder)


def predicted(
    segmenter: Segmenter, truth: GroundTruth, protocol: Protocol, folder: Path
) -> dict[str, bytes]:
    """What is written of the one picture, by task."""
    predictions = PredictionFolder(folder)
    words = dataset_vocabulary(truth)
    with seen_at(segmenter, protocol):
        Predictor(segmenter, truth, words, protocol, TASKS, predictions).predict(truth.pictures[0])
    return {
        task: b"".join(path.read_bytes() for path in sorted((folder / task).iterdir()))
        for task in TASKS
    }


CHANGES: dict[str, tuple[object, set[str]]] = {
    "shortest_edge": (128, set(TASKS)),
    "longest_edge": (160, set(TASKS)),
    "object_threshold": (0.9, {"panoptic"}),
    "overlap_threshold": (1.0, {"panoptic"}),
    "top_k": (3, {"instance"}),
    "semantic_resize": ("scores", {"semantic"}),
    "object_score": (False, set(TASKS)),
}


def test_every_setting_changes_what_it_bears_on(
    segmenter: Segmenter, truth: GroundTruth, tmp_path: Path
) -> None:
    """And nothing else: so are hashes told apart, too."""
    assert CHANGES.keys() == {field.name for field in fields(Protocol)}
    config = segmenter.model.config
    own = (config.shortest_edge, config.longest_edge)
    before = predicted(segmenter, truth, BASE, tmp_path / "base")
    for name, (value, bears_on) in CHANGES.items():
        other = replace(BASE, **{name: value})
        after = predicted(segmenter, truth, other, tmp_path / name)
        assert {task for task in TASKS if after[task] != before[task]} == bears_on, name
        told = {task for task in TASKS if other.settings(task) != BASE.settings(task)}
        assert told == bears_on, name
    assert (config.shortest_edge, config.longest_edge) == own, "put back"


def test_a_model_sees_as_before_whatever_happens(segmenter: Segmenter) -> None:
    config = segmenter.model.config
    before = (config.shortest_edge, config.longest_edge)
    seen: list[tuple[int, int]] = []

    def fail() -> None:
        with seen_at(segmenter, Protocol(10, 20)):
            seen.append((config.shortest_edge, config.longest_edge))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [(10, 20)]
    assert (config.shortest_edge, config.longest_edge) == before


def test_what_a_protocol_leaves_open_is_the_models_own(segmenter: Segmenter) -> None:
    config = segmenter.model.config
    assert Protocol().resolved(config) == Protocol(
        config.shortest_edge,
        config.longest_edge,
        config.object_threshold,
        config.overlap_threshold,
    )
    given = Protocol(1, 2, 0.0, 1.0, top_k=1)
    assert given.resolved(config) == given


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("coco-instances", (800, 1333, 0.3, 0.3, "masks")),
        ("coco-base-novel", (800, 1333, 0.8, 0.8, "masks")),
        ("coco-panoptic", (800, 1333, 0.3, 0.3, "masks")),
        ("ade20k-150", (640, 2560, 0.3, 0.3, "masks")),
        ("ade20k-847", (512, 2048, 0.8, 0.8, "scores")),
        ("pascal-context-59", (512, 2048, 0.8, 0.8, "scores")),
        ("pascal-context-459", (512, 2048, 0.8, 0.8, "scores")),
        ("anything else", (None, None, None, None, "masks")),
    ],
)
def test_the_released_evaluation(dataset: str, expected: tuple[object, ...]) -> None:
    found = published_protocol(dataset)
    assert expected == (
        found.shortest_edge,
        found.longest_edge,
        found.object_threshold,
        found.overlap_threshold,
        found.semantic_resize,
    )
    assert (found.top_k, found.object_score) == (100, True)


def test_the_papers_figures() -> None:
    """Tables of the paper, in percent."""
    figures = {
        (dataset, name): round(100 * value, 1)
        for dataset, tasks in PAPER.items()
        for named in tasks.values()
        for name, value in named.items()
    }
    assert figures == {
        ("coco-base-novel", "AP50 base"): 51.0,
        ("coco-base-novel", "AP50 novel"): 31.9,
        ("coco-base-novel", "AP50"): 46.0,
        ("ade20k-150", "mIoU"): 30.4,
        ("ade20k-847", "mIoU"): 10.7,
        ("pascal-context-59", "mIoU"): 57.8,
        ("pascal-context-459", "mIoU"): 18.2,
        ("ade20k-150", "PQ"): 23.3,
        ("ade20k-150", "PQ things"): 21.2,
        ("ade20k-150", "PQ stuff"): 27.7,
    }


@pytest.mark.parametrize("name", ["shortest_edge", "longest_edge", "top_k"])
def test_sizes_are_one_at_least(name: str) -> None:
    assert getattr(Protocol(**{name: 1}), name) == 1  # type: ignore[arg-type]
    with pytest.raises(MasqclipError, match=f"{name} is 0"):
        Protocol(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["object_threshold", "overlap_threshold"])
def test_thresholds_are_shares(name: str) -> None:
    for value in (0.0, 1.0):
        assert getattr(Protocol(**{name: value}), name) == value  # type: ignore[arg-type]
    for value in (-0.01, 1.01):
        with pytest.raises(MasqclipError, match=f"{name} is {value}"):
            Protocol(**{name: value})  # type: ignore[arg-type]


def test_the_best_proposal_so_far_by_hand() -> None:
    """A proposal is where its logit is positive; of the first 1, 10, 50, 100 the best IoU."""
    logits = torch.full((12, 4, 4), -1.0)
    logits[0, :2] = 1.0
    logits[3, :3] = 1.0
    logits[3, 3] = 0.0  # is nowhere
    logits[11] = 1.0
    true = np.zeros((3, 4, 4), bool)
    true[0, :3], true[1], true[2, 3, 3] = True, True, True
    found = _best_so_far(ResizedMasks(logits, (4, 4), (4, 4), (4, 4)), true)
    assert COUNTS == (1, 10, 50, 100)
    expected = [[8 / 12, 1, 1, 1], [8 / 16, 12 / 16, 1, 1], [0, 0, 1 / 16, 1 / 16]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert _best_so_far(ResizedMasks(logits, (4, 4), (4, 4), (4, 4)), true[:0]) == []
