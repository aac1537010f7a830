"""Scenes of a seed are the same in every version: figures that were measured on them stay theirs.

A change that moves a scene is a change of the data set: whoever makes one on purpose writes the
file anew, and says in the changelog that earlier figures no longer compare:

    PYTHONPATH=tests python tests/data/test_sticker_goldens.py second
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from drawings import drawings
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.source import StickerSource
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.stickers.worlds import sticker_world

HERE = Path(__file__).parent
FILES = {"first": HERE / "sticker_scenes.npz", "second": HERE / "second_scenes.npz"}
NUMBERS = range(4)


def worlds(name: str) -> list[StickerWorld]:
    """Of the first world plain scenes; of the second crowds, in styles of chance too."""
    if name == "first":
        settings = (SceneSettings(), SceneSettings(size=64, max_things=12, captions="both"))
        return [StickerWorld(load_sprites(HERE / "sprites"), one) for one in settings]
    crowds, sprites = StickerSource(kind="crowds", size=64).settings, drawings(every=4)
    return [StickerWorld(sprites, crowds, styles=styles) for styles in (0.0, 0.8)]


def painted(name: str) -> np.ndarray:
    """Each texture twice, by other dice, over ramps of its noise: [T,2,48,48,3] uint8."""
    axis = (torch.arange(48) + 0.5) / 48
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    ramps = torch.stack([(x + y) / 2, (3 * y + x).remainder(1), (5 * x + y).remainder(1)])
    noise = torch.stack([ramps, 1 - ramps])
    dice = torch.tensor([[0.1, 0.3, 0.5, 0.7], [0.9, 0.8, 0.2, 0.4]])
    found = [texture(y, x, noise, dice) for texture in sticker_world(name).textures.values()]
    return torch.stack(found).permute(0, 1, 3, 4, 2).round().clamp(0, 255).byte().numpy()


def drawn(name: str) -> tuple[tuple[np.ndarray, np.ndarray], list[Any]]:
    """Pictures [N,32,32,3] and ids [N,32,32] in small, and what is said of each scene."""
    pictures, ids, described = [], [], []
    for world in worlds(name):
        scenes = world.draw(11, NUMBERS)
        step = world.settings.size // 32
        pictures.append(F.avg_pool2d(scenes.images.float(), step).round().byte())
        ids.append(scenes.id_maps[:, step // 2 :: step, step // 2 :: step])
        described += [
            [[[r.id, r.name, r.thing, r.studio] for r in regions], list(captions)]
            for regions, captions in zip(scenes.regions, scenes.captions, strict=True)
        ]
    return (torch.cat(pictures).permute(0, 2, 3, 1).numpy(), torch.cat(ids).numpy()), described


def moved(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of pixels that are others; on edges another processor may round otherwise."""
    assert found.shape == expected.shape
    return float((np.abs(found.astype(int) - expected.astype(int)) > 2).mean())


@pytest.mark.parametrize("name", FILES)
def test_textures_are_as_they_were(name: str) -> None:
    with np.load(FILES[name]) as golden:
        expected = golden["textures"]
    for texture, found, known in zip(
        sticker_world(name).textures, painted(name), expected, strict=True
    ):
        assert moved(found, known) < 0.001, texture


@pytest.mark.parametrize("name", FILES)
def test_scenes_are_as_they_were(name: str) -> None:
    (pictures, ids), described = drawn(name)
    with np.load(FILES[name]) as golden:
        assert described == json.loads(golden["described"].tobytes())
        assert moved(pictures, golden["scenes"]) < 0.002
        assert (ids != golden["ids"]).mean() < 0.002


def test_a_style_is_no_plain_picture() -> None:
    """The golden file of the second world holds both: it would not tell a style that is lost."""
    (pictures, _), _ = drawn("second")
    plain, styled = pictures[: len(NUMBERS)], pictures[len(NUMBERS) :]
    assert moved(plain, styled) > 0.2


def write(name: str) -> None:
    """Write a world's file anew."""
    (pictures, ids), described = drawn(name)
    np.savez_compressed(
        FILES[name],
        textures=painted(name),
        scenes=pictures,
        ids=ids,
        described=np.frombuffer(json.dumps(described).encode(), np.uint8),
    )


if __name__ == "__main__":
    write(sys.argv[1])
