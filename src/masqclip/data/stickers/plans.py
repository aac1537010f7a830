"""The random choices of scenes, made before any pixel is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from masqclip.data.stickers.styles import PLAIN_PICTURE, PictureStyle, StickerStyle


@dataclass(frozen=True)
class Plan:
    """The random choices of one scene; its noise is with those of its batch (`Plans`).

    Attributes:
        stuff: places in the world's list of stuff.
        borders: of each further region: level, depth, waves and phase.
        vertical: whether regions stand side by side.
        sprites: which drawings, the lowest first.
        boxes: of each its centre (y, x) and side, as shares of the picture.
        angles, flips: of each, in radians, and whether it is mirrored.
        light: brightness of the picture.
        styles: of each drawing; empty where all are as their studios drew them.
        look: of the whole picture.
    """

    stuff: list[int]
    borders: list[tuple[float, float, float, float]]
    vertical: bool
    sprites: list[int]
    boxes: list[tuple[float, float, float]]
    angles: list[float]
    flips: list[bool]
    light: float
    styles: list[StickerStyle] = field(default_factory=list)
    look: PictureStyle = PLAIN_PICTURE


@dataclass(frozen=True)
class Plans:
    """The random choices of a batch of scenes: all that a `Painter` needs.

    Attributes:
        scenes: one a scene.
        noise: from coarse to fine, [B,c,c] each.
        dice: [B,3,4], four numbers for each region of stuff.
    """

    scenes: list[Plan]
    noise: tuple[Tensor, ...]
    dice: Tensor

    def part(self, rows: Sequence[int]) -> Plans:
        """Some of the scenes."""
        return Plans(
            [self.scenes[row] for row in rows],
            tuple(level[list(rows)] for level in self.noise),
            self.dice[list(rows)],
        )
