"""Drawings made up for tests, of any world: quick, small, and no studio's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from masqclip.data.stickers.sprites import SpriteSet, _write_sheet
from masqclip.data.stickers.worlds import sticker_world


def drawings(
    world: str = "second",
    *,
    every: int = 8,
    studios: tuple[str, ...] = ("noto", "twemoji"),
    size: int = 32,
) -> SpriteSet:
    """A rounded blot in a colour of its own for each of some things, by each of some studios.

    Args:
        world: ``first`` or ``second``.
        every: of how many things one is drawn.
        studios: who drew them.
        size: side of a cell in pixels.
    """
    chance = np.random.default_rng(5)
    about = sticker_world(world)
    y, x = np.abs(np.mgrid[:size, :size] + 0.5 - size / 2) / size
    pixels, names, drawn_by = [], [], []
    for number, thing in enumerate(about.things[::every]):
        for studio in studios:
            power = 1 + number % 3
            cell = np.empty((4, size, size), np.uint8)
            cell[:3] = chance.integers(0, 226, (3, 1, 1)) + chance.integers(0, 30, (3, size, size))
            cell[3] = 255 * (x**power + y**power < 0.42**power)
            pixels.append(cell)
            names.append(thing["name"])
            drawn_by.append(studio)
    return SpriteSet(np.stack(pixels), tuple(names), tuple(drawn_by), about)


def write_cache(folder: Path, sprites: SpriteSet) -> Path:
    """The drawings as a sprite cache."""
    folder.mkdir(parents=True, exist_ok=True)
    size = sprites.pixels.shape[-1]
    about: dict[str, object] = {}
    for studio in dict.fromkeys(sprites.studios):
        rows = [i for i, name in enumerate(sprites.studios) if name == studio]
        cells = [sprites.pixels[row].transpose(1, 2, 0) for row in rows]
        _write_sheet(folder / f"{studio}.png", cells, size)
        about[studio] = {"names": [sprites.names[row] for row in rows]}
    index = {"world": sprites.world.name, "size": size, "columns": 16, "studios": about}
    (folder / "index.json").write_text(json.dumps(index))
    return folder
