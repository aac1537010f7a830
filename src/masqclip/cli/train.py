"""`masqclip train`: one verb a stage, all on one loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from masqclip.cli.console import Steps, err_console, out_console
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.training.loop import Stage
    from masqclip.training.settings import LoopSettings

app = App(
    name="train",
    help="Train a model, stage by stage: pretrain a CLIP, teach a proposer, tune the queries.",
    help_epilogue="""\
**The shipped model, from nothing** (data: "masqclip data --help")

```text
masqclip train pretrain --data windows --data captioned --out runs/sentences
masqclip train pretrain --data portraits --start runs/sentences \\
    --recipe miniature-names --out runs/clip
masqclip train teacher --data scenes --out runs/teacher
masqclip train tune --data scenes --clip runs/clip --proposer runs/teacher --out runs/mini
masqclip segment picture.png -v stickers --model runs/mini
```

**Stopping and going on**

Every stage writes checkpoints. Ctrl-C, a kill or --max-minutes stops it; the same command goes on
where it was and ends with the same weights as a run that never stopped.

**Settings**

A recipe names every setting; --set changes one: --set learning_rate=3e-4 --set steps=2000.""",
)

Data = Annotated[Path, Parameter(alias="-d", metavar="DIR")]
Out = Annotated[Path, Parameter(alias="-o", metavar="DIR")]
Set = Annotated[list[str] | None, Parameter(name="--set", metavar="KEY=VALUE", show_default=False)]
Minutes = Annotated[float, Parameter(metavar="MINUTES", show_default=False)]
Device = Annotated[str | None, Parameter(metavar="NAME")]


@app.command
def pretrain(
    *,
    data: Annotated[list[Path], Parameter(alias="-d", metavar="DIR")],
    out: Out,
    start: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    recipe: str = "miniature",
    set_: Set = None,
    max_minutes: Minutes = 0.0,
    device: Device = None,
) -> int:
    """Pretrain a small CLIP on pictures with captions.

    Args:
        data: A COCO captions folder; repeat it for several.
        out: The folder of the run, and at its end of the CLIP (Hugging Face format).
        start: A CLIP to go on from, of an earlier run; a new one unless given.
        recipe: A shipped recipe or a TOML file.
        set_: Change a setting of the recipe; repeat it for several.
        max_minutes: Stop, with a checkpoint, after so long.
        device: cpu, cuda or mps; the best there is unless given.
    """
    from masqclip.training.pretrain import PretrainStage

    settings, loop = _recipe(recipe, "pretrain", set_, max_minutes)
    return _run(PretrainStage(data, settings, start=start), loop, out, device)


@app.command
def teacher(
    *,
    data: Data,
    out: Out,
    recipe: str = "miniature",
    set_: Set = None,
    max_minutes: Minutes = 0.0,
    device: Device = None,
) -> int:
    """Train the class-agnostic proposer on base annotations (stage 1).

    Args:
        data: A COCO panoptic folder; categories marked "novel" are left out.
        out: The folder of the run, and at its end of the proposer.
        recipe: A shipped recipe or a TOML file.
        set_: Change a setting of the recipe; repeat it for several.
        max_minutes: Stop, with a checkpoint, after so long.
        device: cpu, cuda or mps; the best there is unless given.
    """
    from masqclip.data.coco import CocoPanoptic, is_base
    from masqclip.proposals.mask2former import miniature_mask2former_config
    from masqclip.training.teacher import TeacherStage

    settings, loop = _recipe(recipe, "teacher", set_, max_minutes)
    dataset = CocoPanoptic(data, keep=is_base)
    return _run(TeacherStage(dataset, miniature_mask2former_config(), settings), loop, out, device)


@app.command
def tune(
    *,
    data: Data,
    clip: Annotated[Path, Parameter(metavar="DIR")],
    proposer: Annotated[Path, Parameter(metavar="DIR")],
    out: Out,
    recipe: str = "miniature",
    set_: Set = None,
    max_minutes: Minutes = 0.0,
    device: Device = None,
) -> int:
    """Join a CLIP and a proposer, and tune the mask class tokens (MasQ-Tuning, stage 3).

    Args:
        data: A COCO panoptic folder; categories marked "novel" are left out.
        clip: The frozen CLIP ("masqclip train pretrain").
        proposer: The frozen proposer ("masqclip train teacher").
        out: The folder of the run, and at its end of the whole model.
        recipe: A shipped recipe or a TOML file.
        set_: Change a setting of the recipe; repeat it for several.
        max_minutes: Stop, with a checkpoint, after so long.
        device: cpu, cuda or mps; the best there is unless given.
    """
    from masqclip.data.coco import CocoPanoptic, is_base
    from masqclip.training.tune import TuneStage, join

    settings, loop = _recipe(recipe, "tune", set_, max_minutes)
    dataset = CocoPanoptic(data, keep=is_base)
    model, tokenizer = join(clip, proposer, settings)
    return _run(TuneStage(model, tokenizer, dataset, settings), loop, out, device)


def _recipe(
    recipe: str, stage: str, overrides: list[str] | None, max_minutes: float
) -> tuple[Any, LoopSettings]:
    from dataclasses import replace

    from masqclip.training.recipes import load_recipe

    if max_minutes < 0:
        raise MasqclipError(f"--max-minutes {max_minutes:g}: give 0 (no limit) or more")
    settings, loop = load_recipe(recipe, stage, overrides or [])
    return settings, replace(loop, max_minutes=max_minutes) if max_minutes else loop


def _run(stage: Stage, loop: LoopSettings, out: Path, device: str | None) -> int:
    """Train with a progress bar, and say how it ended."""
    from masqclip.devices import choose_device
    from masqclip.training.loop import Progress, train

    where = choose_device(device)
    total = sum(parameter.numel() for parameter in stage.module.parameters())
    err_console().print(
        f"{stage.name}: {total:,} parameters train for {loop.steps:,} steps on {where}; run: {out}"
    )
    with Steps(stage.name, total=loop.steps) as bar:

        def report(progress: Progress) -> None:
            losses = "  ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
            bar.show(progress.step, f"{losses}  {progress.steps_per_second:.2f} steps/s")

        done = train(stage, loop, out, device=where, report=report)
    if done:
        out_console().print(f"{stage.name} is done: the result is in {out}")
    else:
        out_console().print(f"{stage.name} stopped; the same command goes on from {out}")
    return 0
