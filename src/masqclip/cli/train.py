"""`masqclip train`: one verb a stage, all on one loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from masqclip.cli.training import Run

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

Folder = Parameter(metavar="DIR")
Data = Annotated[Path, Parameter(alias="-d", metavar="DIR")]


@app.command
def pretrain(
    *,
    data: Annotated[list[Path], Parameter(alias="-d", metavar="DIR")],
    start: Annotated[Path | None, Folder] = None,
    run: Run,
) -> int:
    """Pretrain a small CLIP on pictures with captions.

    Args:
        data: A COCO captions folder; repeat it for several.
        start: A CLIP to go on from, of an earlier run; a new one unless given.
        run: The options of every stage.
    """
    from masqclip.training.pretrain import PretrainStage

    settings, loop = run.settings("pretrain")
    return run.train(PretrainStage(data, settings, start=start), loop)


@app.command
def teacher(*, data: Data, held_out: Annotated[Path | None, Folder] = None, run: Run) -> int:
    """Train the class-agnostic proposer on base annotations (stage 1).

    Args:
        data: A COCO panoptic folder; categories marked "novel" are left out.
        held_out: A folder to evaluate on: recall, and a sheet of proposals.
        run: The options of every stage.
    """
    from masqclip.data.coco import CocoPanoptic, is_base
    from masqclip.proposals.mask2former import miniature_mask2former_config
    from masqclip.training.teacher import TeacherStage

    settings, loop = run.settings("teacher")
    stage = TeacherStage(
        CocoPanoptic(data, keep=is_base),
        miniature_mask2former_config(),
        settings,
        held_out=CocoPanoptic(held_out) if held_out else None,
    )
    return run.train(stage, loop)


@app.command
def tune(
    *,
    data: Data,
    clip: Annotated[Path, Folder],
    proposer: Annotated[Path, Folder],
    held_out: Annotated[Path | None, Folder] = None,
    run: Run,
) -> int:
    """Join a CLIP and a proposer, and tune the mask class tokens (MasQ-Tuning, stage 3).

    Args:
        data: A COCO panoptic folder; categories marked "novel" are left out.
        clip: The frozen CLIP ("masqclip train pretrain").
        proposer: The frozen proposer ("masqclip train teacher").
        held_out: A folder to evaluate on: how many masks are named rightly, and a sheet of results.
        run: The options of every stage.
    """
    from masqclip.data.coco import CocoPanoptic, is_base
    from masqclip.training.tune import TuneStage, join

    settings, loop = run.settings("tune")
    model, tokenizer = join(clip, proposer, settings)
    stage = TuneStage(
        model,
        tokenizer,
        CocoPanoptic(data, keep=is_base),
        settings,
        held_out=CocoPanoptic(held_out, keep=is_base) if held_out else None,
    )
    return run.train(stage, loop)
