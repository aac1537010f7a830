"""Votes first, then their scores resized: against the K x H x W tensor that is never made."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from masqclip.decoding import resized_scores
from masqclip.decoding.masks import ResizedMasks
from masqclip.decoding.resized_scores import decode_resized_scores
from masqclip.decoding.semantic import decode_semantic


@pytest.mark.parametrize("chunk", [1, 3 * 45 * 70, 1 << 24])
def test_equals_the_published_order_of_steps(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resized_scores, "_CHUNK_ELEMENTS", chunk)
    torch.manual_seed(0)
    logits, log_probs = torch.randn(6, 16, 24) * 4, torch.randn(6, 7).log_softmax(-1)
    masks = ResizedMasks(logits, (64, 96), (60, 93), (45, 70))
    framed = F.interpolate(logits[None], size=(64, 96), mode="bilinear", align_corners=False)
    votes = torch.einsum("qk,qhw->khw", log_probs.exp(), framed[0].sigmoid())[:, :60, :93]
    scores = F.interpolate(votes[None], size=(45, 70), mode="bilinear", align_corners=False)[0]
    winner = decode_resized_scores(masks, log_probs)
    assert (winner == scores.argmax(0)).float().mean() > 0.999  # ties in the last digit
    other = decode_semantic(masks, log_probs).class_map
    assert (winner != other).any(), "the order of the steps matters"


@pytest.mark.parametrize("classes_at_once", [1, 2, 7])
def test_of_equal_scores_the_first_class_wins(
    classes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the two are looked at one after the other."""
    monkeypatch.setattr(resized_scores, "_CHUNK_ELEMENTS", classes_at_once * 45 * 70)
    chance = torch.Generator().manual_seed(0)
    masks = ResizedMasks(torch.randn(6, 16, 24, generator=chance), (64, 96), (60, 93), (45, 70))
    log_probs = torch.randn(6, 3, generator=chance).log_softmax(-1)
    twice = decode_resized_scores(masks, log_probs.repeat_interleave(2, dim=1))
    assert torch.equal(twice, 2 * decode_resized_scores(masks, log_probs))
    assert twice.unique().tolist() == [0, 2, 4]
