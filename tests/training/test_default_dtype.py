"""Every stage trains and saves in float32, whatever the caller's default dtype is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import Mask2FormerConfig

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.training.distill import DistillStage
from masqclip.training.loop import train
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import (
    DistillSettings,
    LoopSettings,
    PretrainSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

SMALL = {"batch_size": 2, "image_size": 64, "num_points": 64, "freeze_batch_norm": False}
PRETRAIN = PretrainSettings(
    image_size=64, vision_width=32, vision_layers=1, vision_heads=2, text_width=32, text_layers=1,
    text_heads=2, embedding_size=32, merges=20, batch_size=4,
)  # fmt: skip
Make = Callable[[], Stage]


@pytest.fixture
def makers(tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path) -> dict[str, Make]:
    dataset = CocoPanoptic(tiny_scenes, keep=is_base)

    def teacher() -> Stage:
        config = Mask2FormerConfig.from_pretrained(tiny_proposer)
        return TeacherStage(dataset, config, TeacherSettings(**SMALL))

    def tune() -> Stage:
        settings = TuneSettings(
            batch_size=2, augmentation="none", masks="both", shortest_edge=64, query_start="random"
        )
        return TuneStage(*join(tiny_clip, tiny_proposer, settings), dataset, settings)

    return {
        "pretrain": lambda: PretrainStage([tiny_scenes], PRETRAIN),
        "teacher": teacher,
        "distill": lambda: DistillStage(dataset, tiny_proposer, DistillSettings(**SMALL)),
        "tune": tune,
    }


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["pretrain", "teacher", "distill", "tune"])
def test_a_stage_trains_and_saves(
    makers: dict[str, Make], name: str, tmp_path: Path, float64_by_default: None
) -> None:
    stage = makers[name]()
    assert train(stage, LoopSettings(steps=2), tmp_path, device="cpu")
    assert {p.dtype for p in stage.network.parameters()} == {torch.float32}
    assert (tmp_path / "model.safetensors").is_file()
