"""`masqclip calibrate`: what scores mean, and a least one of each name, by annotated pictures."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table

from masqclip.cli.console import Phases, out_console, print_error, print_line
from masqclip.cli.models import check_size_option, fetch_models, load_segmenter
from masqclip.cli.output_files import check_folder, check_vocabulary_file
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.data.truth import GroundTruth, Picture
    from masqclip.evaluation.calibration import Detections
    from masqclip.score_scale import Calibration

app = App(
    name="calibrate",
    help_epilogue="""\
**Examples**

```text
# on your annotated pictures: words.json is a vocabulary to use from now on
masqclip calibrate --data val.json --images val --vocabulary "cat, dog" \\
    --out words.json
masqclip segment photo.jpg --vocabulary words.json

# so that nine in ten of what is reported are right
masqclip calibrate --data val.json --images val --vocabulary classes.txt \\
    --precision 0.9 --out words.json
```

What a score means is told by an expected calibration error: how far, on average, scores are from
the share of detections that are right. It is measured on pictures that are held out, as are F1,
the reliability plot and the precision-recall curve beside the vocabulary.""",
)


@app.default
def calibrate(
    *,
    data: Annotated[Path, Parameter(alias="-d", metavar="FILE")],
    images: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    vocabulary: Annotated[str, Parameter(alias="-v", metavar="NAMES", show_default=False)] = "",
    out: Annotated[Path, Parameter(alias="-o", metavar="FILE")],
    precision: Annotated[float | None, Parameter(metavar="SHARE")] = None,
    held_out: Annotated[float, Parameter(metavar="SHARE")] = 0.4,
    limit: Annotated[int | None, Parameter(metavar="N")] = None,
    seed: Annotated[int, Parameter(metavar="INT")] = 0,
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    dtype: Annotated[str | None, Parameter(metavar="NAME")] = None,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Fit what scores mean, and from which one on each name is reported.

    Args:
        data: COCO annotations of instances, or a folder that "masqclip data stickers" wrote.
        images: The folder of the pictures; "images" beside the file unless given.
        vocabulary: The names as in "masqclip segment", with a name for each category of the file;
            the file's own unless given. Names without an annotation stay as they are.
        out: The vocabulary to write, .json; the report goes into a folder beside it.
        precision: Report each name from the lowest score on that has this precision, 0 to 1; by
            default from where its F1 is best.
        held_out: The share of the pictures that is measured on, and not fitted on.
        limit: Only the first so many pictures.
        seed: Which pictures are held out.
        model: The model that will read it.
        device: cpu, cuda, cuda:1 or mps; the default is the best there is.
        dtype: The precision to compute in; the default suits the device.
        size: The size at which pictures are seen, SHORTEST or SHORTEST:LONGEST.
        quiet: Print errors only.
    """
    from masqclip.options import check_share

    if not 0 < held_out < 1:
        raise MasqclipError(f"--held-out {held_out:g}: give a share between 0 and 1")
    if precision is not None:
        check_share(precision, what="--precision")
    size = check_size_option(size)
    check_vocabulary_file(out)
    reports = out.with_suffix("")
    check_folder(reports)
    from masqclip.clip.name_limits import few_names
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.data.published import load_truth
    from masqclip.evaluation import calibration
    from masqclip.evaluation.vocabularies import dataset_vocabulary, match_vocabulary

    folder = data if data.is_dir() else Path()
    truth = load_truth("stickers" if data.is_dir() else str(data), folder, images=images)
    truth = truth if limit is None else truth.first(limit)
    given = Vocabulary.parse(vocabulary) if vocabulary else dataset_vocabulary(truth)
    words = match_vocabulary(truth, given)
    pictures = list(truth.pictures)
    random.Random(seed).shuffle(pictures)
    kept = max(1, round(held_out * len(pictures)))
    if kept >= len(pictures):
        raise MasqclipError(f"{len(pictures)} pictures cannot be parted: give more, or --held-out")
    if truth.instances is None:
        raise MasqclipError(f"{truth.name} has no instances: give a COCO file of instances")
    if not any(_shows(truth, picture) for picture in pictures[:kept]):
        raise MasqclipError(
            f"nothing is annotated on the {kept} pictures that are held out: give more, or another "
            "--held-out or --seed"
        )
    fetch_models(model)
    segmenter = load_segmenter(model, device=device, dtype=dtype, size=size, quiet=quiet)
    with Phases(hidden=quiet) as phases:
        fitted, held = (
            calibration.detect(segmenter, truth, words, part, partial(phases.show, name))
            for name, part in (("fitted on", pictures[kept:]), ("held out", pictures[:kept]))
        )
    numbers = calibration.fit_calibration(fitted)
    least = calibration.fit_thresholds(fitted.at(numbers), precision=precision)
    calibrated = _with_scores(given, words, numbers, least)
    report = _report(held, numbers, least)
    calibrated.save(out)
    reports.mkdir(parents=True, exist_ok=True)
    _write_report(reports, report, held, numbers)
    unseen = [name for name, score in zip(words.names, least, strict=True) if score is None]
    if unseen and not quiet:
        told = f"nothing of these is annotated, and they stay as they were: {few_names(unseen)}"
        print_error(told, kind="note: ")
    if not quiet:
        _print_report(report)
        print_line(f"written: {out}, and plots in {reports}")
    return 0


def _shows(truth: GroundTruth, picture: Picture) -> bool:
    """Whether a thing is annotated on a picture."""
    return any(not entry.get("iscrowd") for entry in truth.instances_of(picture))


def _with_scores(
    given: Vocabulary, words: Vocabulary, numbers: Calibration, least: list[float | None]
) -> Vocabulary:
    """The vocabulary that was given, with what was found."""
    from dataclasses import replace

    from masqclip.clip.saved_vocabulary import rescaled

    found = {
        category.reading: score
        for category, score in zip(words.categories, least, strict=True)
        if score is not None
    }
    categories = tuple(
        replace(one, min_score=round(found[one.reading], 3)) if one.reading in found else one
        for one in rescaled(given.categories, given.calibration, numbers)
    )
    return replace(given, categories=categories, calibration=numbers)


def _report(held: Detections, numbers: Calibration, least: list[float | None]) -> dict[str, Any]:
    import numpy as np

    from masqclip.assembly import MIN_SCORE
    from masqclip.evaluation import calibration

    after = held.at(numbers)
    usual = [MIN_SCORE] * len(held.names)
    thresholds = [MIN_SCORE if score is None else score for score in least]
    before_f1 = calibration.f1_scores(held, usual)
    after_f1 = calibration.f1_scores(after, thresholds)
    return {
        "calibration": list(numbers),
        "expected calibration error": {
            "before": calibration.expected_calibration_error(held),
            "after": calibration.expected_calibration_error(after),
            "by chance alone": calibration.error_by_chance(after),
        },
        "mean F1": {
            "before": float(np.nanmean(before_f1)),
            "after": float(np.nanmean(after_f1)),
        },
        "detections": len(held.scores),
        "names": [
            {
                "name": name,
                "annotated": int(count),
                "min_score": score,
                "F1 before": None if np.isnan(one) else float(one),
                "F1 after": None if np.isnan(other) else float(other),
            }
            for name, count, score, one, other in zip(
                held.names, held.annotated, least, before_f1, after_f1, strict=True
            )
        ],
    }


def _write_report(
    folder: Path, report: dict[str, Any], held: Detections, numbers: Calibration
) -> None:
    from masqclip.data.files import write_atomically
    from masqclip.evaluation import calibration
    from masqclip.render.reliability import precision_recall_svg, reliability_svg

    write_atomically(folder / "report.json", json.dumps(report, indent=1).encode())
    sides = {"before": held, "after": held.at(numbers)}
    bins = {name: calibration.reliability(side)[1:] for name, side in sides.items()}
    write_atomically(folder / "reliability.svg", reliability_svg(bins).encode())
    # A calibration orders nothing anew: one curve stands for both.
    curve = calibration.precision_recall(held)
    write_atomically(folder / "precision-recall.svg", precision_recall_svg(*curve).encode())


def _print_report(report: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("on held-out pictures", "before", "after"):
        table.add_column(column, header_style="bold", justify="left" if " " in column else "right")
    for name in ("expected calibration error", "mean F1"):
        before, after = report[name]["before"], report[name]["after"]
        table.add_row(name, f"{100 * before:.1f} %", f"{100 * after:.1f} %")
    out_console().print(table)
    chance = 100 * report["expected calibration error"]["by chance alone"]
    if report["mean F1"]["after"] < report["mean F1"]["before"]:
        print_line("the scores of names find less than one score for all: annotate more pictures")
    print_line(f"so few pictures would show an error of {chance:.1f} % where there is none")
