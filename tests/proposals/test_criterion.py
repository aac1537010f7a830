"""The loss against transformers' own, and the cases that transformers' loop was written around."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former import modeling_mask2former as reference

from masqclip.proposals.base import Proposals
from masqclip.proposals.criterion import (
    CriterionSettings,
    mask_counts,
    mask_losses,
    match,
    matching_costs,
)


def boxes(counts: list[int], size: int = 64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    found = []
    for count in counts:
        masks = torch.zeros(count, size, size, dtype=torch.bool)
        for mask in masks:
            y, x = torch.randint(0, size // 2, (2,), generator=generator).tolist()
            mask[y : y + size // 3, x : x + size // 4] = True
        found.append(masks)
    return found


def random_layers(pictures: int, queries: int = 8, layers: int = 3) -> list[Proposals]:
    generator = torch.Generator().manual_seed(6)
    return [
        Proposals(
            mask_logits=torch.randn(
                pictures, queries, 16, 16, generator=generator
            ).requires_grad_(),
            object_logits=torch.randn(pictures, queries, 2, generator=generator).requires_grad_(),
        )
        for _ in range(layers)
    ]


def test_same_loss_as_transformers() -> None:
    points = 20_000  # so many that the random choice of points hardly shows
    torch.manual_seed(0)
    config = Mask2FormerConfig(num_labels=1, train_num_points=points)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    theirs = reference.Mask2FormerLoss(config, weights)
    layers, masks = random_layers(3), boxes([3, 1, 5])
    labels = [torch.zeros(len(found), dtype=torch.long) for found in masks]
    auxiliary = [
        {"masks_queries_logits": x.mask_logits, "class_queries_logits": x.object_logits}
        for x in layers[:-1]
    ]
    found = theirs(
        layers[-1].mask_logits, layers[-1].object_logits, [m.float() for m in masks], labels,
        auxiliary,
    )  # fmt: skip
    expected = sum(
        weight * value
        for kind, weight in weights.items()
        for name, value in found.items()
        if name.startswith(kind)
    )
    ours = mask_losses(layers, masks, CriterionSettings(num_points=points), seeds=range(len(masks)))
    torch.testing.assert_close(ours["loss"], expected, rtol=5e-3, atol=0)
    torch.testing.assert_close(ours["object"], found["loss_cross_entropy"], rtol=1e-4, atol=0)
    torch.testing.assert_close(ours["mask"], found["loss_mask"], rtol=1e-2, atol=0)
    torch.testing.assert_close(ours["dice"], found["loss_dice"], rtol=1e-2, atol=0)


def test_same_costs_as_transformers() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(1, 6, 50, generator=generator)
    objects = torch.randn(1, 6, 2, generator=generator)
    targets = torch.rand(1, 3, 50, generator=generator)
    expected = (
        5 * reference.pair_wise_sigmoid_cross_entropy_loss(logits[0], targets[0])
        + 5 * reference.pair_wise_dice_loss(logits[0], targets[0])
        - 2 * objects[0].softmax(-1)[:, :1]
    )
    ours = matching_costs(logits, objects, targets, CriterionSettings())
    torch.testing.assert_close(ours[0], expected)


def test_padding_is_never_matched() -> None:
    costs = torch.tensor([[[5.0, 1.0, -9.0], [1.0, 5.0, -9.0]], [[0.0, -9.0, -9.0]] * 2])
    pictures, proposals, annotations = match(costs, [2, 0])
    assert pictures.tolist() == [0, 0]
    assert proposals.tolist() == [0, 1]
    assert annotations.tolist() == [1, 0]


def test_costs_that_are_no_numbers_are_matched_last() -> None:
    costs = torch.tensor([[[float("nan")], [3.0], [float("inf")]]])
    assert match(costs, [1])[1].tolist() == [1]


@pytest.mark.parametrize("counts", [[0, 0], [0, 2], [20, 1]])
def test_none_and_more_than_proposals(counts: list[int]) -> None:
    layers = random_layers(len(counts))
    losses = mask_losses(
        layers, boxes(counts), CriterionSettings(num_points=64), seeds=range(len(counts))
    )
    assert bool(losses["loss"].isfinite())
    losses["loss"].backward()
    for layer in layers:
        assert layer.mask_logits.grad is not None
        assert layer.object_logits.grad is not None
        assert bool(layer.object_logits.grad.any())
        for picture, count in enumerate(counts):
            assert bool(layer.mask_logits.grad[picture].any()) == (count > 0)


def test_a_picture_does_not_depend_on_the_others_padding() -> None:
    """Without annotations of its own, a picture adds only to the cross entropy."""
    layers, masks = random_layers(2), boxes([3, 0])
    settings = CriterionSettings(num_points=4096, class_weight=0.0)
    alone = [Proposals(x.mask_logits[:1], x.object_logits[:1]) for x in layers]
    both = mask_losses(layers, masks, settings, seeds=[7, 8])["loss"]
    torch.testing.assert_close(
        both, mask_losses(alone, masks[:1], settings, seeds=[7])["loss"], rtol=1e-5, atol=0
    )


def test_parts_of_a_batch_add_up_to_its_loss() -> None:
    layers, masks = random_layers(3), boxes([3, 0, 5])
    settings = CriterionSettings(num_points=64)
    whole = mask_losses(layers, masks, settings, seeds=[4, 5, 6])
    queries = layers[0].object_logits.shape[1]
    totals = mask_counts(masks, queries, settings)
    sums = dict.fromkeys(whole, torch.zeros(()))
    for start, end in ((0, 1), (1, 3)):
        part = [Proposals(x.mask_logits[start:end], x.object_logits[start:end]) for x in layers]
        seeds = [4, 5, 6][start:end]
        shares = mask_losses(part, masks[start:end], settings, seeds=seeds, totals=totals)
        sums = {name: sums[name] + share for name, share in shares.items()}
    torch.testing.assert_close(sums, whole, rtol=1e-5, atol=1e-6)


def test_perfect_proposals_cost_nearly_nothing() -> None:
    masks = boxes([2])
    logits = torch.nn.functional.avg_pool2d(masks[0].float()[None], 4) * 2 - 1
    logits = torch.cat([logits, -torch.ones(1, 2, 16, 16)], dim=1) * 20
    objects = torch.tensor([[[9.0, -9.0], [9.0, -9.0], [-9.0, 9.0], [-9.0, 9.0]]])
    settings = CriterionSettings(num_points=2048, importance_ratio=0.0)
    good = mask_losses([Proposals(logits, objects)], masks, settings, seeds=[0])["loss"]
    bad = mask_losses([Proposals(-logits, -objects)], masks, settings, seeds=[0])["loss"]
    assert good < 1.0
    assert bad > 20 * good


def test_means_are_over_the_masks_and_over_proposals_by_weight() -> None:
    """Matched proposals weigh one, others a tenth; more masks than proposals match no more."""

    def counts(*numbers: int) -> tuple[float, float]:
        masks = [torch.zeros(number, 2, 2, dtype=torch.bool) for number in numbers]
        found = mask_counts(masks, 4, CriterionSettings(no_object_weight=0.25))
        assert {value.dtype for value in found.values()} == {torch.float32}
        return float(found["masks"]), float(found["objects"])

    assert counts(1, 3) == (4, 4 + 0.25 * 4)
    assert counts(0, 0) == (0, 0.25 * 8)
    assert counts(4) == (4, 4)
    assert counts(6, 1) == (7, 5 + 0.25 * 3)
