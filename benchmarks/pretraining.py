"""How fast a small CLIP learns: streamed with all means, beside the loop on files, in one run.

    python benchmarks/pretraining.py --sprites sprites --minutes 20 --out pretraining
    python benchmarks/pretraining.py --sprites sprites --minutes 6 --means --out means

Both sides train the same CLIP of the first world for the same time, in turns of some seconds in one
process, so that a busy machine slows both. *Files* is the loop of before: portraits of 48 pixels
read from a folder, every patch looked at, the last block computed for all of them, float32, 64
pictures a step, fused attention. *Streamed* draws scenes as they are needed and has all means on.
Then each CLIP names held-out portraits.

``--means`` leaves the means out one at a time instead, each for the same time, beside all of them:
what each brings in pictures a second, and in accuracy.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest.mock import patch

import cyclopts
import torch
from torch import Tensor

from masqclip.cli.output_files import check_folder
from masqclip.clip.masked_vision import read_picture
from masqclip.data.files import write_atomically
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.source import StickerSource
from masqclip.training import windows
from masqclip.training.loop import Trainer
from masqclip.training.memory import keep_freed_memory
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import LoopSettings, PretrainSettings
from mistakes import check_count, check_minutes, mistakes_told
from portraits import SEED, accuracies, portrait_ranks

SLICE = 10.0  # seconds that one side trains before it is the other's turn


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Attributes:
        sources: what is trained on.
        precision: ``no`` or ``bf16``.
        attention: ``eager`` or ``sdpa``.
        settings: what of `PretrainSettings` differs.
        workers: processes that prepare batches.
        whole: compute the last block of the image transformer for all tokens, not only for the one
            that is read.
    """

    sources: tuple[str, ...]
    precision: Literal["no", "bf16"]
    attention: Literal["eager", "sdpa"]
    settings: dict[str, Any]
    workers: int = 1
    whole: bool = False


class Side:
    """A recipe under way.

    Args:
        recipe: how it trains.
        seconds: how long it will.
        base: the settings that all sides share.
        device: where.
    """

    def __init__(self, recipe: Recipe, seconds: float, base: PretrainSettings, device: str) -> None:
        self.seconds, self.recipe = seconds, recipe
        self.stage = PretrainStage(recipe.sources, replace(base, **recipe.settings))
        loop = LoopSettings(
            steps=10**6,
            warmup_steps=100,
            clip_norm=1.0,
            precision=recipe.precision,
            workers=recipe.workers,
        )
        self.trainer = Trainer(self.stage, loop, device)
        self.stage.module.set_attn_implementation(recipe.attention)
        self._batches = self.trainer.batches(0)
        # One step outside of the time: workers start, kernels are chosen or compiled.
        self._step(0, next(self._batches))
        self.steps = 1
        self.spent = self.waited = 0.0

    def run(self, seconds: float) -> None:
        """Train for so long, or to the end of its time."""
        end = min(self.seconds, self.spent + seconds)
        while self.spent < end:
            begun = time.monotonic()
            batch = next(self._batches)
            self.waited += time.monotonic() - begun
            self._step(self.steps, batch)
            self.steps += 1
            self.spent += time.monotonic() - begun

    def _step(self, step: int, batch: list[Any]) -> None:
        read = _read_whole_block if self.recipe.whole else read_picture
        with patch.object(windows, "read_picture", read):
            self.trainer.step(step, batch)

    def row(self, portraits: StickerSource, count: int) -> dict[str, float]:
        """What it has come to."""
        clip = self.stage.module.eval()
        ranks = portrait_ranks(clip, self.stage.tokenizer, portraits, count=count)
        pictures = (self.steps - 1) * self.stage.settings.batch_size
        return {
            "pictures a second": round(pictures / self.spent, 1),
            "pictures": pictures,
            "waiting, percent": round(100 * self.waited / self.spent, 1),
            **accuracies(ranks),
        }

    def close(self) -> None:
        """End the workers."""
        self._batches.close()


def _read_whole_block(tower: Any, hidden: Tensor) -> Tensor:
    """`read_picture` as the loop of before had it, for a class token."""
    return tower.embed(tower.blocks[-1].layer(hidden, None)[:, 0])


def recipes(sprites: Path, folder: Path) -> dict[str, Recipe]:
    """The loop on files, the streamed one with all means, and that without each of them."""
    drawn = f"stickers:sprites={sprites},kind=portraits,seed=1"
    files = Recipe(
        (str(folder),),
        precision="no",
        attention="sdpa",
        settings={"batch_size": 64, "extra_captions": 512, "learning_rate": 5e-4},
        whole=True,
    )
    everything = Recipe(
        (f"{drawn},size=32,weight=2", f"{drawn},size=48"),
        precision="bf16",
        attention="eager",
        settings={
            "batch_size": 512, "extra_captions": 137, "learning_rate": 1e-3, "drop_patches": 0.5,
            "second_moment": 0.98, "muon_rate": 1e-2, "muon_steps": 3,
        },
    )  # fmt: skip
    plain = everything.settings
    return {
        "files": files,
        "streamed, all means": everything,
        "without dropping patches": replace(everything, settings=plain | {"drop_patches": 0.0}),
        "without small pictures": replace(everything, sources=(f"{drawn},size=48",)),
        "without bfloat16": replace(everything, precision="no"),
        "with fused attention": replace(everything, attention="sdpa"),
        "without sparing the last block": replace(everything, whole=True),
        "without larger batches": replace(everything, settings=plain | {"batch_size": 64}),
        "without Muon": replace(everything, settings=plain | {"muon_rate": 0.0}),
        "with Muon's own five steps": replace(everything, settings=plain | {"muon_steps": 5}),
        "without drawing ahead": replace(everything, workers=0),
        "with compiling": replace(everything, settings=plain | {"compile": True}),
    }


def main(
    *,
    sprites: Path = Path("sprites"),
    minutes: float = 20.0,
    means: bool = False,
    pictures: int = 80_000,
    count: int = 1000,
    threads: int = 2,
    out: Annotated[Path, cyclopts.Parameter(alias="-o")],
) -> None:
    """Train both sides in turns and write OUT/pretraining.json.

    Args:
        sprites: The sprite cache of the first world.
        minutes: For each side.
        means: Leave the means out one at a time instead of training on files.
        pictures: In the folder that is read; one that OUT has already is taken as it is.
        count: Portraits to name in the end.
        threads: Of a training process.
        out: The folder for results and for the pictures.
    """
    for option, value in (("--pictures", pictures), ("--count", count), ("--threads", threads)):
        check_count(option, value, 1)
    check_minutes(minutes)
    check_folder(out)
    torch.set_num_threads(threads)
    keep_freed_memory()  # for all sides, as "masqclip train" does
    folder = out / "portraits"
    portraits = StickerSource(sprites=sprites, kind="portraits", seed=SEED)
    every = recipes(sprites, folder)
    chosen = {name: recipe for name, recipe in every.items() if name != "files"}
    if not means:
        chosen = {name: every[name] for name in ("files", "streamed, all means")}
        if not (folder / "annotations" / "captions.json").exists():  # the last thing written
            drawing = replace(portraits, seed=4).world()
            write_stickers(folder, drawing, images=pictures, seed=4, captions_only=True)
    base = PretrainSettings(image_size=128)
    sides = {name: Side(r, 60 * minutes, base, "cpu") for name, r in chosen.items()}
    while any(side.spent < side.seconds for side in sides.values()):
        for side in sides.values():
            side.run(SLICE)
    rows = {name: side.row(portraits, count) for name, side in sides.items()}
    for side in sides.values():
        side.close()
    first = next(iter(rows.values()))["pictures a second"]
    print(f"{minutes:g} minutes a side, {threads} threads, in turns")
    for name, row in rows.items():
        row["times the first"] = round(row["pictures a second"] / first, 2)
        print(f"{name}: {json.dumps(row)}")
    settings = {
        name: asdict(chosen[name]) | {"sources": len(chosen[name].sources)} for name in rows
    }
    about = {"minutes": minutes, "threads": threads, "rows": rows, "settings": settings}
    write_atomically(out / "pretraining.json", (json.dumps(about, indent=1) + "\n").encode())


if __name__ == "__main__":
    with mistakes_told():
        cyclopts.run(main)
