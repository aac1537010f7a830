"""What the refinements are worth, over the poster's seeds: the table of docs/refinements.md.

    python benchmarks/refinements.py --poster poster --out refinements

takes the models that `poster.py` trained (tuned for novel names, and across datasets) as they are,
reads and names masks in each of the ways of `masqclip.refinements`, and measures AP50 of base and
novel names on held-out scenes, and PQ and mIoU on drawings by strangers. The rows at the end train
the queries anew, with what is not published in tuning. Means and spreads over the seeds are of
differences to the published reading, seed by seed; values stand in the rows, from the papers that
had the ideas or chosen by --dev on other scenes. Whatever is measured is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import cyclopts

from masqclip.clip.category import Category
from masqclip.data.class_lists import read_class_list
from masqclip.data.files import write_atomically
from masqclip.data.truth import GroundTruth
from masqclip.evaluation.evaluate import evaluate
from masqclip.evaluation.vocabularies import dataset_vocabulary
from masqclip.segmenter import Segmenter
from masqclip.training.tune import TuneStage, join
from mistakes import mistakes_told
from poster_runs import PROPOSER, SeedRuns, Setup
from poster_world import PosterWorld

SETTINGS = Path(__file__).with_name("poster.toml")
#: Ways to say a name, for the rows that compare several prompts.
_PROMPTS = ("{}", "a {}", "the {}", "one {} and another {}")
_FIGURES = ("base", "novel", "PQ", "mIoU")


@dataclass(frozen=True)
class Row:
    """One way to read masks.

    Attributes:
        title: in the table.
        refinements: of the model.
        prompts: several of each name, in place of the name alone.
        tuned: settings of tuning in place of the poster's.
        beside: the title of the row that it is compared with.
    """

    title: str
    refinements: Mapping[str, Any] = field(default_factory=dict)
    prompts: Sequence[str] = ()
    tuned: Mapping[str, Any] = field(default_factory=dict)
    beside: str = "as published"


ROWS = (
    Row("as published"),
    Row("share of each patch", {"patch_coverage": "share"}),
    Row("masked from block 5 of 6", {"mask_from_block": 4}),
    Row("trust 0.5 (OVRCOAT)", {"trust": 0.5}),
    Row("prune 0.05", {"prune": 0.05}),
    Row("prune 0.2", {"prune": 0.2}),
    Row(
        "with CLIP's own answer, 0.4 and 0.8 (FC-CLIP)",
        {"untuned_seen": 0.4, "untuned_unseen": 0.8},
    ),
    Row("with CLIP's own answer, 0 and 0.4", {"untuned_unseen": 0.4}),
    Row("four prompts, mean", {}, _PROMPTS),
    Row("four prompts, the best", {"synonyms": "best"}, _PROMPTS, beside="four prompts, mean"),
    Row("tuned on annotated masks", tuned={"masks": "ground-truth"}),
    Row("tuned, held to CLIP's own answer", tuned={"consistency": 1.0}),
    Row("tuned with mixed names", tuned={"mix_names": 0.5}),
)  # fmt: skip


def tuned(runs: SeedRuns, setting: str, row: Row) -> Path:
    """The model of a row: the poster's, or one with queries of its own."""
    if not row.tuned:
        return runs.tuned(setting)
    settings, loop = runs.recipe("tune", learns="q", **row.tuned)

    def tune() -> TuneStage:
        model, tokenizer = join(runs.setup.clip, runs.proposer(PROPOSER, setting), settings)
        return TuneStage(model, tokenizer, runs.dataset(setting), settings)

    slug = "-".join(f"{name}-{value}" for name, value in row.tuned.items())
    return runs.train(f"tuned-{setting}-{slug}", tune, settings, loop)


def figures(runs: SeedRuns, row: Row) -> dict[str, float]:
    """The four figures of a row, for one seed."""
    world = runs.setup.world
    stickers = [entry.name for entry in read_class_list("stickers").classes]

    def load(setting: str) -> Segmenter:
        segmenter = runs.load(tuned(runs, setting, row))
        config = segmenter.model.config
        config.refinements = dict(row.refinements)
        config.tuned_names = [*world.names.base] if setting == "novel" else stickers
        return segmenter

    def measured(segmenter: Segmenter, truth: GroundTruth, tasks: Sequence[str]) -> Any:
        words = dataset_vocabulary(truth)
        if row.prompts:
            words = replace(words, categories=tuple(map(in_prompts, words.categories)))
        return evaluate(segmenter, truth, tasks, words=words).figures

    def in_prompts(category: Category) -> Category:
        said = [prompt.replace("{}", name) for name in category.prompts for prompt in row.prompts]
        return replace(category, prompts=tuple(said))

    found = measured(load("novel"), world.heldout(), ("instance",))["instance"]
    scenes = measured(load("across"), world.strangers("150"), ("panoptic", "semantic"))
    return {
        "base": found["AP50 base"],
        "novel": found["AP50 novel"],
        "PQ": scenes["panoptic"]["PQ"],
        "mIoU": scenes["semantic"]["mIoU"],
    }


def table(found: Mapping[str, Sequence[dict[str, float]]]) -> str:
    """Rows of means, and of the mean gain over the row beside and its spread."""
    lines = [
        "| | AP50 base | AP50 novel | PQ, strangers | mIoU, strangers |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in ROWS:
        if row.title not in found:
            continue
        cells = []
        for name in _FIGURES:
            own = [100 * seed[name] for seed in found[row.title]]
            if row.title == row.beside:
                cells.append(f"{mean(own):.1f}")
                continue
            against = [100 * seed[name] for seed in found[row.beside]]
            gains = [a - b for a, b in zip(own, against, strict=False)]
            spread = f" ± {stdev(gains):.1f}" if len(gains) > 1 else ""
            cells.append(f"{mean(gains):+.1f}{spread}")
        beside = "" if row.beside == ROWS[0].title else f" (to *{row.beside}*)"
        lines.append(f"| {row.title}{beside} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(
    *,
    poster: Path,
    out: Path = Path("refinements"),
    scenes: str = "scenes-0",
    seeds: str = "0,1,2",
    only: str = "",
    device: str | None = None,
) -> None:
    """Measure all rows of all seeds and write the table.

    Args:
        poster: the folder that poster.py wrote.
        out: where figures and table go.
        scenes: the folder of scenes in it; others, to choose values by.
        seeds: of the poster, with commas.
        only: rows whose title contains this.
        device: cpu or cuda.
    """
    world = PosterWorld.read(SETTINGS, poster / scenes, Path("sprites"), 0)
    shipped = poster / "shipped"
    setup = Setup(SETTINGS, world, shipped / "clip", shipped / "proposer", device)
    found: dict[str, list[dict[str, float]]] = {}
    with mistakes_told():
        for seed, row in ((seed, row) for row in ROWS for seed in seeds.split(",")):
            name = row.title.replace(" ", "-")
            kept = out / Path(scenes).name / f"seed-{seed}" / f"{name}.json"
            if not kept.exists() and only in row.title:
                measured = figures(SeedRuns(setup, int(seed), poster / f"seed-{seed}"), row)
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(kept, json.dumps(measured).encode())
                print(seed, row.title, *(f"{n} {100 * v:.1f}" for n, v in measured.items()))
            if kept.exists():
                found.setdefault(row.title, []).append(json.loads(kept.read_text()))
    write_atomically(out / "table.md", table(found).encode())
    print(table(found))


if __name__ == "__main__":
    cyclopts.run(main)
