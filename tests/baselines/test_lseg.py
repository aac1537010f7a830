"""LSeg+'s parts against their formulas: the map of classes, the loss, pixels named by the words."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from small import frames, joined
from torch import Tensor

from masqclip.baselines.lseg import LOGIT_SCALE, VOID, LSegModel, class_map, lseg_loss
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import read_image
from masqclip.encoding import EncodedImage, encode_pictures
from masqclip.segments import find_segments


def box(top: int, left: int, bottom: int, right: int) -> Tensor:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_where_annotations_overlap_the_smaller_one_counts() -> None:
    masks = torch.stack([box(4, 4, 8, 8), box(0, 0, 12, 12), box(0, 0, 4, 16)])
    found = class_map(masks, torch.tensor([7, 3, 5]), (4, 4))
    expected = torch.tensor([[5, 5, 5, 5], [3, 7, 3, VOID], [3, 3, 3, VOID], [VOID] * 4])
    assert torch.equal(found, expected)
    order = torch.tensor([2, 0, 1])  # whatever the order of the annotations
    assert torch.equal(class_map(masks[order], torch.tensor([7, 3, 5])[order], (4, 4)), expected)


def test_a_pixel_of_the_map_is_what_is_at_its_middle() -> None:
    masks = torch.stack([box(0, 0, 16, 2), box(0, 0, 16, 3)])
    assert (class_map(masks[:1], torch.tensor([1]), (4, 4)) == VOID).all()
    found = class_map(masks[1:], torch.tensor([1]), (4, 4))
    assert found[:, 0].eq(1).all()
    assert found[:, 1:].eq(VOID).all()


def test_nothing_annotated_is_a_map_of_nothing() -> None:
    masks, labels = torch.zeros(0, 16, 16, dtype=torch.bool), torch.tensor([]).long()
    found = class_map(masks, labels, (4, 4))
    assert found.dtype == torch.int64
    assert found.eq(VOID).all()


def test_the_loss_is_the_cross_entropy_of_annotated_pixels() -> None:
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 8, 3, 3, generator=chance)
    words = F.normalize(torch.randn(4, 8, generator=chance), dim=-1)
    targets = torch.randint(4, (2, 3, 3), generator=chance)
    targets[0, 0] = targets[1, 2, 2] = VOID
    losses = []
    for b in range(2):
        for row in range(3):
            for column in range(3):
                target = int(targets[b, row, column])
                if target == VOID:
                    continue
                pixel = pixels[b, :, row, column]
                length = math.sqrt(sum(float(x) ** 2 for x in pixel))
                logits = [float(pixel @ word) / length / 0.07 for word in words]
                losses.append(math.log(sum(map(math.exp, logits))) - logits[target])
    assert len(losses) == 14
    total = torch.tensor(14.0)
    whole = lseg_loss(pixels, words, targets, total=total)
    assert float(whole) == pytest.approx(sum(losses) / 14, rel=1e-5)
    halves = [lseg_loss(pixels[i:][:1], words, targets[i:][:1], total=total) for i in range(2)]
    torch.testing.assert_close(halves[0] + halves[1], whole)


def test_a_batch_without_annotated_pixels_has_a_loss_of_nothing() -> None:
    pixels = torch.randn(1, 8, 2, 2, requires_grad=True)
    targets = torch.full((1, 2, 2), VOID)
    loss = lseg_loss(pixels, torch.randn(3, 8), targets, total=torch.tensor(0.0))
    loss.backward()
    assert float(loss.detach()) == 0
    assert pixels.grad is not None
    assert not pixels.grad.any()


@pytest.fixture(scope="module")
def model() -> LSegModel:
    return joined(LSegModel)


def test_the_temperature_is_a_constant(model: LSegModel) -> None:
    assert model.config.logit_scale == LOGIT_SCALE == 1 / 0.07
    given = joined(LSegModel, logit_scale=3.0)  # whatever the CLIP has learned
    assert given.config.logit_scale == LOGIT_SCALE
    names = {name for name, _ in model.learned.named_parameters()}
    assert not any("scale" in name for name in names)


def test_it_learns_the_encoder_and_the_head(model: LSegModel) -> None:
    pixels, inside = frames()
    model.requires_grad_(False)
    model.learned.requires_grad_(True)
    model.embed_pixels(pixels, inside).square().sum().backward()
    for name, parameter in model.named_parameters():
        learns = name.startswith(("head.", "proposer.segmenter.model.pixel_level_module."))
        assert (parameter.grad is not None) == learns, name
    model.zero_grad(set_to_none=True)


def encoded(model: LSegModel) -> EncodedImage:
    pixels, _ = frames(1)
    image = pixels[0, :, :, :56].permute(1, 2, 0).byte().numpy()
    (found,) = encode_pictures(model, [read_image(image)])
    return found


def test_every_pixel_is_named_by_the_nearest_word(model: LSegModel) -> None:
    """Of the names alone: no background; and distractors compete, but are never reported."""
    picture = encoded(model)
    pixels = picture.pixel_embeddings
    assert pixels is not None
    assert pixels.shape[1:] == (16, 16)
    chance = torch.Generator().manual_seed(1)
    # Words near where pixels are, so that each wins somewhere.
    centre = pixels.flatten(1).mean(1)
    words = F.normalize(centre + torch.randn(5, 8, generator=chance) * centre.norm() / 4, dim=-1)
    for classes in (4, 3):  # the fourth is a distractor then; the fifth, the background, never is
        unit = F.normalize(pixels, dim=0)
        probs = (torch.einsum("ehw,ke->khw", unit, words[:4]) / 0.07).softmax(dim=0)
        rows = torch.cat([words[:4], centre[None] / centre.norm()])  # a background as near as can
        masks, log_probs = picture.named(model, rows, classes)
        names = Vocabulary.parse(["ant", "bear", "cat", "dog"][:classes])
        found = find_segments(
            "semantic", masks, log_probs, names, min_score=0.0, overlap_threshold=0.0
        )
        shown = torch.full((64, 56), -1)
        for segment in found:
            shown[torch.from_numpy(segment.mask)] = segment.class_id
        winner = probs[:classes].argmax(dim=0)
        large = F.interpolate(
            probs[:classes].logit(eps=1e-6)[None], size=(64, 64), mode="bilinear"
        )[0].argmax(dim=0)[:, :56]
        assert torch.equal(shown, large)
        assert len(winner.unique()) > 1
        scores = {s.class_id: s.score for s in found}
        assert set(scores) <= set(range(classes))
        assert all(score <= 1 for score in scores.values())


def test_what_is_probable_is_reported(model: LSegModel) -> None:
    """A pixel's score is its probability: where a distractor wins, names score little."""
    picture = encoded(model)
    assert picture.pixel_embeddings is not None
    centre = F.normalize(picture.pixel_embeddings.flatten(1).mean(1), dim=0)
    rows = torch.stack([-centre, centre, centre])  # a name, a distractor, the background
    masks, log_probs = picture.named(model, rows, 1)
    names = Vocabulary.parse(["ant"])
    assert not find_segments(
        "semantic", masks, log_probs, names, min_score=0.3, overlap_threshold=0.0
    )
