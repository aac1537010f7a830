"""A caller's autocast or default dtype, a model that overflows: right answers or a clear word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from masqclip.clip.classifier import class_log_probs
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.errors import MasqclipError
from masqclip.proposals.base import Proposals
from masqclip.result import Segmentation, Task
from masqclip.segmenter import Segmenter

SPRITES = Path(__file__).parent / "data" / "sprites"
NAMES = ["cat", "dog", "car", "grass", "sky", "water", "sand"]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def load() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu", cache=False)


@pytest.fixture(scope="module")
def mini() -> Segmenter:
    return load()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=128))
    return world.draw(11, [3]).images[0].permute(1, 2, 0).numpy()


def agreement(first: Segmentation, second: Segmentation) -> float:
    """The share of pixels at which the same classes are found."""
    maps = [np.zeros((len(NAMES), 128, 128), bool) for _ in range(2)]
    for classes, result in zip(maps, (first, second), strict=True):
        for segment in result.segments:
            classes[segment.class_id] |= segment.mask
    return float((maps[0] == maps[1]).all(axis=0).mean())


@pytest.mark.parametrize("task", get_args(Task))
def test_float64_as_default_changes_nothing(
    mini: Segmenter, picture: np.ndarray, task: Task
) -> None:
    expected = mini(picture, NAMES, task)
    with default_dtype(torch.float64):
        found = load()(picture, NAMES, task)
    assert [s.name for s in found.segments] == [s.name for s in expected.segments]
    assert agreement(found, expected) == 1.0
    for a, b in zip(found.segments, expected.segments, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-5)


def test_given_masks_under_float64_as_default(mini: Segmenter, picture: np.ndarray) -> None:
    masks = np.zeros((2, 128, 128), bool)
    masks[0, :40], masks[1, 60:, 60:] = True, True
    expected = mini.classify_masks(picture, masks, NAMES)
    with default_dtype(torch.float64):
        found = load().classify_masks(picture, masks, NAMES)
    np.testing.assert_allclose(found.probs, expected.probs, atol=1e-5)


def test_the_world_is_drawn_alike_under_float64_as_default() -> None:
    def draw() -> torch.Tensor:
        return StickerWorld(load_sprites(SPRITES), SceneSettings(size=64)).draw(5, [1, 2]).images

    expected = draw()
    with default_dtype(torch.float64):
        assert torch.equal(draw(), expected)


@pytest.mark.parametrize("task", get_args(Task))
def test_autocast_rounds_and_breaks_nothing(
    mini: Segmenter, picture: np.ndarray, task: Task
) -> None:
    expected = mini(picture, NAMES, task)
    with torch.autocast("cpu", torch.bfloat16):
        found = load()(picture, NAMES, task)
    assert agreement(found, expected) > 0.9


def test_given_masks_under_autocast(mini: Segmenter, picture: np.ndarray) -> None:
    masks = np.zeros((2, 128, 128), bool)
    masks[0, :40], masks[1, 60:, 60:] = True, True
    expected = mini.classify_masks(picture, masks, NAMES)
    with torch.autocast("cpu", torch.bfloat16):
        found = load().classify_masks(picture, masks, NAMES)
    assert found.probs.dtype == np.float32
    np.testing.assert_allclose(found.probs, expected.probs, atol=0.1)


def test_words_are_embedded_alike_under_autocast(mini: Segmenter) -> None:
    """They are kept, for later calls without it."""
    expected = mini.text.embed_strings(NAMES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(load().text.embed_strings(NAMES), expected)


def test_encoded_pictures_are_decoded_alike_under_autocast(
    mini: Segmenter, picture: np.ndarray
) -> None:
    encoded = mini.encode(picture)
    for task in get_args(Task):
        expected = mini(encoded, NAMES, task)
        with torch.autocast("cpu", torch.bfloat16):
            found = mini(encoded, NAMES, task)
        assert agreement(found, expected) == 1.0
        assert [s.score for s in found.segments] == [s.score for s in expected.segments]


def test_classes_are_compared_in_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(1, 20, 64)
    words = torch.nn.functional.normalize(torch.randn(50, 64), dim=-1)
    expected = class_log_probs(embeddings, words, num_classes=49)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(class_log_probs(embeddings, words, num_classes=49), expected)


# Overflows


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize("part", ["mask_logits", "object_logits"])
def test_proposals_of_no_numbers_leave_pixels_unlabelled(
    picture: np.ndarray, part: str, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = load()
    propose = broken.model.propose

    def overflow(*inputs: torch.Tensor) -> Proposals:
        found = propose(*inputs)
        getattr(found, part).fill_(torch.nan)
        return found

    monkeypatch.setattr(broken.model, "propose", overflow)
    found = broken(picture, NAMES, task)
    assert not found.segments
    assert "no numbers were left out: the model's weights are damaged" in " ".join(found.notes)


def test_some_proposals_of_no_numbers_push_none_out(
    mini: Segmenter, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = mini.encode(picture)
    best = int(encoded.object_logits.softmax(-1)[:, 0].argmax())
    broken = load()
    propose = broken.model.propose

    def overflow(*inputs: torch.Tensor) -> Proposals:
        found = propose(*inputs)
        found.object_logits[:, best] = torch.nan
        return found

    monkeypatch.setattr(broken.model, "propose", overflow)
    before = mini(picture, NAMES, "instance", min_score=0.05)
    after = broken(picture, NAMES, "instance", min_score=0.05)
    mask = (encoded.masks.select(torch.tensor([best])).rows(0, 128)[0] > 0).numpy()
    others = [s for s in before.segments if not np.array_equal(s.mask, mask)]
    assert 0 < len(others) < len(before.segments)
    assert [(s.name, s.score) for s in after.segments] == [
        (s.name, pytest.approx(s.score, abs=1e-5)) for s in others
    ]


def test_given_masks_of_a_model_that_overflows_are_refused(picture: np.ndarray) -> None:
    broken = load()
    with torch.no_grad():
        broken.model.queries.embedding.fill_(torch.nan)
    masks = np.ones((1, 128, 128), bool)
    with pytest.raises(MasqclipError, match=r"the masks' embeddings are no numbers: .* damaged"):
        broken.embed_masks(picture, masks)
    broken.model.to(torch.bfloat16)
    with pytest.raises(MasqclipError, match=r"overflows in torch\.bfloat16: load it with dtype="):
        broken.embed_masks(picture, masks)


def test_embeddings_too_long_to_be_normalised_are_refused(picture: np.ndarray) -> None:
    broken = load()
    with torch.no_grad():
        broken.model.clip.visual_projection.weight.mul_(1e22)
    with pytest.raises(MasqclipError, match="the masks' embeddings are no numbers"):
        broken.embed_masks(picture, np.ones((1, 128, 128), bool))


def test_names_of_no_numbers_name_nothing(picture: np.ndarray) -> None:
    broken = load()
    with torch.no_grad():
        broken.model.clip.text_projection.weight.fill_(torch.nan)
    with pytest.raises(MasqclipError, match="the names' embeddings are no numbers"):
        broken.classify_masks(picture, np.ones((1, 128, 128), bool), NAMES)
    for task in get_args(Task):
        found = broken(picture, NAMES, task, min_score=0.0)
        assert not found.segments
        assert "no numbers" in " ".join(found.notes)


def test_what_no_proposal_votes_for_stays_unlabelled(
    picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = load()
    propose = sure.model.propose

    def no_objects(*inputs: torch.Tensor) -> Proposals:
        found = propose(*inputs)
        found.object_logits[..., 0] = -torch.inf
        return found

    monkeypatch.setattr(sure.model, "propose", no_objects)
    for task in get_args(Task):
        assert not sure(picture, NAMES, task, min_score=0.0).segments
