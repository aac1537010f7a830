"""Encoding: proposals that cannot matter stay out of CLIP, and reading ahead keeps the order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from masqclip.encoding import encode_pictures, read_ahead, read_picture
from masqclip.errors import MasqclipError
from masqclip.proposals.base import object_log_scores
from masqclip.segmenter import Segmenter

NAMES = ["cat", "dog", "car", "rocket", "tulip", "stuff: grass", "stuff: sand"]
BEACH = Path(__file__).parents[1] / "examples" / "beach.png"


@pytest.fixture(scope="module")
def mini() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    beach = read_picture(BEACH).pixels
    return [
        beach,
        beach[::-1].copy(),
        np.random.default_rng(0).integers(0, 255, beach.shape, np.uint8),
    ]


@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("min_score", [0.02, 0.1, 0.3, 0.9, 1.0])
def test_early_exit_changes_no_result_above_the_threshold(
    mini: Segmenter, pictures: list[np.ndarray], task: str, min_score: float
) -> None:
    everything = encode_pictures(mini.model, [read_picture(image) for image in pictures])
    early = list(mini.stream(pictures, NAMES, task, min_score=min_score, batch_size=3))
    for encoded, found in zip(everything, early, strict=True):
        expected = mini(encoded, NAMES, task, min_score=min_score)
        assert [s.name for s in found.segments] == [s.name for s in expected.segments]
        for a, b in zip(found.segments, expected.segments, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)
            assert (a.mask != b.mask).mean() <= 1e-3


def test_only_what_can_matter_enters_clip(mini: Segmenter, pictures: list[np.ndarray]) -> None:
    images = [read_picture(image) for image in pictures]
    for min_score in (0.3, 0.9):
        early = encode_pictures(mini.model, images, min_object_score=min_score)
        full = encode_pictures(mini.model, images)
        scores = [object_log_scores(e.object_logits).exp() for e in full]
        count = max(1, *(int((s >= min_score).sum()) for s in scores))
        assert {len(e.mask_embeddings) for e in early} == {count}
        assert count < len(full[0].mask_embeddings)


def test_a_semantic_vote_hears_everybody(mini: Segmenter, pictures: list[np.ndarray]) -> None:
    encoded = encode_pictures(mini.model, [read_picture(pictures[0])])[0]
    early = next(mini.stream(pictures[:1], NAMES, "semantic", min_score=0.9))
    expected = mini(encoded, NAMES, "semantic", min_score=0.9)
    assert (early.label_map == expected.label_map).all()


def test_reading_ahead_keeps_the_order_and_raises_in_its_place() -> None:
    rows = [np.full((4, 4 + i, 3), i, np.uint8) for i in range(5)]
    batches = list(read_ahead(iter(rows), 2))
    assert [[picture.pixels.shape[1] for picture in b] for b in batches] == [[4, 5], [6, 7], [8]]
    batches_of_bad = read_ahead([rows[0], rows[1], "no-such-file.png"], 2)
    assert len(next(batches_of_bad)) == 2
    with pytest.raises(MasqclipError, match=r"no-such-file\.png"):
        next(batches_of_bad)


def test_bfloat16_maps_agree(mini: Segmenter, pictures: list[np.ndarray]) -> None:
    rounded = Segmenter.from_pretrained("masqclip-mini", device="cpu", dtype="bfloat16")
    a = mini(pictures[0], NAMES).label_map
    b = rounded(pictures[0], NAMES).label_map
    assert (a == b).mean() > 0.97
    assert rounded.encode(pictures[0]).mask_logits.dtype == torch.float32
