"""Which styles of chance help a CLIP to name drawings by studios that it never saw?

    python benchmarks/styles.py --sprites sprites --minutes 15 --out styles

The same small CLIP is trained on portraits of the first world's things, by the training studios of
the second world's cache, without styles, with one kind of change each, and with all of them, in
turns of some seconds in one process. Then each names plain portraits by studios that it knows and
by each family that no training saw; what counts are the strangers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import cyclopts
import torch

from masqclip.cli.output_files import check_folder
from masqclip.data.files import write_atomically
from masqclip.data.stickers.source import StickerSource
from masqclip.data.stickers.styles import LOOKS
from masqclip.training.settings import PretrainSettings
from mistakes import check_count, check_minutes, mistakes_told
from portraits import SEED, strangers
from pretraining import SLICE, Recipe, Side


def main(
    *,
    sprites: Path = Path("sprites"),
    names: str = "stickers",
    share: float = 0.6,
    minutes: float = 15.0,
    count: int = 1000,
    threads: int = 1,
    looks: list[str] | None = None,
    out: Annotated[Path, cyclopts.Parameter(alias="-o")],
) -> None:
    """Train one CLIP for each kind of change and write OUT/styles.json.

    Args:
        sprites: The sprite cache of the second world.
        names: The things to learn.
        share: Of stickers and pictures that are put into a style.
        minutes: For each CLIP.
        count: Portraits of each group to name in the end.
        threads: Of a training process.
        looks: What to try: kinds of change with + between them, "none" or "all"; each alone, none
            and all unless given.
        out: The folder for results.
    """
    check_count("--count", count, 1)
    check_count("--threads", threads, 1)
    check_minutes(minutes)
    check_folder(out)
    torch.set_num_threads(threads)
    drawn = f"stickers:sprites={sprites},kind=portraits,names={names},seed=1"
    base = PretrainSettings(image_size=128)
    settings = {
        "batch_size": 256, "extra_captions": 64, "learning_rate": 1e-3, "drop_patches": 0.5,
        "second_moment": 0.98, "muon_rate": 5e-3,
    }  # fmt: skip
    sides: dict[str, Side] = {}
    for look in looks or ["none", *LOOKS, "all"]:
        kinds = {"none": ",styles=0", "all": f",styles={share}"}
        source = drawn + kinds.get(look, f",styles={share},looks={look}")
        recipe = Recipe(
            (source,), precision="bf16", attention="eager", settings=settings, workers=0
        )
        sides[look] = Side(recipe, 60 * minutes, base, "cpu")
    while any(side.spent < side.seconds for side in sides.values()):
        for side in sides.values():
            side.run(SLICE)
    known = StickerSource(sprites=sprites, kind="portraits", names=(names,), seed=SEED)
    groups = {"studios of training": known, **strangers(known)}
    rows = {}
    for look, side in sides.items():
        found = {group: side.row(source, count) for group, source in groups.items()}
        accuracy = {group: row["top 1"] for group, row in found.items()}
        rows[look] = {"pictures": found["studios of training"]["pictures"], **accuracy}
        print(f"{look}: {json.dumps(rows[look])}")
    about = {"minutes": minutes, "share": share, "names": names, "settings": settings, "rows": rows}
    write_atomically(out / "styles.json", (json.dumps(about, indent=1) + "\n").encode())


if __name__ == "__main__":
    with mistakes_told():
        cyclopts.run(main)
