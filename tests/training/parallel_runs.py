"""Trains every kind of stage for a few steps; run by one process and, launched, by two.

accelerate launch --cpu --num_processes 2 parallel_runs.py SCENES WINDOWS CLIP TEACHER CACHE OUT
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import baseline_runs
import streams
import torch
from accelerate import PartialState

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.training.loop import Trainer, train
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import (
    LoopSettings,
    PretrainSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.stage import Stage
from masqclip.training.systems import BASELINES
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join
from tiny import tiny_proposer_config

LOOP = LoopSettings(steps=3, clip_norm=1.0, workers=0, log_every=1)
PRETRAIN = PretrainSettings(
    image_size=64, vision_width=32, vision_layers=2, vision_heads=2, text_width=32, text_layers=1,
    text_heads=2, embedding_size=32, merges=60, batch_size=8,
)  # fmt: skip
TEACHER = TeacherSettings(
    augmentation="none", batch_size=4, learning_rate=1e-4, backbone_multiplier=1.0, num_points=64
)
TUNE = TuneSettings(augmentation="none", batch_size=4, learning_rate=1e-3, shortest_edge=64)


def teacher(scenes: Path, *, backbone: Path | None = None) -> Stage:
    """A teacher's stage; a backbone comes with batch norms, which are frozen then, as published."""
    frozen = backbone is not None
    settings = replace(TEACHER, backbone=str(backbone or ""), freeze_batch_norm=frozen)
    return TeacherStage(CocoPanoptic(scenes, keep=is_base), tiny_proposer_config(), settings)


def tune(scenes: Path, clip: Path, proposer: Path) -> Stage:
    model, tokenizer = join(clip, proposer, TUNE)
    return TuneStage(model, tokenizer, CocoPanoptic(scenes, keep=is_base), TUNE)


def gradient(stage: Stage) -> float:
    """The norm of all gradients of a first step, which AdamW would hide the scale of."""
    trainer = Trainer(stage, replace(LOOP, clip_norm=0.0), device="cpu")
    with closing(trainer.batches(0)) as batches:
        trainer.step(0, next(batches))
    found = [parameter.grad for parameter in stage.module.parameters()]
    return float(torch.cat([part.flatten() for part in found if part is not None]).norm())


def run_all(
    scenes: Path, windows: Path, clip: Path, proposer: Path, cache: Path, out: Path
) -> None:
    """Train each stage in OUT/name."""
    train(PretrainStage([windows], PRETRAIN), LOOP, out / "pretrain", device="cpu")
    train(teacher(scenes), LOOP, out / "teacher", device="cpu")
    for kind in ("pretrain", "teacher"):  # of scenes that are drawn as they are needed
        drawn = streams.stage(kind, cache, steps=LOOP.steps)
        train(drawn, LOOP, out / f"streamed-{kind}", device="cpu")
    train(tune(scenes, clip, proposer), LOOP, out / "tune", device="cpu")
    given = baseline_runs.ingredients(scenes, clip, proposer)
    for system in BASELINES:
        baseline_runs.run(system, given, out / system, LOOP)
    found = gradient(tune(scenes, clip, proposer))
    (out / f"gradient-{PartialState().process_index}.txt").write_text(str(found))


if __name__ == "__main__":
    run_all(*map(Path, sys.argv[1:]))
    assert PartialState().num_processes == 2
