"""Encoding: proposals that cannot matter stay out of CLIP, and reading ahead keeps the order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from masqclip.configuration import MasQClipConfig
from masqclip.encoding import (
    encode_pictures,
    frame_picture,
    frame_sizes,
)
from masqclip.errors import MasqclipError
from masqclip.picture import read_picture
from masqclip.proposals.base import Proposals, object_log_scores, promising
from masqclip.segmenter import Segmenter
from masqclip.streams import read_ahead

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


def test_a_frame_is_the_picture_and_black_beside_it() -> None:
    """Resized without aliasing, at the top left; sides are the next multiples of the divisor."""
    config = MasQClipConfig(shortest_edge=20, longest_edge=64, size_divisor=16)
    pixels = np.random.default_rng(0).integers(1, 255, (40, 70, 3), np.uint8)
    assert frame_sizes(40, 70, config) == ((20, 35), (32, 48))
    assert frame_sizes(32, 64, MasQClipConfig(shortest_edge=32, longest_edge=64)) == (
        (32, 64),
        (32, 64),
    )
    frame, size = frame_picture(pixels, config)
    assert size == (20, 35)
    assert frame.shape == (3, 32, 48)
    assert frame.dtype == torch.float32
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = F.interpolate(picture.float(), size=size, mode="bilinear", antialias=True)
    assert (frame[:, :20, :35] - resized[0]).abs().max() <= 1, "rounded to whole numbers, as Pillow"
    assert torch.equal(frame, frame.round())
    assert frame[:, 20:].eq(0).all()
    assert frame[:, :, 35:].eq(0).all()
    own, size = frame_picture(pixels[:20, :33], config)
    assert size == (20, 33)
    assert torch.equal(own[:, :20, :33], picture[0, :, :20, :33].float()), "not resized, the same"
    mirrored, _ = frame_picture(pixels[:20, 32::-1], config)
    assert torch.equal(mirrored[:, :20, :33], own[:, :20, :33].flip(2))


def test_as_many_proposals_are_kept_as_the_richest_picture_needs() -> None:
    """In their order; one of just the least score counts, of NaN none; never fewer than one."""
    probs = torch.tensor([[0.5, 0.9, 0.1, 0.7], [0.1, 0.2, 0.6, torch.nan]])
    logits = torch.stack([probs, 1 - probs], dim=-1).log()
    masks = torch.arange(8.0).view(2, 4, 1, 1).expand(2, 4, 3, 5)
    reached = object_log_scores(logits).exp()[0, 0].item()

    def kept(least: float) -> list[list[int]]:
        found = promising(Proposals(masks, logits), least)
        numbers = found.mask_logits[:, :, 0, 0].long()
        assert torch.equal(found.mask_logits, masks.flatten(0, 1)[numbers])
        expected = logits.flatten(0, 1)[numbers]
        torch.testing.assert_close(found.object_logits, expected, equal_nan=True)
        return numbers.tolist()

    assert kept(reached) == [[0, 1, 3], [4, 5, 6]]
    assert kept(reached + 1e-6) == [[1, 3], [5, 6]]
    assert kept(0.95) == [[1], [6]]
    assert kept(0.0) == kept(-1.0) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert kept(1e-9) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_pictures_of_several_frames_come_back_in_their_order(mini: Segmenter) -> None:
    """With what is encoded already among them, each with its own size, masks and tokens."""
    chance = np.random.default_rng(1)
    sizes = [(96, 96), (40, 120), (96, 96), (120, 40), (100, 90)]
    images = [read_picture(chance.integers(0, 255, (*size, 3), np.uint8)) for size in sizes]
    known = encode_pictures(mini.model, images[2:3])[0]
    mixed = [*images[:2], known, *images[3:]]
    together = encode_pictures(mini.model, mixed)
    assert together[2] is known
    for image, size, found in zip(images, sizes, together, strict=True):
        (alone,) = encode_pictures(mini.model, [image])
        assert found.image is image
        assert (found.resized, found.frame_size) == frame_sizes(*size, mini.model.config)
        assert (found.resized, found.frame_size) == (alone.resized, alone.frame_size)
        assert found.masks.shape[1:] == size
        assert len(found.tokens.keys) == len(alone.tokens.keys)
        for name in ("mask_logits", "object_logits", "mask_embeddings"):
            mine, own = getattr(found, name), getattr(alone, name)
            torch.testing.assert_close(mine, own, atol=1e-3, rtol=1e-3)
        for mine, own in zip(found.tokens.keys, alone.tokens.keys, strict=True):
            torch.testing.assert_close(mine, own, atol=1e-3, rtol=1e-3)
