"""XPM's parts against their formulas: captions, names, pseudo-labels, and noise on their masks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small import frames, joined
from torch import Tensor

from masqclip.baselines.pixels import pool
from masqclip.baselines.xpm import (
    Regions,
    XpmModel,
    caption_losses,
    mask_sum,
    name_logits,
    naming_sum,
    pseudo_labels,
    student_losses,
)


def cross_entropy(logits: list[float], target: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[target]


def attended(products: list[float]) -> float:
    weights = [math.exp(product) for product in products]
    return sum(w * p for w, p in zip(weights, products, strict=True)) / sum(weights)


def test_captions_are_told_apart_from_four_sides() -> None:
    chance = torch.Generator().manual_seed(0)
    cells = 4 * torch.randn(3, 5, 6, generator=chance)
    words = [4 * torch.randn(count, 6, generator=chance) for count in (2, 1, 4)]
    by_words = [[0.0] * 3 for _ in range(3)]
    by_cells = [[0.0] * 3 for _ in range(3)]
    for b, picture in enumerate(cells):
        for c, caption in enumerate(words):
            table = [[float(cell @ word) / 10 for word in caption] for cell in picture]
            columns = list(zip(*table, strict=True))
            by_words[b][c] = sum(attended(list(column)) for column in columns) / len(columns)
            by_cells[b][c] = sum(attended(row) for row in table) / len(table)
    expected = 0.0
    for scores in (by_words, by_cells):
        for own in range(3):
            expected += cross_entropy(scores[own], own)
            expected += cross_entropy([row[own] for row in scores], own)
    whole = caption_losses(cells, words)
    assert float(whole["loss"]) == pytest.approx(expected / 3, rel=1e-5)
    right = sum(max(range(3), key=row.__getitem__) == own for own, row in enumerate(by_words))
    assert float(whole["caption"]) == pytest.approx(right / 3)
    parts = [caption_losses(cells, words, own) for own in (slice(0, 2), slice(2, 3))]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


def test_the_background_is_the_zero_vector() -> None:
    regions, words = torch.randn(2, 3, 4), torch.randn(5, 4)
    found = name_logits(regions, words)
    assert found.shape == (2, 3, 6)
    torch.testing.assert_close(found[..., :5], regions @ words.T)
    assert not found[..., 5].any()


def test_the_background_weighs_a_fifth() -> None:
    logits = torch.randn(1, 3, 4)
    each = -logits.log_softmax(-1)[0]
    found = naming_sum(logits, torch.tensor([[2, -1, 0]]))
    torch.testing.assert_close(found, each[0, 2] + 0.2 * each[1, 3] + each[2, 0])


def regions(named: Tensor, noise: float = 0.5) -> Regions:
    masks = torch.randn(*named.shape[:2], 4, 4, generator=torch.Generator().manual_seed(1))
    return Regions(named, masks, torch.full_like(masks, noise))


def test_every_word_chooses_the_region_that_answers_best() -> None:
    words = torch.eye(4)
    named = torch.zeros(3, 3, 4)
    named[0, 1, 0], named[0, 2, 0], named[0, 0, 3] = 2.0, 1.0, 9.0
    named[1, 2] = torch.tensor([0.0, 5.0, 7.0, 0.0])
    found = regions(named)
    said = [torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([]).long()]
    labels, masks = pseudo_labels(found, words, said)
    # Picture 0: the second region answers best to word 0, all alike to word 1 (no threshold: the
    # first has it). Word 3 is not said. Picture 1: both words choose one region, and the surer has
    # it. Picture 2: nothing is said.
    assert labels.tolist() == [[1, 0, -1], [-1, -1, 2], [-1, -1, -1]]
    assert torch.equal(masks, found.mask_logits > 0)
    turned, _ = pseudo_labels(found, words, [places.flip(0) for places in said])
    assert torch.equal(turned, labels)


def test_a_word_without_any_answer_still_has_a_region() -> None:
    named = -torch.rand(1, 4, 3) - 1
    labels, _ = pseudo_labels(regions(named), torch.eye(3), [torch.tensor([1])])
    assert (labels >= 0).sum() == 1
    assert labels[0, int(named[0, :, 1].argmax())] == 1


def bce(logits: Tensor, wanted: Tensor) -> float:
    terms = [
        math.log(1 + math.exp(-x if t else x))
        for x, t in zip(logits.flatten().tolist(), wanted.flatten().tolist(), strict=True)
    ]
    return sum(terms) / len(terms)


def test_masks_are_compared_pixel_by_pixel() -> None:
    logits, wanted = torch.randn(3, 4, 4), torch.rand(3, 4, 4) > 0.5
    expected = sum(bce(*one) for one in zip(logits, wanted, strict=True))
    assert float(mask_sum(logits, wanted.float())) == pytest.approx(expected, rel=1e-5)


def test_what_pseudo_labels_teach() -> None:
    chance = torch.Generator().manual_seed(2)
    named = torch.randn(2, 3, 6, generator=chance)
    words = torch.randn(4, 6, generator=chance)
    found = regions(named)
    found = replace(found, noise=torch.rand(2, 3, 4, 4, generator=chance) + 0.5)
    labels = torch.tensor([[2, -1, 0], [-1, 3, -1]])
    masks = torch.rand(2, 3, 4, 4, generator=chance) > 0.5
    drawn = torch.randn(2, 3, 4, 4, generator=chance)
    chosen = [(0, 0), (0, 2), (1, 1)]
    level = sum(float(found.noise[place].mean()) for place in chosen) / 3
    names = shapes = 0.0
    for place in chosen:
        logits = [float(named[place] @ word) for word in words] + [0.0]
        names += cross_entropy(logits, int(labels[place]))
        shaken = found.mask_logits[place] + drawn[place] * found.noise[place]
        shapes += bce(shaken, masks[place])
    expected = (0.01 / level * names + shapes) / 3
    total, noise = torch.tensor(3.0), torch.tensor(level)
    whole = student_losses(found, words, labels, masks, drawn, total=total, noise=noise)
    assert float(whole) == pytest.approx(expected, rel=1e-5)
    parts = [
        student_losses(
            Regions(*(part[i : i + 1] for part in (named, found.mask_logits, found.noise))),
            words, labels[i : i + 1], masks[i : i + 1], drawn[i : i + 1], total=total, noise=noise,
        )
        for i in range(2)
    ]  # fmt: skip
    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_noise_learns_from_masks_alone() -> None:
    named = torch.randn(1, 2, 4, requires_grad=True)
    masks = torch.randn(1, 2, 3, 3, requires_grad=True)
    noise = torch.rand(1, 2, 3, 3).requires_grad_()
    labels, wanted = torch.tensor([[1, -1]]), torch.rand(1, 2, 3, 3) > 0.5
    loss = student_losses(
        Regions(named, masks, noise), torch.randn(3, 4), labels, wanted, torch.zeros(1, 2, 3, 3),
        total=torch.tensor(1.0), noise=noise.mean(),
    )  # fmt: skip
    loss.backward()  # nothing is drawn: the level reaches the loss through the names' weight only
    assert noise.grad is not None
    assert not noise.grad.any()
    for learns in (named, masks):
        assert learns.grad is not None
        assert learns.grad[0, 0].any()
        assert not learns.grad[0, 1].any()  # what no word chose


def test_without_pseudo_labels_there_is_nothing_to_learn() -> None:
    named = torch.randn(1, 2, 4, requires_grad=True)
    found = regions(named)
    loss = student_losses(
        found, torch.randn(3, 4), torch.full((1, 2), -1), found.mask_logits > 0,
        torch.randn(1, 2, 4, 4), total=torch.tensor(0.0), noise=torch.tensor(1e-6),
    )  # fmt: skip
    loss.backward()
    assert float(loss.detach()) == 0


@pytest.fixture(scope="module")
def model() -> XpmModel:
    return joined(XpmModel)


def test_pooling_is_the_mean_under_a_mask() -> None:
    levels = [torch.randn(1, 2, 2, 2), torch.randn(1, 3, 4, 4)]
    masks = torch.zeros(1, 3, 4, 4)
    masks[0, 0, :2, :3], masks[0, 1] = 1.0, 1.0
    found = pool(levels, masks)
    fine = levels[1][0, :, :2, :3].flatten(1).mean(1)
    coarse = (levels[0][0, :, 0, 0] + levels[0][0, :, 0, 1] / 2) / 1.5
    torch.testing.assert_close(found[0, 0], torch.cat([coarse, fine]))
    torch.testing.assert_close(found[0, 1, 2:], levels[1][0].flatten(1).mean(1))
    assert not found[0, 2].any()  # a mask of nothing


def test_pooling_a_whole_frame_is_finite_in_half_precision() -> None:
    found = pool([torch.full((1, 2, 300, 300), 30.0).half()], torch.ones(1, 1, 300, 300))
    assert found.dtype == torch.float16
    assert found.tolist() == [[[30.0, 30.0]]]


@pytest.mark.parametrize("family", ["mask2former", "maskformer"])
def test_an_untrained_model_leaves_proposals_as_they_are(family: str) -> None:
    made = joined(XpmModel, family=family)
    pixels, inside = frames()
    with torch.no_grad():
        proposed = made.propose(pixels, inside).mask_logits
        found = made.regions(pixels, inside, proposed)
        cells = made.cells(pixels, inside)
    torch.testing.assert_close(found.mask_logits, proposed)
    assert found.named.shape == (2, 5, 8)
    assert cells.shape[0] == 2
    assert cells.shape[2] == 8
    # The level starts near exp(1 / 2): a bias of one, and weights of a thousandth.
    torch.testing.assert_close(
        found.noise, torch.full_like(found.noise, math.exp(0.5)), rtol=0.05, atol=0.05
    )


def test_regions_are_made_of_the_encoders_maps(model: XpmModel) -> None:
    pixels, inside = frames()
    chance = torch.Generator().manual_seed(5)
    masks = torch.randn(2, 5, 16, 16, generator=chance)
    for head in (model.region_head, model.mask_head):
        torch.nn.init.normal_(head[-1].weight)
    with torch.no_grad():
        found = model.regions(pixels, inside, masks)
        mean = torch.tensor(model.config.pixel_mean).view(3, 1, 1)
        std = torch.tensor(model.config.pixel_std).view(3, 1, 1)
        maps = model.encoder((pixels - mean) / std * inside[:, None], output_hidden_states=True)
        levels = [*maps.decoder_hidden_states, maps.decoder_last_hidden_state]
        assert [level.shape[-1] for level in levels] == [2, 4, 8, 16]
        pooled = pool(levels, (masks > 0).float())
        assert pooled.shape[-1] == 4 * 32
        whole = pooled + model.region_head(pooled)
        torch.testing.assert_close(found.named, model.to_words(whole))
        for q in (0, 3):
            weights = model.mask_head(whole)[:, q, :, None, None]
            torch.testing.assert_close(
                found.mask_logits[:, q], masks[:, q] + (weights * levels[-1]).sum(1),
                atol=1e-4, rtol=1e-4,
            )  # fmt: skip
            weights = model.noise_head(whole)[:, q, :, None, None]
            level = (((weights * levels[-1]).sum(1) + model.noise_bias[0]) / 2).exp()
            torch.testing.assert_close(found.noise[:, q], level)


def test_noise_teaches_nothing_but_its_own_head(model: XpmModel) -> None:
    pixels, inside = frames()
    model.regions(pixels, inside, torch.randn(2, 5, 16, 16)).noise.sum().backward()
    found = {name for name, p in model.learned.named_parameters() if p.grad is not None}
    assert found == {"noise_head.weight", "noise_head.bias", "noise_bias.0"}
    model.zero_grad(set_to_none=True)


def test_names_are_the_softmax_with_the_zero_background(model: XpmModel) -> None:
    named, words = torch.randn(1, 5, 8), F.normalize(torch.randn(4, 8), dim=-1)
    found = model.classify(named, words, 2)  # two names, a distractor, CLIP's background
    for q in range(5):
        logits = [float(named[0, q] @ word) for word in words[:3]] + [0.0]
        for k in range(2):
            expected = -cross_entropy(logits, k)
            assert float(found[0, q, k]) == pytest.approx(expected, abs=1e-5)


def test_the_encoder_is_a_copy(model: XpmModel) -> None:
    """What proposes stays what all systems share, whatever XPM learns."""
    own = {id(p) for p in model.learned.parameters()}
    assert not own & {id(p) for p in model.proposer.parameters()}
    theirs = model.proposer.segmenter.model.pixel_level_module.state_dict()
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, theirs[name]), name
