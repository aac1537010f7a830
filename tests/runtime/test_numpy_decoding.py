"""What NumPy makes of proposals is what PyTorch makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from masqclip.clip import classifier
from masqclip.clip.vocabulary import Vocabulary
from masqclip.decoding import masks as torch_masks
from masqclip.decoding.instance import decode_instance as torch_instance
from masqclip.decoding.panoptic import decode_panoptic as torch_panoptic
from masqclip.decoding.semantic import decode_semantic as torch_semantic
from masqclip.levels import at_level as torch_at_level
from masqclip.levels import with_children as torch_with_children
from masqclip.proposals import base
from masqclip.runtime import classify
from masqclip.runtime.decoding import decode_instance, decode_panoptic, instance_mask
from masqclip.runtime.frames import resize
from masqclip.runtime.masks import ResizedMasks
from masqclip.runtime.semantic import decode_semantic

# Of the pixels: where two numbers differ by rounding alone, either may win.
SAME = 0.9999


def proposals(seed: int, queries: int = 9, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth mask logits [Q,12,16] and log-probabilities [Q,K]."""
    chance = torch.Generator().manual_seed(seed)
    coarse = 6 * torch.randn(queries, 1, 4, 5, generator=chance)
    logits = F.interpolate(coarse, size=(12, 16), mode="bicubic")[:, 0]
    return logits, (3 * torch.randn(queries, classes, generator=chance)).log_softmax(-1)


SIZES = [
    ((48, 64), (40, 60), (37, 53)),
    ((48, 64), (48, 64), (200, 90)),
    ((48, 64), (1, 64), (1, 7)),
]


def both(
    logits: torch.Tensor, sizes: tuple[tuple[int, int], ...]
) -> tuple[torch_masks.ResizedMasks, ResizedMasks]:
    return torch_masks.ResizedMasks(logits, *sizes), ResizedMasks(logits.numpy(), *sizes)


@pytest.mark.parametrize("sizes", SIZES)
def test_masks_at_the_pictures_size(sizes: tuple[tuple[int, int], ...]) -> None:
    one, other = both(proposals(0)[0], sizes)
    height = sizes[2][0]
    np.testing.assert_allclose(other.rows(0, height), one.rows(0, height).numpy(), atol=3e-5)
    part = slice(height // 3, max(height // 3 + 1, height // 2))
    np.testing.assert_allclose(
        other.rows(part.start, part.stop), one.rows(part.start, part.stop).numpy(), atol=3e-5
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", SIZES)
def test_panoptic_maps(sizes: tuple[tuple[int, int], ...], seed: int) -> None:
    logits, log_probs = proposals(seed)
    log_probs[3] = torch.nan
    logits[5, 2, 2] = torch.inf
    one, other = both(logits, sizes)
    settings = {"stuff_ids": {1, 3}, "object_threshold": 0.3, "overlap_threshold": 0.4}
    right = torch_panoptic(one, log_probs, **settings)
    ids, segments = decode_panoptic(other, log_probs.numpy(), **settings)
    assert np.mean(ids == right.segment_map.numpy()) >= SAME
    assert [(s.id, s.class_id, s.thing) for s in segments] == [
        (s.id, s.class_id, s.thing) for s in right.segments
    ]
    np.testing.assert_allclose(
        [s.score for s in segments], [s.score for s in right.segments], atol=1e-6
    )


def test_stuff_is_merged_and_nothing_is_nothing() -> None:
    logits = torch.full((3, 4, 4), -9.0)
    logits[0, :, :2] = logits[1, :, 2:] = 9.0
    log_probs = torch.tensor([[0.0], [-0.1], [-0.2]])
    sizes = ((16, 16), (16, 16), (8, 8))
    ids, segments = decode_panoptic(both(logits, sizes)[1], log_probs.numpy(), stuff_ids={0})
    assert [(s.id, s.class_id, s.thing) for s in segments] == [(1, 0, False)]
    assert (ids == 1).mean() > 0.9
    ids, segments = decode_panoptic(both(logits, sizes)[1], log_probs.numpy() - 9, stuff_ids={0})
    assert not ids.any()
    assert segments == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", SIZES)
def test_instances(sizes: tuple[tuple[int, int], ...], seed: int) -> None:
    logits, log_probs = proposals(seed)
    log_probs[2] = torch.nan
    one, other = both(logits, sizes)
    settings = {"top_k": 20, "min_score": 0.05, "stuff_ids": {0}}
    right = torch_instance(one, log_probs, **settings)
    found = decode_instance(other, log_probs.numpy(), **settings)
    np.testing.assert_allclose(found.scores, right.scores.numpy(), atol=1e-5)
    assert found.class_ids.tolist() == right.class_ids.tolist()
    assert found.unique_queries.tolist() == right.unique_queries.tolist()
    assert found.mask_index.tolist() == right.mask_index.tolist()
    assert np.mean(found.unique_masks == right.unique_masks.numpy()) >= SAME
    for query, mask in zip(found.unique_queries, found.unique_masks, strict=True):
        assert np.array_equal(instance_mask(other, query), mask)
    bare = decode_instance(other, log_probs.numpy(), keep_masks=False, **settings)
    assert bare.unique_masks.size == 0
    assert np.array_equal(bare.scores, found.scores)


@pytest.mark.parametrize(("queries", "classes"), [(9, 5), (20, 60), (3, 1)])
@pytest.mark.parametrize("sizes", SIZES)
def test_semantic_maps(sizes: tuple[tuple[int, int], ...], queries: int, classes: int) -> None:
    logits, log_probs = proposals(1, queries, classes)
    log_probs[1] = torch.nan
    one, other = both(logits, sizes)
    for least in (0.0, 0.4):
        right = torch_semantic(one, log_probs, min_score=least)
        labels, scores = decode_semantic(other, log_probs.numpy(), min_score=least)
        assert np.mean(labels == right.class_map.numpy()) >= SAME
        np.testing.assert_allclose(scores, right.scores.numpy(), atol=1e-5)
    labels, scores = decode_semantic(other, np.full_like(log_probs.numpy(), np.nan))
    assert (labels == -1).all()
    assert not scores.any()


@pytest.mark.parametrize(
    "how", [{}, {"prune": 0.3}, {"sigmoid_bias": -4.0}, {"prune": 0.3, "sigmoid_bias": -4.0}]
)
@pytest.mark.parametrize("prompts", [0, 3])
def test_class_probabilities(how: dict[str, float], prompts: int) -> None:
    chance = torch.Generator().manual_seed(0)
    masks = torch.randn(6, 8, generator=chance)
    shape = (7, prompts, 8) if prompts else (7, 8)
    rows = F.normalize(torch.randn(shape, generator=chance), dim=-1)
    settings = {"num_classes": 4, "logit_scale": 10.0, **how}
    right = classifier.class_log_probs(masks[None], rows, **settings)[0]
    found = classify.class_log_probs(masks.numpy(), rows.numpy(), **settings)
    np.testing.assert_allclose(found, right.numpy(), atol=1e-5)


def test_the_arithmetic_of_scores() -> None:
    logits, log_probs = torch.randn(6, 2), torch.randn(6, 3).log_softmax(-1)
    scores = base.object_log_scores(logits)
    found = classify.object_log_scores(logits.numpy())
    np.testing.assert_allclose(found, scores.numpy(), atol=1e-6)
    right = base.tempered(scores, log_probs, 0.5)
    np.testing.assert_allclose(
        classify.tempered(found, log_probs.numpy(), 0.5), right.numpy(), atol=1e-6
    )
    others, weights = torch.randn(6, 3).log_softmax(-1), torch.tensor([0.0, 0.5, 1.0])
    mixed = classify.geometric_mean(log_probs.numpy(), others.numpy(), weights.numpy())
    right = classifier.geometric_mean(log_probs, others, weights)
    np.testing.assert_allclose(mixed, right.numpy(), atol=1e-5)
    nearest = classify.nearest_names(log_probs.numpy(), found, 2)
    best = log_probs.argmax(1)
    for row, place, score in zip(nearest, best.tolist(), found, strict=True):
        assert row.tolist() == [score if k == place else -np.inf for k in range(2)]


def test_levels_of_a_hierarchy() -> None:
    words = Vocabulary.parse("animal > cat, dog\ncar")
    log_probs = torch.randn(4, 3).log_softmax(-1)
    names, right = torch_at_level(words, log_probs, 0)
    told, found = classify.at_level(words, log_probs.numpy(), 0)
    assert told == names
    np.testing.assert_allclose(found, right.numpy(), atol=1e-6)
    words = Vocabulary.parse("animal\nanimal > cat, dog")
    right = torch_with_children(words, log_probs)
    np.testing.assert_allclose(
        classify.with_children(words, log_probs.numpy()), right.numpy(), atol=1e-6
    )


@pytest.mark.parametrize("seed", range(30))
def test_pictures_are_resized_to_the_bit(seed: int) -> None:
    chance = np.random.default_rng(seed)
    size, target = chance.integers(1, 90, 2), tuple(chance.integers(1, 120, 2).tolist())
    pixels = chance.integers(0, 256, (*size, 3), np.uint8)
    if seed % 3 == 0:
        pixels = np.where(pixels > 127, np.uint8(255), np.uint8(0))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    right = F.interpolate(tensor, size=target, mode="bilinear", antialias=True)[0]
    assert np.array_equal(resize(pixels, target), right.permute(1, 2, 0).numpy())
