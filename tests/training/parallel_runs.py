"""Trains every kind of stage for a few steps; run by one process and, launched, by two.

accelerate launch --cpu --num_processes 2 parallel_runs.py SCENES WINDOWS CLIP TEACHER OUT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from test_stages import SMALL_CLIP, SMALL_TEACHER

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.proposals.mask2former import miniature_mask2former_config
from masqclip.training.loop import train
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import LoopSettings, TuneSettings
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

LOOP = LoopSettings(steps=4, clip_norm=1.0, workers=0, log_every=1)
TUNE = TuneSettings(augmentation="none", batch_size=4, learning_rate=1e-3, shortest_edge=64)


def teacher(scenes: Path, *, freeze_batch_norm: bool = False) -> Stage:
    settings = replace(SMALL_TEACHER, freeze_batch_norm=freeze_batch_norm)
    dataset = CocoPanoptic(scenes, keep=is_base)
    return TeacherStage(dataset, miniature_mask2former_config(), settings)


def tune(scenes: Path, clip: Path, proposer: Path) -> Stage:
    model, tokenizer = join(clip, proposer, TUNE)
    return TuneStage(model, tokenizer, CocoPanoptic(scenes, keep=is_base), TUNE)


def run_all(scenes: Path, windows: Path, clip: Path, proposer: Path, out: Path) -> None:
    """Train each stage in OUT/name."""
    train(PretrainStage([windows], SMALL_CLIP), LOOP, out / "pretrain", device="cpu")
    train(teacher(scenes), LOOP, out / "teacher", device="cpu")
    train(tune(scenes, clip, proposer), LOOP, out / "tune", device="cpu")


if __name__ == "__main__":
    run_all(*map(Path, sys.argv[1:]))
    assert PartialState().num_processes == 2
