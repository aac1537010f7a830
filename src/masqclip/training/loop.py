"""One training loop for every stage.

A stage says what trains, what a batch is and what is minimised (`Stage`); the loop does the rest:
AdamW, the schedule, gradient clipping, bfloat16, checkpoints, progress.

- Step `s` of seed `z` is a function of (z, s) and of the weights: batches are drawn from (z, s) and
  the random numbers that a loss draws are seeded anew at each step. So a run that stops and goes on
  gives the same losses as one that never stopped, and a checkpoint needs no generator states.
- A checkpoint is written to a temporary name and then takes its place, whole.
- SIGTERM and Ctrl-C end the step in progress, save a checkpoint and return.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError
from masqclip.training.settings import LoopSettings


class Stage(Protocol):
    """What one stage of training is made of."""

    @property
    def name(self) -> str:
        """The stage's name: it stands in checkpoints, which only fit their own stage."""

    @property
    def module(self) -> nn.Module:
        """What trains, and what a checkpoint holds."""

    def to(self, device: torch.device) -> None:
        """Move everything that the losses need, trained or frozen."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's groups, each with its ``lr`` and ``weight_decay``."""

    def batch(self, step: int) -> Any:
        """The batch of a step: a pure function of the seed and the step, on the CPU."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """``loss``, which is minimised, and whatever else is worth watching."""

    def save(self, folder: Path) -> None:
        """Write the trained result as a folder that `from_pretrained` reads."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands; handed to the `report` callback after every step."""

    step: int
    steps: int
    losses: dict[str, float]
    steps_per_second: float
    seconds: float


class _StepBatches(Dataset[Any]):
    """The batches of a stage by step number, for a DataLoader to prepare ahead."""

    def __init__(self, stage: Stage, first: int, steps: int) -> None:
        self.stage, self.first, self.steps = stage, first, steps

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Any:
        return self.stage.batch(self.first + index)


def train(
    stage: Stage,
    settings: LoopSettings,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    report: Callable[[Progress], None] | None = None,
) -> bool:
    """Train a stage, going on from `out`'s checkpoint when it has one.

    Args:
        stage: what trains.
        settings: how.
        out: folder of the run: ``checkpoint.pt``, ``log.jsonl``, and at the end the result.
        device: where it trains; the stage is moved there.
        report: called after every step.

    Returns:
        True when all steps are done and the result is saved; False when time or a signal ended
        the run earlier, with a checkpoint that the next call goes on from.

    Raises:
        MasqclipError: the checkpoint belongs to another stage or to other settings, or a loss is
            no longer a number.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(device)
    stage.to(device)
    stage.module.train()
    optimizer = torch.optim.AdamW(stage.parameter_groups())
    rates = [group["lr"] for group in optimizer.param_groups]
    first, seconds_before = _resume(stage, settings, optimizer, folder / "checkpoint.pt", device)
    _cut_log(folder / "log.jsonl", first)
    loader = DataLoader(
        _StepBatches(stage, first, settings.steps),
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals_to_parent,
    )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    started = time.monotonic()
    step = first
    with _stop_signals() as stopped, (folder / "log.jsonl").open("a") as log:
        for batch in loader:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * settings.learning_rate_factor(step)
            torch.manual_seed(settings.seed * 1_000_003 + step)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
                losses = stage.losses(_to(batch, device))
            values = {name: float(value.detach()) for name, value in losses.items()}
            if not math.isfinite(values["loss"]):
                raise MasqclipError(
                    f"{stage.name}: the loss is {values['loss']} at step {step + 1}; lower the "
                    f"learning rate, or go on from the checkpoint in {folder}"
                )
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            if settings.clip_norm > 0:
                nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            optimizer.step()
            step += 1
            elapsed = time.monotonic() - started
            speed = (step - first) / elapsed
            if report is not None:
                report(Progress(step, settings.steps, values, speed, seconds_before + elapsed))
            if step % settings.log_every == 0 or step == settings.steps:
                log.write(json.dumps({"step": step, "steps_per_second": round(speed, 3)} | values))
                log.write("\n")
                log.flush()
            out_of_time = 0 < settings.max_minutes * 60 <= elapsed
            stop = bool(stopped) or out_of_time or step == settings.steps
            if stop or step % settings.save_every == 0:
                seconds = seconds_before + elapsed
                _save(stage, settings, optimizer, folder / "checkpoint.pt", step, seconds)
            if stop:
                break
    if step < settings.steps:
        return False
    stage.module.eval()
    stage.save(folder)
    return True


def _save(
    stage: Stage,
    settings: LoopSettings,
    optimizer: torch.optim.Optimizer,
    path: Path,
    step: int,
    seconds: float,
) -> None:
    """Write a checkpoint under a temporary name, then give it its own."""
    scratch = path.with_suffix(".partial")
    state = {
        "stage": stage.name,
        "settings": asdict(settings),
        "step": step,
        "seconds": seconds,
        "module": stage.module.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with scratch.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    summary = {"stage": stage.name, "step": step, "steps": settings.steps, "seconds": seconds}
    write_atomically(path.with_name("progress.json"), json.dumps(summary).encode())


#: Settings that a resumed run may change without changing what it computes.
_FREE_SETTINGS = ("save_every", "log_every", "max_minutes", "workers")


def _resume(
    stage: Stage,
    settings: LoopSettings,
    optimizer: torch.optim.Optimizer,
    path: Path,
    device: torch.device,
) -> tuple[int, float]:
    """Load a run's checkpoint. Returns the steps done and the seconds that they took."""
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        saved = state["settings"]
    except Exception as error:
        raise MasqclipError(
            f"the checkpoint {path} cannot be read ({type(error).__name__}); delete it to start "
            "this run anew"
        ) from error
    if state["stage"] != stage.name:
        raise MasqclipError(
            f"{path} is a checkpoint of the stage {state['stage']!r}, not {stage.name!r}; choose "
            "another --out"
        )
    for name, value in asdict(settings).items():
        if name not in _FREE_SETTINGS and saved.get(name) != value:
            raise MasqclipError(
                f"{path} was trained with {name} = {saved.get(name)!r}, now it is {value!r}; keep "
                "the setting to go on, or choose another --out"
            )
    stage.module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def _cut_log(path: Path, step: int) -> None:
    """Drop log lines of steps that a kill undid: they are about to be written again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        write_atomically(path, "".join(line + "\n" for line in kept).encode())


def _to(batch: Any, device: torch.device) -> Any:
    """Move every tensor of a nested batch to the device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(_to(value, device) for value in batch)
    return batch


def _leave_signals_to_parent(worker: int) -> None:
    """Schedulers and terminals signal the whole process group; a worker that died of it would
    break off the checkpoint that its parent is writing. Workers end when the parent does.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of dying; a second one is obeyed at once."""
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: the caller deals with signals
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
