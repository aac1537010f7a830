"""The poster's whole table and the paper's ablations, from drawings to tables, in miniature.

    python benchmarks/poster.py --out poster

trains XPM, LSeg+, OpenSeg, MaskCLIP and MasQCLIP side by side over several seeds: the same scenes,
the same proposals, the same frozen CLIP and its words, in the paper's two settings (poster_world.py
has them): XPM and MasQCLIP for novel names, the others and MasQCLIP across datasets. It measures
them, and writes the paper's Tables 1 to 5 with means and spreads beside the paper's figures, its
orders pair by pair, and two plots. Whatever is done is kept: the same command goes on where it was
stopped, by Ctrl-C, a kill or --minutes.

CLIP, and the backbone and pixel decoder that everything starts from, are those of masqclip-mini
unless others are given. Its proposer was trained on masks of 464 other things than the novel ones,
and its CLIP read all names; neither ever saw a drawing by the strangers' studios. The decoder of
every teacher begins at random.

Settings stand in poster.toml. They were chosen with --seed-offset 1000, on other scenes, and with
other seeds of training.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cyclopts
import torch

from masqclip.cli.output_files import check_folder
from masqclip.data.digests import digest_bytes, digest_model
from masqclip.data.locks import lock_folder
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights, quiet_transformers
from masqclip.segmenter import Segmenter
from masqclip.towers.normalisation import write_normalisation
from masqclip.training.inputs import claim_inputs
from masqclip.weights.preprocessing import PREPROCESSING
from mistakes import check_count, mistakes_told
from poster_figures import keep_figures, unfinished, write_tables
from poster_runs import LEARNS, PROPOSER, SYSTEMS, SeedRuns, Setup, StoppedError, looks
from poster_tables import LEARNED_NAMES, TABLES
from poster_world import PosterWorld

SETTINGS = Path(__file__).with_name("poster.toml")
_ROWS = {
    "teacher": "teacher",
    "round-1": "one round",
    "round-2": "two rounds",
    "round-3": "three rounds",
    "longer": "longer teacher",
}


@dataclass(frozen=True)
class Job:
    """One thing to measure of a seed: a figure of a cell.

    Attributes:
        table, row: where its figures go.
        work: makes them.
    """

    table: str
    row: str
    work: Callable[[], dict[str, float]]


def jobs(runs: SeedRuns) -> Iterator[Job]:
    """All that is measured of a seed, the table that matters most first."""

    measured = runs.measure

    def novel(kind: str, name: str = "novel-masqclip", **options: Any) -> Any:
        """MasQCLIP, trained for base and novel names."""
        return measured(name, runs.tuned("novel"), kind, **options)

    def system(name: str) -> Job:
        """A row of the poster's table."""

        def figures() -> dict[str, float]:
            folder = runs.system(name)
            if name == "xpm":
                found = measured(name, folder, "instances")
            else:
                found = measured(name, folder, "strangers")
                found |= measured(name, folder, "vocabularies")
                found |= measured(name, folder, "trained")
            if name == "masqclip":
                found |= novel("instances")
            return found | runs.facts(name)

        return Job("poster", SYSTEMS[name], figures)

    extra = "openseg-captions"  # the paper's table has no such row: last
    yield from (system(name) for name in SYSTEMS if name != extra)
    yield Job("constrained", "XPM", lambda: measured("xpm", runs.system("xpm"), "constrained"))
    yield Job("constrained", "MasQCLIP", lambda: novel("constrained"))
    yield Job(
        "object score",
        "without",
        lambda: novel("instances", "novel-masqclip-no-score", object_score=False),
    )
    yield Job("object score", "with", lambda: novel("instances"))
    for name, title in _ROWS.items():

        def proposals(name: str = name) -> dict[str, float]:
            if name == PROPOSER:
                return novel("instances")
            return measured(f"by-{name}", runs.tuned("novel"), "instances", runs.proposer(name))

        yield Job("distillation", title, proposals)
    for learns in LEARNS:

        def tuned(learns: str = learns) -> dict[str, float]:
            folder = runs.tuned("across", learns)
            name = "masqclip" if learns == "q" else f"tuned-{learns}"
            return measured(name, folder, "strangers") | measured(name, folder, "trained")

        yield Job("tuned", LEARNED_NAMES[learns], tuned)
    yield system(extra)


def curves(runs: SeedRuns) -> dict[str, list[dict[str, float]]]:
    """Recall of the teacher and of the longer one on their way, and of the distilled rounds."""
    folder = runs.tuned("novel")
    found: dict[str, list[dict[str, float]]] = {"teacher": [], "distilled": []}

    def add(kind: str, step: int, name: str, proposer: Path) -> None:
        figures = runs.measure(name, folder, "recall", proposer)
        found[kind].append({"seed": runs.seed, "step": step, **figures})

    taught = runs.recipe("teacher")[1].steps
    for name, first in (("teacher", 0), ("longer", taught)):
        for step, proposer in looks(runs.proposer(name)):
            add("teacher", first + step, f"{name}-{step}", proposer)
    add("distilled", taught, "teacher-end", runs.proposer("teacher"))
    each = runs.recipe("distill")[1].steps
    for number in (1, 2, 3):
        name = f"round-{number}"
        add("distilled", taught + number * each, name, runs.proposer(name))
    return found


def make_setup(
    out: Path,
    settings: Path,
    sprites: Path | None,
    clip: Path | None,
    proposer: Path | None,
    seed_offset: int,
    device: str | None,
    minutes: float,
) -> Setup:
    """What all seeds share, made where it is not given."""
    drawings = sprites or out / "sprites"
    world = PosterWorld.read(settings, out / f"scenes-{seed_offset}", drawings, seed_offset)
    if sprites is None and not (drawings / "index.json").exists():
        from masqclip.data.stickers.sprites import build_sprites

        build_sprites(drawings, world="second", size=128)
    if clip is None or proposer is None:
        shipped = out / "shipped"
        if not (shipped / "clip" / PREPROCESSING).exists():  # which is written last
            with lock_folder(shipped):
                _take_apart(shipped)
        clip, proposer = clip or shipped / "clip", proposer or shipped / "proposer"
    claim_inputs(
        out,
        {
            "[world] in --settings": digest_bytes(
                json.dumps(world.settings, sort_keys=True).encode()
            ),
            "--seed-offset": str(seed_offset),
            "--clip": digest_model(find_weights(clip, what="CLIP")),
            "--proposer": digest_model(find_weights(proposer, what="proposer")),
        },
    )
    return Setup(settings, world, clip, proposer, device, minutes)


def _take_apart(folder: Path) -> None:
    """masqclip-mini's CLIP and proposer as folders of their own, in single precision."""
    whole = Segmenter.from_pretrained("masqclip-mini", device="cpu", cache=False)
    model = whole.model.float()
    with quiet_transformers():
        model.clip.save_pretrained(folder / "clip")
        whole.text.tokenizer.save_pretrained(folder / "clip")
        model.proposer.save_pretrained(folder / "proposer")
    seen = {"clip_mean": model.config.clip_mean, "clip_std": model.config.clip_std}
    write_normalisation(folder / "clip", seen, model.clip.config.vision_config.image_size)


def work(setup: Setup, seed: int, out: Path) -> None:
    """Train and measure all of one seed, as far as the setup's minutes go."""
    runs = SeedRuns(setup, seed, out / f"seed-{seed}")
    tables: dict[str, dict[str, dict[str, float]]] = {name: {} for name in TABLES}
    with lock_folder(runs.folder), suppress(StoppedError):
        found = curves(runs)
        for job in jobs(runs):
            tables[job.table][job.row] = job.work()
        keep_figures(setup, seed, out, {"tables": tables, "curves": found})


def main(
    *,
    out: Path,
    seeds: str = "0,1,2",
    settings: Path = SETTINGS,
    sprites: Path | None = None,
    clip: Path | None = None,
    proposer: Path | None = None,
    seed_offset: int = 0,
    processes: int = 2,
    minutes: float = 0.0,
    device: str | None = None,
) -> int:
    """Train and measure every system for every seed; write poster.md, poster.json and plots.

    Args:
        out: folder of everything.
        seeds: of training, separated by commas.
        settings: of the world and all stages.
        sprites: the cache of the second world's drawings; fetched and drawn unless given.
        clip: the frozen CLIP; masqclip-mini's unless given.
        proposer: whose backbone and pixel decoder all start from; masqclip-mini's unless given.
        seed_offset: added to the seeds of all scenes: 1000 to choose settings by.
        processes: seeds that are worked on at a time; they share the cores.
        minutes: each training stops after so long, with a checkpoint.
        device: cpu keeps it off a GPU.
    """
    with mistakes_told():
        check_folder(out)
        check_count("--processes", processes, 1)
        check_count("--minutes", minutes, 0)
        numbers = _numbers(seeds)
        setup = make_setup(out, settings, sprites, clip, proposer, seed_offset, device, minutes)
        waiting = unfinished(setup, numbers, out)
        if len(waiting) == 1 or processes == 1:
            for seed in waiting:
                work(setup, seed, out)
        elif waiting:
            setup.world.draw()  # the seeds share the scenes
            _spread(waiting, processes, setup, out)
        print(write_tables(out, numbers))
        return 0
    return 2


def _numbers(seeds: str) -> list[int]:
    try:
        numbers = [int(text) for text in seeds.split(",")]
    except ValueError as error:
        raise MasqclipError(f"--seeds {seeds}: give whole numbers with commas") from error
    if len(set(numbers)) < len(numbers):  # a spread of the same figures would be none
        raise MasqclipError(f"--seeds {seeds}: give each number once")
    return numbers


def _spread(seeds: list[int], processes: int, setup: Setup, out: Path) -> None:
    """Work on several seeds at a time, a process each, that share the cores.

    Raises:
        MasqclipError: some failed; the others were worked on to their end.
    """
    threads = max(1, torch.get_num_threads() // processes)
    failed: dict[int, str] = {}
    with ProcessPoolExecutor(
        processes, get_context("spawn"), torch.set_num_threads, (threads,)
    ) as pool:
        running = {pool.submit(work, setup, seed, out): seed for seed in seeds}
        for future in as_completed(running):
            if (error := future.exception()) is not None:
                seed = running[future]
                failed[seed] = f"seed {seed}: {error}"
                print(failed[seed], file=sys.stderr, flush=True)
    if failed:
        raise MasqclipError("; ".join(failed[seed] for seed in sorted(failed)))


if __name__ == "__main__":
    cyclopts.run(main)
