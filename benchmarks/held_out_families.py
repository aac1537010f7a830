"""How much of its precision a model keeps on drawings by a family of studios that it never saw.

    masqclip data sprites --out sprites
    python benchmarks/held_out_families.py --sprites sprites --out families

Two models, each without one family in all of its training (CLIP, proposer and tuning), segment 500
scenes of the first world by the studios that they know, and 500 by the family; all 149 names
compete. What counts is AP50 by the family as a share of AP50 by the studios, over the families.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts

from masqclip import Segmenter
from masqclip.cli.console import Steps
from masqclip.cli.output_files import check_folder
from masqclip.data.files import write_atomically
from masqclip.data.json_files import null_for_nan
from masqclip.data.published import load_truth
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.source import StickerSource
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import evaluate
from mistakes import check_count, mistakes_told

FIGURES = ("AP50", "AP50 base", "AP50 novel")
#: Studios that both models know.
BOTH = ("twemoji", "emojione", "fxemoji")


@dataclass(frozen=True)
class Scenes:
    """Whose drawings, and from which seed."""

    studios: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Family:
    """One family, and a model that never saw it.

    Attributes:
        model: a model of this package, or a folder.
        known: scenes by the studios that it was trained on.
        unseen: scenes by the family.
    """

    model: str
    known: Scenes
    unseen: Scenes


FAMILIES = {
    "Fluent Emoji": Family(
        "masqclip-mini",
        Scenes(("noto", "noto-v1", *BOTH), 1005),
        Scenes(("fluent-emoji",), 1001),
    ),
    "Notos": Family(
        str(Path(__file__).parent / "without-notos"),
        Scenes((*BOTH, "fluent-emoji", "fluent-emoji-flat"), 1006),
        Scenes(("noto", "noto-v1"), 1003),
    ),
}


def main(
    *,
    sprites: Path = Path("sprites"),
    families: list[str] | None = None,
    images: int = 500,
    out: Annotated[Path, cyclopts.Parameter(alias="-o")],
) -> None:
    """Print a table and write OUT/families.json.

    Args:
        sprites: The sprite cache of the first world.
        families: "Fluent Emoji" and "Notos" unless given.
        images: Scenes of each kind.
        out: The folder for scenes and figures.
    """
    check_count("--images", images, 1)
    check_folder(out)
    if unknown := set(families or ()) - set(FAMILIES):
        raise MasqclipError(
            f"--families {min(unknown)!r}: there are {', '.join(map(repr, FAMILIES))}"
        )
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in families or FAMILIES:
        family = FAMILIES[name]
        segmenter = Segmenter.from_pretrained(family.model)
        known, unseen = (
            measure(segmenter, scenes, sprites, images, out)
            for scenes in (family.known, family.unseen)
        )
        # Of few scenes nothing may be found, or nothing be there to find.
        share = {f: unseen[f] / known[f] if known[f] > 0 else math.nan for f in FIGURES}
        rows[name] = {"known": known, "unseen": unseen, "share": share}
    print("| family | " + " | ".join(FIGURES) + " |\n| --- |" + " --- |" * len(FIGURES))
    for name, row in rows.items():
        cells = [
            f"{row['known'][figure]:.1f} -> {row['unseen'][figure]:.1f}: "
            f"{100 * row['share'][figure]:.0f} %"
            for figure in FIGURES
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    means = [sum(row["share"][figure] for row in rows.values()) / len(rows) for figure in FIGURES]
    print("| mean | " + " | ".join(f"{100 * mean:.0f} %" for mean in means) + " |")
    about = {"images": images, "families": rows}
    content = json.dumps(null_for_nan(about), indent=1) + "\n"
    write_atomically(out / "families.json", content.encode())


def measure(
    segmenter: Segmenter, scenes: Scenes, sprites: Path, images: int, out: Path
) -> dict[str, float]:
    """AP50 in percent: all, base, novel."""
    folder = out / f"scenes-{scenes.seed}"
    source = StickerSource(sprites=sprites, kind="scenes", studios=scenes.studios)
    write_stickers(folder, source.world(), images=images, seed=scenes.seed)
    with Steps(f"scenes of seed {scenes.seed}", total=images) as steps:

        def show(phase: str, done: int, total: int) -> None:
            if phase == "predicting":
                steps.show(done)

        truth = load_truth("stickers", folder)
        report = evaluate(segmenter, truth, ("instance",), report=show)
    return {figure: 100 * report.figures["instance"][figure] for figure in FIGURES}


if __name__ == "__main__":
    with mistakes_told():
        cyclopts.run(main)
