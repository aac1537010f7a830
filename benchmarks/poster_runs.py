"""Everything that one seed of the poster trains, and what is measured of it.

Each training is a run that goes on where it stopped; each measurement is kept as JSON. Both say
with which settings they were made, and are not mixed with others.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gflops import count
from masqclip.baselines.loading import load_system
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoCaptions, CocoPanoptic
from masqclip.data.digests import digest_model
from masqclip.data.files import write_atomically
from masqclip.data.json_files import null_for_nan
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import evaluate
from masqclip.evaluation.protocol import Protocol
from masqclip.hub import quiet_transformers
from masqclip.proposals.adapters import load_trainable
from masqclip.segmenter import Segmenter
from masqclip.training.distill import DistillStage
from masqclip.training.grounded import read_captions
from masqclip.training.loop import Progress, train
from masqclip.training.recipes import load_recipe
from masqclip.training.settings import LoopSettings
from masqclip.training.stage import Stage
from masqclip.training.systems import BASELINES, Ingredients, train_baseline
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join
from poster_world import VOCABULARIES, PosterWorld

#: The systems of the table, in the poster's order, and what each is called there.
SYSTEMS = {
    "xpm": "XPM",
    "lseg": "LSeg+",
    "openseg": "OpenSeg",
    "openseg-captions": "OpenSeg, more captions",
    "maskclip": "MaskCLIP",
    "masqclip": "MasQCLIP",
}
#: Which proposals the systems of the table have: in either setting all of them the same.
PROPOSER = "round-2"
#: The proposers of the paper's Table 4.
PROPOSERS = ("teacher", "round-1", "round-2", "round-3", "longer")
#: What is tuned, in the order of the paper's Table 5; "nothing" needs no training.
LEARNS = ("nothing", "v", "qkv", "clip", "k", "qk", "q")
#: How often the teacher is looked at on its way, and on that of the longer one.
_LOOKS = 4


@dataclass(frozen=True)
class Setup:
    """What all seeds share.

    Attributes:
        settings: the file of settings.
        world: the scenes.
        clip, start: folders of the frozen CLIP, and of a proposer, with whose backbone and pixel
            decoder everything that trains such a one starts.
        device: ``cpu`` keeps the runs off a GPU.
        minutes: a training stops after so long, with a checkpoint; 0 = no limit.
    """

    settings: Path
    world: PosterWorld
    clip: Path
    start: Path
    device: str | None = None
    minutes: float = 0.0


class StoppedError(Exception):
    """A training stopped before its end; the same command goes on."""


class SeedRuns:
    """The runs of one seed, in a folder of their own, made as they are asked for."""

    def __init__(self, setup: Setup, seed: int, folder: Path) -> None:
        self.setup, self.seed, self.folder = setup, seed, folder

    def dataset(self, setting: str) -> CocoPanoptic:
        """The scenes, annotated as in one of the two settings."""
        world = self.setup.world
        return CocoPanoptic(world.scenes(), keep=world.keep(setting))

    def recipe(self, stage: str, **own: Any) -> tuple[Any, LoopSettings]:
        """A stage's settings with this seed."""
        settings, loop = load_recipe(self.setup.settings, stage, [f"seed={self.seed}"])
        if self.setup.minutes:
            loop = replace(loop, max_minutes=self.setup.minutes)
        return replace(settings, **own), loop

    def proposer(self, name: str, setting: str = "novel") -> Path:
        """One of `PROPOSERS`, trained on what is annotated in one of the settings."""
        folder = name if setting == "novel" else f"{setting}-{name}"
        if name == "teacher":
            settings, loop = self.recipe("teacher")

            def teach() -> Stage:
                """Its decoder begins at random, its pixels as the start's: as the published ones
                begin with a backbone that knows pictures, and no mask."""
                start = load_trainable(self.setup.start)
                stage = TeacherStage(self.dataset(setting), start.config, settings)
                pixels = start.segmenter.model.pixel_level_module.state_dict()
                stage.module.segmenter.model.pixel_level_module.load_state_dict(pixels)
                return stage

            return self.train(folder, teach, settings, loop)
        before = "teacher" if name in ("longer", "round-1") else f"round-{int(name[-1]) - 1}"
        source = self.proposer(before, setting)
        settings, loop = self.recipe("distill")
        if name == "longer":  # as long as two rounds; no score is above one, so no mask is added
            settings = replace(settings, score_threshold=1.0)
            loop = replace(loop, steps=2 * loop.steps)
        else:
            settings = replace(settings, seed=self.seed + 100 * int(name[-1]))

        def distil() -> Stage:
            return DistillStage(self.dataset(setting), source, settings)

        return self.train(folder, distil, settings, loop)

    def tuned(self, setting: str, learns: str = "q") -> Path:
        """MasQCLIP on the proposals of one of the settings, tuned in it."""
        settings, loop = self.recipe("tune", learns="q" if learns == "nothing" else learns)
        proposer = self.proposer(PROPOSER, setting)
        if learns == "nothing":
            out = self.folder / "tuned-nothing"
            if not out.exists():
                model, tokenizer = join(self.setup.clip, proposer, settings)
                scratch = self.folder / ".tuned-nothing"  # a kill leaves no half of it
                with quiet_transformers():
                    model.save_pretrained(scratch)
                tokenizer.save_pretrained(scratch)
                scratch.rename(out)
            return out

        def tune() -> Stage:
            model, tokenizer = join(self.setup.clip, proposer, settings)
            return TuneStage(model, tokenizer, self.dataset(setting), settings)

        return self.train(f"tuned-{setting}-{learns}", tune, settings, loop)

    def system(self, name: str) -> Path:
        """One of `SYSTEMS`, trained: XPM for novel names, the others across datasets."""
        if name == "masqclip":
            return self.tuned("across")
        out = self.folder / name
        kind = name.split("-")[0]
        recipes = {stage: self.recipe(stage) for stage in BASELINES[kind]}
        if (out / "done.json").exists():
            for stage, place in BASELINES[kind].items():
                self.train(str(Path(name) / place), _never, *recipes[stage])
            return out
        world = self.setup.world
        more = CocoCaptions(world.captioned()) if name == "openseg-captions" else None
        given = Ingredients(
            self.setup.clip,
            # LSeg+ and OpenSeg take no proposals: of it they have how their encoders begin.
            self.proposer(PROPOSER, "across" if name == "maskclip" else "novel"),
            self.dataset("novel" if name == "xpm" else "across"),
            captions=read_captions(world.scenes()),
            names=Vocabulary.parse("stickers2"),
            caption_data=more,
        )

        def run(stage: Stage, goal: Path) -> bool:
            part = str(goal.relative_to(self.folder))
            self.train(part, lambda: stage, *recipes[stage.name])
            return True

        settings = {stage: found for stage, (found, _) in recipes.items()}
        train_baseline(kind, given, settings, out, run)
        return out

    def facts(self, name: str) -> dict[str, float]:
        """Learned parameters, minutes of all stages, and GFLOPs (two a multiply-add) a picture."""
        out = self.system(name)
        parts = [out / place for place in BASELINES.get(name.split("-")[0], {"tune": ""}).values()]
        kept = [json.loads((part / "done.json").read_text()) for part in parts]
        model, _ = load_system(out)
        return {
            "learned": max(found["learned"] for found in kept),
            "minutes": sum(found["minutes"] for found in kept),
            "gflops": 2 * count(model),
        }

    def train(
        self, name: str, make: Callable[[], Stage], settings: Any, loop: LoopSettings
    ) -> Path:
        """A run of this seed, if it is not done yet. Returns its folder.

        Raises:
            MasqclipError: it was done with other settings.
        """
        out = self.folder / name
        done = out / "done.json"
        made_by = json.loads(json.dumps({"settings": asdict(settings), "loop": asdict(loop)}))
        made_by["loop"].pop("max_minutes")  # how often it stopped on its way
        if done.exists():
            before = json.loads(done.read_text())["made by"]
            # What is set since then was as it is by default.
            before["settings"] = asdict(type(settings)()) | before.get("settings", {})
            if json.loads(json.dumps(before)) != made_by:
                # What was made of it, and its measurements, are no longer those of the settings.
                raise MasqclipError(
                    f"{out} was trained with other settings: choose another --out, or delete "
                    f"{self.folder}"
                )
            return out
        stage = make()
        print(f"seed {self.seed}: {name}, {loop.steps} steps", flush=True)

        def report(now: Progress) -> None:
            if now.step % max(1, loop.steps // 10) == 0:
                told = {key: round(value, 3) for key, value in now.losses.items()}
                print(f"  {name} {now.step}/{now.steps} {told}", flush=True)
            every = max(1, loop.steps // _LOOKS)
            if name in ("teacher", "longer") and now.step % every == 0:
                with quiet_transformers():
                    stage.module.save_pretrained(out / "looks" / str(now.step))

        if not train(stage, loop, out, device=self.setup.device, report=report):
            raise StoppedError(str(out))
        learned = sum(p.numel() for p in stage.module.parameters() if p.requires_grad)
        # From the last checkpoint, as nothing is reported of a run that only was not noted as done.
        minutes = json.loads((out / "progress.json").read_text())["seconds"] / 60
        about = {"learned": learned, "minutes": minutes, "made by": made_by}
        write_atomically(done, json.dumps(about).encode())
        shutil.rmtree(out / "checkpoints", ignore_errors=True)  # the result is all we need
        return out

    def measure(
        self, name: str, folder: Path, kind: str, proposer: Path | None = None, **options: Any
    ) -> Any:
        """Figures of a model, from their JSON if these weights were measured before.

        Args:
            name: what they are kept as.
            folder: of the model.
            kind: what is measured, a function of `MEASURES`.
            proposer: in place of the model's own.
            options: of that function.
        """
        path = self.folder / "measures" / f"{name}.{kind}.json"
        world = {**self.setup.world.settings, "seed_offset": self.setup.world.seed_offset}
        weights = digest_model(*[folder, proposer] if proposer else [folder])
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["world"] != world:
                raise MasqclipError(
                    f"{path} was measured in another world: choose another --out, or delete it"
                )
            if kept["weights"] == weights:
                return kept["figures"]
        started = time.perf_counter()
        figures = MEASURES[kind](self.load(folder, proposer), self.setup.world, **options)
        print(f"seed {self.seed}: {name}: {kind} {_shown(figures)}", flush=True)
        about = {"weights": weights, "world": world, "seconds": time.perf_counter() - started}
        kept = null_for_nan({"figures": figures, **about})
        write_atomically(path, json.dumps(kept).encode())
        return kept["figures"]

    def load(self, folder: Path, proposer: Path | None = None) -> Segmenter:
        """A model of a run, with another proposer if one is given."""
        segmenter = Segmenter.from_pretrained(folder, device=self.setup.device, cache=False)
        if proposer is not None:
            found = load_trainable(proposer).eval().to(segmenter.device)
            found.black = segmenter.model.proposer.black
            segmenter.model.proposer = found
        return segmenter


def _never() -> Stage:
    """Of a run that is done no stage is made."""
    raise AssertionError("the run is done")


def instances(
    segmenter: Segmenter, world: PosterWorld, *, object_score: bool = True
) -> dict[str, float]:
    """AP50 with base and novel names competing (the generalised setting)."""
    return _instances(segmenter, world.heldout(), object_score=object_score)


def constrained(segmenter: Segmenter, world: PosterWorld) -> dict[str, float]:
    """AP50 with the names of one split competing, base and novel apart."""
    return {
        split: _instances(segmenter, world.constrained(split))[split] for split in ("base", "novel")
    }


def _instances(segmenter: Segmenter, truth: Any, *, object_score: bool = True) -> dict[str, float]:
    protocol = Protocol(object_score=object_score)
    found = evaluate(segmenter, truth, ("instance",), protocol=protocol).figures["instance"]
    named = {"base": "AP50 base", "novel": "AP50 novel", "all": "AP50"}
    return {name: found[figure] for name, figure in named.items() if figure in found}


def recall(segmenter: Segmenter, world: PosterWorld) -> dict[str, float]:
    """Recall of things whatever their names, among 100 proposals, mean over IoU 0.5 to 0.95."""
    found = evaluate(segmenter, world.heldout(), ("classes",)).figures["classes"]
    return {"base": found["AR@100 base things"], "novel": found["AR@100 novel"]}


def strangers(segmenter: Segmenter, world: PosterWorld) -> dict[str, float]:
    """PQ and mIoU on the vocabulary of 150 names, by studios that nothing has seen."""
    return _scenes(segmenter, world.strangers("150"), "150")


def vocabularies(segmenter: Segmenter, world: PosterWorld) -> dict[str, float]:
    """mIoU on the other vocabularies, by studios that nothing has seen."""
    found = {}
    for name in VOCABULARIES:
        if name != "150":
            report = evaluate(segmenter, world.strangers(name), ("semantic",))
            found[name] = report.figures["semantic"]["mIoU"]
    return found


def trained(segmenter: Segmenter, world: PosterWorld) -> dict[str, float]:
    """PQ and mIoU of the annotated names by the studios of training."""
    found = _scenes(segmenter, world.trained(), "mIoU")
    return {f"trained {name}": found[name] for name in ("PQ", "mIoU") if name in found}


def _scenes(segmenter: Segmenter, truth: GroundTruth, mean_iou: str) -> dict[str, float]:
    """mIoU under a name, and PQ where the system has it."""
    tasks = [task for task in ("panoptic", "semantic") if task in segmenter.model.tasks]
    figures = evaluate(segmenter, truth, tasks).figures
    found = {mean_iou: figures["semantic"]["mIoU"]}
    if "panoptic" in figures:
        names = {"PQ": "PQ", "things": "PQ things", "stuff": "PQ stuff"}
        found |= {name: figures["panoptic"][figure] for name, figure in names.items()}
    return found


MEASURES: Mapping[str, Callable[..., dict[str, float]]] = {
    function.__name__: function
    for function in (instances, constrained, recall, strangers, vocabularies, trained)
}


def _shown(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {100 * value:.1f}" for name, value in figures.items())


def looks(folder: Path) -> list[tuple[int, Path]]:
    """The proposers that a run left on its way, by their steps."""
    return sorted((int(path.name), path) for path in (folder / "looks").glob("*"))
