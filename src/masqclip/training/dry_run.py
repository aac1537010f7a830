"""What a run would be, without running it: its recipe, its sizes, and how long it would take."""

from __future__ import annotations

import time
from dataclasses import dataclass

from masqclip.training.loop import Trainer
from masqclip.training.recipes import write_recipe
from masqclip.training.settings import LoopSettings
from masqclip.training.stage import Stage

MEASURED_STEPS = 10


@dataclass(frozen=True)
class Forecast:
    """What a run would be.

    Attributes:
        recipe: every setting, as TOML.
        trainable, frozen: numbers of parameters.
        data: what the stage trains on, counted.
        processes: how many train together.
        seconds_per_step: the mean of ten steps, the first of all left out.
        seconds: of all steps, evaluations and checkpoints not counted.
    """

    recipe: str
    trainable: int
    frozen: int
    data: dict[str, int]
    processes: int
    seconds_per_step: float
    seconds: float


def forecast(stage: Stage, settings: LoopSettings, device: str | None = None) -> Forecast:
    """Take eleven steps in memory and say what a run would be; nothing is written.

    Args:
        stage: what would train; its weights change.
        settings: how.
        device: as for `train`.
    """
    trainer = Trainer(stage, settings, device)
    trainable = sum(p.numel() for p in stage.module.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in stage.network.parameters())
    started = time.monotonic()
    steps = min(MEASURED_STEPS, settings.steps - 1)
    for step, parts in enumerate(trainer.batches(0)):
        trainer.step(step, parts)
        if step == 0:  # it waits for workers, and libraries choose their algorithms in it
            started = time.monotonic()
        if step >= steps:
            break
    seconds = (time.monotonic() - started) / max(1, steps)
    return Forecast(
        recipe=write_recipe(stage.name, stage.settings, settings),
        trainable=trainable,
        frozen=everything - trainable,
        data=stage.data,
        processes=trainer.processes,
        seconds_per_step=seconds,
        seconds=seconds * settings.steps,
    )
