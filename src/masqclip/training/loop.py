"""One training loop for every stage, on one process or many.

A stage says what trains, what a batch is and what is minimised (`stage.py`); the loop does the
rest: AdamW, the schedule, clipping, precision, accumulation, checkpoints, evaluation, figures.
Hugging Face Accelerate spreads it over processes: ``accelerate launch`` decides over how many, and
whether by DDP or FSDP, and nothing here changes.

- Step `s` of seed `z` is a function of (z, s) and of the weights, so a run that stops and goes on
  gives the same losses as one that never stopped. Each process takes its share of the same batch,
  so several give the same losses as one.
- Losses are shares of the whole batch's; gradients are summed over all parts, not averaged.
- SIGTERM and Ctrl-C end the step in progress, save a checkpoint and return, in all processes.
"""

from __future__ import annotations

import atexit
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from masqclip.data.files import write_atomically
from masqclip.data.locks import lock_folder
from masqclip.errors import MasqclipError, require
from masqclip.evaluation.processes import leave_group
from masqclip.training.checkpoints import Checkpoints, Position
from masqclip.training.curves import write_curves
from masqclip.training.distributed import synchronise_batch_norm
from masqclip.training.inputs import claim_inputs
from masqclip.training.loading import batches, ended_workers_told
from masqclip.training.memory import peak_memory
from masqclip.training.optimizers import make_optimizer
from masqclip.training.saving import save_result
from masqclip.training.settings import LoopSettings
from masqclip.training.signals import stop_signals
from masqclip.training.stage import Counts, Share, Stage, to_device
from masqclip.training.trackers import Tracker, open_trackers

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Progress:
    """Where a run stands; handed to the `report` callback after every step.

    Attributes:
        step, steps: done, and of how many.
        losses: of the step, over the whole batch.
        images_per_second: since this call began, over all processes.
        waiting: share of the time since then that was spent waiting for a batch.
        seconds: of all calls together.
        seconds_left: at this speed.
        memory: the most that was in use, in bytes, of the GPU, else of the main process; 0 where
            the system does not say.
    """

    step: int
    steps: int
    losses: dict[str, float]
    images_per_second: float
    waiting: float
    seconds: float
    seconds_left: float
    memory: int


class Trainer:
    """Takes optimizer steps: the state of a run in memory.

    Args:
        stage: what trains; it is moved to the device.
        settings: how.
        device: ``cpu`` keeps it off a GPU; else the best there is, or the process's own.

    Raises:
        MasqclipError: Accelerate is not installed, or the batch cannot be split as asked.
    """

    def __init__(self, stage: Stage, settings: LoopSettings, device: str | None = None) -> None:
        self.stage, self.settings = stage, settings
        self.accelerator = _accelerator(settings.precision, device)
        self.processes = self.accelerator.num_processes
        self.parts = self.processes * settings.accumulate
        Share(0, self.parts).of(stage.settings.batch_size)
        if settings.accumulate > 1 and not stage.accumulates:
            raise MasqclipError(
                f"accumulate = {settings.accumulate}: {stage.name} compares all pictures of a "
                "batch with one another and cannot split it; use 1, and a smaller batch_size or "
                "more processes"
            )
        stage.to(self.accelerator.device)
        stage.module.train()
        if self.processes > 1:
            synchronise_batch_norm(stage.module)
        self.model, self.optimizer = self.accelerator.prepare(
            _Losses(stage), make_optimizer(stage.parameter_groups())
        )
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def batches(self, first: int) -> Generator[list[Any], None, None]:
        """For each step from `first` on, this process's micro-batches."""
        return batches(
            self.stage,
            self.settings,
            first,
            process=self.accelerator.process_index,
            processes=self.processes,
            pinned=self.accelerator.device.type == "cuda",
        )

    def step(self, step: int, parts: Sequence[Any]) -> dict[str, float]:
        """Take one step. Returns the losses of the whole batch.

        Raises:
            MasqclipError: the loss is no longer a number; the weights are as before.
        """
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.settings.learning_rate_factor(step)
        prepared, totals = self._prepare(parts)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(prepared):
            last = number == len(prepared) - 1
            # For whatever draws from the global generator, such as dropout.
            share = number * self.processes + self.accelerator.process_index
            torch.manual_seed((self.settings.seed * 1_000_003 + step) * self.parts + share)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                losses: dict[str, Tensor] = self.model(part, totals)
                # DDP and FSDP average gradients over processes; shares want to be summed.
                self.accelerator.backward(losses["loss"] * self.processes)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float()
        stacked = self.accelerator.reduce(torch.stack(list(sums.values())), "sum")
        values = dict(zip(sums, stacked.tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise MasqclipError(
                f"{self.stage.name}: the loss is {values['loss']} at step {step + 1}; lower the "
                "learning rate, or go on from the run's last checkpoint"
            )
        if self.settings.clip_norm > 0:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return values

    def agree(self, wish: bool) -> bool:
        """Whether any process has a wish, such as to stop."""
        if self.processes == 1:
            return wish
        wishes = torch.tensor(wish, dtype=torch.float32, device=self.accelerator.device)
        return bool(self.accelerator.reduce(wishes, "sum") > 0)

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """The stage's module with all its parameters in this process, outside of training."""
        from torch.distributed.fsdp import FSDPModule

        sharded = [module for module in self.model.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.unshard()
        self.stage.module.eval()
        yield self.stage.module
        self.stage.module.train()
        for module in sharded:
            module.reshard()

    def _prepare(self, parts: Sequence[Any]) -> tuple[list[Any], Counts]:
        """The parts with their targets, and the counts of the whole batch."""
        prepared, totals = [], dict[str, Tensor]()
        for part in parts:
            with torch.no_grad(), self.accelerator.autocast():
                ready, counts = self.stage.prepare(to_device(part, self.accelerator.device))
            prepared.append(ready)
            for name, count in counts.items():
                totals[name] = totals.get(name, 0.0) + count.float()
        if totals and self.processes > 1:
            totals = self.accelerator.reduce(totals, "sum")
        return prepared, totals


def train(
    stage: Stage,
    settings: LoopSettings,
    out: str | Path,
    *,
    device: str | None = None,
    report: Callable[[Progress], None] | None = None,
    track: Sequence[str] = (),
) -> bool:
    """Train a stage, going on from `out`'s newest checkpoint when it has one.

    Args:
        stage: what trains.
        settings: how.
        out: folder of the run: checkpoints, recipe, log, curves, and at the end the result (the
            last weights), with ``best/`` beside it where the stage evaluates.
        device: ``cpu`` keeps it off a GPU.
        report: called after every step, in the main process.
        track: services that get the figures as well: ``wandb``, ``trackio``.

    Returns:
        True when all steps are done and the result is saved; False when time or a signal ended
        the run earlier, with a checkpoint that the next call goes on from.

    Raises:
        MasqclipError: the checkpoint is damaged, or belongs to another stage, other settings, data
            or weights; another process trains in the folder; a loss is no longer a number; or a
            worker fails.
    """
    folder = Path(out)
    trainer = Trainer(stage, settings, device)
    # In a folder of its own: who prepares the run may hold the run's.
    main = trainer.accelerator.is_main_process
    held = lock_folder(folder / "checkpoints") if main else nullcontext()
    with held, ended_workers_told():
        return _run(trainer, folder, report, track)


def _run(
    trainer: Trainer,
    folder: Path,
    report: Callable[[Progress], None] | None,
    track: Sequence[str],
) -> bool:
    """`train` of a trainer that has the folder to itself."""
    stage, settings = trainer.stage, trainer.settings
    main = trainer.accelerator.is_main_process
    if main:
        claim_inputs(folder, stage.inputs)
    checkpoints = Checkpoints(folder, stage, settings, trainer.accelerator)
    begin = checkpoints.resume(trainer.model, trainer.optimizer.optimizer)
    config = asdict(stage.settings) | {"loop": asdict(settings)}
    trackers = open_trackers(folder, begin.step, track, config) if main else []
    started = ready = time.monotonic()
    waited = 0.0
    step = begin.step
    with stop_signals() as stopped, closing(trainer.batches(step)) as batches:
        for parts in batches:
            waited += time.monotonic() - ready
            values = trainer.step(step, parts)
            step += 1
            elapsed = time.monotonic() - started
            now = _progress(stage, settings, begin, step, values, elapsed, waited)
            if report is not None and main:
                report(now)
            finished = step == settings.steps
            if step % settings.log_every == 0 or finished:
                for tracker in trackers:
                    speed = {"images_per_second": now.images_per_second, "waiting": now.waiting}
                    tracker.log(step, speed | values)
            if finished or (settings.eval_every and step % settings.eval_every == 0):
                _evaluate(trainer, checkpoints, folder, step, trackers)
            out_of_time = 0 < settings.max_minutes * 60 <= time.monotonic() - started
            stop = trainer.agree(bool(stopped) or out_of_time) or finished
            if stop or step % settings.save_every == 0:
                at = Position(step, now.seconds)
                for tracker in trackers:  # what a checkpoint stands for is never lost after it
                    tracker.flush()
                checkpoints.save(trainer.model, trainer.optimizer.optimizer, at)
                if main:
                    write_curves(folder)
            if stop:
                break
            ready = time.monotonic()
    for tracker in trackers:
        tracker.close()
    if step == settings.steps:
        _save_result(trainer, checkpoints, folder)
    trainer.accelerator.wait_for_everyone()
    return step == settings.steps


def _evaluate(
    trainer: Trainer, checkpoints: Checkpoints, folder: Path, step: int, trackers: Sequence[Tracker]
) -> None:
    """Let the stage measure itself in the main process, and keep its weights if they are best."""
    figures: dict[str, float] = {}
    pictures = folder / "evaluation"
    with trainer.whole():
        if trainer.accelerator.is_main_process:
            figures = trainer.stage.evaluate(pictures, step)
    shared = [figures]
    if trainer.processes > 1:
        torch.distributed.broadcast_object_list(shared)
    if not shared[0]:
        return
    checkpoints.keep_best(trainer.model, step, shared[0])
    for tracker in trackers:
        tracker.log(step, {f"evaluation/{name}": value for name, value in figures.items()})
        for path in sorted(pictures.glob(f"*-{step:08d}.png")):
            tracker.picture(step, path.stem.removesuffix(f"-{step:08d}"), path)


def _save_result(trainer: Trainer, checkpoints: Checkpoints, folder: Path) -> None:
    """Write the model of the last step, and that of the best one."""
    best = checkpoints.best()
    with trainer.whole() as module:
        if not trainer.accelerator.is_main_process:
            return
        save_result(trainer.stage, folder)
        if best is not None:
            prefix = f"{_Losses.TRAINED}."
            module.load_state_dict(
                {name.removeprefix(prefix): value for name, value in best["model"].items()}
            )
            save_result(trainer.stage, folder / "best")
            about = {name: best[name] for name in ("step", "figure", "value")}
            write_atomically(folder / "best" / "best.json", json.dumps(about).encode())


def _progress(
    stage: Stage,
    settings: LoopSettings,
    begin: Position,
    step: int,
    losses: dict[str, float],
    elapsed: float,
    waited: float,
) -> Progress:
    speed = (step - begin.step) / elapsed
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = peak_memory()
    return Progress(
        step=step,
        steps=settings.steps,
        losses=losses,
        images_per_second=speed * stage.settings.batch_size,
        waiting=waited / elapsed,
        seconds=begin.seconds + elapsed,
        seconds_left=(settings.steps - step) / speed,
        memory=memory,
    )


class _Losses(nn.Module):
    """A stage's losses as a forward pass, which is what DDP and FSDP attach themselves to."""

    TRAINED = "trained"

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.trained = stage.module
        self._losses = stage.losses

    def forward(self, batch: Any, totals: Counts) -> dict[str, Tensor]:
        return self._losses(batch, totals)


def _accelerator(precision: str, device: str | None) -> Accelerator:
    """Accelerate for this run."""
    require("accelerate", extra="train", purpose="training")
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, PartialState

    cpu = device == "cpu"
    # Accelerate keeps one precision and one device a process; runs may follow one another in ours.
    AcceleratorState._reset_state(reset_partial_state=PartialState(cpu=cpu).num_processes == 1)
    # Which parameters have a gradient may depend on the batch.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[ddp])
    atexit.register(leave_group)
    plugin = accelerator.state.fsdp_plugin if accelerator.distributed_type == "FSDP" else None
    if plugin is not None and plugin.fsdp_version != 2:
        raise MasqclipError("FSDP: set fsdp_version: 2 (accelerate launch --fsdp_version 2)")
    return accelerator
