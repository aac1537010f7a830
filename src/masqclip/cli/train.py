"""`masqclip train`: one verb a stage, all on one loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import print_line
from masqclip.cli.models import fetch_models
from masqclip.cli.output_files import check_file, check_folder
from masqclip.cli.stage_work import (
    fill_proposals,
    measured_before,
    report_tuning,
    write_pseudo_labels,
)
from masqclip.cli.training import Pictures, Run, check_minutes
from masqclip.errors import MasqclipError

app = App(
    name="train",
    help="Train a model stage by stage: pretrain a CLIP, teach and distil a proposer, tune.",
    help_epilogue="""\
**The shipped model, from nothing**

```text
masqclip train miniature --out miniature
```

**One of your own, stage by stage** (data: "masqclip data --help")

```text
masqclip train pretrain --data windows --data captioned --out runs/clip
masqclip train teacher --data scenes --held-out heldout --out runs/teacher
masqclip train distill --data scenes --teacher runs/teacher --out runs/student
masqclip train tune --data scenes --clip runs/clip --proposer runs/student \\
    --out runs/mini
masqclip segment picture.png -v stickers --model runs/mini
```

**A finished model on pictures of your own** (COCO JSON; one GPU or a CPU)

```text
masqclip train tune --data my_coco.json --images photos \\
    --model masqclip-mini --out runs/mine
```

**What the paper compares itself with**, on the same parts

```text
masqclip train baseline maskclip --data scenes --clip runs/clip \\
    --proposer runs/student --out runs/maskclip
masqclip evaluate --dataset stickers --root heldout --model runs/maskclip
```

**COCO, base-novel setting** (the recipe's first lines hold the other stages' commands)

```text
masqclip train teacher --data coco/annotations/instances_train2017.json \\
    --images coco/train2017 --classes coco-base-novel --recipe base-novel \\
    --out runs/teacher
```

**Several GPUs or machines, FSDP**

```text
accelerate launch -m masqclip.cli.main train teacher --data scenes \\
    --out runs/teacher
```

**Stopping and going on**

Every stage writes checkpoints. Ctrl-C, a kill or --max-minutes stops it; the same command goes on
where it was and ends with the same weights as a run that never stopped.

**Settings**

A recipe names every setting, "miniature" unless you give one; --set changes one: --set
learning_rate=3e-4 --set steps=2000.""",
)

Folder = Parameter(metavar="DIR")
Weights = Parameter(metavar="DIR|NAME")


@app.command
def pretrain(
    *,
    data: Annotated[list[str], Parameter(alias="-d", metavar="DIR|stickers:...")],
    start: Annotated[Path | None, Folder] = None,
    run: Run,
) -> int:
    """Pretrain a small CLIP on pictures with captions.

    Args:
        data: A COCO captions folder, or scenes that are drawn as they are needed; repeat it for
            several.
        start: A CLIP to go on from, of an earlier run; a new one unless given.
        run: The options of every stage.
    """
    from masqclip.training.pretrain import PretrainStage

    settings, loop = run.settings("pretrain")
    run.train(PretrainStage(data, settings, start=start, steps=loop.steps), loop)
    return 0


@app.command
def teacher(
    *,
    pictures: Pictures,
    start: Annotated[Path | None, Weights] = None,
    run: Run,
) -> int:
    """Train the class-agnostic proposer on base annotations (stage 1).

    Args:
        pictures: What to train on.
        start: A proposer to go on from, for instance with larger pictures; a new one unless given.
        run: The options of every stage.
    """
    from masqclip.hub import find_weights, quiet_transformers
    from masqclip.proposals.adapters import ARCHITECTURES, load_trainable
    from masqclip.training.teacher import TeacherStage

    settings, loop = run.settings("teacher")
    dataset, held_out = pictures.open(judge_all=True)
    if start is None:
        config = ARCHITECTURES[settings.architecture]()
    else:
        start = find_weights(start, what="proposer")
        with quiet_transformers():
            config = load_trainable(start).config
    stage = TeacherStage(dataset, config, settings, held_out=held_out, start=start)
    return run.train(stage, loop)


@app.command
def distill(
    *,
    pictures: Pictures,
    teacher: Annotated[Path, Weights],
    rounds: Annotated[int | None, Parameter(show_default=False)] = None,
    save_pseudo_labels: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    run: Run,
) -> int:
    """Train a student on the annotations and on the teacher's good masks of what nobody annotated
    (progressive distillation, stage 2).

    Args:
        pictures: What to train on.
        teacher: The proposer to start from ("masqclip train teacher").
        rounds: How often the student becomes the next teacher; the paper used two.
        save_pseudo_labels: First write the masks that the teacher adds, as COCO JSON to look at.
        run: The options of every stage.
    """
    from dataclasses import replace

    from masqclip.training.distill import distill_rounds

    settings, loop = run.settings("distill")
    if save_pseudo_labels is not None:
        check_file(save_pseudo_labels, "--save-pseudo-labels")
    if rounds is not None:
        settings = replace(settings, rounds=rounds)
    dataset, held_out = pictures.open(judge_all=True)
    with run.folder():
        if save_pseudo_labels is not None and run.is_main:
            write_pseudo_labels(teacher, dataset, settings, save_pseudo_labels, run.device)
        distill_rounds(
            dataset,
            teacher,
            settings,
            run.out,
            lambda stage, out: run.complete(stage, loop, out),
            held_out=held_out,
        )
    return 0


@app.command
def tune(
    *,
    pictures: Pictures,
    model: Annotated[str | None, Parameter(metavar="NAME|DIR", show_default=False)] = None,
    clip: Annotated[Path | None, Weights] = None,
    proposer: Annotated[Path | None, Weights] = None,
    masks: Annotated[
        Literal["proposals", "ground-truth", "both"] | None, Parameter(show_default=False)
    ] = None,
    store_proposals: Annotated[Path | None, Folder] = None,
    run: Run,
) -> int:
    """Tune the mask class tokens (MasQ-Tuning, stage 3): of a finished model, or of a CLIP and a
    proposer that are joined for it.

    With pictures held out, masks named rightly and AP50 are measured on them before and after, and
    written beside the model; of data for --model, a tenth is held out unless said otherwise.

    Args:
        pictures: What to tune on.
        model: The model to go on from; its recipe is "own-data" unless given.
        clip: Without a model: the frozen CLIP ("masqclip train pretrain").
        proposer: Without a model: the frozen proposer ("masqclip train teacher" or "distill").
        masks: What learns its name: the proposals (published), the annotated masks, or both.
        store_proposals: Run the proposer once and keep what it says here; not with jitter.
        run: The options of every stage.
    """
    from dataclasses import replace

    from masqclip.data.digests import digest_model
    from masqclip.hub import find_weights, model_folders
    from masqclip.segmenter import Segmenter
    from masqclip.training.held_out import check_metrics
    from masqclip.training.tune import TuneStage, join

    if (model is None) == (clip is None or proposer is None) or (model and (clip or proposer)):
        raise MasqclipError("give --model, or else --clip and --proposer")
    settings, loop = run.settings("tune", recipe="own-data" if model else "miniature")
    if store_proposals is not None:
        check_folder(store_proposals, "--store-proposals")
    if masks is not None:
        settings = replace(settings, masks=masks)
    dataset, held_out = pictures.open(share=0.1 if model else 0.0)
    if held_out is not None and not run.dry_run:
        check_metrics(held_out)
    fetch_models(model, clip=clip, proposer=proposer)
    if model:
        given = Segmenter.from_pretrained(model, device="cpu", cache=False)
        whole, tokenizer = given.model, given.text.tokenizer
        sources = {"--model": digest_model(*model_folders(model))}
    elif clip and proposer:
        clip = find_weights(clip, what="CLIP")  # a name of the Hub becomes a folder to digest
        proposer = find_weights(proposer, what="proposer")
        whole, tokenizer = join(clip, proposer, settings)
        sources = {"--clip": digest_model(clip), "--proposer": digest_model(proposer)}
    stage = TuneStage(whole, tokenizer, dataset, settings, held_out=held_out, sources=sources)
    with run.folder():
        run.claim(stage, run.out)
        if store_proposals is not None and not run.dry_run:
            fill_proposals(stage, store_proposals, run.device)
        before = None
        if held_out is not None and not run.dry_run and run.is_main:
            before = measured_before(stage, held_out, run.out, run.device)
        if run.complete(stage, loop, run.out) and before is not None and held_out is not None:
            report_tuning(before, held_out, run.out, run.device)
    return 0


@app.command
def baseline(
    system: Annotated[Literal["maskclip", "openseg", "lseg", "xpm"], Parameter(metavar="SYSTEM")],
    *,
    pictures: Pictures,
    clip: Annotated[Path, Weights],
    proposer: Annotated[Path, Weights],
    captions: Annotated[Path | None, Parameter(metavar="DIR|FILE", show_default=False)] = None,
    words: Annotated[str | None, Parameter(metavar="NAMES", show_default=False)] = None,
    caption_data: Annotated[Path | None, Parameter(metavar="DIR", show_default=False)] = None,
    run: Run,
) -> int:
    """Train one of the systems that the paper compares itself with.

    maskclip: relative mask attention in a frozen CLIP. openseg: masks and regions grounded in
    captions. lseg: LSeg+, an embedding a pixel. xpm: caption pretraining, a teacher, and a student
    of pseudo-labels, three stages one after the other, of which --dry-run tells of the first.
    openseg and lseg segment semantically only.

    Args:
        system: Which.
        pictures: What to train on.
        clip: The frozen CLIP, whose words all of them use.
        proposer: Of maskclip and xpm the frozen proposer; of openseg and lseg where the image
            encoder starts.
        captions: For openseg and xpm, COCO's captions of the pictures of --data; its own
            "annotations/captions.json" unless given.
        words: The object words that captions are searched for, as a vocabulary: a built-in one, a
            file, or names; xpm needs it, openseg takes every word that is no function word.
        caption_data: For openseg, a COCO folder with more pictures that have captions alone; they
            take the proposer's masks.
        run: The options of every stage.
    """
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.data.coco import CocoCaptions
    from masqclip.training.grounded import read_captions
    from masqclip.training.systems import BASELINES, GROUNDED, Ingredients, train_baseline

    given = {"--captions": captions, "--words": words}
    for option, value in given.items():
        if value is not None and system not in GROUNDED:
            raise MasqclipError(f"{option}: {system} reads no captions; leave it out")
    if system in GROUNDED and captions is None and not pictures.data.is_dir():
        raise MasqclipError(
            f"{system} reads captions, and {pictures.data} is no folder with some: give COCO's "
            "file of captions with --captions"
        )
    if caption_data is not None and system != "openseg":
        raise MasqclipError(f"--caption-data: {system} learns from masks; leave it out")
    both = {name: run.settings(name, recipe="baselines") for name in BASELINES[system]}
    dataset, held_out = pictures.open()
    fetch_models(None, clip=clip, proposer=proposer)
    ingredients = Ingredients(
        clip,
        proposer,
        dataset,
        held_out,
        read_captions(captions or pictures.data) if system in GROUNDED else {},
        Vocabulary.parse(words) if words is not None else None,
        CocoCaptions(caption_data) if caption_data is not None else None,
    )
    with run.folder():
        train_baseline(
            system,
            ingredients,
            {name: settings for name, (settings, _) in both.items()},
            run.out,
            lambda stage, out: run.complete(stage, both[stage.name][1], out),
        )
    return 0


@app.command
def miniature(
    *,
    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")],
    plan: Annotated[str, Parameter(metavar="NAME|FILE")] = "miniature",
    max_minutes: Annotated[float, Parameter(metavar="MINUTES", show_default=False)] = 0.0,
) -> int:
    """Make a small model from nothing: drawings, scenes, every stage, evaluation.

    What is done is skipped: the same command goes on where it stopped.

    Args:
        out: The folder for everything.
        plan: The steps: "miniature" those of the first world on a CPU, "world" those of the second
            one, which the shipped model is of, on a GPU; or a TOML file of one's own.
        max_minutes: Stop each stage of training, with a checkpoint, after so long.
    """
    from masqclip.cli.plan import find_plan, load_plan, run_plan

    check_minutes(max_minutes)
    check_folder(out)
    steps = load_plan(find_plan(plan))
    if run_plan(steps, out, max_minutes=max_minutes):
        print_line(f"all steps are done: the results are in {out}")
    else:
        print_line(f"stopped; the same command goes on from {out}")
    return 0
