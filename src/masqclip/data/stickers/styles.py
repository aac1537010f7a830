"""Styles that no studio drew: what a sticker, or a whole picture, may go through before it is seen.

A CLIP that reads a few studios' drawings learns these drawings by heart. Drawn anew each time in a
style of chance, a thing keeps its shape and little else: other colours, an outline, line art, flat
or shaded, two tones, coarse; and over the whole picture other light, grain, print, noise, blur.

Every number is drawn from the scene's own chance, so that a picture stays a pure function of its
seed and number; pixels are computed for a whole batch at once. The noise is a hash of place and
seed, not a generator's: a picture does not depend on what else is drawn with it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class StickerStyle:
    """What is done to one sticker, in this order; a share or an amount of 0 leaves it out.

    Attributes:
        stretch, shear: the shape: width over height, and how far the top leans over.
        taper: how much narrower it is at the top than in the middle, and wider at the foot.
        bend, bend_phases: how far waves bend it, as a share of half its side, and where they begin:
            another artist gives the same thing other proportions.
        colours: a 3 x 3 matrix on RGB, row by row, and what is then added (0..255).
        levels: each colour is rounded to so many.
        duotone, dark, light: how much of the drawing is replaced by its brightness between two
            colours.
        shade, shade_angle: light from one side.
        relief: how deep it is modelled, as of clay: its rim and the edges of its colours rounded,
            lit from the side of `shade_angle`, with a gloss.
        line, ink, fill: line art: how much of the drawing is replaced by its edges in ink on a
            plain fill.
        border, border_colour: an outline around it, as a share of its side.
        coarse: so many pixels become one.
    """

    stretch: float = 1.0
    shear: float = 0.0
    taper: float = 0.0
    bend: float = 0.0
    bend_phases: tuple[float, ...] = (0, 0, 0, 0)
    colours: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    levels: int = 0
    duotone: float = 0.0
    dark: tuple[float, ...] = (0, 0, 0)
    light: tuple[float, ...] = (255, 255, 255)
    shade: float = 0.0
    shade_angle: float = 0.0
    relief: float = 0.0
    line: float = 0.0
    ink: tuple[float, ...] = (0, 0, 0)
    fill: tuple[float, ...] = (255, 255, 255)
    border: float = 0.0
    border_colour: tuple[float, ...] = (255, 255, 255)
    coarse: int = 1


@dataclass(frozen=True)
class PictureStyle:
    """What is done to a whole picture; see `StickerStyle`.

    Attributes:
        gains: of the three colours.
        contrast: around middle grey.
        lamp, lamp_angle: how much brighter one side is than the other.
        noise, grain: amplitude of noise of single pixels and of coarse paper grain (0..255).
        print_dots: how strong the dots of a print are.
        blur: so many pixels are averaged; odd.
        seed: of the noise.
    """

    gains: tuple[float, ...] = (1, 1, 1)
    contrast: float = 1.0
    lamp: float = 0.0
    lamp_angle: float = 0.0
    noise: float = 0.0
    grain: float = 0.0
    print_dots: float = 0.0
    blur: int = 1
    seed: float = 0.0


PLAIN = StickerStyle()
PLAIN_PICTURE = PictureStyle()

#: What kinds of change there are, each of some numbers of a sticker's style, or of a picture's.
LOOKS: dict[str, tuple[str, ...]] = {
    "shape": ("stretch", "shear"),
    "bend": ("taper", "bend"),
    "colour": ("colours", "levels", "duotone"),
    "shade": ("shade", "relief", "coarse"),
    "line": ("line", "border"),
    "picture": (),
}


def restrict_style(style: StickerStyle, looks: Collection[str]) -> StickerStyle:
    """A sticker's style with only some kinds of change, the others undone."""
    undone = [name for look, names in LOOKS.items() if look not in looks for name in names]
    return replace(style, **{name: getattr(PLAIN, name) for name in undone})


def draw_sticker_style(chance: random.Random) -> StickerStyle:
    """A style of chance; most of what could be done is not."""
    dark, pale = _colour(chance, 0, 110), _colour(chance, 140, 255)
    return StickerStyle(
        stretch=math.exp(chance.uniform(-0.25, 0.25)),
        shear=chance.uniform(-0.2, 0.2),
        colours=_colours(chance) if chance.random() < 0.75 else PLAIN.colours,
        levels=chance.choice((2, 3, 4, 6)) if chance.random() < 0.15 else 0,
        duotone=chance.uniform(0.7, 1) if chance.random() < 0.15 else 0.0,
        dark=dark,
        light=pale,
        shade=chance.uniform(-0.6, 0.6) if chance.random() < 0.35 else 0.0,
        shade_angle=chance.uniform(0, 2 * math.pi),
        line=chance.uniform(0.5, 1) if chance.random() < 0.25 else 0.0,
        ink=_colour(chance, 0, 80),
        fill=_colour(chance, 190, 255) if chance.random() < 0.7 else _colour(chance, 60, 255),
        border=chance.uniform(0.02, 0.08) if chance.random() < 0.3 else 0.0,
        border_colour=_colour(chance, 0, 60)
        if chance.random() < 0.6
        else _colour(chance, 200, 255),
        coarse=chance.choice((2, 3)) if chance.random() < 0.1 else 1,
        relief=chance.uniform(0.3, 1) if chance.random() < 0.25 else 0.0,
        taper=chance.uniform(-0.25, 0.25) if chance.random() < 0.3 else 0.0,
        bend=chance.uniform(0.02, 0.1) if chance.random() < 0.5 else 0.0,
        bend_phases=tuple(chance.uniform(0, 2 * math.pi) for _ in range(4)),
    )


def draw_picture_style(chance: random.Random) -> PictureStyle:
    """A style of chance; most of what could be done is not."""
    return PictureStyle(
        gains=tuple(chance.uniform(0.75, 1.2) for _ in range(3)),
        contrast=chance.uniform(0.6, 1.3) if chance.random() < 0.5 else 1.0,
        lamp=chance.uniform(0.1, 0.6) if chance.random() < 0.4 else 0.0,
        lamp_angle=chance.uniform(0, 2 * math.pi),
        noise=chance.uniform(5, 40) if chance.random() < 0.3 else 0.0,
        grain=chance.uniform(10, 50) if chance.random() < 0.2 else 0.0,
        print_dots=chance.uniform(0.1, 0.4) if chance.random() < 0.1 else 0.0,
        blur=3 if chance.random() < 0.15 else 1,
        seed=chance.uniform(0, 100),
    )


def _colour(chance: random.Random, low: int, high: int) -> tuple[float, ...]:
    return tuple(chance.uniform(low, high) for _ in range(3))


def _colours(chance: random.Random) -> tuple[float, ...]:
    """A turn of the hue, another saturation, sometimes exchanged channels, another brightness."""
    angle = (
        chance.uniform(-0.5, 0.5) if chance.random() < 0.7 else chance.uniform(-math.pi, math.pi)
    )
    cos, sin = math.cos(angle), math.sin(angle) / math.sqrt(3)
    third = (1 - cos) / 3
    turn = [
        [cos + third if row == column else third + (sin if (column - row) % 3 == 2 else -sin)
         for column in range(3)]
        for row in range(3)
    ]  # fmt: skip
    saturation = chance.choice((1.0, chance.uniform(0, 1), chance.uniform(1, 1.8)))
    gain, offset = chance.uniform(0.7, 1.2), chance.uniform(-25, 35)
    mixed = [
        [
            gain * (saturation * turn[row][column] + (1 - saturation) * _LUMINANCE[column])
            for column in range(3)
        ]
        for row in range(3)
    ]
    return (*(value for row in mixed for value in row), offset, offset, offset)


def style_stickers(stickers: Tensor, styles: list[StickerStyle]) -> Tensor:
    """Redraw stickers, one style each.

    Args:
        stickers: [N,4,h,w]: RGB times alpha (0..255), and alpha (0..1).
        styles: N of them; `stretch` and `shear` are the placement's work, `bend_grid`'s the bends.

    Returns:
        [N,4,h,w] as they came.
    """
    alpha = stickers[:, 3:]
    colours = stickers[:, :3] / alpha.clamp(min=1e-3)
    table = Numbers(styles, stickers.device)
    matrix = table.vector("colours")
    colours = torch.einsum("nij,njhw->nihw", matrix[:, :9].view(-1, 3, 3), colours)
    colours = (colours + matrix[:, 9:, None, None]).clamp(0, 255)
    rows = table.where("levels")
    if len(rows):
        steps = table.scalar("levels")[rows]
        colours[rows] = (colours[rows] * (steps / 256)).floor() * (255 / (steps - 1).clamp(min=1))
    rows = table.where("duotone")
    if len(rows):
        colours[rows] = _two_tones(colours[rows], table, rows)
    rows = table.where("shade")
    if len(rows):
        colours[rows] = _lit(
            colours[rows], table.scalar("shade"), table.scalar("shade_angle"), rows
        )
    rows = table.where("relief")
    if len(rows):
        colours[rows] = _modelled(colours[rows], alpha[rows], table, rows)
    rows = table.where("line")
    if len(rows):
        colours[rows] = _line_art(colours[rows], alpha[rows], table, rows)
    for factor in (2, 3):
        rows = table.where("coarse", factor)
        if len(rows):
            whole = torch.cat([colours[rows] * alpha[rows], alpha[rows]], dim=1)
            coarse = F.avg_pool2d(whole, factor, ceil_mode=True, count_include_pad=False)
            whole = F.interpolate(coarse, size=alpha.shape[-2:], mode="bilinear")
            alpha[rows] = whole[:, 3:]
            colours[rows] = whole[:, :3] / whole[:, 3:].clamp(min=1e-3)
    return torch.cat([colours * alpha, alpha], dim=1)


def bend_grid(grid: Tensor, styles: list[StickerStyle]) -> Tensor:
    """Where to look in the drawings so that they come out tapered and bent.

    Args:
        grid: [N,h,w,2] as `grid_sample` takes it, x first: -1..1 over a drawing.
        styles: N of them.

    Returns:
        [N,h,w,2]; rows of plain styles as they came.
    """
    rows = [i for i, style in enumerate(styles) if style.taper or style.bend]
    if not rows:
        return grid
    table = Numbers([styles[i] for i in rows], grid.device)
    taper, bend = table.scalar("taper")[..., 0], table.scalar("bend")[..., 0]
    first, second, third, fourth = table.vector("bend_phases")[:, :, None, None].unbind(1)
    x, y = grid[rows].unbind(-1)
    x = x * (1 - taper * y)
    wide, narrow = 2.5, 4.5  # radians for half a side: under one wave and a half, none folds over
    across = torch.sin(wide * y + first) + 0.5 * torch.sin(narrow * x + second)
    down = torch.sin(wide * x + third) + 0.5 * torch.sin(narrow * y + fourth)
    bent = grid.clone()
    bent[rows] = torch.stack([x + bend * across, y + bend * down], dim=-1)
    return bent


def outline(stickers: Tensor, styles: list[StickerStyle], sides: list[float]) -> Tensor:
    """Put an outline around stickers that have one; `sides` are theirs in pixels."""
    widths = [round(style.border * side) for style, side in zip(styles, sides, strict=True)]
    for width in sorted({width for width in widths if width}):
        rows = torch.tensor([i for i, w in enumerate(widths) if w == width], device=stickers.device)
        alpha = stickers[rows, 3:]
        grown = F.max_pool2d(alpha, 2 * width + 1, stride=1, padding=width)
        paint = torch.tensor(
            [styles[i].border_colour for i in rows.tolist()], device=stickers.device
        )
        colours = stickers[rows, :3] + paint[:, :, None, None] * (grown - alpha).clamp(min=0)
        stickers[rows] = torch.cat([colours, grown], dim=1)
    return stickers


def style_pictures(pictures: Tensor, styles: list[PictureStyle]) -> Tensor:
    """Put whole pictures [B,3,H,W] (0..255) into a style each; returns them."""
    table = Numbers(styles, pictures.device)
    pictures = (pictures - 127) * table.scalar("contrast") + 127
    pictures = pictures * table.vector("gains")[:, :, None, None]
    everywhere = torch.arange(len(pictures), device=pictures.device)
    pictures = _lit(pictures, table.scalar("lamp"), table.scalar("lamp_angle"), everywhere)
    height, width = pictures.shape[-2:]
    y, x = (torch.arange(n, dtype=torch.float32, device=pictures.device) for n in (height, width))
    rows = table.where("print_dots")
    if len(rows):
        dots = torch.sin(x * 1.9)[None, :] * torch.sin(y * 1.9)[:, None]
        pictures[rows] = pictures[rows] * (1 + table.scalar("print_dots")[rows] * dots)
    for name, cells in (("noise", 1), ("grain", 3)):
        rows = table.where(name)
        if len(rows):
            seeds = table.scalar("seed")[rows]
            hashed = _hash(
                (y / cells).floor()[:, None], (x / cells).floor()[None, :], seeds + cells
            )
            pictures[rows] = pictures[rows] + table.scalar(name)[rows] * (hashed - 0.5)
    rows = table.where("blur", 3)
    if len(rows):
        padded = F.pad(pictures[rows], (1, 1, 1, 1), mode="replicate")
        pictures[rows] = F.avg_pool2d(padded, 3, stride=1)
    return pictures


class Numbers:
    """The numbers of many styles as tensors, one row a style."""

    def __init__(
        self, styles: list[StickerStyle] | list[PictureStyle], device: torch.device
    ) -> None:
        self._styles, self._device = styles, device

    def scalar(self, name: str) -> Tensor:
        """[N,1,1,1]."""
        values = [getattr(style, name) for style in self._styles]
        return torch.tensor(values, dtype=torch.float32, device=self._device).view(-1, 1, 1, 1)

    def vector(self, name: str) -> Tensor:
        """[N,k]."""
        values = [getattr(style, name) for style in self._styles]
        return torch.tensor(values, dtype=torch.float32, device=self._device)

    def where(self, name: str, value: float | None = None) -> Tensor:
        """The rows in which something is done at all, or has just this value."""
        values = [getattr(style, name) for style in self._styles]
        rows = [i for i, v in enumerate(values) if (v != 0 if value is None else v == value)]
        return torch.tensor(rows, dtype=torch.int64, device=self._device)


def _brightness(colours: Tensor) -> Tensor:
    weights = colours.new_tensor(_LUMINANCE).view(1, 3, 1, 1)
    return (colours * weights).sum(1, keepdim=True)


def _two_tones(colours: Tensor, table: Numbers, rows: Tensor) -> Tensor:
    share = table.scalar("duotone")[rows]
    dark = table.vector("dark")[rows][:, :, None, None]
    light = table.vector("light")[rows][:, :, None, None]
    toned = dark + (light - dark) * _brightness(colours) / 255
    return colours * (1 - share) + toned * share


def _lit(colours: Tensor, amount: Tensor, angle: Tensor, rows: Tensor) -> Tensor:
    """Brighter on one side and darker on the other."""
    height, width = colours.shape[-2:]
    y = torch.linspace(-1, 1, height, device=colours.device)[:, None]
    x = torch.linspace(-1, 1, width, device=colours.device)[None, :]
    turned = torch.cos(angle[rows]) * x + torch.sin(angle[rows]) * y
    return (colours * (1 + amount[rows] * turned)).clamp(0, 255)


def _modelled(colours: Tensor, alpha: Tensor, table: Numbers, rows: Tensor) -> Tensor:
    """A drawing as a relief: its blurred rim and brightness are heights, lit from one side."""
    rounding = 2 * max(1, alpha.shape[-1] // 32) + 1  # pixels
    height = alpha * (0.5 + _brightness(colours) / 510)
    for _ in range(2):
        padded = F.pad(height, (rounding // 2,) * 4, mode="replicate")
        height = F.avg_pool2d(padded, rounding, stride=1)
    padded = F.pad(height, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * rounding
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * rounding
    angle = table.scalar("shade_angle")[rows]
    slope = torch.cos(angle) * across + torch.sin(angle) * down
    amount = table.scalar("relief")[rows]
    lit = colours * (1 + 0.6 * amount * slope) + 160 * amount * (slope - 0.5).clamp(min=0)
    return lit.clamp(0, 255)


def _line_art(colours: Tensor, alpha: Tensor, table: Numbers, rows: Tensor) -> Tensor:
    """Edges of the drawing and its rim, in ink, on a plain fill."""
    grey = _brightness(colours) * alpha + 255 * (1 - alpha)
    grey = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]).abs()
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]).abs()
    edge = ((across + down) / 90 - 0.2).clamp(0, 1)
    rim = (1 - (alpha - F.avg_pool2d(alpha, 3, 1, 1)).abs() * 4).clamp(0, 1)
    edge = torch.maximum(edge, 1 - rim)
    ink = table.vector("ink")[rows][:, :, None, None]
    fill = table.vector("fill")[rows][:, :, None, None]
    drawn = fill + (ink - fill) * edge
    share = table.scalar("line")[rows]
    return colours * (1 - share) + drawn * share


def _hash(y: Tensor, x: Tensor, seeds: Tensor) -> Tensor:
    """Numbers in 0..1 that look random, from a place [H,1], [1,W] and seeds [N,1,1,1]."""
    for_row, for_column = torch.sin(y * 12.9898 + 4.1), torch.sin(x * 78.233 + 1.7)
    return ((for_row * 43.7 + for_column * 91.3 + seeds).sin() * 4375.85).remainder(1)
