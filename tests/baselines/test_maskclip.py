"""MaskCLIP's parts against its formulas, written out once more in loops."""

from __future__ import annotations

import math
from itertools import pairwise, permutations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small import frames, joined
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from masqclip.baselines import maskclip
from masqclip.baselines.maskclip import (
    MaskClipModel,
    RelativeMaskAttention,
    attend_with_bias,
    maskclip_counts,
    maskclip_losses,
    places,
)
from masqclip.clip.masked_vision import MaskQueries
from masqclip.proposals.criterion import CriterionSettings
from masqclip.towers.families import tower_of


def quick_gelu(x: Tensor) -> Tensor:
    return x / (1 + (-1.702 * x).exp())


def part() -> RelativeMaskAttention:
    """Beside a block of 2 heads of 4, for patches of 3 x 3 pixels."""
    torch.manual_seed(0)
    made = RelativeMaskAttention(8, 2, 3)
    torch.nn.init.normal_(made.norm.weight)  # a norm that changes something
    torch.nn.init.normal_(made.norm.bias)
    return made


def layer_norm(x: Tensor, norm: Any) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


@torch.no_grad()
def test_the_bias_is_how_a_mask_lies_in_a_patch_times_the_patch() -> None:
    told, masks, patches = part(), torch.randn(2, 3, 6, 9), torch.randn(2, 6, 8)
    found = told.bias(masks, patches)
    assert found.shape == (2, 2, 3, 6)
    for b in range(2):
        for q in range(3):
            for p in range(6):
                row, column = divmod(p, 3)
                window = masks[b, q, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].tanh()
                shape = layer_norm(told.shape(window.reshape(9)), told.norm)
                key = told.key(patches[b, p])
                for head in range(2):
                    some = slice(4 * head, 4 * head + 4)
                    expected = float(shape[some] @ key[some]) / math.sqrt(4)
                    assert float(found[b, head, q, p]) == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_a_residual_lands_in_its_patch_row_by_row() -> None:
    told = part()
    told.refine.weight.zero_()
    told.refine.bias.zero_()
    told.refine.weight[:, 5] = torch.arange(9.0)  # of channel 5: the second head's second
    query = torch.full((1, 2, 1, 4), 2.0)  # the root of 4, so that asked is one
    key = torch.zeros(1, 2, 6, 4)
    key[0, 1, 4, 1] = 0.7  # patch 4 of 2 x 3: the second row's second
    found = told.residual(query, key, (2, 3))
    expected = torch.zeros(1, 1, 6, 9)
    expected[0, 0, 3:, 3:6] = quick_gelu(torch.tensor(0.7)) * torch.arange(9.0).reshape(3, 3)
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_the_residual_is_what_is_asked_times_what_is_answered() -> None:
    told, query, key = part(), torch.randn(2, 2, 3, 4), torch.randn(2, 2, 6, 4)
    found = told.residual(query, key, (2, 3))
    for b, q, p in ((0, 0, 0), (0, 2, 3), (1, 1, 5), (1, 2, 1)):
        row, column = divmod(p, 3)
        product = (query[b, :, q] / 2 * key[b, :, p]).flatten()  # head by head
        pixels = told.refine(quick_gelu(product)).reshape(3, 3)
        window = found[b, q, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        torch.testing.assert_close(window, pixels)


def test_attention_is_told_of_patches_only() -> None:
    query, key, value = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 6, 4), torch.randn(1, 2, 6, 4)
    bias, visible = torch.randn(1, 2, 3, 5), torch.rand(1, 3, 5) > 0.5
    visible[0, 1] = False  # a mask without a patch reads the class token
    found = attend_with_bias(query, key, value, bias, visible)
    for head in range(2):
        for q in range(3):
            logits = [query[0, head, q] @ key[0, head, 0] / 2]
            values = [value[0, head, 0]]
            for p in range(5):
                if visible[0, q, p]:
                    own = query[0, head, q] @ key[0, head, 1 + p] / 2
                    logits.append((own + bias[0, head, q, p]) / 2)
                    values.append(value[0, head, 1 + p])
            weights = torch.stack(logits).exp()
            weights = weights / weights.sum()
            expected = (weights[:, None] * torch.stack(values)).sum(0)
            torch.testing.assert_close(found[0, head, q], expected, atol=1e-5, rtol=1e-5)


def test_its_places_are_a_quarter_apart() -> None:
    assert places(24) == (5, 11, 17, 23)
    assert places(12) == (2, 5, 8, 11)
    assert places(6) == (1, 2, 4, 5)
    assert places(4) == (0, 1, 2, 3)
    assert [places(layers) for layers in (3, 2, 1)] == [(0, 1, 2), (0, 1), (0,)]


@torch.no_grad()
def refined_by_hand(
    model: MaskClipModel, pixels: Tensor, mask_logits: Tensor
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """`MaskClipModel.refine`, mask by mask; and the patches that masks see in each block.

    The picture's tokens are those of transformers' own forward pass, which knows of no masks.
    """
    vision, side = model.clip.vision_model, 6
    inputs = model._clip_input(pixels)
    tokens = vision(inputs, output_hidden_states=True).hidden_states
    masks = F.interpolate(mask_logits, size=(24, 24), mode="bilinear", align_corners=False)
    refined = [masks.clone() for _ in range(4)]
    embeddings = torch.zeros(*masks.shape[:2], 8)
    seen = [torch.zeros(*masks.shape[:2], 16, dtype=torch.bool) for _ in range(4)]
    for b in range(masks.shape[0]):
        for q in range(masks.shape[1]):
            mask, own = masks[b, q].clone(), tokens[0][b, 0]
            for n, layer in enumerate(vision.encoder.layers):
                attention, told = layer.self_attn, model.attention[n]
                assert isinstance(told, RelativeMaskAttention)
                normed = layer.layer_norm1(tokens[n][b])
                key, value = attention.k_proj(normed), attention.v_proj(normed)
                query = attention.q_proj(layer.layer_norm1(own))
                windows = [
                    mask[side * r : side * r + side, side * c : side * c + side].clone()
                    for r in range(4)
                    for c in range(4)
                ]
                seen[n][b, q] = torch.tensor([bool((window > 0).any()) for window in windows])
                mixed = []
                for head in range(2):
                    some = slice(8 * head, 8 * head + 8)
                    logits, values = [query[some] @ key[0, some] / 8**0.5], [value[0, some]]
                    for p, window in enumerate(windows):
                        if not seen[n][b, q, p]:
                            continue
                        shape = layer_norm(told.shape(window.tanh().reshape(-1)), told.norm)
                        bias = shape[some] @ told.key(normed[1 + p])[some] / 8**0.5
                        logits.append((query[some] @ key[1 + p, some] / 8**0.5 + bias) / 2)
                        values.append(value[1 + p, some])
                    weights = torch.stack(logits).softmax(0)
                    mixed.append((weights[:, None] * torch.stack(values)).sum(0))
                for p in range(16):
                    r, c = divmod(p, 4)
                    product = query / 8**0.5 * key[1 + p]
                    added = told.refine(quick_gelu(product)).reshape(side, side)
                    mask[side * r : side * r + side, side * c : side * c + side] += added
                refined[n][b, q] = mask
                own = own + attention.out_proj(torch.cat(mixed))
                own = own + layer.mlp(layer.layer_norm2(own))
            embeddings[b, q] = model.clip.visual_projection(vision.post_layernorm(own))
    return refined, embeddings, seen


@pytest.fixture(scope="module")
def model() -> MaskClipModel:
    made = joined(MaskClipModel)
    for told in made.attention:  # far enough that patches come and go
        torch.nn.init.normal_(told.refine.weight, std=4.0)
        torch.nn.init.normal_(told.refine.bias, mean=-0.5)
    return made


def test_refining_is_the_naive_way_through_the_tower(model: MaskClipModel) -> None:
    pixels, _ = frames()
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 2
    logits[0, 0] = -50.0  # a mask without a patch
    with torch.no_grad():
        refined, embeddings = model.refine(pixels, logits)
    masks, expected, seen = refined_by_hand(model, pixels, logits)
    assert len(refined) == 4
    for ours, theirs in zip(refined, masks, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=1e-4)
    # What a mask sees follows its refined self, anew in every block.
    for before, after in pairwise(seen):
        assert not torch.equal(before, after)


def test_masks_are_read_one_by_one(model: MaskClipModel) -> None:
    """Nobody attends to a mask class token: neither the picture nor another mask."""
    pixels, _ = frames(1)
    logits = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        masks, embeddings = model.refine(pixels, logits)
        alone = [model.refine(pixels, logits[:, q : q + 1]) for q in range(4)]
    for q, (own, embedding) in enumerate(alone):
        torch.testing.assert_close(own[-1][:, 0], masks[-1][:, q])
        torch.testing.assert_close(embedding[:, 0], embeddings[:, q])


def test_nothing_of_clip_and_of_the_proposals_learns(model: MaskClipModel) -> None:
    pixels, inside = frames(1)
    model.requires_grad_(False)
    model.learned.requires_grad_(True)
    masks, embeddings = model.refine(pixels, model.propose(pixels, inside).mask_logits)
    (sum(mask.sum() for mask in masks) + embeddings.sum()).backward()
    learned = {id(p) for p in model.learned.parameters()}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in learned), name
    model.zero_grad(set_to_none=True)


def test_the_published_sizes_are_the_published_numbers() -> None:
    vision = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
    }  # fmt: skip
    with torch.device("meta"):
        tower = tower_of(CLIPModel(CLIPConfig(vision_config=vision)))
        ours = [RelativeMaskAttention(1024, 16, 14) for _ in places(24)]
        queries = MaskQueries(tower)
    assert sum(p.numel() for told in ours for p in told.parameters()) == 5_817_104
    assert sum(p.numel() for p in queries.parameters()) == 25_191_424


# The loss, on masks whose every pixel is a point.

SETTINGS = CriterionSettings(
    class_weight=2.0, mask_weight=5.0, dice_weight=5.0, no_object_weight=0.0, num_points=16,
    importance_ratio=0.0,
)  # fmt: skip


@pytest.fixture
def every_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are the centres of all 4 x 4 pixels, over and over."""
    steps = (torch.arange(4) + 0.5) / 4
    centres = torch.cartesian_prod(steps, steps)

    def grid(chances: object, counts: list[int], points: int) -> Tensor:
        return centres.repeat(points // 16, 1).expand(sum(counts), points, 2)

    monkeypatch.setattr(maskclip, "draw_points", grid)


def bce(logits: Tensor, mask: Tensor) -> float:
    terms = [
        math.log(1 + math.exp(-x if t else x))
        for x, t in zip(logits.flatten().tolist(), mask.flatten().tolist(), strict=True)
    ]
    return sum(terms) / len(terms)


def dice(logits: Tensor, mask: Tensor) -> float:
    probs = [1 / (1 + math.exp(-x)) for x in logits.flatten().tolist()]
    wanted = [float(t) for t in mask.flatten().tolist()]
    shared = sum(p * t for p, t in zip(probs, wanted, strict=True))
    return 1 - (2 * shared + 1) / (sum(probs) + sum(wanted) + 1)


Case = tuple[list[Tensor], Tensor, list[Tensor], list[Tensor]]


@pytest.fixture
def case() -> Case:
    """3 masks in each of 2 pictures after 2 attentions, 4 names; 2 annotations, and none."""
    chance = torch.Generator().manual_seed(2)
    refined = [torch.randn(2, 3, 4, 4, generator=chance) for _ in range(2)]
    logits = 3 * torch.randn(2, 3, 4, generator=chance)
    masks = [torch.rand(2, 4, 4, generator=chance) > 0.5, torch.zeros(0, 4, 4).bool()]
    labels = [torch.tensor([2, 0]), torch.tensor([]).long()]
    return refined, logits, masks, labels


def by_hand(case: Case) -> float:
    """The loss of the only picture with annotations."""
    layers, logits, masks, labels = case
    refined = [layer[0] for layer in layers]
    probs = logits[0].softmax(-1)

    def cost(query: int, g: int) -> float:
        mask = masks[0][g]
        named = -2 * float(probs[query, labels[0][g]])
        return named + 5 * bce(refined[-1][query], mask) + 5 * dice(refined[-1][query], mask)

    pairs = min(permutations(range(3), 2), key=lambda p: cost(p[0], 0) + cost(p[1], 1))
    named = -sum(math.log(float(probs[q, labels[0][g]])) for g, q in enumerate(pairs)) / 2
    shapes = sum(
        bce(layer[q], masks[0][g]) + dice(layer[q], masks[0][g])
        for layer in refined
        for g, q in enumerate(pairs)
    )
    return 2 * named + 5 * shapes / 2


@pytest.mark.usefixtures("every_pixel")
def test_the_loss_is_that_of_the_cheapest_pairs(case: Case) -> None:
    refined, logits, masks, labels = case
    totals = maskclip_counts(labels, 3, SETTINGS)
    assert {name: float(value) for name, value in totals.items()} == {"masks": 2, "weight": 2}
    found = maskclip_losses(refined, logits, masks, labels, SETTINGS, seeds=[0, 1], totals=totals)
    assert float(found["loss"]) == pytest.approx(by_hand(case), rel=1e-5)
    assert set(found) == {"loss", "named", "mask", "dice"}


@pytest.mark.usefixtures("every_pixel")
@pytest.mark.parametrize("weight", ["class_weight", "mask_weight", "dice_weight"])
def test_every_weight_is_in_the_matching(case: Case, weight: str) -> None:
    """With one weight alone the pairs are those of its costs alone."""
    refined, logits, masks, labels = (part[:1] if isinstance(part, list) else part for part in case)
    zero: dict[str, Any] = dict.fromkeys(("class_weight", "mask_weight", "dice_weight"), 0.0)
    settings = CriterionSettings(**(zero | {weight: 1.0}), num_points=16, importance_ratio=0.0,
                                 no_object_weight=0.0)  # fmt: skip
    layer, probs = refined[-1][:1], logits[0].softmax(-1)
    totals = maskclip_counts(labels, 3, settings)
    found = maskclip_losses([layer], logits[:1], masks, labels, settings, seeds=[0], totals=totals)
    costs: dict[str, Any] = {
        "class_weight": lambda q, g: -float(probs[q, labels[0][g]]),
        "mask_weight": lambda q, g: bce(layer[0, q], masks[0][g]),
        "dice_weight": lambda q, g: dice(layer[0, q], masks[0][g]),
    }
    cost = costs[weight]
    pairs = min(permutations(range(3), 2), key=lambda p: cost(p[0], 0) + cost(p[1], 1))
    losses = costs | {"class_weight": lambda q, g: -math.log(-cost(q, g))}
    expected = sum(losses[weight](q, g) for g, q in enumerate(pairs)) / 2
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)


def test_unmatched_masks_weigh_nothing(case: Case) -> None:
    refined, logits, masks, labels = case
    layers, logits = [layer.requires_grad_() for layer in refined], logits.requires_grad_()
    totals = maskclip_counts(labels, 3, SETTINGS)
    maskclip_losses(layers, logits, masks, labels, SETTINGS, seeds=[0, 1], totals=totals)[
        "loss"
    ].backward()
    for gradient in (logits.grad, layers[0].grad, layers[1].grad):
        assert gradient is not None
        assert gradient.flatten(2).any(-1).sum(1).tolist() == [2, 0]


def test_both_halves_of_a_batch_are_the_whole(case: Case) -> None:
    refined, logits, _, labels = case
    masks = [case[2][0], torch.rand(1, 4, 4) > 0.3]
    labels = [labels[0], torch.tensor([1])]
    settings = CriterionSettings(no_object_weight=0.3, num_points=16)
    totals = maskclip_counts(labels, 3, settings)
    assert float(totals["weight"]) == pytest.approx(3 + 0.3 * 3)
    whole = maskclip_losses(refined, logits, masks, labels, settings, seeds=[5, 6], totals=totals)
    halves = [
        maskclip_losses(
            [layer[i : i + 1] for layer in refined], logits[i : i + 1], masks[i : i + 1],
            labels[i : i + 1], settings, seeds=[5 + i], totals=totals,
        )
        for i in range(2)
    ]  # fmt: skip
    for name, value in whole.items():
        torch.testing.assert_close(halves[0][name] + halves[1][name], value)


def test_a_batch_without_annotations_has_a_loss_of_nothing(case: Case) -> None:
    refined, logits, masks, labels = case
    none, nothing = [masks[1]] * 2, [labels[1]] * 2
    found = maskclip_losses(
        refined, logits, none, nothing, SETTINGS, seeds=[0, 1],
        totals=maskclip_counts(nothing, 3, SETTINGS),
    )  # fmt: skip
    assert float(found["loss"]) == 0


def test_more_annotations_than_masks(case: Case) -> None:
    """The rest is not matched, and counts as missing in the mean of masks as elsewhere."""
    refined, logits, _, _ = case
    masks, labels = [torch.rand(5, 4, 4) > 0.5], [torch.tensor([0, 1, 2, 0, 1])]
    totals = maskclip_counts(labels, 3, SETTINGS)
    assert {name: float(value) for name, value in totals.items()} == {"masks": 5, "weight": 3}
    found = maskclip_losses(
        [layer[:1] for layer in refined], logits[:1], masks, labels, SETTINGS, seeds=[0],
        totals=totals,
    )  # fmt: skip
    assert found["loss"].isfinite()
