"""What a proposal is to be named, by masks small enough to count, and what the loss weighs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.training.naming import NOTHING, assign_labels, tuning_loss

SIDE = 4
BACKGROUND = 9


def mask(*pixels: int) -> Tensor:
    """A mask of 4 x 4 pixels, which are numbered row by row."""
    found = torch.zeros(SIDE * SIDE, dtype=torch.bool)
    found[list(pixels)] = True
    return found.view(SIDE, SIDE)


def names(proposals: list[Tensor], masks: list[Tensor], threshold: float) -> list[int]:
    logits = torch.stack([each.float() * 8 - 4 for each in proposals])
    labels = torch.arange(len(masks)) + 3
    found = assign_labels(
        logits, torch.stack(masks), labels, background=BACKGROUND, threshold=threshold, size=SIDE
    )
    assert found.dtype == torch.int64
    return found.tolist()


def test_a_cost_is_one_less_the_smoothed_dice_and_must_be_below_the_threshold() -> None:
    """Two and three pixels that share one: 1 - (2 + 1) / (2 + 3 + 1), just a half."""
    proposal, annotation = mask(0, 1), mask(1, 2, 3)
    assert names([proposal], [annotation], 0.5) == [BACKGROUND]
    assert names([proposal], [annotation], 0.5001) == [3]
    # None shared of two and two: 1 - 1 / 5.
    assert names([mask(0, 1)], [mask(2, 3)], 0.8001) == [3]
    assert names([mask(0, 1)], [mask(2, 3)], 0.7999) == [BACKGROUND]
    assert names([mask(0)], [mask(0)], 1e-6) == [3]  # the same pixels cost nothing


def test_the_nearest_annotation_gives_the_name_to_as_many_as_are_near() -> None:
    proposals = [mask(0, 1, 2), mask(0, 1, 2, 3), mask(8, 9), mask(15)]
    annotations = [mask(0, 1), mask(0, 1, 2), mask(8, 9, 10)]
    assert names(proposals, annotations, 0.5) == [4, 4, 5, BACKGROUND]
    # Of two that are equally near, the first.
    assert names([mask(0, 1)], [mask(0, 4), mask(1, 5)], 0.9) == [3]
    assert names([mask(0, 1)], [mask(1, 5), mask(0, 4)], 0.9) == [3]


def test_a_proposals_mask_is_where_it_is_more_likely_than_not() -> None:
    logits = torch.full((1, SIDE, SIDE), -1.0)
    logits[0, 0, :2] = torch.tensor([0.1, 0.0])  # a probability of just a half is outside
    for pixels, cost in (((0,), 0.0), ((0, 1), 1 - 3 / 4)):
        for threshold, label in ((cost + 1e-3, 3), (cost - 1e-3, BACKGROUND)):
            found = assign_labels(
                logits, mask(*pixels)[None], torch.tensor([3]), background=BACKGROUND,
                threshold=threshold, size=SIDE,
            )  # fmt: skip
            assert found.tolist() == [label]


def test_masks_are_compared_at_a_size_of_their_own() -> None:
    """Logits are made larger smoothly, annotations by the pixel whose place it is."""
    annotation = torch.zeros(1, 8, 8, dtype=torch.bool)
    annotation[0, 1:, 1:] = True  # at 4 x 4, nearest: columns and rows 0, 2, 4, 6
    logits = torch.full((1, 2, 2), 4.0)
    logits[0, 0, :] = logits[0, :, 0] = -12.0  # at 4 x 4 positive in the last corner's pixels
    expected = F.interpolate(logits[None], size=(SIDE, SIDE), mode="bilinear")[0, 0] > 0
    pixels = annotation[0, ::2, ::2]
    assert 0 < expected.sum() < pixels.sum() == 9
    cost = float(1 - (2 * (expected & pixels).sum() + 1) / (expected.sum() + 9 + 1))
    for threshold, label in ((cost + 1e-4, 3), (cost - 1e-4, BACKGROUND)):
        found = assign_labels(
            logits, annotation, torch.tensor([3]), background=BACKGROUND, threshold=threshold,
            size=SIDE,
        )  # fmt: skip
        assert found.tolist() == [label]


def test_the_loss_is_a_mean_by_weight() -> None:
    """Whatever the weights add up to: of background alone, its plain cross-entropy."""
    torch.manual_seed(0)
    logits = torch.randn(4, 5)
    targets = torch.tensor([0, 4, 4, NOTHING])
    each = F.cross_entropy(logits[:3], targets[:3], reduction="none")
    weights = torch.tensor([1.0, 0.1, 0.1])
    found = tuning_loss(logits, targets, background_weight=0.1)
    torch.testing.assert_close(found, (each * weights).sum() / 1.2)
    alone = tuning_loss(logits[1:2], targets[1:2], background_weight=0.1)
    torch.testing.assert_close(alone, each[1])
    part = tuning_loss(logits, targets, background_weight=0.1, total=torch.tensor(2.4))
    torch.testing.assert_close(part, found / 2)
    assert tuning_loss(logits[3:], targets[3:]) == 0
    plain = tuning_loss(logits, targets)  # one tenth unless said otherwise
    torch.testing.assert_close(plain, found)


@pytest.mark.parametrize("count", [0, 3])
def test_without_annotations_all_is_background(count: int) -> None:
    found = assign_labels(
        torch.randn(count, SIDE, SIDE), torch.zeros(0, SIDE, SIDE, dtype=torch.bool),
        torch.zeros(0, dtype=torch.long), background=BACKGROUND,
    )  # fmt: skip
    assert found.tolist() == [BACKGROUND] * count


def test_pixels_are_counted_under_a_callers_autocast() -> None:
    """301 is no number of bfloat16's: the same masks would not be wholly alike."""
    same = torch.zeros(1, 32, 32, dtype=torch.bool)
    same.flatten()[:301] = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = assign_labels(
            same * 8.0 - 4, same, torch.tensor([3]), background=BACKGROUND, threshold=1e-4, size=32
        )
    assert found.tolist() == [3]
