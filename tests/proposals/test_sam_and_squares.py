"""Frames of any shape in square models, and what SAM keeps of its masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES

from masqclip.data.transforms import PIXEL_MEAN, PIXEL_STD
from masqclip.proposals import point_grid
from masqclip.proposals.base import object_log_scores
from masqclip.proposals.eomt import EomtProposer
from masqclip.proposals.overlaps import suppress
from masqclip.proposals.point_grid import grid, stability
from masqclip.proposals.sam import Sam2Proposer, SamProposer
from masqclip.proposals.segmenters import object_logits
from masqclip.proposals.square import OUTSIDE, fitted_size, from_square, to_square


def test_there_and_back_in_a_square() -> None:
    """A picture of its own coordinates, fitted into a square and sampled back, is itself."""
    inside = torch.zeros(64, 96, dtype=torch.bool)
    inside[:60, :90] = True
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    frame = torch.stack([rows, columns, rows])
    square = to_square(frame[None], inside[None], 360, (-5.0, -5.0, -5.0))
    assert square.shape == (1, 3, 360, 360)
    assert (square[0, :, 240:] == -5).all()
    back = from_square(square[0], inside, 360)
    assert back.shape == (3, 16, 24)
    assert (back[:, 15:] == OUTSIDE).all()
    # The middle of each cell of four pixels lies between its second and third.
    middles = torch.arange(14.0) * 4 + 1.5
    torch.testing.assert_close(
        back[0, :14, :22], middles[:, None].expand(14, 22), atol=0.02, rtol=0
    )


def test_sam_keeps_the_best_of_what_overlaps() -> None:
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[0, :4], masks[1, :5], masks[2, 6:], masks[3, :, :4] = True, True, True, True
    kept = suppress(masks, torch.tensor([0.5, 0.9, 0.4, 0.8]), max_overlap=0.7)
    assert kept.tolist() == [1, 3, 2]  # 0 is four fifths of 1
    assert suppress(masks[:0], torch.zeros(0), 0.7).tolist() == []
    logits = torch.tensor([[[3.0, 3.0], [0.5, -3.0]], [[3.0, 3.0], [-3.0, -3.0]]])
    torch.testing.assert_close(stability(logits), torch.tensor([2 / 3, 1.0]))
    twins = torch.zeros(2, 8, 8, dtype=torch.bool)
    twins[0, :4], twins[1, :2] = True, True
    best = torch.tensor([0.9, 0.8])
    assert suppress(twins, best, max_overlap=0.5).tolist() == [0, 1], "an IoU of just 0.5 is kept"
    assert suppress(twins, best, max_overlap=0.49).tolist() == [0]
    assert suppress(twins, best.flip(0), max_overlap=0.49).tolist() == [1]
    assert suppress(twins, torch.ones(2), max_overlap=0.5).tolist() == [0, 1]
    empty = torch.zeros(2, 8, 8, dtype=torch.bool)
    assert suppress(empty, best, max_overlap=0.7).tolist() == [0, 1]
    # Cut at +1 and -1: what lies on a cut is above neither.
    edges = torch.tensor([[[1.0, 1.1], [-1.0, -0.9]], [[-3.0, -3.0], [-3.0, -3.0]]])
    torch.testing.assert_close(stability(edges), torch.tensor([1 / 3, 0.0]))


def small_sam(**settings: float) -> SamProposer:
    torch.manual_seed(0)
    model = FAMILIES["sam"]()
    for name, value in settings.items():
        setattr(model.config, name, value)
    return SamProposer(model.config).eval()


@pytest.mark.parametrize(
    ("family", "proposer", "least"), [("sam", SamProposer, 0.88), ("sam2", Sam2Proposer, 0.8)]
)
def test_automatic_masks_are_the_published_ones(
    family: str, proposer: type[SamProposer], least: float
) -> None:
    described = FAMILIES[family]().config.to_dict()
    for name in proposer.own_settings:
        described.pop(name, None)
    config = proposer(proposer.config_class(**described)).config
    assert (config.points_per_side, config.num_proposals) == (32, 100)
    assert (config.min_predicted_iou, config.min_stability) == (least, 0.95)
    assert config.max_overlap == 0.7
    assert point_grid._STABILITY_OFFSET == 1
    points = grid(2, fitted_size(30, 60, 64))
    assert points.tolist() == [[16, 8], [48, 8], [16, 24], [48, 24]], "x and y, row by row"


@torch.no_grad()
def test_sam_keeps_what_is_good_best_first_and_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three answers a point, 9 points; of two thresholds each leaves out what is below it."""
    chance = torch.Generator().manual_seed(0)
    scores = torch.rand(27, generator=chance)
    logits = 3 * torch.randn(27, 16, 16, generator=chance)
    solid = stability(logits)
    seen = []

    class Answers:
        def __init__(self, first: int, last: int) -> None:
            self.iou_scores = scores[3 * first : 3 * last].view(1, -1, 3)
            self.pred_masks = logits[3 * first : 3 * last].view(1, -1, 3, 16, 16)

    def found(**settings: float) -> tuple[torch.Tensor, torch.Tensor]:
        proposer = small_sam(**{"max_overlap": 1.0, "num_proposals": 40, **settings})
        done = 0

        def answer(*, input_points: torch.Tensor, **_: Any) -> Answers:
            nonlocal done
            seen.append(input_points)
            done += input_points.shape[1]
            return Answers(done - input_points.shape[1], done)

        monkeypatch.setattr(proposer.segmenter, "forward", answer)
        masks, objects = proposer._everything(torch.zeros(1, 16, 4, 4), (64, 64))
        return masks, object_log_scores(objects).exp()

    monkeypatch.setattr(point_grid, "POINTS_AT_ONCE", 4)
    masks, kept = found(min_predicted_iou=-1.0, min_stability=0.0)
    order = scores.argsort(descending=True)
    assert [points.shape for points in seen] == [(1, 4, 1, 2), (1, 4, 1, 2), (1, 1, 1, 2)]
    assert torch.equal(masks[:27], logits[order])
    assert (masks[27:] == OUTSIDE).all()
    torch.testing.assert_close(kept[:27], scores[order])
    torch.testing.assert_close(kept[27:], torch.full((13,), 1e-6))  # its logarithm is a number
    least, steady = scores.median().item(), solid.median().item()
    assert (found(min_predicted_iou=least, min_stability=0.0)[1] > 2e-6).sum() == 14
    assert (found(min_predicted_iou=-1.0, min_stability=steady)[1] > 2e-6).sum() == 14
    assert torch.equal(
        found(min_predicted_iou=-1.0, min_stability=0, num_proposals=5)[0], masks[:5]
    )


def test_what_lies_at_the_squares_edge_is_the_masks_own() -> None:
    """Beyond the middle of its outermost pixel a mask goes on as it is."""
    inside = torch.zeros(64, 96, dtype=torch.bool)
    inside[:60, :90] = True
    back = from_square(torch.full((2, 4, 4), 5.0), inside, 360)
    torch.testing.assert_close(back[:, :15, :22], torch.full((2, 15, 22), 5.0))
    # A cell belongs to the picture if the pixel in its middle does.
    assert (back[:, :, 22:] == OUTSIDE).all()
    inside[:60, 90] = True
    wider = from_square(torch.full((1, 4, 4), 5.0), inside, 360)
    assert (wider[:, :15, 22] != OUTSIDE).all()
    assert (wider[:, :, 23] == OUTSIDE).all()
    assert OUTSIDE == -10


def test_a_picture_fills_the_squares_longer_side() -> None:
    assert fitted_size(60, 90, 360) == (240, 360)
    assert fitted_size(1, 1000, 64) == (1, 64)
    assert fitted_size(64, 33, 32) == (32, 16)
    frame = torch.zeros(1, 3, 8, 16)
    frame[..., ::2] = 1.0
    square = to_square(frame, torch.ones(1, 8, 16, dtype=torch.bool), 8, (2.0, 3.0, 4.0))
    assert square[0, :, 4:].flatten(1).unique(dim=1).flatten().tolist() == [2, 3, 4]
    assert (square[0, :, :4, 1:-1] - 0.5).abs().max() < 0.1, "made smaller without aliasing"
    same = to_square(frame[..., :8], torch.ones(1, 8, 8, dtype=torch.bool), 8, (0.0, 0.0, 0.0))
    assert torch.equal(same, frame[..., :8])


@torch.no_grad()
def test_eomt_sees_black_beside_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    proposer = EomtProposer(FAMILIES["eomt"]().config).eval()
    seen = []
    run = proposer.segmenter.forward
    monkeypatch.setattr(proposer.segmenter, "forward", lambda x: seen.append(x) or run(x))
    inside = torch.zeros(1, 64, 96, dtype=torch.bool)
    inside[:, :48] = True
    proposer(torch.ones(1, 3, 64, 96), inside)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    padding = (seen[0][0] * std + mean)[:, 32:]
    torch.testing.assert_close(padding, torch.zeros_like(padding), atol=1e-4, rtol=0)
    assert (seen[0][0, :, :32] == 1).all()


def test_any_of_its_classes_makes_an_object() -> None:
    """The log-sum-exp of their logits against that of "no object", which stands last."""
    logits = torch.tensor([[[1.0, 2.0, 0.5], [0.0, -1.0, 4.0]]])
    found = object_logits(logits)
    expected = logits.softmax(-1)[..., :2].sum(-1)
    torch.testing.assert_close(found.softmax(-1)[..., 0], expected)
    torch.testing.assert_close(object_log_scores(found), expected.log())
    assert torch.equal(object_logits(logits[..., 1:]), logits[..., 1:]), "one class is the object"
    sure = object_log_scores(torch.tensor([[200.0, -200.0], [-200.0, 200.0]]))
    assert sure.tolist() == [0, -400], "however sure a proposer is"


def test_a_stretched_picture_fills_the_square() -> None:
    """SAM 2 and 3 were trained so; what they say comes back to where it is in the picture."""
    assert fitted_size(60, 90, 360, stretch=True) == (360, 360)
    inside = torch.zeros(64, 96, dtype=torch.bool)
    inside[:60, :90] = True
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    frame = torch.stack([rows, columns, rows])
    square = to_square(frame[None], inside[None], 360, (-5.0, -5.0, -5.0), stretch=True)
    assert (square >= 0).all(), "there is no padding"
    back = from_square(square[0], inside, 360, stretch=True)
    middles = torch.arange(22.0) * 4 + 1.5
    torch.testing.assert_close(back[1, :14, :22], middles.expand(14, 22), atol=0.02, rtol=0)
    torch.testing.assert_close(
        back[0, :14, :22], middles[:14, None].expand(14, 22), atol=0.02, rtol=0
    )


@torch.no_grad()
def test_sam2_encodes_a_picture_once_and_asks_all_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    proposer = Sam2Proposer(FAMILIES["sam2"]().config).eval()
    encoder, decoder = proposer.segmenter.get_image_embeddings, proposer.segmenter.forward
    encoded, asked = [], []
    monkeypatch.setattr(
        proposer.segmenter, "get_image_embeddings", lambda x: encoded.append(x) or encoder(x)
    )
    monkeypatch.setattr(
        proposer.segmenter,
        "forward",
        lambda **given: asked.append(given["input_points"]) or decoder(**given),
    )
    monkeypatch.setattr(point_grid, "POINTS_AT_ONCE", 4)
    inside = torch.zeros(2, 32, 64, dtype=torch.bool)
    inside[0], inside[1, :16] = True, True
    found = proposer(torch.randn(2, 3, 32, 64), inside)
    assert found.mask_logits.shape == (2, 7, 8, 16)
    assert (found.mask_logits[1, :, 4:] == OUTSIDE).all()
    assert [x.shape for x in encoded] == [(2, 3, 64, 64)]
    assert [points.shape[1] for points in asked] == [4, 4, 1] * 2
    points = torch.cat(asked[:3], dim=1)[0, :, 0]
    cells = [64 * (i + 0.5) / 3 for i in range(3)]
    torch.testing.assert_close(points, torch.tensor([[x, y] for y in cells for x in cells]))
    scores = object_log_scores(found.object_logits)
    assert (scores.diff(dim=1) <= 0).all(), "best first"
