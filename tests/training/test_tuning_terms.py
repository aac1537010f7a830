"""The terms of tuning that are not published: by hand, and as sums over masks and pictures."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from masqclip.training.naming import NOTHING, consistency, mixed_names_loss


def test_queries_that_say_what_untuned_ones_say_are_held_by_nothing() -> None:
    logits = torch.randn(4, 3)
    counted = torch.ones(4, dtype=torch.bool)
    assert consistency(logits, logits + 5, counted).abs() < 1e-6  # only differences matter


def test_consistency_is_the_divergence_from_the_untuned_answer() -> None:
    tuned = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log().requires_grad_()
    untuned = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    only_first = consistency(tuned, untuned, torch.tensor([True, False]))
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    torch.testing.assert_close(only_first, torch.tensor(expected))
    only_first.backward()
    assert tuned.grad is not None
    # A step against the gradient goes towards what the untuned queries said.
    assert tuned.grad[0, 0] < 0 < tuned.grad[0, 1]
    assert tuned.grad[1].abs().max() == 0


def test_each_mask_is_mixed_with_the_next_of_its_picture_that_has_another_name() -> None:
    text = torch.eye(4)
    masks = torch.tensor([[[2.0, 0, 0, 0], [0, 3.0, 0, 0], [9.0, 9, 9, 9], [5.0, 0, 0, 0]]])
    targets = torch.tensor([[0, 1, NOTHING, 0]])
    found = mixed_names_loss(masks, targets, text, 2.0)
    # 0 with 1, 1 with 3, and not 3 with 0, which is to get the same name.
    half = 2 * math.sqrt(0.5)
    one = F.cross_entropy(torch.tensor([[half, half, 0, 0, 2.0]]), torch.tensor([4]))
    torch.testing.assert_close(found, 2 * one)


def test_mixtures_of_several_pictures_are_a_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    masks = torch.randn(3, 6, 8, generator=generator)
    targets = torch.randint(-1, 4, (3, 6), generator=generator)
    together = mixed_names_loss(masks, targets, text, 10.0)
    apart = [mixed_names_loss(masks[i : i + 1], targets[i : i + 1], text, 10.0) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(apart).sum())
    nobody = torch.full((3, 6), NOTHING)
    assert mixed_names_loss(masks, nobody, text, 10.0) == 0
