"""What each step of the training brings, in miniature: the paper's ablation over several seeds.

    masqclip data stickers --sprites sprites --images 16000 --seed 3 --out scenes
    masqclip data stickers --sprites sprites --images 300 --seed 1000 --out heldout
    python benchmarks/ablation.py --clip runs/clip --scenes scenes --held-out heldout --out ablation

Every row has the same CLIP, the same base annotations and the same budget: where there is no
distillation, the teacher trains on for as many steps with the same settings but without its own
masks, so that a student is never better just because it trained longer. Training and measuring can
be stopped at any moment; the same command goes on. Each cell is kept as JSON.

Instances as in the generalised setting: all names compete, AP50 over base, novel and all. AR@100:
recall of class-agnostic proposals on novel things, mean over IoU 0.5 to 0.95.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
import torch

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.data.files import write_atomically
from masqclip.data.published import load_truth
from masqclip.data.truth import GroundTruth
from masqclip.evaluation.evaluate import evaluate
from masqclip.evaluation.protocol import Protocol
from masqclip.proposals.mask2former import miniature_mask2former_config
from masqclip.segmenter import Segmenter
from masqclip.training.distill import DistillStage
from masqclip.training.loop import Progress, train
from masqclip.training.recipes import load_recipe
from masqclip.training.settings import LoopSettings, TuneSettings
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

FIGURES = ("AP50 base", "AP50 novel", "AP50", "AR@100 novel")


@dataclass(frozen=True)
class Row:
    """One line of the table: which proposer, tuned how, measured how."""

    name: str
    proposer: str
    tuning: str | None  # the folder of the tuned model; None = untuned
    settings: dict[str, Any] = field(default_factory=dict)
    object_score: bool = True


ROWS = (
    Row("untuned teacher (MaskCLIP)", "teacher", None),
    Row("+ distillation", "student", None),
    Row("+ MasQ-Tuning", "teacher", "tuned-teacher"),
    Row("both", "student", "tuned"),
    Row("both, without the object score", "student", "tuned", object_score=False),
    Row("both, random query start", "student", "tuned-random", {"query_start": "random"}),
    Row("both, ground-truth masks", "student", "tuned-truth", {"masks": "ground-truth"}),
    Row("both, two rounds", "student-2", "tuned-rounds"),
    Row("both, aspect-preserving input", "student", "tuned-aspect", {"clip_input": "aspect"}),
)


@dataclass(frozen=True)
class Budget:
    """Steps of each stage; a round of distillation takes `distill_steps`."""

    teacher_steps: int
    distill_steps: int
    tune_steps: int
    images: int


class Seed:
    """All runs of one seed, in a folder of their own."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        clip: Path,
        scenes: Path,
        budget: Budget,
        overrides: list[str],
    ) -> None:
        self.seed, self.folder, self.clip, self.budget = seed, folder, clip, budget
        self.dataset = CocoPanoptic(scenes, keep=is_base)
        self.overrides = overrides

    def recipe(self, stage: str, steps: int) -> tuple[Any, LoopSettings]:
        """The miniature's settings with this seed and budget."""
        wanted = [f"steps={steps}", f"seed={self.seed}"]
        settings, loop = load_recipe("miniature", stage, [*wanted, *self._own(stage)])
        # A short run warms up for a tenth of its steps at most.
        return settings, replace(loop, warmup_steps=min(loop.warmup_steps, steps // 10))

    def _own(self, stage: str) -> list[str]:
        marked = [text.split(".", 1) for text in self.overrides]
        return [rest for name, rest in marked if name == stage]

    def train(self, name: str, make: Callable[[], tuple[Stage, LoopSettings]]) -> Path:
        """A run of this seed, if it is not done yet. Returns its folder."""
        out = self.folder / name
        done = out / "done.json"
        key = json.dumps({"budget": vars(self.budget), "set": self.overrides})
        if not done.exists():
            print(f"seed {self.seed}: {name}", flush=True)
            stage, loop = make()
            if not train(stage, loop, out, device="cpu", report=_line(loop)):
                raise SystemExit(f"stopped; the same command goes on from {out}")
            write_atomically(done, key.encode())
            shutil.rmtree(out / "checkpoints", ignore_errors=True)  # the result is all we need
        elif done.read_text() != key:
            raise SystemExit(f"{out} was trained with another budget; choose another --out")
        return out

    def proposer(self, name: str) -> Path:
        """``begun`` (the teacher), ``teacher`` (trained on alone), ``student``, ``student-2``."""
        if name == "begun":

            def begin() -> tuple[Stage, LoopSettings]:
                settings, loop = self.recipe("teacher", self.budget.teacher_steps)
                return TeacherStage(self.dataset, miniature_mask2former_config(), settings), loop

            return self.train(name, begin)

        source = self.proposer("student" if name == "student-2" else "begun")

        def distil() -> tuple[Stage, LoopSettings]:
            settings, loop = self.recipe("distill", self.budget.distill_steps)
            if name == "teacher":  # no score is above one: no mask is ever added
                settings = replace(settings, score_threshold=1.0)
            if name == "student-2":
                settings = replace(settings, seed=self.seed + 1)
            return DistillStage(self.dataset, source, settings), loop

        return self.train(name, distil)

    def segmenter(self, row: Row) -> Segmenter:
        """The model of a row."""
        proposer = self.proposer(row.proposer)

        def tuning() -> tuple[TuneSettings, LoopSettings]:
            settings, loop = self.recipe("tune", self.budget.tune_steps)
            return replace(settings, **row.settings), loop

        if row.tuning is None:
            model, tokenizer = join(self.clip, proposer, tuning()[0])
            return Segmenter(model, tokenizer, cache=False)

        def tune() -> tuple[Stage, LoopSettings]:
            settings, loop = tuning()
            model, tokenizer = join(self.clip, proposer, settings)
            return TuneStage(model, tokenizer, self.dataset, settings), loop

        return Segmenter.from_pretrained(self.train(row.tuning, tune), device="cpu", cache=False)

    def measure(self, row: Row, truth: GroundTruth) -> dict[str, float]:
        """The figures of a row, from its JSON if they were measured before."""
        path = self.folder / f"{ROWS.index(row)}.json"
        key = {"row": row.name, "budget": vars(self.budget), "set": self.overrides}
        if path.exists():
            kept = json.loads(path.read_text())
            if {name: kept[name] for name in key} == key:
                return kept["figures"]
            raise SystemExit(f"{path} was measured with another budget; choose another --out")
        found = evaluate(
            self.segmenter(row),
            truth,
            ("instance", "classes"),
            protocol=Protocol(object_score=row.object_score),
        ).figures
        every = found["instance"] | found["classes"]
        figures = {name: every[name] for name in FIGURES}
        print(f"seed {self.seed}: {row.name}: {figures}", flush=True)
        write_atomically(path, json.dumps(key | {"figures": figures}).encode())
        return figures


def _line(loop: LoopSettings) -> Callable[[Progress], None]:
    def report(now: Progress) -> None:
        if now.step % max(1, loop.steps // 10) == 0:
            print(f"  step {now.step}/{now.steps}  {now.losses}", flush=True)

    return report


def table(cells: dict[str, list[dict[str, float]]]) -> str:
    """Mean and spread (standard deviation over seeds) in percent, Markdown."""
    lines = ["| | " + " | ".join(FIGURES) + " |", "| --- |" + " ---: |" * len(FIGURES)]
    for name, runs in cells.items():
        values = [
            f"{100 * np.mean(v):.1f} ± {100 * np.std(v, ddof=1 if len(v) > 1 else 0):.1f}"
            for v in ([run[figure] for run in runs] for figure in FIGURES)
        ]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def plot(cells: dict[str, list[dict[str, float]]]) -> str:
    """Bars of the means with every seed as a dot, a panel a figure, as SVG."""
    left, panel, gap, line, top = 230, 150, 24, 26, 34
    width, height = left + len(FIGURES) * (panel + gap), top + line * len(cells) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for column, figure in enumerate(FIGURES):
        x = left + column * (panel + gap)
        most = max(run[figure] for runs in cells.values() for run in runs) or 1.0
        parts.append(f'<text x="{x}" y="{top - 12}" font-weight="bold">{figure}</text>')
        for row, runs in enumerate(cells.values()):
            y = top + row * line
            values = [run[figure] for run in runs]
            long = panel * float(np.mean(values)) / most
            parts.append(
                f'<rect x="{x}" y="{y}" width="{long:.1f}" height="{line - 8}" fill="#9ecae1"/>'
            )
            parts += [
                f'<circle cx="{x + panel * value / most:.1f}" cy="{y + (line - 8) / 2}" r="2.5" '
                'fill="#08519c"/>'
                for value in values
            ]
            parts.append(
                f'<text x="{x + 4}" y="{y + line - 13}">{100 * np.mean(values):.1f}</text>'
            )
    for row, name in enumerate(cells):
        parts.append(
            f'<text x="{left - 8}" y="{top + row * line + line - 13}" '
            f'text-anchor="end">{name}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def main(
    *,
    clip: Path,
    scenes: Path,
    held_out: Path,
    out: Path,
    seeds: str = "0,1,2",
    teacher_steps: int = 1500,
    distill_steps: int = 750,
    tune_steps: int = 300,
    images: int = 300,
    set_: Annotated[list[str] | None, cyclopts.Parameter(name="--set")] = None,
    threads: int = 2,
) -> None:
    """Train and measure every row for every seed; write ablation.md, .json and .svg.

    Args:
        clip: the frozen CLIP of all rows.
        scenes: what the stages train on; novel categories go unannotated.
        held_out: what is measured on.
        out: folder of all runs and of the results.
        seeds: separated by commas.
        teacher_steps, distill_steps, tune_steps: budgets.
        images: the first so many held-out pictures.
        set_: a setting of a stage, for instance tune.learning_rate=1e-3; repeat it for several.
        threads: of the CPU.
    """
    torch.set_num_threads(threads)
    budget = Budget(teacher_steps, distill_steps, tune_steps, images)
    # Without the panoptic maps: proposals are compared with things only.
    truth = replace(load_truth("stickers", held_out), panoptic=None).first(images)
    cells: dict[str, list[dict[str, float]]] = {row.name: [] for row in ROWS}
    for seed in map(int, seeds.split(",")):
        runs = Seed(seed, out / f"seed-{seed}", clip, scenes, budget, set_ or [])
        for row in ROWS:
            cells[row.name].append(runs.measure(row, truth))
        # After every seed, so that a long job can be looked at.
        finished = json.dumps({"budget": vars(budget), "cells": cells}, indent=1)
        write_atomically(out / "ablation.json", finished.encode())
        write_atomically(out / "ablation.md", f"{table(cells)}\n".encode())
        write_atomically(out / "ablation.svg", plot(cells).encode())
    print(table(cells))


if __name__ == "__main__":
    cyclopts.run(main)
