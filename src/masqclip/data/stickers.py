"""The miniature world: scenes of stickers on stuff, with exact truth, from a seed.

A scene is one to three regions of procedural stuff (`textures.py`) with drawings of things
(`sprites.py`) pasted over it at random size, angle and place, later ones over earlier ones. Scene
number `i` of seed `s` is a pure function of (s, i) and the settings: the same picture whatever the
batch it is drawn in. The random numbers are drawn on the CPU; the pixels are computed for a whole
batch at once, on the CPU or a GPU.

The protocol is the paper's in small: captions name *all* things, masks of novel ones are there for
testing only, and the drawings of one studio (`sprites.UNSEEN_STUDIO`) are never seen in training.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.data.sprites import SpriteSet
from masqclip.data.textures import TEXTURES
from masqclip.errors import MasqclipError

_STUFF = tuple(TEXTURES)
_MAX_STUFF = 3
_PLACES_TRIED = 4
_NOISE_CELLS = (3, 12, 48)


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


@dataclass(frozen=True)
class _Plan:
    """The random choices of one scene, drawn before any pixel is computed."""

    stuff: list[int]
    borders: list[tuple[float, float, float, float]]
    vertical: bool
    sprites: list[int]
    boxes: list[tuple[float, float, float]]
    angles: list[float]
    flips: list[bool]
    light: float
    noise: list[Tensor]
    dice: Tensor


class StickerWorld:
    """Draws scenes from a set of sprites.

    Args:
        sprites: the drawings to use; things are drawn uniformly by name, then by studio.
        settings: what scenes look like.
        device: where the pixels are computed.
    """

    def __init__(
        self,
        sprites: SpriteSet,
        settings: SceneSettings | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = settings or SceneSettings()
        self.sprites = sprites
        self.device = torch.device(device)
        self._by_name: dict[str, list[int]] = {}
        for i, name in enumerate(sprites.names):
            self._by_name.setdefault(name, []).append(i)
        self._names = sorted(self._by_name)
        self._levels = _mipmaps(torch.from_numpy(sprites.pixels).to(self.device))

    @torch.no_grad()
    def draw(self, seed: int, numbers: Sequence[int]) -> Scenes:
        """Draw the scenes with the given numbers of one seed."""
        plans = [self._plan(seed, number) for number in numbers]
        canvas, ids = self._ground(plans)
        self._paste(plans, canvas, ids)
        light = torch.tensor(
            [plan.light for plan in plans], dtype=torch.float32, device=self.device
        )
        images = (canvas * light.view(-1, 1, 1, 1)).round().clamp(0, 255).to(torch.uint8)
        regions = [self._label(plan, id_map) for plan, id_map in zip(plans, ids, strict=True)]
        captions = [
            scene_captions(found, random.Random(f"caption {seed} {number}"), self.settings)
            for found, number in zip(regions, numbers, strict=True)
        ]
        return Scenes(images, ids, regions, captions)

    def _plan(self, seed: int, number: int) -> _Plan:
        """Draw every random choice of one scene from (seed, number)."""
        chance = random.Random(f"scene {seed} {number}")
        settings = self.settings
        stuff = chance.sample(range(len(_STUFF)), chance.randint(1, settings.max_stuff))
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
        things = [chance.choice(self._names) for _ in range(count)]
        generator = torch.Generator().manual_seed(chance.getrandbits(63))
        return _Plan(
            stuff=stuff,
            borders=borders,
            vertical=chance.random() < 0.2,
            sprites=[chance.choice(self._by_name[name]) for name in things],
            boxes=boxes,
            angles=[math.radians(chance.uniform(-1, 1) * settings.max_angle) for _ in things],
            flips=[chance.random() < 0.5 for _ in things],
            light=chance.uniform(0.85, 1.1),
            noise=[
                torch.rand(cells, cells, generator=generator, dtype=torch.float32)
                for cells in _NOISE_CELLS
            ],
            dice=torch.rand(_MAX_STUFF, 4, generator=generator, dtype=torch.float32),
        )

    def _ground(self, plans: list[_Plan]) -> tuple[Tensor, Tensor]:
        """Paint the stuff. Returns the canvas [B,3,H,W] in 0..255 and the ids [B,H,W]."""
        size, device = self.settings.size, self.device
        axis = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        noise = torch.cat(
            [
                F.interpolate(
                    torch.stack([plan.noise[level] for plan in plans]).unsqueeze(1).to(device),
                    size=(size, size),
                    mode="bicubic",
                    align_corners=False,
                )
                for level in range(len(_NOISE_CELLS))
            ],
            dim=1,
        ).clamp(0, 1)
        ids = torch.ones(len(plans), size, size, dtype=torch.uint8, device=device)
        for b, plan in enumerate(plans):
            down, along = (x, y) if plan.vertical else (y, x)
            for k, (level, depth, waves, phase) in enumerate(plan.borders):
                line = level + depth * torch.sin(along * waves + phase)
                ids[b][down > line] = k + 2
        canvas = torch.zeros(len(plans), 3, size, size, dtype=torch.float32, device=device)
        for texture, name in enumerate(_STUFF):
            uses = [(b, plan.stuff.index(texture)) for b, plan in enumerate(plans)
                    if texture in plan.stuff]  # fmt: skip
            if uses:
                rows = torch.tensor([b for b, _ in uses], device=device)
                dice = torch.stack([plans[b].dice[slot] for b, slot in uses]).to(device)
                painted = TEXTURES[name](y, x, noise[rows], dice)
                slots = torch.tensor([slot + 1 for _, slot in uses], device=device)
                here = (ids[rows] == slots.view(-1, 1, 1)).unsqueeze(1)
                canvas[rows] = torch.where(here, painted, canvas[rows])
        return canvas, ids

    def _paste(self, plans: list[_Plan], canvas: Tensor, ids: Tensor) -> None:
        """Paste the stickers, the first of every scene first, over `canvas` and `ids`."""
        size = self.settings.size
        for slot in range(max((len(plan.sprites) for plan in plans), default=0)):
            for level, sheet in enumerate(self._levels):
                rows = [
                    b
                    for b, plan in enumerate(plans)
                    if slot < len(plan.sprites) and self._level(plan.boxes[slot][2]) == level
                ]
                if not rows:
                    continue
                picked = torch.tensor([plans[b].sprites[slot] for b in rows], device=self.device)
                placements = [_placement(plans[b], slot) for b in rows]
                theta = torch.tensor(placements, dtype=torch.float32, device=self.device)
                grid = F.affine_grid(theta, [len(rows), 4, size, size], align_corners=False)
                sticker = F.grid_sample(sheet[picked], grid, align_corners=False)
                alpha = sticker[:, 3:]
                index = torch.tensor(rows, device=self.device)
                # The sheet holds colours multiplied by alpha, so that edges do not bleed.
                canvas[index] = canvas[index] * (1 - alpha) + sticker[:, :3]
                number = torch.tensor(
                    [len(plans[b].stuff) + slot + 1 for b in rows],
                    dtype=torch.uint8,
                    device=self.device,
                ).view(-1, 1, 1)
                ids[index] = torch.where(alpha[:, 0] > 0.5, number, ids[index])

    def _level(self, side: float) -> int:
        """The mipmap whose cells are nearest to, and not much smaller than, the pasted size."""
        pixels = side * self.settings.size
        full = self.sprites.pixels.shape[-1]
        return min(len(self._levels) - 1, max(0, round(math.log2(full / pixels))))

    def _label(self, plan: _Plan, id_map: Tensor) -> list[Region]:
        """Name the visible segments; number them anew, without gaps, in `id_map` itself."""
        areas = torch.bincount(id_map.flatten().long(), minlength=1).tolist()
        least = max(1.0, self.settings.min_visible * self.settings.size**2)
        table = torch.zeros(256, dtype=torch.uint8, device=id_map.device)
        regions: list[Region] = []
        for number, area in enumerate(areas):
            if number == 0 or area < least:
                continue
            slot = number - 1 - len(plan.stuff)
            thing = slot >= 0
            name = (
                self.sprites.names[plan.sprites[slot]] if thing else _STUFF[plan.stuff[number - 1]]
            )
            studio = self.sprites.studios[plan.sprites[slot]] if thing else None
            table[number] = len(regions) + 1
            regions.append(Region(len(regions) + 1, name, thing, studio, int(area)))
        id_map.copy_(table[id_map.long()])
        return regions


def scene_captions(
    regions: Sequence[Region], chance: random.Random, settings: SceneSettings
) -> tuple[str, ...]:
    """What is written under a scene: a plain sentence, bare names, or both.

    Names stand in the order of their areas, largest first, things before stuff.

    Args:
        regions: what can be seen.
        chance: draws the wording.
        settings: which captions, and whether stuff is among the names.
    """
    things: dict[str, int] = {}
    for region in sorted(regions, key=lambda region: -region.area):
        if region.thing:
            things[region.name] = things.get(region.name, 0) + 1
    stuff = [region.name for region in regions if not region.thing]
    names = (*things, *stuff) if settings.name_stuff or not things else tuple(things)
    if settings.captions == "names":
        return names
    chance.shuffle(stuff)
    parts = [_counted(name, count) for name, count in things.items()]
    opening = chance.choice(("a photo of ", "a picture of ", "there is ", "", "we see "))
    sentence = opening + _listed(parts or ["nothing"])
    if stuff and (not things or chance.random() < 0.8):
        sentence += chance.choice((" on ", " and ", " with ", ", ")) + _listed(stuff)
    return (sentence,) if settings.captions == "sentence" else (sentence, *names)


def _counted(name: str, count: int) -> str:
    article = "an" if name[0] in "aeiou" else "a"
    words = ("two", "three", "four", "five", "six")
    return f"{article} {name}" if count == 1 else f"{words[min(count, 6) - 2]} {name}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _overlap(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Area shared by two squares (centre y, centre x, side)."""
    reach = (a[2] + b[2]) / 2
    return max(0.0, reach - abs(a[0] - b[0])) * max(0.0, reach - abs(a[1] - b[1]))


def _placement(plan: _Plan, slot: int) -> list[list[float]]:
    """The 2x3 matrix from the scene's coordinates (-1..1) to the sticker's."""
    cy, cx, side = plan.boxes[slot]
    cos, sin = math.cos(plan.angles[slot]) / side, math.sin(plan.angles[slot]) / side
    flip = -1.0 if plan.flips[slot] else 1.0
    oy, ox = 2 * cy - 1, 2 * cx - 1
    return [
        [flip * cos, flip * sin, -flip * (cos * ox + sin * oy)],
        [-sin, cos, sin * ox - cos * oy],
    ]


def _mipmaps(pixels: Tensor) -> list[Tensor]:
    """[S,4,h,w] uint8 to premultiplied float sheets of full, half, quarter ... size, down to 8."""
    level = pixels.float()
    level = torch.cat([level[:, :3] * (level[:, 3:] / 255), level[:, 3:] / 255], dim=1)
    levels = [level]
    while levels[-1].shape[-1] >= 16:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels
