"""Least scores of names, temperatures and levels: in every task, and on what is named."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from masqclip.assembly import least_object_score
from masqclip.clip.category import Category
from masqclip.clip.vocabulary import Vocabulary
from masqclip.decoding.masks import ResizedMasks
from masqclip.errors import MasqclipError
from masqclip.levels import at_level, with_children
from masqclip.result import Task
from masqclip.score_scale import calibrated, least_scores, lowest_score, of_model
from masqclip.segment import Segment
from masqclip.segments import find_segments

#: Three proposals side by side on 4 x 6 pixels, and what they may be called.
LOGITS = torch.full((3, 4, 6), -20.0)
for number in range(3):
    LOGITS[number, :, 2 * number : 2 * number + 2] = 20.0
MASKS = ResizedMasks(LOGITS, (4, 6), (4, 6), (4, 6))
PROBS = torch.tensor([[0.9, 0.05, 0.0], [0.3, 0.45, 0.0], [0.1, 0.2, 0.6]])
WORDS = Vocabulary((Category("dog"), Category("cat"), Category("sky", thing=False)))


def found(task: Task, words: Vocabulary, least: float = 0.25) -> list[tuple[str, float]]:
    segments = find_segments(
        task, MASKS, PROBS.log(), words, min_score=least, overlap_threshold=0.3
    )
    return [(segment.name, round(segment.score, 4)) for segment in segments]


def with_least(**scores: float) -> Vocabulary:
    categories = [replace(c, min_score=scores.get(c.name)) for c in WORDS.categories]
    return replace(WORDS, categories=tuple(categories))


def test_a_name_may_have_a_least_score_of_its_own() -> None:
    assert found("instance", WORDS) == [("dog", 0.9), ("cat", 0.45), ("dog", 0.3)]
    assert found("instance", with_least(dog=0.5)) == [("dog", 0.9), ("cat", 0.45)]
    assert found("instance", with_least(cat=0.1)) == [
        ("dog", 0.9), ("cat", 0.45), ("dog", 0.3), ("cat", 0.2),
    ]  # fmt: skip
    assert found("panoptic", WORDS) == [("dog", 0.9), ("cat", 0.45), ("sky", 0.6)]
    assert found("panoptic", with_least(cat=0.5)) == [("dog", 0.9), ("sky", 0.6)]
    assert found("panoptic", with_least(sky=0.7), least=0.5) == [("dog", 0.9)]
    assert found("semantic", WORDS) == [("dog", 0.9), ("cat", 0.45), ("sky", 0.6)]
    assert found("semantic", with_least(cat=0.5)) == [("dog", 0.9), ("sky", 0.6)]
    assert found("semantic", with_least(cat=0.4), least=0.7) == [("dog", 0.9), ("cat", 0.45)]


HALF = (0.5, 0.5, 0.0)  # a temperature of two


def test_a_calibration_by_hand() -> None:
    assert calibrated(0.9, HALF) == pytest.approx(0.75)
    odds = 2 * math.log(0.8) - 0.5 * math.log(0.2) + 0.3
    assert calibrated(0.8, (2.0, 0.5, 0.3)) == pytest.approx(1 / (1 + math.exp(-odds)))
    for score in (0.0, 0.01, 0.5, 0.99, 1.0):
        assert calibrated(of_model(score, (2.0, 0.5, 0.3)), (2.0, 0.5, 0.3)) == pytest.approx(score)
        assert calibrated(score, None) == of_model(score, None) == score
    assert calibrated(1e-300, (100.0, 0.0, -100.0)) == 0.0  # and no overflow


def test_scores_and_least_scores_are_the_calibrated_ones() -> None:
    words = replace(WORDS, calibration=HALF)
    expected = [("dog", 0.75), ("cat", round(calibrated(0.45, HALF), 4))]
    # 0.4 is 0.308 of the model's.
    assert found("instance", words, least=0.4) == expected
    assert found("panoptic", words, least=0.4)[:2] == expected
    assert found("semantic", words, least=0.4)[:2] == expected


@pytest.mark.parametrize(
    "calibration", [(0.0, 0.0, 0.0), (-1.0, 1.0, 0.0), (1.0, float("nan"), 0.0), (1.0, 1.0, 1e9)]
)
def test_a_calibration_that_is_none_is_refused(calibration: tuple[float, float, float]) -> None:
    with pytest.raises(MasqclipError, match="the calibration"):
        replace(WORDS, calibration=calibration)


@pytest.mark.parametrize("least", [-0.1, 1.5, float("nan")])
def test_a_least_score_that_is_none_is_refused(least: float) -> None:
    with pytest.raises(MasqclipError, match="min_score of 'dog'"):
        Category("dog", min_score=least)


def test_proposals_are_heard_that_any_name_may_want() -> None:
    words = with_least(dog=0.5, cat=0.1)
    assert least_scores(words, 0.3) == (0.5, 0.1, 0.3)
    assert lowest_score(words, 0.3) == least_object_score("panoptic", 0.3, words) == 0.1
    assert least_object_score("semantic", 0.3, words) == 0.0
    warm = replace(words, calibration=HALF)
    assert least_object_score("instance", None, warm) == pytest.approx(of_model(0.1, HALF))


TREE = Vocabulary.parse("animal > dog, cat\nsky", stuff="sky")


def test_a_level_counts_together_what_is_below_it() -> None:
    coarse, log_probs = at_level(TREE, PROBS.log(), 0)
    assert coarse.names == ("animal", "sky")
    assert coarse.stuff_ids == {1}
    np.testing.assert_allclose(log_probs.exp(), [[0.95, 0.0], [0.75, 0.0], [0.3, 0.6]], atol=1e-6)
    fine, same = at_level(TREE, PROBS.log(), 1)
    assert fine.names == TREE.names
    assert torch.equal(same.exp(), PROBS.log().exp())


def test_the_least_score_of_a_level_is_the_lowest_below() -> None:
    categories = tuple(
        replace(c, min_score={"dog": 0.4, "cat": 0.2}.get(c.name)) for c in TREE.categories
    )
    coarse, _ = at_level(replace(TREE, categories=categories), PROBS.log(), 0)
    assert [c.min_score for c in coarse.categories] == [0.2, None]


def test_a_parent_that_is_looked_for_scores_as_high_as_its_children() -> None:
    words = Vocabulary.parse("animal > dog\nanimal\nsky")
    joined = with_children(words, PROBS.log()).exp()
    np.testing.assert_allclose(joined[:, 1], PROBS[:, 0] + PROBS[:, 1], atol=1e-6)
    assert bool((joined[:, 1] >= joined[:, 0]).all())
    assert torch.equal(joined[:, [0, 2]], PROBS.log().exp()[:, [0, 2]])


def test_segments_are_found_at_a_level_and_say_their_kinds() -> None:
    from masqclip.segmenter import Segmenter

    segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    beach = "examples/beach.png"
    from pathlib import Path

    picture = Path(__file__).parents[1] / beach
    words = "vehicle > rocket, car\nplant > tulip\nsnake\nstuff: sand"
    fine = segmenter(picture, words)
    assert fine.kinds == {"rocket": ("vehicle",), "car": ("vehicle",), "tulip": ("plant",)}
    assert fine.to_json()["kinds"]["car"] == ["vehicle"]
    coarse = segmenter(picture, words, level=0)
    assert sorted(coarse.labels) == ["plant", "sand", "snake", "vehicle", "vehicle"]

    def best(result: object, names: tuple[str, ...]) -> float:
        segments: list[Segment] = [s for s in result if s.name in names]  # type: ignore[attr-defined]
        return max(segment.score for segment in segments)

    assert best(coarse, ("vehicle",)) >= best(fine, ("rocket", "car"))
    with pytest.raises(MasqclipError, match="level -1"):
        segmenter(picture, words, level=-1)
