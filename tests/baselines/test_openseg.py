"""OpenSeg's parts against their formulas: masks, regions, what grounds them in captions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from small import frames, joined
from torch import Tensor

from masqclip.baselines.openseg import (
    OpenSegModel,
    best_dice_loss,
    grounding_loss,
    grounding_scores,
    pool_regions,
)

SIZES = {"width": 16, "queries": 5, "layers": 3, "heads": 2}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dice(logits: Tensor, wanted: Tensor) -> float:
    probs = [sigmoid(x) for x in logits.flatten().tolist()]
    found = [float(t) for t in wanted.flatten().tolist()]
    return 2 * sum(p * t for p, t in zip(probs, found, strict=True)) / (sum(probs) + sum(found))


def test_of_every_annotation_the_best_mask_counts() -> None:
    chance = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 4, 4, 4, generator=chance)
    masks = [torch.rand(count, 4, 4, generator=chance) > 0.5 for count in (2, 0, 5)]
    losses = [
        1 - max(dice(mask, wanted) for mask in logits[b])
        for b, found in enumerate(masks)
        for wanted in found
    ]
    assert len(losses) == 7  # more annotations than masks are no matter: none is matched
    whole = best_dice_loss(logits, masks)
    assert float(whole) == pytest.approx(sum(losses) / 7, rel=1e-5)
    total = torch.tensor(7.0)
    parts = [best_dice_loss(logits[b : b + 1], masks[b : b + 1], total=total) for b in range(3)]
    torch.testing.assert_close(sum(parts), whole)


def test_one_mask_may_be_the_best_of_several_annotations() -> None:
    wanted = torch.zeros(2, 4, 4, dtype=torch.bool)
    wanted[0, :2], wanted[1, :3] = True, True
    logits = torch.full((1, 2, 4, 4), -9.0)
    logits[0, 0, :3] = 9.0
    logits = logits.requires_grad_()
    loss = best_dice_loss(logits, [wanted])
    assert float(loss.detach()) == pytest.approx(
        (1 - 4 / 5) / 2, abs=1e-3
    )  # the first: 2 x 8 / (8 + 12)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].any()
    assert not logits.grad[0, 1].any()  # a mask that meets nothing is left alone


def test_annotations_are_compared_at_the_size_of_masks() -> None:
    wanted = torch.zeros(1, 8, 8, dtype=torch.bool)
    wanted[0, :, :3] = True  # a column and a half of the masks' pixels
    logits = torch.full((1, 1, 4, 4), 0.0)
    assert float(best_dice_loss(logits, [wanted])) == pytest.approx(1 - 2 * 3 / (8 + 6))


def test_without_annotations_there_is_nothing_to_learn() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = best_dice_loss(logits, [torch.zeros(0, 4, 4).bool()] * 2, total=torch.tensor(0.0))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_region_is_the_sum_under_its_soft_mask() -> None:
    logits, features = torch.randn(2, 3, 2, 5), torch.randn(2, 4, 2, 5)
    found = pool_regions(logits, features)
    for b in range(2):
        for n in range(3):
            expected = torch.zeros(4)
            for row in range(2):
                for column in range(5):
                    weight = sigmoid(float(logits[b, n, row, column]))
                    expected += weight * features[b, :, row, column]
            torch.testing.assert_close(found[b, n], expected)


def test_a_region_of_a_whole_frame_is_finite_in_half_precision() -> None:
    logits, features = torch.full((1, 1, 64, 64), 50.0), torch.full((1, 2, 64, 64), 30.0)
    found = pool_regions(logits.half(), features.half())
    assert found.tolist() == [[[30 * 64 * 64] * 2]]  # above half precision's largest, 65,504


def scores_by_hand(regions: Tensor, words: list[Tensor], temperature: float) -> list[list[float]]:
    table = []
    for picture in regions:
        row = []
        for caption in words:
            each = []
            for word in caption:
                cosines = [float(z @ word) / float(z.norm()) for z in picture]
                weights = [math.exp(c / temperature) for c in cosines]
                each.append(
                    sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
                )
            row.append(sum(each) / len(each) if each else 0.0)
        table.append(row)
    return table


@pytest.fixture
def said() -> tuple[Tensor, list[Tensor]]:
    chance = torch.Generator().manual_seed(3)
    regions = torch.randn(3, 4, 6, generator=chance)
    words = [F.normalize(torch.randn(count, 6, generator=chance), dim=-1) for count in (2, 0, 3)]
    return regions, words


def test_a_word_asks_for_the_regions_that_lie_nearest(said: tuple[Tensor, list[Tensor]]) -> None:
    regions, words = said
    found = grounding_scores(regions, words, torch.tensor(0.2))
    torch.testing.assert_close(found, torch.tensor(scores_by_hand(regions, words, 0.2)))
    assert found[:, 1].tolist() == [0, 0, 0]  # a caption without a word
    assert grounding_scores(regions, [words[1]] * 3, torch.tensor(0.2)).tolist() == [[0] * 3] * 3


def test_the_loss_asks_which_caption_and_which_picture(said: tuple[Tensor, list[Tensor]]) -> None:
    regions, words = said
    table = scores_by_hand(regions, words, 0.2)
    losses = []
    for own in range(3):
        for others in (table[own], [row[own] for row in table]):
            logits = [value / 0.2 for value in others]
            losses.append(math.log(sum(map(math.exp, logits))) - logits[own])
    temperature = torch.tensor(0.2)
    scores = grounding_scores(regions, words, temperature)
    whole = grounding_loss(scores, temperature)
    assert float(whole) == pytest.approx(sum(losses) / 6, rel=1e-5)
    parts = [grounding_loss(scores, temperature, own) for own in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(parts[0] + parts[1], whole)


@pytest.fixture(scope="module")
def model() -> OpenSegModel:
    return joined(OpenSegModel, system_config=SIZES)


def test_the_temperature_learns_and_starts_as_clips(model: OpenSegModel) -> None:
    assert float(model.temperature.detach()) == pytest.approx(1 / model.config.logit_scale)
    pixels, inside = frames()
    _, regions = model.read(pixels, inside)
    words = [F.normalize(torch.randn(2, 8), dim=-1) for _ in range(2)]
    scores = grounding_scores(regions, words, model.temperature)
    grounding_loss(scores, model.temperature).backward()
    gradient = model.own["log_temperature"].grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    model.zero_grad(set_to_none=True)


def test_masks_are_queries_times_cells_and_regions_are_under_them(model: OpenSegModel) -> None:
    pixels, inside = frames()
    with torch.no_grad():
        masks, regions = model.read(pixels, inside)
        mean = torch.tensor(model.config.pixel_mean).view(3, 1, 1)
        std = torch.tensor(model.config.pixel_std).view(3, 1, 1)
        normal = ((pixels - mean) / std) * inside[:, None]
        whole = model.proposer.segmenter.model(normal)
        features = whole.pixel_decoder_last_hidden_state
        cells = model.mask_map(features)
        assert cells.shape == (2, 16, 16, 16)
        cells = cells + model.place(cells.shape, cells.device, cells.dtype, None)
        queries = model.own["regions"].expand(2, -1, -1)
        for attention in model.attention:
            queries = attention(queries, cells.flatten(2).transpose(1, 2))
        for n in (0, 4):
            expected = (queries[:, n, :, None, None] * cells).sum(1)
            torch.testing.assert_close(masks[:, n], expected, atol=1e-4, rtol=1e-4)
        expected = pool_regions(masks, model.region_map(features))
    torch.testing.assert_close(regions, expected, atol=1e-3, rtol=1e-3)
    assert (len(model.attention), masks.shape[1]) == (3, 5)


def test_the_published_sizes_are_the_defaults() -> None:
    model = joined(OpenSegModel)
    assert model.own["regions"].shape == (128, 640)
    assert len(model.attention) == 3
    for branch, out in ((model.mask_map, 640), (model.region_map, 8)):
        convolutions = [m for m in branch if isinstance(m, torch.nn.Conv2d)]
        assert [c.kernel_size[0] for c in convolutions] == [1, 3, 3, 3]
        assert [c.out_channels for c in convolutions] == [640, 640, 640, out]


def test_it_learns_all_but_clip_and_the_proposers_decoder(model: OpenSegModel) -> None:
    pixels, inside = frames()
    model.requires_grad_(False)
    model.learned.requires_grad_(True)
    masks, regions = model.read(pixels, inside)
    (masks.square().sum() + regions.square().sum() + model.temperature.sum()).backward()
    frozen = ("clip.", "queries.", "proposer.segmenter.model.transformer_module.",
              "proposer.segmenter.class_predictor.")  # fmt: skip
    for name, parameter in model.named_parameters():
        learns = not name.startswith(frozen)
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None) == learns, name
    model.zero_grad(set_to_none=True)


def test_the_background_is_no_word(model: OpenSegModel) -> None:
    regions = torch.randn(1, 5, 8)
    words = F.normalize(torch.randn(4, 8), dim=-1)
    with torch.no_grad():
        model.own["log_temperature"].fill_(-1.5)  # as it was learned, not as CLIP has it
    found = model.classify(regions, words, 2)  # two names, a distractor, the background
    cosines = F.normalize(regions, dim=-1) @ words[:3].T
    expected = (cosines / math.exp(-1.5)).log_softmax(-1)[..., :2]
    torch.testing.assert_close(found, expected)


def test_no_mask_has_an_object_score(model: OpenSegModel) -> None:
    seen = model.see(*frames())
    assert seen.proposals.object_logits.softmax(-1)[..., 0].eq(1).all()
