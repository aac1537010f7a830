"""What the verbs of `masqclip train` share: their common options, and how a run is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from masqclip.cli.console import Steps, err_console, out_console, print_line, print_notes
from masqclip.cli.output_files import check_folder
from masqclip.errors import MasqclipError, require

if TYPE_CHECKING:
    from masqclip.data.coco import Keep
    from masqclip.data.open_coco import CocoFiles, CocoMasks
    from masqclip.training.dry_run import Forecast
    from masqclip.training.loop import Progress
    from masqclip.training.settings import LoopSettings
    from masqclip.training.stage import Stage


_FILES_ONLY = 'evaluation reads files; write scenes to a folder with "masqclip data stickers"'


@Parameter(name="*")
@dataclass(frozen=True)
class Run:
    """The options of every stage.

    Args:
        out: The folder of the run: checkpoints, log, curves, and at its end the result.
        recipe: A shipped recipe or a TOML file; "miniature" unless given or said otherwise.
        set_: Change a setting of the recipe; repeat it for several.
        max_minutes: Stop, with a checkpoint, after so long.
        device: cpu keeps it off a GPU; the best device there is unless given.
        track: Send the figures to a service as well; TensorBoard gets them anyway.
        dry_run: Print the recipe, the sizes and the estimated time, and train nothing.
    """

    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")]
    recipe: Annotated[str | None, Parameter(show_default=False)] = None
    set_: Annotated[
        list[str] | None, Parameter(name="--set", metavar="KEY=VALUE", show_default=False)
    ] = None
    max_minutes: Annotated[float, Parameter(metavar="MINUTES", show_default=False)] = 0.0
    device: Annotated[str | None, Parameter(metavar="NAME")] = None
    track: Annotated[list[Literal["wandb", "trackio"]] | None, Parameter(show_default=False)] = None
    dry_run: Annotated[bool, Parameter(show_default=False)] = False

    def settings(self, stage: str, *, recipe: str = "miniature") -> tuple[Any, LoopSettings]:
        """The settings of a stage and of its loop, from the recipe and these options.

        Args:
            stage: its name.
            recipe: what is taken when none is given.

        Raises:
            MasqclipError: the recipe or an option is wrong, the run's folder cannot be written, or
                a package is not installed.
        """
        from masqclip.devices import choose_device
        from masqclip.training.recipes import load_recipe

        require("accelerate", extra="train", purpose="training")
        for service in () if self.dry_run else self.track or ():
            require(service, extra="track", purpose=f"--track {service}")
        if self.device is not None:
            choose_device(self.device)  # training itself only asks whether it is the CPU
        if not self.dry_run:
            check_folder(self.out)
        check_minutes(self.max_minutes)
        settings, loop = load_recipe(self.recipe or recipe, stage, self.set_ or [])
        return settings, replace(loop, max_minutes=self.max_minutes) if self.max_minutes else loop

    @property
    def is_main(self) -> bool:
        """Whether this is the one of several processes that writes and speaks."""
        from accelerate import PartialState

        return PartialState(cpu=self.device == "cpu").is_main_process

    @contextmanager
    def folder(self) -> Iterator[None]:
        """Have the folder of the run for oneself; of several processes the main one has it.

        Raises:
            MasqclipError: another process has it, or it cannot be written to.
        """
        from masqclip.data.locks import lock_folder

        with nullcontext() if self.dry_run or not self.is_main else lock_folder(self.out):
            yield

    def claim(self, stage: Stage, out: Path) -> None:
        """See that a folder is not of a run with other data or weights; before any work.

        Raises:
            MasqclipError: it is.
        """
        from masqclip.training.inputs import claim_inputs

        if self.is_main and not self.dry_run:
            claim_inputs(out, stage.inputs)

    def train(self, stage: Stage, loop: LoopSettings) -> int:
        """`complete` as a verb's last act: its exit code."""
        with self.folder():
            self.complete(stage, loop, self.out)
        return 0

    def complete(self, stage: Stage, loop: LoopSettings, out: Path) -> bool:
        """Train with a progress bar, and say how it ended; or only say what it would be.

        Returns:
            Whether the result is there.
        """
        from masqclip.training.loop import train
        from masqclip.training.memory import keep_freed_memory

        keep_freed_memory()
        main = self.is_main
        self.claim(stage, out)  # before the notes: a folder of another run is refused in one line
        if main:
            print_notes(stage.notes)
        if self.dry_run:
            from masqclip.training.dry_run import forecast

            found = forecast(stage, loop, self.device)
            if main:
                _print_forecast(found)
            return False
        with Steps(stage.name, total=loop.steps, hidden=not main, pace=False) as bar:

            def report(now: Progress) -> None:
                bar.show(now.step, _note(now))

            done = train(
                stage, loop, out, device=self.device, report=report, track=self.track or ()
            )
        if main and stage.remarks:
            err_console().print(stage.remarks, markup=False, soft_wrap=True)
        if main and done:
            print_line(f"{stage.name} is done: the result is in {out}")
        elif main:
            print_line(f"{stage.name} stopped; the same command goes on from {out}")
        return done


@Parameter(name="*")
@dataclass(frozen=True)
class Pictures:
    """What a stage trains on, and what it is judged by.

    Args:
        data: A COCO folder ("masqclip data --help"), a COCO instances or panoptic JSON file, or
            "stickers:...", scenes that are drawn as they are needed.
        images: The folder of the file's pictures.
        classes: Annotate the classes of a built-in list only, of "coco-base-novel" the base ones;
            all but those that the data marks "novel" unless given.
        held_out: A folder or a file like --data to evaluate on, or the share of --data, such as
            0.1, that is kept away from training for it.
    """

    data: Annotated[Path, Parameter(alias="-d", metavar="DIR|FILE|stickers:...")]
    images: Annotated[Path | None, Parameter(metavar="DIR", show_default=False)] = None
    classes: Annotated[str | None, Parameter(metavar="NAME", show_default=False)] = None
    held_out: Annotated[str | None, Parameter(metavar="DIR|FILE|SHARE", show_default=False)] = None

    def open(
        self, *, share: float = 0.0, judge_all: bool = False
    ) -> tuple[CocoMasks, CocoFiles | None]:
        """The pictures to train on and those to evaluate on.

        Args:
            share: what is held out when nothing is given.
            judge_all: evaluate on all classes, not only on those that training sees.

        Raises:
            MasqclipError: the data or an option is wrong.
        """
        from masqclip.data.coco import is_base
        from masqclip.data.open_coco import keep_classes, open_coco
        from masqclip.data.stickers.drawn import DrawnScenes

        keep = keep_classes(self.classes) if self.classes else is_base
        judged = None if judge_all else keep
        dataset = open_coco(self.data, images=self.images, keep=keep)
        drawn = isinstance(dataset, DrawnScenes)
        if drawn and self.images is not None and self.held_out is None:
            raise MasqclipError(
                f"--images {self.images}: {self.data} is drawn and has no pictures in files; leave "
                "it out"
            )
        try:
            share = share if self.held_out is None else float(self.held_out)
        except ValueError:
            return dataset, self._open_held_out(Path(str(self.held_out)), dataset, judged)
        if share == 0 or (isinstance(dataset, DrawnScenes) and self.held_out is None):
            return dataset, None
        if isinstance(dataset, DrawnScenes):
            raise MasqclipError(
                f"--held-out {share:g} of {self.data}: {_FILES_ONLY}, of another seed"
            )
        dataset, held_out = dataset.hold_out(share)
        return dataset, held_out.keeping(judged)

    def _open_held_out(self, where: Path, dataset: CocoMasks, judged: Keep | None) -> CocoFiles:
        from masqclip.data.open_coco import open_coco
        from masqclip.data.stickers.drawn import DrawnScenes
        from masqclip.data.stickers.source import is_sticker_address

        if is_sticker_address(where):
            raise MasqclipError(f"--held-out {where}: {_FILES_ONLY}")
        if isinstance(dataset, DrawnScenes):
            dataset.check_apart(where)
        images = None if where.is_dir() else self.images
        held_out = open_coco(where, images=images, keep=judged)
        assert not isinstance(held_out, DrawnScenes)
        return held_out


def check_minutes(minutes: float) -> None:
    """Refuse what is no time to stop after.

    Raises:
        MasqclipError: it is less than none, no number, or without end.
    """
    if not 0 <= minutes < math.inf:
        raise MasqclipError(f"--max-minutes {minutes:g}: give 0 (no limit) or more")


def _note(now: Progress) -> str:
    """Losses, speed, memory and time left of a step."""
    losses = "  ".join(f"{name} {value:.3f}" for name, value in now.losses.items())
    left = timedelta(seconds=round(now.seconds_left))
    speed = f"{now.images_per_second:.1f} images/s ({now.waiting:.0%} waiting)"
    memory = f"{now.memory / 1e9:.1f} GB  " if now.memory else ""
    return f"{losses}  {speed}  {memory}{left} left"


def _print_forecast(found: Forecast) -> None:
    out_console().print(found.recipe, markup=False, soft_wrap=True)
    data = ", ".join(f"{count:,} {name}" for name, count in found.data.items())
    print_line(f"parameters: {found.trainable:,} train, {found.frozen:,} are frozen")
    print_line(f"data: {data}")
    print_line(
        f"time: {timedelta(seconds=round(found.seconds))} on {found.processes} process(es), from "
        f"{found.seconds_per_step:.3f} s a step measured now"
    )
