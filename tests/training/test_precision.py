"""Half precision rounds the networks, not the comparison that the loss is taken of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.training import pretrain, tune
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import PretrainSettings, TuneSettings
from masqclip.training.stage import batch_losses
from masqclip.training.tune import TuneStage, join

HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])


@pytest.fixture
def tuning(tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path) -> TuneStage:
    settings = TuneSettings(
        batch_size=3, augmentation="none", masks="both", assign_size=64, shortest_edge=64
    )
    model, tokenizer = join(tiny_clip, tiny_proposer, settings)
    return TuneStage(model, tokenizer, CocoPanoptic(tiny_scenes, keep=is_base), settings)


@HALVES
def test_tuning_compares_embeddings_with_words_in_float32(
    tuning: TuneStage, half: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    compare = tune.clip_logits

    def record(embeddings: Tensor, words: Tensor, **options: Any) -> Tensor:
        seen.append((embeddings, compare(embeddings, words, **options)))
        return seen[-1][1]

    monkeypatch.setattr(tune, "clip_logits", record)
    with torch.autocast("cpu", half):
        losses = batch_losses(tuning, tuning.batch(0))
    ((embeddings, logits),) = seen
    assert embeddings.dtype == half  # the tower did run in it
    unit = F.normalize(embeddings.float(), dim=-1)
    expected = tuning.model.config.logit_scale * unit @ tuning.text_embeddings.T
    assert torch.equal(logits, expected)
    assert losses["loss"].dtype == torch.float32


@HALVES
def test_words_are_not_rounded_by_autocast(tuning: TuneStage, half: torch.dtype) -> None:
    with torch.autocast("cpu", half):
        again = TuneStage(tuning.model, tuning.tokenizer, tuning.dataset, tuning.settings)
    assert torch.equal(again.text_embeddings, tuning.text_embeddings)


@HALVES
def test_pretraining_compares_pictures_with_captions_in_float32(
    tiny_scenes: Path, half: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PretrainSettings(
        image_size=64, vision_width=32, vision_layers=1, vision_heads=2, text_width=32,
        text_layers=1, text_heads=2, embedding_size=32, merges=20, batch_size=4,
    )  # fmt: skip
    stage = PretrainStage([tiny_scenes], settings)
    compared: list[Tensor] = []
    spread = pretrain._spread

    def record(logits: Tensor, positives: Tensor) -> Tensor:
        compared.append(logits)
        return spread(logits, positives)

    monkeypatch.setattr(pretrain, "_spread", record)
    with torch.autocast("cpu", half):
        batch_losses(stage, stage.batch(0))
    assert [logits.dtype for logits in compared] == [torch.float32, torch.float32]
