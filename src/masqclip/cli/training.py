"""What the verbs of `masqclip train` share: their common options, and how a run is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from masqclip.cli.console import Steps, out_console
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.training.dry_run import Forecast
    from masqclip.training.loop import Progress, Stage
    from masqclip.training.settings import LoopSettings


@Parameter(name="*")
@dataclass(frozen=True)
class Run:
    """The options of every stage.

    Args:
        out: The folder of the run: checkpoints, log, curves, and at its end the result.
        recipe: A shipped recipe or a TOML file.
        set_: Change a setting of the recipe; repeat it for several.
        max_minutes: Stop, with a checkpoint, after so long.
        device: cpu keeps it off a GPU; the best device there is unless given.
        track: Send the figures to a service as well; TensorBoard gets them anyway.
        dry_run: Print the recipe, the sizes and the estimated time, and train nothing.
    """

    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")]
    recipe: str = "miniature"
    set_: Annotated[
        list[str] | None, Parameter(name="--set", metavar="KEY=VALUE", show_default=False)
    ] = None
    max_minutes: Annotated[float, Parameter(metavar="MINUTES", show_default=False)] = 0.0
    device: Annotated[str | None, Parameter(metavar="NAME")] = None
    track: Annotated[list[Literal["wandb", "trackio"]] | None, Parameter(show_default=False)] = None
    dry_run: Annotated[bool, Parameter(show_default=False)] = False

    def settings(self, stage: str) -> tuple[Any, LoopSettings]:
        """The settings of a stage and of its loop, from the recipe and these options.

        Raises:
            MasqclipError: the recipe or an option is wrong.
        """
        from masqclip.training.recipes import load_recipe

        if self.max_minutes < 0:
            raise MasqclipError(f"--max-minutes {self.max_minutes:g}: give 0 (no limit) or more")
        settings, loop = load_recipe(self.recipe, stage, self.set_ or [])
        return settings, replace(loop, max_minutes=self.max_minutes) if self.max_minutes else loop

    def train(self, stage: Stage, loop: LoopSettings) -> int:
        """Train with a progress bar, and say how it ended; or only say what it would be."""
        from accelerate import PartialState

        from masqclip.training.loop import train

        main = PartialState(cpu=self.device == "cpu").is_main_process
        if self.dry_run:
            from masqclip.training.dry_run import forecast

            found = forecast(stage, loop, self.device)
            if main:
                _print_forecast(found)
            return 0
        with Steps(stage.name, total=loop.steps, hidden=not main) as bar:

            def report(now: Progress) -> None:
                bar.show(now.step, _note(now))

            done = train(
                stage, loop, self.out, device=self.device, report=report, track=self.track or ()
            )
        if main and done:
            out_console().print(f"{stage.name} is done: the result is in {self.out}")
        elif main:
            out_console().print(f"{stage.name} stopped; the same command goes on from {self.out}")
        return 0


def _note(now: Progress) -> str:
    """Losses, speed, memory and time left of a step."""
    losses = "  ".join(f"{name} {value:.3f}" for name, value in now.losses.items())
    left = timedelta(seconds=round(now.seconds_left))
    return f"{losses}  {now.images_per_second:.1f} images/s  {now.memory / 1e9:.1f} GB  {left} left"


def _print_forecast(found: Forecast) -> None:
    console = out_console()
    console.print(found.recipe, markup=False, soft_wrap=True)
    data = ", ".join(f"{count:,} {name}" for name, count in found.data.items())
    console.print(f"parameters: {found.trainable:,} train, {found.frozen:,} are frozen")
    console.print(f"data: {data}")
    console.print(
        f"time: {timedelta(seconds=round(found.seconds))} on {found.processes} process(es), from "
        f"{found.seconds_per_step:.3f} s a step measured now"
    )
