"""The miniature world: scenes of stickers on stuff, with exact truth, from a seed.

A scene is one to three regions of procedural stuff (`textures.py`) with drawings of things
(`sprites.py`) pasted over it at random size, angle and place, later ones over earlier ones. Scene
number `i` of seed `s` is a pure function of (s, i) and the settings: the same picture whatever the
batch it is drawn in. The random numbers are drawn on the CPU; the pixels are computed for a whole
batch at once, on the CPU or a GPU.

The protocol is the paper's in small: captions name *all* things, masks of novel ones are there for
testing only, and the drawings of some studios (`worlds.World.unseen`) are not trained on.

Drawing has two halves: `plan` makes every random choice, on the CPU, and names what the scene is
meant to show; `paint` computes the pixels of a whole batch, on the CPU or a GPU. A stream of scenes
to train on lets worker processes plan and a GPU that trains paint (`training/captioned.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from masqclip.data.stickers.captions import scene_captions
from masqclip.data.stickers.context import Context
from masqclip.data.stickers.painting import Painter
from masqclip.data.stickers.plans import Plan, Plans
from masqclip.data.stickers.sprites import SpriteSet
from masqclip.data.stickers.styles import (
    LOOKS,
    PLAIN,
    PLAIN_PICTURE,
    draw_picture_style,
    draw_sticker_style,
    restrict_style,
)
from masqclip.errors import MasqclipError

_MAX_STUFF = 3
_PLACES_TRIED = 4
_NOISE_CELLS = (3, 12, 48)
_LARGEST = 4096  # pixels; a drawing has 64


@dataclass(frozen=True)
class SceneSettings:
    """What scenes look like.

    Attributes:
        size: side of the square picture in pixels.
        min_things, max_things: how many stickers, drawn uniformly.
        min_scale, max_scale: side of a sticker's cell, as a share of the picture's side.
        max_stuff: regions of stuff, 1 to 3.
        max_angle: rotation either way, in degrees.
        min_visible: a sticker that others hide down to fewer pixels than this share of the picture
            is not annotated; its last pixels count as what they are, unlabelled.
        captions: ``sentence``, ``names`` (what can be seen, a caption a bare name) or ``both``.
        name_stuff: bare names are those of the stuff too, not only of the things on it.
    """

    size: int = 128
    min_things: int = 2
    max_things: int = 6
    min_scale: float = 0.2
    max_scale: float = 0.45
    max_stuff: int = 3
    max_angle: float = 30.0
    min_visible: float = 0.0015
    captions: Literal["sentence", "names", "both"] = "sentence"
    name_stuff: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that no scene can be drawn from."""
        if self.size < 16:
            raise MasqclipError(f"a scene of {self.size} pixels is too small; use 16 or more")
        if self.size > _LARGEST:
            raise MasqclipError(
                f"a scene of {self.size} pixels is too large; use {_LARGEST} or fewer"
            )
        if not 0 <= self.min_things <= self.max_things <= 50:
            raise MasqclipError(
                f"{self.min_things} to {self.max_things} things cannot be drawn; "
                "use 0 <= min_things <= max_things <= 50"
            )
        if not 0 < self.min_scale <= self.max_scale <= 1:
            raise MasqclipError(
                f"sticker sizes {self.min_scale} to {self.max_scale} are not shares of the picture"
            )
        if not 1 <= self.max_stuff <= _MAX_STUFF:
            raise MasqclipError(f"max_stuff is {self.max_stuff}; it is 1 to {_MAX_STUFF}")


@dataclass(frozen=True)
class Region:
    """One segment of a scene: `id` is its value in the id map, counted from 1."""

    id: int
    name: str
    thing: bool
    studio: str | None
    area: int


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.

    Attributes:
        images: [B,3,H,W] uint8 RGB.
        id_maps: [B,H,W] uint8, the visible segment of each pixel, 0 = unlabelled.
        regions: for each scene its segments in the order of their ids.
        captions: for each scene what is written under it.
    """

    images: Tensor
    id_maps: Tensor
    regions: list[list[Region]]
    captions: list[tuple[str, ...]]


class StickerWorld:
    """Draws scenes from a set of sprites.

    Args:
        sprites: the drawings to use, and whose world it is; things are drawn uniformly by name,
            then by studio.
        settings: what scenes look like.
        device: where the pixels are computed.
        styles: share of the stickers, and of the pictures, that are put into a style of chance.
        looks: the kinds of change that such a style may make (`styles.LOOKS`); all unless given.

    Raises:
        MasqclipError: `styles` is not a share.
    """

    def __init__(
        self,
        sprites: SpriteSet,
        settings: SceneSettings | None = None,
        *,
        device: str | torch.device = "cpu",
        styles: float = 0.0,
        looks: Collection[str] = tuple(LOOKS),
    ) -> None:
        if not 0 <= styles <= 1:
            raise MasqclipError(f"styles is {styles:g}; it is a share of the stickers, 0 to 1")
        self.settings = settings or SceneSettings()
        self.sprites, self.styles, self.looks = sprites, styles, frozenset(looks)
        self.device = torch.device(device)
        self._painter = Painter(sprites, self.settings.size, self.device)
        self.stuff = tuple(sprites.world.textures)
        self._by_name: dict[str, list[int]] = {}
        for i, name in enumerate(sprites.names):
            self._by_name.setdefault(name, []).append(i)
        self._names = sorted(self._by_name)
        world = sprites.world
        self._context = Context(self._names, world.groups, self.stuff) if world.in_context else None

    @torch.no_grad()
    def draw(self, seed: int, numbers: Sequence[int]) -> Scenes:
        """Draw the scenes with the given numbers of one seed."""
        plans = self.plan(seed, numbers)
        images, ids = self.paint(plans)
        regions = [self._label(plan, ids[b]) for b, plan in enumerate(plans.scenes)]
        captions = [
            self._captions(found, seed, number)
            for found, number in zip(regions, numbers, strict=True)
        ]
        return Scenes(images, ids, regions, captions)

    def plan(self, seed: int, numbers: Sequence[int]) -> Plans:
        """Make every random choice of some scenes; each follows from the seed and its number."""
        scenes, noise, dice = [], [], []
        for number in numbers:
            plan, generator = self._plan(seed, number)
            scenes.append(plan)
            noise.append([torch.rand(c, c, generator=generator, dtype=torch.float32)
                          for c in _NOISE_CELLS])  # fmt: skip
            dice.append(torch.rand(_MAX_STUFF, 4, generator=generator, dtype=torch.float32))
        return Plans(
            scenes,
            tuple(torch.stack(level) for level in zip(*noise, strict=True)),
            torch.stack(dice),
        )

    def paint(self, plans: Plans) -> tuple[Tensor, Tensor]:
        """Compute pixels: images [B,3,H,W] uint8, and ids [B,H,W], see `Painter.paint`."""
        return self._painter.paint(plans)

    def meant(self, plan: Plan) -> list[Region]:
        """What a scene was meant to show, things before stuff, the largest first, unpainted.

        Areas are of the boxes, shares of the picture by 10,000; what hides behind something else
        is still named, as people do.
        """
        things = [
            Region(len(plan.stuff) + i + 1, self.sprites.names[sprite], True,
                   self.sprites.studios[sprite], round(10_000 * plan.boxes[i][2] ** 2))
            for i, sprite in enumerate(plan.sprites)
        ]  # fmt: skip
        stuff = [Region(i + 1, self.stuff[k], False, None, 0) for i, k in enumerate(plan.stuff)]
        return sorted(things, key=lambda region: -region.area) + stuff

    def meant_captions(self, seed: int, number: int, plan: Plan) -> tuple[str, ...]:
        """What is written under a scene that is not painted yet."""
        return self._captions(self.meant(plan), seed, number)

    def _captions(self, regions: Sequence[Region], seed: int, number: int) -> tuple[str, ...]:
        return scene_captions(
            [(region.name, region.thing, region.area) for region in regions],
            random.Random(f"caption {seed} {number}"),
            style=self.settings.captions,
            name_stuff=self.settings.name_stuff,
        )

    def _plan(self, seed: int, number: int) -> tuple[Plan, torch.Generator]:
        """Draw the choices of one scene from (seed, number), and what draws its noise."""
        chance = random.Random(f"scene {seed} {number}")
        settings = self.settings
        stuff = chance.sample(range(len(self.stuff)), chance.randint(1, settings.max_stuff))
        borders = [
            (chance.uniform(0.3, 0.7), chance.uniform(0, 0.06), chance.uniform(2, 9),
             chance.uniform(0, 6.3))
            for _ in stuff[1:]
        ]  # fmt: skip
        if len(borders) == 2:
            first, second = borders
            borders = [
                (first[0] * 0.6 + 0.02, *first[1:]),
                (second[0] * 0.6 + 0.4, *second[1:]),
            ]
        count = chance.randint(settings.min_things, settings.max_things)
        boxes: list[tuple[float, float, float]] = []
        for _ in range(count):
            # Log-uniform: as many small stickers as large ones.
            side = settings.min_scale * (settings.max_scale / settings.min_scale) ** chance.random()
            places = [
                (chance.uniform(0.42 * side, 1 - 0.42 * side),
                 chance.uniform(0.42 * side, 1 - 0.42 * side), side)
                for _ in range(_PLACES_TRIED)
            ]  # fmt: skip
            # Of a few places the least crowded: stickers overlap, but seldom hide one another.
            boxes.append(min(places, key=lambda place: sum(_overlap(place, b) for b in boxes)))
        if self._context is None:
            things = [chance.choice(self._names) for _ in range(count)]
        else:
            things = self._context.draw(chance, count, stuff)
        generator = torch.Generator().manual_seed(chance.getrandbits(63))
        plan = Plan(
            stuff=stuff,
            borders=borders,
            vertical=chance.random() < 0.2,
            sprites=[chance.choice(self._by_name[name]) for name in things],
            boxes=boxes,
            angles=[math.radians(chance.uniform(-1, 1) * settings.max_angle) for _ in things],
            flips=[chance.random() < 0.5 for _ in things],
            light=chance.uniform(0.85, 1.1),
        )
        if self._context is not None:
            plan = replace(plan, boxes=self._context.bring_home(plan.boxes, things, plan))
        if self.styles:
            plan = self._styled(plan, random.Random(f"style {seed} {number}"))
        return plan, generator

    def _styled(self, plan: Plan, chance: random.Random) -> Plan:
        styles = [
            draw_sticker_style(chance) if chance.random() < self.styles else PLAIN
            for _ in plan.sprites
        ]
        look = draw_picture_style(chance) if chance.random() < self.styles else PLAIN_PICTURE
        if len(self.looks) < len(LOOKS):
            styles = [s if s is PLAIN else restrict_style(s, self.looks) for s in styles]
            look = look if "picture" in self.looks else PLAIN_PICTURE
        return replace(plan, styles=styles, look=look)

    def _label(self, plan: Plan, id_map: Tensor) -> list[Region]:
        """Name the visible segments; number them anew, without gaps, in `id_map` itself."""
        areas = torch.bincount(id_map.flatten().long(), minlength=1).tolist()
        least = max(1.0, self.settings.min_visible * self.settings.size**2)
        table = torch.zeros(256, dtype=torch.uint8, device=id_map.device)
        meant = {region.id: region for region in self.meant(plan)}
        regions: list[Region] = []
        for number, area in enumerate(areas):
            if number == 0 or area < least:
                continue
            table[number] = len(regions) + 1
            regions.append(replace(meant[number], id=len(regions) + 1, area=int(area)))
        id_map.copy_(table[id_map.long()])
        return regions


def _overlap(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Area shared by two squares (centre y, centre x, side)."""
    reach = (a[2] + b[2]) / 2
    return max(0.0, reach - abs(a[0] - b[0])) * max(0.0, reach - abs(a[1] - b[1]))
