"""Recall of a proposer of straw that knows the answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from masqclip.data.coco import Sample
from masqclip.evaluation.recall import recall
from masqclip.proposals.base import Proposals


class Straw(nn.Module):
    """Proposes the left half (an object) and the top quarter (hardly one) of a 64 x 64 frame."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        assert not self.training
        batch = len(pixel_values)
        masks = torch.full((batch, 2, 16, 16), -9.0)
        masks[:, 0, :, :8] = 9.0
        masks[:, 1, :4] = 9.0
        objects = torch.tensor([[3.0, -3.0], [-3.0, 3.0]]).expand(batch, -1, -1)
        return Proposals(masks, objects)


def sample(height: int, width: int, *regions: tuple[slice, slice, bool]) -> Sample:
    masks = np.zeros((len(regions), height, width), bool)
    for mask, (rows, columns, _) in zip(masks, regions, strict=True):
        mask[rows, columns] = True
    return Sample(
        image=np.zeros((height, width, 3), np.uint8),
        masks=masks,
        category_ids=np.zeros(len(regions), np.int64),
        is_thing=np.array([thing for *_, thing in regions], bool),
        image_id=0,
    )


ALL, LEFT, TOP = slice(0, 64), slice(0, 32), slice(0, 16)
DATASET = [
    sample(64, 64, (ALL, LEFT, True), (TOP, ALL, False)),
    sample(64, 64, (slice(40, 50), slice(40, 50), True)),
    sample(60, 50, (slice(0, 60), LEFT, True)),  # padded: proposals end where the picture does
]


def test_what_is_found_and_what_is_not() -> None:
    straw = Straw().train()
    found = recall(straw, DATASET, batch_size=2)
    assert found["things"] == pytest.approx(2 / 3)
    assert found["stuff"] == 1
    assert found["all"] == pytest.approx(3 / 4)
    assert found["iou_things"] == pytest.approx(2 / 3, abs=0.01)
    assert found["proposals"] == 1
    assert straw.training


def test_only_confident_proposals_count() -> None:
    found = recall(Straw(), DATASET, min_score=0.5)
    assert found["stuff"] == 0
    assert found["things"] == pytest.approx(2 / 3)


def test_a_share_of_nothing() -> None:
    found = recall(Straw(), DATASET, images=0)
    assert math.isnan(found["things"])
    assert math.isnan(recall(Straw(), DATASET[1:])["stuff"])


def test_no_confident_proposal_at_all() -> None:
    assert recall(Straw(), DATASET, min_score=1.1)["all"] == 0


def test_an_overlap_and_a_score_of_just_the_threshold_count() -> None:
    """A mask is where its logit is positive; of many masks each has its best proposal."""
    half = sample(64, 64, (ALL, slice(0, 16), True))  # half of the left half
    assert recall(Straw(), [half])["things"] == 1
    assert recall(Straw(), [half], threshold=0.51)["things"] == 0
    score = torch.tensor([3.0, -3.0]).softmax(0)[0].item()
    assert recall(Straw(), DATASET[:1], min_score=score)["things"] == 1
    assert recall(Straw(), DATASET[:1], min_score=score + 1e-6)["things"] == 0
    assert recall(Straw(), DATASET, images=1)["all"] == 1
    assert recall(Straw(), DATASET[1:2])["iou_things"] == 0


def test_a_picture_is_padded_to_what_proposers_take() -> None:
    """At the bottom right, to multiples of 32, with the others of its batch; and normalised."""
    seen = []

    class Looking(Straw):
        def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
            seen.append((pixel_values, pixel_mask))
            return super().forward(pixel_values, pixel_mask)

    white, small = sample(40, 64), sample(33, 20)
    white.image[:] = 255
    recall(Looking().eval(), [white, small, small], batch_size=2)
    (pixels, inside), (rest, _) = seen
    assert pixels.shape == (2, 3, 64, 64)
    assert rest.shape == (1, 3, 64, 32)
    assert inside[0].sum() == 40 * 64
    assert inside[0, :40].all()
    assert inside[1, :33, :20].all()
    assert inside[1].sum() == 33 * 20
    assert (pixels[0, :, :40] > 2).all(), "white, in units of the proposer's spread"
    assert (pixels[:, :, 40:] == 0).all()
