"""Proposals that hold no numbers win nothing, and take nothing from the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from masqclip.decoding.instance import decode_instance
from masqclip.decoding.masks import MaskLogits, ResizedMasks, resize_masks
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.resized_scores import decode_resized_scores
from masqclip.decoding.semantic import decode_semantic, semantic_scores

SIZES = {"padded_size": (32, 32), "image_size": (30, 28), "output_size": (60, 56)}


def proposals(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Six on a grid of 8 x 8, and 4 classes."""
    chance = torch.Generator().manual_seed(seed)
    masks = 4 * torch.randn(6, 8, 8, generator=chance)
    return masks, torch.randn(6, 4, generator=chance).log_softmax(-1)


def sources(masks: Tensor) -> dict[str, MaskLogits]:
    return {"resized": ResizedMasks(masks, **SIZES), "full": resize_masks(masks, **SIZES)}  # type: ignore[arg-type]


def spoiled(how: str) -> tuple[Tensor, Tensor, Tensor]:
    """The proposals with two that hold no numbers, and which are sound."""
    masks, log_probs = proposals()
    if how == "a mask":
        masks[1], masks[4, 3, 3] = torch.nan, torch.nan
    elif how == "infinite masks":
        masks[1, 2, 2], masks[4] = torch.inf, -torch.inf
    else:
        log_probs[1], log_probs[4, 2] = torch.nan, torch.nan
    return masks, log_probs, torch.tensor([0, 2, 3, 5])


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("a mask", "resized"),
        ("a mask", "full"),
        ("infinite masks", "resized"),  # resizing makes NaN of infinity
        ("classes", "resized"),
        ("classes", "full"),
    ],
)
def test_they_are_as_if_they_were_not_there(how: str, kind: str) -> None:
    masks, log_probs, sound = spoiled(how)
    given, rest = sources(masks)[kind], sources(masks[sound])[kind]
    kept = log_probs[sound]

    semantic, expected = decode_semantic(given, log_probs), decode_semantic(rest, kept)
    assert torch.equal(semantic.class_map, expected.class_map)
    assert torch.equal(semantic.scores, expected.scores)
    torch.testing.assert_close(semantic_scores(given, log_probs), semantic_scores(rest, kept))

    panoptic = decode_panoptic(given, log_probs, stuff_ids={3}, object_threshold=0.0)
    wanted = decode_panoptic(rest, kept, stuff_ids={3}, object_threshold=0.0)
    assert torch.equal(panoptic.segment_map, wanted.segment_map)
    assert panoptic.segments == wanted.segments

    instance, right = decode_instance(given, log_probs), decode_instance(rest, kept)
    assert torch.equal(instance.scores, right.scores)
    assert torch.equal(instance.masks, right.masks)
    assert torch.equal(instance.query_ids, sound[right.query_ids])
    if isinstance(given, ResizedMasks) and isinstance(rest, ResizedMasks):
        found = decode_resized_scores(given, log_probs)
        assert torch.equal(found, decode_resized_scores(rest, kept))


@pytest.mark.parametrize("kind", ["resized", "full"])
def test_of_nothing_else_nothing_is_found(kind: str) -> None:
    masks, log_probs = proposals()
    given = sources(torch.full_like(masks, torch.nan))[kind]
    semantic = decode_semantic(given, log_probs)
    assert (semantic.class_map == -1).all()
    assert (semantic.scores == 0).all()
    panoptic = decode_panoptic(given, log_probs, stuff_ids=(), object_threshold=0.0)
    assert not panoptic.segments
    assert not panoptic.segment_map.any()
    assert len(decode_instance(given, log_probs).scores) == 0
    if isinstance(given, ResizedMasks):
        assert (decode_resized_scores(given, log_probs) == -1).all()


def test_hard_masks_of_full_size_are_sound() -> None:
    """Infinite logits are the surest ones where nothing is resized."""
    masks = torch.full((2, 6, 6), -torch.inf)
    masks[0, :, :3], masks[1, :, 3:] = torch.inf, torch.inf
    log_probs = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    expected = torch.tensor([0, 0, 0, 1, 1, 1]).expand(6, 6)
    assert torch.equal(decode_semantic(masks, log_probs).class_map, expected)
    panoptic = decode_panoptic(masks, log_probs, stuff_ids=())
    assert torch.equal(panoptic.segment_map, expected.int() + 1)
