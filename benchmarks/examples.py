"""What examples are worth beside words and in their place, on scenes of the miniature world.

    masqclip data stickers --sprites first --images 1500 --seed 4000 --out shots
    masqclip data stickers --sprites first --images 500 --seed 4001 --out heldout
    python benchmarks/examples.py nonsense --shots shots --held-out heldout
    python benchmarks/examples.py worst --shots shots --held-out heldout
    python benchmarks/examples.py time --shots shots

*nonsense*: twenty names, drawn by chance, are replaced by syllables that CLIP never read. AP50 of
these classes by the syllables alone, by them with 1, 5 and 10 examples, and by their real names;
and of all other classes.

*worst*: the twenty classes that their real names find worst (on the pictures of the shots, which
are not measured on) get five examples beside their names, then all classes.

*time*: naming and decoding pictures with 100 classes of five examples each, and with the names of
the same classes, in turns.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cyclopts
import numpy as np

from masqclip.clip.category import Category
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.open_coco import CocoFiles, open_coco
from masqclip.data.published import load_truth
from masqclip.data.truth import GroundTruth
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import evaluate
from masqclip.evaluation.vocabularies import dataset_vocabulary
from masqclip.segmenter import Segmenter
from masqclip.shots import take_shots
from mistakes import check_count, mistakes_told

_COUNT = 20
_STARTS = ("ba", "do", "fe", "gu", "ki", "lo", "mu", "na", "pi", "ro", "su", "te", "vo", "wa", "ze")


class Remembering(Segmenter):
    """A segmenter that encodes each file once: its pictures are asked about again and again."""

    seen: dict[Path, EncodedImage]

    def encode(self, image: Any, **options: Any) -> Any:
        """As `Segmenter.encode`."""
        if not isinstance(image, Path):
            return super().encode(image, **options)
        if not hasattr(self, "seen"):
            self.seen = {}
        if image not in self.seen:
            self.seen[image] = super().encode(image, **options)
        return self.seen[image]


def load(model: str) -> Remembering:
    """The model, on the processor."""
    return Remembering.from_pretrained(model, device="cpu")


def per_class(
    segmenter: Segmenter, truth: GroundTruth, words: Vocabulary, task: str = "instance"
) -> dict[str, float]:
    """AP50 of every thing or IoU of every class that is there, by its name, percent."""
    report = evaluate(segmenter, truth, [task], words=words)
    values = report.per_class[task]["AP50" if task == "instance" else "IoU"]
    found = zip((entry["name"] for entry in report.classes), values, strict=True)
    return {name: 100 * value for name, value in found if not np.isnan(value)}


def mean(values: dict[str, float], names: Sequence[str]) -> float:
    """Over those names that have a figure."""
    return statistics.fmean(values[name] for name in names if name in values)


def syllables(count: int, chance: random.Random) -> list[str]:
    """Words that nobody reads."""
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(chance.sample(_STARTS, 3))] = None
    return list(words)


def changed(words: Vocabulary, categories: dict[str, Category]) -> Vocabulary:
    """A vocabulary with other categories of the same names."""
    return replace(words, categories=tuple(categories.get(c.name, c) for c in words.categories))


def dataset(folder: Path) -> CocoFiles:
    """Annotated scenes in files."""
    opened = open_coco(folder)
    assert not hasattr(opened, "source")
    return opened  # type: ignore[return-value]


def nonsense(shots: Path, held_out: Path, seeds: str, model: str) -> None:
    """Twenty names replaced by syllables."""
    segmenter, truth = load(model), load_truth("stickers", held_out)
    real = dataset_vocabulary(truth)
    by_name = {c.name: c for c in real.categories}
    base = per_class(segmenter, truth, real)
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in map(int, seeds.split(",")):
        chance = random.Random(seed)
        hidden = chance.sample(sorted(base), _COUNT)
        others = [name for name in base if name not in hidden]
        spoken = dict(zip(hidden, syllables(_COUNT, chance), strict=True))
        tried = {"real names": real}
        without = {n: replace(by_name[n], prompts=(spoken[n],)) for n in hidden}
        tried["syllables alone"] = changed(real, without)
        for count in (1, 5, 10):
            found = _shots(segmenter, shots, count, seed, hidden)
            shown = {n: replace(without[n], examples=found[n].examples) for n in found}
            tried[f"syllables, {count} examples"] = changed(real, without | shown)
        for title, words in tried.items():
            values = per_class(segmenter, truth, words)
            row = (mean(values, hidden), mean(values, others))
            rows.setdefault(title, []).append(row)
            print(f"seed {seed}: {title}: {row[0]:.1f}, others {row[1]:.1f}", flush=True)
    _print(rows, ("AP50 of the twenty", "of the others"))


def worst(shots: Path, held_out: Path, seed: int, model: str) -> None:
    """Five examples beside real names."""
    segmenter, truth = load(model), load_truth("stickers", held_out)
    real = dataset_vocabulary(truth)
    by_name = {c.name: c for c in real.categories}
    chosen_on = load_truth("stickers", shots).first(500)
    before = per_class(segmenter, chosen_on, real)
    low = sorted(before, key=lambda name: before[name])[:_COUNT]
    found = _shots(segmenter, shots, 5, seed, list(by_name))
    every = {n: replace(by_name[n], examples=c.examples) for n, c in found.items()}
    few = {name: every[name] for name in low if name in every}
    rows: dict[str, list[tuple[float, ...]]] = {}
    for title, words in {
        "names": real,
        "names, five examples of the twenty": changed(real, few),
        "names, five examples of all": changed(real, every),
    }.items():
        values = per_class(segmenter, truth, words)
        iou = per_class(segmenter, truth, words, "semantic")
        row = (mean(values, low), mean(values, list(values)), mean(iou, list(iou)))
        rows.setdefault(title, []).append(row)
        print(f"{title}: {row}", flush=True)
    _print(rows, ("AP50 of the twenty worst named", "of all", "mIoU"))


def timed(shots: Path, rounds: int, model: str) -> None:
    """A picture with 100 classes of examples, and with the same 100 as names."""
    segmenter, truth = load(model), load_truth("stickers", shots)
    things = [c.name for c in dataset_vocabulary(truth).categories if c.thing]
    shown = list(_shots(segmenter, shots, 5, 0, things).values())[:100]
    kinds = {
        "names": Vocabulary(tuple(replace(c, examples=None, worded=True) for c in shown)),
        "examples": Vocabulary(tuple(replace(c, worded=False) for c in shown)),
    }
    pictures = [segmenter.encode(picture.path) for picture in truth.pictures[:rounds]]
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for words in kinds.values():
        segmenter(pictures[0], words, "panoptic")  # rows are made once
    for number, picture in enumerate(pictures):
        for kind in list(kinds)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            segmenter(picture, kinds[kind], "panoptic")
            seconds[kind].append(time.perf_counter() - started)
    for kind, found in seconds.items():
        print(f"{len(shown)} {kind}: {1000 * statistics.median(found):.2f} ms")
    ratio = sum(seconds["examples"]) / sum(seconds["names"])
    print(f"examples / names: {ratio:.3f} (of all {len(pictures)} pictures together)")


def _shots(
    segmenter: Segmenter, folder: Path, count: int, seed: int, names: Sequence[str]
) -> dict[str, Category]:
    kept = dataset(folder).keeping(lambda category: category["name"] in set(names))
    found = take_shots(segmenter, kept, count, seed=seed).vocabulary
    return {c.name: c for c in found.categories if c.examples is not None}


def _print(rows: dict[str, list[Any]], columns: Sequence[str]) -> None:
    print(f"| | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for title, found in rows.items():
        cells = []
        for values in zip(*found, strict=True):
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.1f}{spread}")
        print(f"| {title} | {' | '.join(cells)} |")


def main(
    what: Literal["nonsense", "worst", "time"],
    *,
    shots: Path | None = None,
    held_out: Path | None = None,
    seeds: str = "0,1,2",
    rounds: int = 200,
    model: str = "masqclip-mini",
) -> int:
    """Measure, and print tables.

    Args:
        what: see above.
        shots: scenes to take examples from, as "masqclip data stickers" writes them.
        held_out: others to measure on.
        seeds: of names and examples; of "worst" the first alone.
        rounds: pictures of "time".
        model: a model of this package, or a folder.
    """
    with mistakes_told():
        check_count("--rounds", rounds, 1)
        if shots is None:
            raise MasqclipError(f"{what}: give --shots")
        if what == "time":
            timed(shots, rounds, model)
        elif held_out is None:
            raise MasqclipError(f"{what}: give --held-out")
        elif what == "nonsense":
            nonsense(shots, held_out, seeds, model)
        else:
            worst(shots, held_out, int(seeds.split(",")[0]), model)
        return 0
    return 2


if __name__ == "__main__":
    cyclopts.run(main)
