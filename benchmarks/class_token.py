"""A tower without a class token beside one that has it: both from nothing, by the same commands.

    python benchmarks/class_token.py --out class-token

A CLIP and a SigLIP are pretrained on portraits of the things of the first world, with their names,
then on glimpses of its scenes, laid together four and four (`mosaics`); tuned on scenes with the
shipped model's proposer; and measured on 500 held-out scenes, before and after tuning. It takes
three hours of a core or so; what is done is kept, what was stopped goes on, and `--family` does one
alone. `--mosaics 0` shows what laying together is worth: a SigLIP reads masks in its last block,
from patches that have all looked at the whole picture.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cyclopts

from masqclip import Segmenter

#: Name, and what `masqclip data stickers` is told.
_DATA = {
    "portraits": "--kind portraits --captions-only --images 48000 --seed 4",
    "glimpses": "--kind glimpses --captions-only --images 16000 --seed 5",
    "scenes": "--images 6000 --seed 3",
    "heldout": "--images 500 --seed 1000",
}
_FAMILIES = ("clip", "siglip")


def command(folder: Path, done: str, words: Sequence[str]) -> None:
    """Run `masqclip` in a folder, unless a file there says that it was done."""
    if (folder / done).exists():
        return
    print("masqclip", *words, flush=True)
    subprocess.run([sys.executable, "-m", "masqclip.cli.main", *words], cwd=folder, check=True)


def settings(**values: object) -> list[str]:
    """Options of a training command."""
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def train(folder: Path, family: str, *, mosaics: float, seed: int) -> None:
    """From data to a tuned model and its figures, of one family."""
    shared = {"family": family, "mosaics": mosaics, "seed": seed, "contrast": "softmax"}
    things, clip, model = f"{family}-things", family, f"{family}-tuned"
    command(folder, f"{things}/config.json", [
        "train", "pretrain", "--data", "portraits", "--out", things,
        *settings(**shared, steps=3000),
    ])  # fmt: skip
    command(folder, f"{clip}/config.json", [
        "train", "pretrain", "--data", "glimpses", "--start", things, "--out", clip,
        *settings(**shared, steps=400, learning_rate=2e-4),
    ])  # fmt: skip
    command(folder, f"{model}/config.json", [
        "train", "tune", "--recipe", "miniature", "--data", "scenes", "--clip", clip,
        "--proposer", "proposer", "--out", model, *settings(shortest_edge=256),
    ])  # fmt: skip
    for out, more in ((f"{model}-figures", []), (f"{family}-figures", ["--untuned"])):
        command(folder, f"{out}/report.json", [
            "evaluate", "--dataset", "stickers", "--root", "heldout", "--model", model,
            "--out", out, "--quiet", *more,
        ])  # fmt: skip


def figures(report: Path) -> str:
    """AP50, mIoU and PQ in a report of `masqclip evaluate`."""
    found = json.loads(report.read_text())["figures"]
    names = (("instance", "AP50"), ("semantic", "mIoU"), ("panoptic", "PQ"))
    return " | ".join(f"{100 * found[task][name]:.1f}" for task, name in names)


def main(
    *, out: Path = Path("class-token"), family: str = "", mosaics: float = 1.0, seed: int = 0
) -> None:
    """Train, measure and print a table.

    Args:
        out: where data, models and figures go.
        family: clip or siglip; both unless given.
        mosaics: share of the steps of pretraining that lay pictures together.
        seed: of pretraining.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, words in _DATA.items():
        last = "captions" if "--captions-only" in words else "panoptic"  # of a folder's files
        command(
            out,
            f"{name}/annotations/{last}.json",
            ["data", "stickers", *words.split(), "--out", name],
        )
    if not (out / "proposer").exists():
        Segmenter.from_pretrained("masqclip-mini").model.proposer.save_pretrained(out / "proposer")
    families = [family] if family else [*_FAMILIES]
    for one in families:
        train(out, one, mosaics=mosaics, seed=seed)
    print("| | AP50 | mIoU | PQ |\n| --- | ---: | ---: | ---: |")
    for one in families:
        print(f"| {one}, untuned | {figures(out / f'{one}-figures' / 'report.json')} |")
        print(f"| {one}, tuned | {figures(out / f'{one}-tuned-figures' / 'report.json')} |")


if __name__ == "__main__":
    cyclopts.run(main)
