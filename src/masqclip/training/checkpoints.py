"""Checkpoints of a run: whole files, the newest few, and the weights that evaluated best.

- A checkpoint is written to a temporary name and then takes its place, so a kill at any moment
  leaves the ones before. It ends with a digest (`checkpoint_files.py`), so a damaged one is told.
- It fits the stage, the settings and the inputs (data, weights) that it was trained with only.
- Parameters and AdamW's state are stored whole and by name, whatever DDP or FSDP made of them: a
  run may go on with another number of processes.
- The schedule, the data and all random numbers follow from the step, so a checkpoint has no other
  state (but the loss scale of fp16).

A run's folder holds ``checkpoints/step-*.pt``, ``checkpoints/best.pt``, and beside them
``recipe.toml`` and ``progress.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError
from masqclip.training.checkpoint_files import read_checkpoint, write_checkpoint
from masqclip.training.inputs import check_inputs
from masqclip.training.recipes import write_recipe
from masqclip.training.settings import LoopSettings
from masqclip.training.stage import Stage

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Settings of the loop that a resumed run may change without changing what it computes.
FREE_SETTINGS = (
    "save_every", "keep_last", "eval_every", "log_every", "max_minutes", "workers", "accumulate",
)  # fmt: skip

_KEYS = ("stage", "settings", "step", "seconds", "model", "optimizer")
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps done, and the seconds that they took."""

    step: int = 0
    seconds: float = 0.0


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: of the run.
        stage: what trains.
        settings: of the loop.
        accelerator: of the run; only its main process writes.
    """

    def __init__(
        self, folder: Path, stage: Stage, settings: LoopSettings, accelerator: Accelerator
    ) -> None:
        self.run, self.folder = folder, folder / "checkpoints"
        self.stage, self.settings, self.accelerator = stage, settings, accelerator
        self.best_path = self.folder / "best.pt"

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, at: Position) -> None:
        """Write a checkpoint and drop those that are not among the newest any more.

        Raises:
            MasqclipError: a weight is no longer a number; the checkpoints are as before.
        """
        parameters, moments = get_state_dict(model, optimizer, options=_WHOLE)
        if not self.accelerator.is_main_process:
            return
        # A loss is a number once more after a gradient that was none.
        weights = (value for value in parameters.values() if isinstance(value, torch.Tensor))
        if not all(bool(value.isfinite().all()) for value in weights):
            raise MasqclipError(
                f"{self.stage.name}: weights are no longer numbers after step {at.step}; lower the "
                "learning rate, or go on from the run's last checkpoint"
            )
        state = {
            "stage": self.stage.name,
            "settings": self._settings(),
            "step": at.step,
            "seconds": at.seconds,
            "model": parameters,
            "optimizer": moments,
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        write_checkpoint(self.folder / f"step-{at.step:08d}.pt", state)
        for path in self._all()[: -self.settings.keep_last]:
            path.unlink()
        summary = {
            "stage": self.stage.name,
            "step": at.step,
            "steps": self.settings.steps,
            "seconds": at.seconds,
        }
        write_atomically(self.run / "progress.json", json.dumps(summary).encode())

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
        """Load the newest checkpoint, if there is one; write down the recipe.

        Raises:
            MasqclipError: it cannot be read, or belongs to another stage, to other settings, data
                or weights.
        """
        found = self._all()
        position = Position()
        if found:
            state = read_checkpoint(found[-1])
            self._check(found[-1], state)
            try:
                whole = StateDictOptions(full_state_dict=True)
                set_model_state_dict(model, state["model"], options=whole)
                # What never had a gradient, as a backbone's last norm, has no moments.
                some = StateDictOptions(full_state_dict=True, strict=False)
                set_optimizer_state_dict(model, optimizer, state["optimizer"], options=some)
            except (RuntimeError, KeyError, ValueError) as error:
                reason = str(error).strip().splitlines()[:1]
                raise MasqclipError(
                    f"the weights in {found[-1]} do not fit this model ({' '.join(reason):.200}); "
                    "choose another --out"
                ) from error
            if self.accelerator.scaler is not None and "scaler" in state:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            position = Position(state["step"], state["seconds"])
        if self.accelerator.is_main_process:
            for left in self.folder.glob("*.partial"):  # by a kill
                left.unlink(missing_ok=True)
            recipe = write_recipe(self.stage.name, self.stage.settings, self.settings)
            write_atomically(self.run / "recipe.toml", recipe.encode())
        return position

    def keep_best(self, model: nn.Module, step: int, figures: Mapping[str, float]) -> None:
        """Keep the weights, when the first of the figures is better than ever before.

        A figure that is no number, such as recall where nothing is annotated, is never better.
        """
        name, value = next(iter(figures.items()))
        before = self.best()
        if not value > (-math.inf if before is None else before["value"]):
            return
        parameters = get_model_state_dict(model, options=_WHOLE)
        if self.accelerator.is_main_process:
            best = {"step": step, "figure": name, "value": value, "model": parameters}
            write_checkpoint(self.best_path, best)

    def best(self) -> dict[str, Any] | None:
        """What `keep_best` kept: ``step``, ``figure``, ``value`` and the parameters, ``model``."""
        if not self.best_path.exists():
            return None
        best = read_checkpoint(self.best_path)
        if not {"step", "figure", "value", "model"} <= best.keys():
            raise MasqclipError(f"{self.best_path} holds no best weights; delete it to go on")
        return best

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))

    def _settings(self) -> dict[str, Any]:
        return {
            "stage": asdict(self.stage.settings),
            "loop": asdict(self.settings),
            "inputs": dict(self.stage.inputs),
        }

    def _check(self, path: Path, state: Mapping[str, Any]) -> None:
        lacking = [key for key in _KEYS if key not in state]
        if lacking or not {"stage", "loop", "inputs"} <= set(state["settings"]):
            raise MasqclipError(
                f"{path} is no checkpoint of this masqclip (it lacks "
                f"{', '.join(lacking) or 'settings'}); delete it to go on from the one before, or "
                "from the start"
            )
        if state["stage"] != self.stage.name:
            raise MasqclipError(
                f"{path} is a checkpoint of the stage {state['stage']!r}, not {self.stage.name!r}; "
                "choose another --out"
            )
        settings = self._settings()
        check_inputs(path, state["settings"]["inputs"], settings.pop("inputs"))
        for table, values in settings.items():
            for name, value in values.items():
                if name not in state["settings"][table]:
                    raise MasqclipError(
                        f"{path} is of another release, which did not know {name!r} and trained "
                        "otherwise; choose another --out"
                    )
                was = state["settings"][table][name]
                if name not in FREE_SETTINGS and was != value:
                    raise MasqclipError(
                        f"{path} was trained with {name} = {was!r}, now it is {value!r}; keep the "
                        "setting to go on, or choose another --out"
                    )
