"""What `masqclip train` does before and after a stage's training, with its progress shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from masqclip.cli.console import Steps, out_console, print_line
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.data.open_coco import CocoFiles, CocoMasks
    from masqclip.segmenter import Segmenter
    from masqclip.training.settings import DistillSettings
    from masqclip.training.tune import TuneStage


def write_pseudo_labels(
    teacher: Path, dataset: CocoMasks, settings: DistillSettings, path: Path, device: str | None
) -> None:
    """Write what a teacher adds to a dataset as COCO JSON."""
    from masqclip.data.files import write_atomically
    from masqclip.data.stickers.drawn import DrawnScenes
    from masqclip.devices import choose_device
    from masqclip.training.distill import load_teacher
    from masqclip.training.inputs import annotated_pictures
    from masqclip.training.pseudo_labels import pseudo_labels

    frozen = load_teacher(teacher)
    if isinstance(dataset, DrawnScenes):
        dataset.check_finite("pseudo labels are written for every picture")
    dataset, _ = annotated_pictures(dataset, settings)
    with Steps("pseudo labels", total=len(dataset)) as bar:
        document = pseudo_labels(
            frozen,
            dataset,
            settings,
            device=choose_device(device),
            report=bar.show,
        )
    write_atomically(path, json.dumps(document).encode())
    count = len(document["annotations"])
    print_line(f"{count:,} masks in {len(dataset):,} pictures: {path}")


def fill_proposals(stage: TuneStage, folder: Path, device: str | None) -> None:
    """Run a stage's proposer over its pictures, unless that is done, and let training read it."""
    from masqclip.devices import choose_device
    from masqclip.training.proposal_cache import ProposalCache

    cache = ProposalCache(folder, stage)
    with Steps("proposals", total=len(stage.dataset)) as bar:
        cache.fill(stage, choose_device(device), report=bar.show)
    stage.cache = cache


def measured_before(
    stage: TuneStage, held_out: CocoFiles, out: Path, device: str | None
) -> dict[str, float]:
    """The held-out figures of the model that tuning starts from; kept for when a run goes on."""
    from masqclip.data.files import write_atomically
    from masqclip.data.json_files import null_for_nan, read_json
    from masqclip.devices import choose_device
    from masqclip.segmenter import Segmenter

    path = out / "before.json"
    if not path.exists():
        model = stage.model.to(choose_device(device))
        figures = _measure("before", Segmenter(model, stage.tokenizer, cache=False), held_out)
        write_atomically(path, json.dumps(null_for_nan(figures)).encode())
    found = read_json(path, what="the figures from before")
    if not isinstance(found, dict) or not all(
        value is None or isinstance(value, int | float) for value in found.values()
    ):
        raise MasqclipError(f"{path} holds no figures: delete it, to measure them again")
    return {name: math.nan if value is None else float(value) for name, value in found.items()}


def report_tuning(
    before: dict[str, float], held_out: CocoFiles, out: Path, device: str | None
) -> None:
    """Measure the tuned model, write both figures beside it and print them."""
    from rich.table import Table

    from masqclip.segmenter import Segmenter
    from masqclip.training.held_out import write_report

    tuned = Segmenter.from_pretrained(out, device=device, cache=False)
    after = _measure("after", tuned, held_out)
    heading, *rows = write_report(out, before, after, len(held_out))
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(heading[0], header_style="bold", overflow="fold")
    for text in heading[1:]:
        table.add_column(text, header_style="bold", justify="right")
    for row in rows:
        table.add_row(*row)
    out_console().print(table)


def _measure(label: str, segmenter: Segmenter, held_out: CocoFiles) -> dict[str, float]:
    from masqclip.training.held_out import measure_held_out

    pictures = len(held_out)
    with Steps(label, total=pictures) as bar:
        # Each picture is worked on several times: so much of all that work is done.
        return measure_held_out(
            segmenter, held_out, report=lambda done, total: bar.show(pictures * done // total)
        )
