"""Scenes of a seed are the same in every version: figures that were measured on them stay theirs.

A change that moves a scene is a change of the data set: whoever makes one on purpose writes the
file anew, and says in the changelog that earlier figures no longer compare.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.stickers.textures import TEXTURES

GOLDEN = Path(__file__).parent / "sticker_scenes.npz"
SETTINGS = (SceneSettings(), SceneSettings(size=64, max_things=12, captions="both"))
NUMBERS = range(4)


def painted() -> np.ndarray:
    """Each texture twice, by other dice, over ramps of its noise: [T,2,48,48,3] uint8."""
    axis = (torch.arange(48) + 0.5) / 48
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    ramps = torch.stack([(x + y) / 2, (3 * y + x).remainder(1), (5 * x + y).remainder(1)])
    noise = torch.stack([ramps, 1 - ramps])
    dice = torch.tensor([[0.1, 0.3, 0.5, 0.7], [0.9, 0.8, 0.2, 0.4]])
    found = [texture(y, x, noise, dice) for texture in TEXTURES.values()]
    return torch.stack(found).permute(0, 1, 3, 4, 2).round().clamp(0, 255).byte().numpy()


def drawn() -> tuple[tuple[np.ndarray, np.ndarray], list[Any]]:
    """Pictures [N,32,32,3] and ids [N,32,32] in small, and what is said of each scene."""
    pictures, ids, described = [], [], []
    sprites = load_sprites(GOLDEN.parent / "sprites")
    for settings in SETTINGS:
        world = StickerWorld(sprites, settings)
        scenes = world.draw(11, NUMBERS)
        step = settings.size // 32
        pictures.append(F.avg_pool2d(scenes.images.float(), step).round().byte())
        ids.append(scenes.id_maps[:, step // 2 :: step, step // 2 :: step])
        described += [
            [[[r.id, r.name, r.thing, r.studio] for r in regions], list(captions)]
            for regions, captions in zip(scenes.regions, scenes.captions, strict=True)
        ]
    return (torch.cat(pictures).permute(0, 2, 3, 1).numpy(), torch.cat(ids).numpy()), described


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def moved(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of pixels that are others; on edges another processor may round otherwise."""
    assert found.shape == expected.shape
    return float((np.abs(found.astype(int) - expected.astype(int)) > 2).mean())


def test_textures_are_as_they_were(golden: dict[str, np.ndarray]) -> None:
    for name, found, expected in zip(TEXTURES, painted(), golden["textures"], strict=True):
        assert moved(found, expected) < 0.001, name


def test_scenes_are_as_they_were(golden: dict[str, np.ndarray]) -> None:
    (pictures, ids), described = drawn()
    assert described == json.loads(golden["described"].tobytes())
    assert moved(pictures, golden["scenes"]) < 0.002
    assert (ids != golden["ids"]).mean() < 0.002
