"""`masqclip evaluate`: figures of a model on a dataset, by the dataset's published protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import (
    Phases,
    one_line,
    out_console,
    print_error,
    print_line,
    print_notes,
)
from masqclip.cli.models import fetch_models, load_segmenter
from masqclip.cli.output_files import check_folder
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.data.truth import GroundTruth
    from masqclip.evaluation.predictions import PredictionFolder
    from masqclip.evaluation.protocol import Protocol
    from masqclip.evaluation.report import Column, Report
    from masqclip.segmenter import Segmenter

app = App(
    name="evaluate",
    usage="Usage: masqclip evaluate --dataset NAME --root DIR [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# scenes of the miniature world: all that is measured
masqclip evaluate --dataset stickers --root heldout

# the paper's settings; "masqclip data check" says what a dataset lacks
masqclip evaluate -d ade20k-150 --root ADEChallengeData2016 -t panoptic \\
    -t semantic -m MODEL

# all 65 classes compete; and the 17 novel ones alone
masqclip evaluate -d coco-base-novel --root coco -m MODEL
masqclip evaluate -d coco-base-novel --root coco -m MODEL --split novel

# which half is to blame: names of perfect masks, masks whatever their names
masqclip evaluate -d stickers --root heldout --oracle masks --oracle classes

# figures side by side; what another protocol measured is marked
masqclip evaluate -d stickers --root heldout --untuned --out untuned
masqclip evaluate -d stickers --root heldout --out tuned --beside untuned

# the figures again, of predictions that are there; and on several GPUs
masqclip evaluate --predictions tuned/predictions --root heldout --out again
accelerate launch -m masqclip.cli.main evaluate -d coco-panoptic --root coco \\
    -m MODEL
```

**What is written**

In --out: report.json and report.md (all figures, each with the hash of its protocol), classes.csv
(a row a class), examples.png (best and worst pictures: truth beside prediction), and predictions,
from which a run that was stopped goes on.

**Datasets**

coco-instances, coco-base-novel, coco-panoptic, ade20k-150, ade20k-847, pascal-context-59,
pascal-context-459; stickers: a folder that "masqclip data stickers" wrote; FILE.json: instances or
panoptic segments of yours in COCO's format.""",
)

Measured = Literal["instance", "semantic", "panoptic"]


@app.default
def evaluate(
    *,
    dataset: Annotated[str, Parameter(alias="-d", metavar="NAME", show_default=False)] = "",
    root: Annotated[Path, Parameter(metavar="DIR")] = Path(),
    task: Annotated[list[Measured] | None, Parameter(alias="-t")] = None,
    oracle: list[Literal["masks", "classes"]] | None = None,
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")] = Path("masqclip-evaluation"),
    split: Annotated[str, Parameter(metavar="NAME", show_default=False)] = "",
    vocabulary: Annotated[str, Parameter(alias="-v", metavar="NAMES", show_default=False)] = "",
    template: Annotated[list[str] | None, Parameter(metavar="TEXT")] = None,
    readable: Annotated[bool, Parameter(show_default=False)] = False,
    images: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    limit: Annotated[int | None, Parameter(metavar="N")] = None,
    predictions: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    save_predictions: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    beside: Annotated[list[Path] | None, Parameter(metavar="DIR")] = None,
    untuned: Annotated[bool, Parameter(show_default=False)] = False,
    object_score: Annotated[
        bool, Parameter(negative="--no-object-score", show_default=False)
    ] = True,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    object_threshold: float | None = None,
    overlap_threshold: float | None = None,
    top_k: Annotated[int | None, Parameter(metavar="N")] = None,
    semantic_resize: Literal["masks", "scores"] | None = None,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
) -> int:
    """Measure a model on a dataset: AP, mIoU, PQ.

    Args:
        dataset: A published dataset, "stickers", or a COCO file (see below).
        root: The dataset's folder.
        task: What to measure; repeat it for several. All that the dataset has, unless given.
        oracle: Measure one half alone. masks: how often true masks get their names. classes: how
            many true masks the proposals hold, and how closely they follow them.
        model: A model of this package, a folder, or a name on the Hugging Face Hub.
        out: The folder that the report and the predictions are written to, here unless given.
        split: The constrained setting: only the classes of this split ("novel", "base"), or of a
            built-in list ("stickers2-150"), compete.
        vocabulary: Your own words: a text file with a line for each class of the dataset, synonyms
            after commas. What it holds besides competes and is not counted.
        template: A sentence to put each name into; repeat it for several. "tower" stands for those
            of the CLIP's own makers.
        readable: Part words that Pascal Context runs together; the published figures did not.
        images: The pictures of a COCO file; "images" beside it unless given.
        limit: Only the first so many pictures.
        predictions: Score these predictions again, without a model.
        save_predictions: Where predictions go; "predictions" in --out unless given.
        beside: An earlier --out whose figures the table shows as well; repeat it for several.
        untuned: Put CLIP's own queries in place of the tuned ones (MaskCLIP).
        object_score: Multiply class probabilities with the object score.
        size: The size at which pictures are seen, in place of the protocol's: SHORTEST, the
            shorter side in pixels, or SHORTEST:LONGEST.
        object_threshold: Of the panoptic rule, 0 to 1.
        overlap_threshold: Of the panoptic rule, 0 to 1.
        top_k: Instances of a picture.
        semantic_resize: What is resized to the picture: masks before they vote, or class scores.
        device: cpu, cuda, cuda:1 or mps; the default is the best there is.
        dtype: The precision to compute in; the published evaluation used float32.
        quiet: No progress.
    """
    check_folder(out)
    if save_predictions is not None:
        check_folder(save_predictions, "--save-predictions")
    from masqclip.data.locks import lock_folder
    from masqclip.evaluation.evaluate import evaluate as measure
    from masqclip.evaluation.evaluate import score
    from masqclip.evaluation.predictions import PredictionFolder
    from masqclip.evaluation.processes import Processes
    from masqclip.evaluation.report import read_column

    columns = [read_column(path) for path in beside or ()]
    processes = Processes.here()
    hidden = quiet or not processes.first
    folder = PredictionFolder(predictions or save_predictions or out / "predictions")
    if predictions is not None:
        manifest = folder.manifest()
        dataset, split = dataset or manifest["dataset"], split or manifest["split"]
        limit = limit or manifest["pictures"]
    if not dataset:
        raise MasqclipError("no dataset is given: masqclip evaluate --dataset NAME --root DIR")
    truth = _truth(dataset, root, tuple(task or ()), images, split, limit)
    if processes.first:
        print_notes(truth.notes)
    tasks = (*(task or ()), *(oracle or ()))
    if not tasks and predictions is None:
        tasks = truth.tasks
    with Phases(hidden=hidden) as bars:
        if predictions is not None:
            report = score(folder, truth, tasks, processes=processes, report=bars.show)
        else:
            overrides = {
                "object_threshold": object_threshold,
                "overlap_threshold": overlap_threshold,
                "top_k": top_k,
                "semantic_resize": semantic_resize,
            }
            # Mistakes in these are told before the model is loaded.
            words = _words(truth, vocabulary, template, readable=readable)
            protocol = _protocol(truth, size, overrides, object_score=object_score)
            fetch_models(model)
            segmenter = _segmenter(
                model,
                processes.device(device),
                dtype,
                size if protocol.shortest_edge is None else None,
                untuned=untuned,
                quiet=hidden,
            )
            if processes.first and segmenter.world is not None:
                print_notes(segmenter.world.word_note(words))
            if not task and not oracle:
                tasks = _possible(segmenter, tasks, told=processes.first)
            report = measure(
                segmenter,
                truth,
                tasks,
                words=words,
                protocol=protocol,
                folder=folder.path,
                processes=processes,
                report=bars.show,
            )
    if processes.first:
        with lock_folder(out):
            _write(report, truth, folder, out, columns)
    return 0


def _truth(
    dataset: str,
    root: Path,
    tasks: tuple[str, ...],
    images: Path | None,
    split: str,
    limit: int | None,
) -> GroundTruth:
    from masqclip.data.published import load_truth

    truth = load_truth(dataset, root, tasks=tasks, images=images)
    if split:
        truth = truth.only(split)
    if limit is not None:
        if limit < 1:
            raise MasqclipError(f"--limit {limit}: give 1 or more")
        truth = truth.first(limit)
    if not truth.pictures:
        raise MasqclipError(f"{dataset} in {root} has no picture")
    return truth


def _segmenter(
    model: str, device: str | None, dtype: str, size: str | None, *, untuned: bool, quiet: bool
) -> Segmenter:
    segmenter = load_segmenter(model, device=device, dtype=dtype, size=size, quiet=quiet)
    if untuned:
        if segmenter.model.system != "masqclip":
            raise MasqclipError(
                f"--untuned: a model of the system {segmenter.model.system!r} has no tuned queries"
            )
        segmenter.model.queries.start(segmenter.model.tower, "clip")
        segmenter.name += " (untuned)"
    return segmenter


def _possible(segmenter: Segmenter, tasks: tuple[str, ...], *, told: bool) -> tuple[str, ...]:
    """Those of a dataset's tasks that the model's system has; a note names the others."""
    from masqclip.evaluation.evaluate import system_tasks

    possible = system_tasks(segmenter, tasks)
    if told and possible and (others := [task for task in tasks if task not in possible]):
        system = segmenter.model.system
        print_error(f"{system} has no {' and no '.join(others)} segmentation", kind="note: ")
    return possible or tasks


def _words(
    truth: GroundTruth, vocabulary: str, template: list[str] | None, *, readable: bool
) -> Vocabulary:
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.evaluation.vocabularies import dataset_vocabulary, match_vocabulary

    words = dataset_vocabulary(truth, readable=readable)
    if vocabulary:
        words = match_vocabulary(truth, Vocabulary.parse(vocabulary))
    return Vocabulary.parse(words, templates=template)


def _protocol(
    truth: GroundTruth, size: str | None, overrides: dict[str, Any], *, object_score: bool
) -> Protocol:
    """The dataset's, with what is asked for; the edges stay open where its model's own ratio of
    them counts."""
    from masqclip.evaluation.protocol import published_protocol
    from masqclip.options import check_size, longest_edge

    protocol = published_protocol(truth.name)
    given = {name: value for name, value in overrides.items() if value is not None}
    if size is not None:
        shortest, longest = check_size(size, what="--size")
        if longest is None and protocol.shortest_edge and protocol.longest_edge:
            own = (protocol.shortest_edge, protocol.longest_edge)
            longest = longest_edge(shortest, own, what="--size")
        if longest is not None:
            given |= {"shortest_edge": shortest, "longest_edge": longest}
    return replace(protocol, **given, object_score=object_score)


def _write(
    report: Report, truth: GroundTruth, folder: PredictionFolder, out: Path, beside: list[Column]
) -> None:
    from masqclip.data.files import write_atomically
    from masqclip.data.label_maps import png_bytes
    from masqclip.evaluation.examples import example_sheet
    from masqclip.evaluation.report import column, paper_column, to_markdown
    from masqclip.render.overlay import numbering_notes

    columns = [column(report.model["name"], report), *beside]
    published = paper_column(report.dataset, report.split, _published_hashes(truth, report))
    columns += [published] if published is not None else []
    write_atomically(out / "report.json", report.to_json())
    write_atomically(out / "report.md", to_markdown(columns).encode("utf-8", "replace"))
    write_atomically(out / "classes.csv", report.to_csv())
    sheet = example_sheet(report, truth, folder)
    if sheet is not None:
        write_atomically(out / "examples.png", png_bytes(sheet))
        print_notes(numbering_notes([entry.name for entry in truth.classes]))
    _print_table(report, columns)
    print_line(f"written: {out}")


def _published_hashes(truth: GroundTruth, report: Report) -> dict[str, str]:
    """The hashes that the report would have, were it measured by the published protocol."""
    from masqclip.evaluation.protocol import fingerprint, published_protocol
    from masqclip.evaluation.vocabularies import dataset_vocabulary

    words, protocol = dataset_vocabulary(truth), published_protocol(truth.name)
    return {task: fingerprint(task, truth, words, protocol) for task in report.hashes}


def _print_table(report: Report, columns: list[Column]) -> None:
    from rich.table import Table
    from rich.text import Text

    from masqclip.evaluation.report import table_rows

    setting = f", {report.split} classes only" if report.split else ""
    title = f"{report.dataset}{setting}: {report.pictures} pictures, percent"
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("")
    for shown in columns:
        table.add_column(Text(one_line(shown.title)), justify="right")
    table.add_column("protocol", style="dim")
    rows = table_rows(columns)
    for row in rows:
        table.add_row(*row)
    if any(cell.endswith("*") for row in rows for cell in row):
        table.caption = "* by another protocol: not comparable"
    out_console().print(table)
