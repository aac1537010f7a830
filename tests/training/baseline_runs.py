"""The stages of the compared systems on tiny data."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.training.baseline_settings import (
    BaselineSettings,
    LSegSettings,
    MaskClipSettings,
    OpenSegSettings,
    XpmSettings,
)
from masqclip.training.baselines import BaselineStage
from masqclip.training.grounded import read_captions
from masqclip.training.loop import Trainer, train
from masqclip.training.settings import LoopSettings
from masqclip.training.systems import BASELINES, Ingredients, train_baseline

COMMON: dict[str, Any] = {
    "augmentation": "none", "batch_size": 4, "shortest_edge": 64, "learning_rate": 1e-3,
    "weight_decay": 0.01,
}  # fmt: skip
XPM = XpmSettings(**COMMON, assign_size=64, cells=20)
SETTINGS: Mapping[str, BaselineSettings] = {
    "maskclip": MaskClipSettings(**COMMON, num_points=64),
    "openseg": OpenSegSettings(**COMMON, width=32, queries=6, layers=2, heads=2),
    "lseg": LSegSettings(**COMMON),
    "xpm-captions": XPM,
    "xpm-teacher": XPM,
    "xpm-student": XPM,
}
STAGES = tuple(SETTINGS)
LOOP = LoopSettings(steps=2, clip_norm=1.0, workers=0, log_every=1, save_every=1)


def system_of(stage: str) -> str:
    """The system that a stage is of."""
    return next(system for system, stages in BASELINES.items() if stage in stages)


def ingredients(scenes: Path, clip: Path, proposer: Path, **changes: Any) -> Ingredients:
    """All that any of the systems is trained from."""
    given = Ingredients(
        clip,
        proposer,
        CocoPanoptic(scenes, keep=is_base),
        captions=read_captions(scenes),
        names=Vocabulary.parse("stickers"),
    )
    return replace(given, **changes)


def stage(name: str, given: Ingredients, out: Path, **changes: Any) -> Any:
    """A stage that has not begun; those before it are saved as they are, untrained.

    Args:
        name: of the stage.
        given: what from.
        out: an empty folder.
        changes: of its settings.
    """
    found: dict[str, BaselineStage] = {}
    settings = dict(SETTINGS) | {name: replace(SETTINGS[name], **changes)}

    def take(made: BaselineStage, goal: Path) -> bool:
        found[made.name] = made
        if made.name == name:
            return False
        made.save(goal)
        return True

    train_baseline(system_of(name), given, settings, out, take)
    return found[name]


def run(
    system: str,
    given: Ingredients,
    out: Path,
    loop: LoopSettings = LOOP,
    settings: Mapping[str, BaselineSettings] = SETTINGS,
) -> bool:
    """Train a system."""
    return train_baseline(
        system, given, settings, out, lambda stage, goal: train(stage, loop, goal, device="cpu")
    )


def steps(made: Any, count: int) -> None:
    """Take the first steps of a stage."""
    trainer = Trainer(made, LoopSettings(steps=count, clip_norm=1.0, workers=0), device="cpu")
    with closing(trainer.batches(0)) as batches:
        for step in range(count):
            trainer.step(step, next(batches))
