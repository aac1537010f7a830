"""Procedural stuff: what the ground and the sky of a miniature scene are made of.

Every texture is a function of pixel coordinates, smooth noise and a few random numbers, computed
for a whole batch of regions at once. Coordinates are in units of the scene's shorter side, so that
a texture looks the same at any resolution.

Shapes: N regions, H x W pixels. `y`, `x`: [H,W] in 0..1 of the scene. `noise`: [N,3,H,W], 0 to 1,
from coarse (channel 0) to fine (channel 2). `dice`: [N,4] uniform numbers that vary the look.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Texture = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def mix_colours(low: tuple[float, ...], high: tuple[float, ...], amount: Tensor) -> Tensor:
    """Blend two RGB colours (0..255) by `amount` [N,H,W]; returns [N,3,H,W]."""
    a = torch.tensor(low, dtype=torch.float32, device=amount.device).view(1, 3, 1, 1)
    b = torch.tensor(high, dtype=torch.float32, device=amount.device).view(1, 3, 1, 1)
    return a + (b - a) * amount.clamp(0, 1).unsqueeze(1)


def _grid_lines(position: Tensor, period: float, width: float) -> Tensor:
    """1 on lines of a given width (same units as `position`) every `period`, else 0."""
    return (position.remainder(period) < width).float()


def sky(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """A blue gradient with soft clouds."""
    base = mix_colours((90, 160, 235), (185, 220, 250), y.expand_as(noise[:, 0]))
    clouds = ((noise[:, 0] * 0.7 + noise[:, 1] * 0.3 - 0.55) * 5).clamp(0, 0.8).unsqueeze(1)
    return base * (1 - clouds) + 250 * clouds


def grass(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Green blades over green patches."""
    blades = 0.5 + 0.5 * torch.sin((x * 150 + noise[:, 1] * 14) + dice[:, :1, None] * 6)
    return mix_colours(
        (45, 110, 30), (125, 190, 70), 0.5 * noise[:, 2] + 0.3 * blades + 0.2 * noise[:, 0]
    )


def water(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Deep blue-green with bright ripples that run sideways."""
    ripples = torch.sin(y * 110 + noise[:, 0] * 9 + 1.5 * torch.sin(x * 25 + noise[:, 1] * 5))
    return mix_colours((20, 80, 130), (90, 175, 205), 0.45 + 0.4 * ripples * noise[:, 1])


def sand(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Pale yellow dunes with fine grain."""
    dunes = 0.5 + 0.5 * torch.sin(y * 40 + x * 12 + noise[:, 0] * 12)
    return mix_colours((205, 170, 110), (245, 220, 165), 0.35 * dunes + 0.65 * noise[:, 2])


def snow(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """White with bluish hollows."""
    return mix_colours((205, 220, 240), (252, 253, 255), 0.75 * noise[:, 0] + 0.35 * noise[:, 2])


def brick_wall(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Rows of red bricks, every other one shifted by half, with pale mortar."""
    row = 0.085 + 0.03 * dice[:, 0, None, None]
    line = (y / row).floor()
    mortar_y = (y.remainder(row) < 0.014).float()
    along = x + 0.5 * row * 2 * line.remainder(2)
    mortar_x = (along.remainder(row * 2) < 0.014).float()
    shade = torch.sin(line * 12.9 + (along / (row * 2)).floor() * 78.2) * 0.5 + 0.5
    bricks = mix_colours((140, 50, 38), (190, 90, 65), 0.6 * shade + 0.4 * noise[:, 2])
    mortar = torch.maximum(mortar_y, mortar_x).unsqueeze(1)
    return bricks * (1 - mortar) + 205 * mortar


def wood_floor(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Long brown planks with grain and dark joints."""
    plank = 0.1 + 0.05 * dice[:, 0, None, None]
    number = (y / plank).floor()
    grain = torch.sin(y * 330 + noise[:, 0] * 25 + number * 3)
    shade = 0.5 + 0.5 * torch.sin(number * 12.9 + dice[:, 1, None, None] * 6)
    wood = mix_colours((120, 75, 40), (200, 145, 90), 0.5 * shade + 0.2 * grain + 0.3 * noise[:, 1])
    joint = (y.remainder(plank) < 0.01).float() + _joint(x, number, plank)
    return wood * (1 - 0.6 * joint.clamp(0, 1).unsqueeze(1))


def _joint(x: Tensor, number: Tensor, plank: Tensor) -> Tensor:
    """Where a plank ends and the next one in its row begins."""
    return ((x + number * 0.37).remainder(plank * 5) < 0.01).float()


def road(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Grey asphalt with dashed white lines."""
    asphalt = mix_colours((62, 62, 68), (105, 105, 110), 0.7 * noise[:, 2] + 0.3 * noise[:, 1])
    offset = dice[:, 0, None, None] * 0.2
    stripe = _grid_lines(y + offset, 0.24, 0.025) * _grid_lines(x + offset, 0.28, 0.16)
    stripe = stripe.unsqueeze(1)
    return asphalt * (1 - stripe) + 235 * stripe


def soil(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Dark brown crumbs with small stones."""
    stones = (noise[:, 1] > 0.68).float() * 0.5
    return mix_colours((60, 40, 26), (125, 90, 60), 0.7 * noise[:, 2] + 0.2 * noise[:, 0] + stones)


def tiles(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """A chequered kitchen floor in white and a cool tint."""
    side = 0.11 + 0.05 * dice[:, 0, None, None]
    check = ((y / side).floor() + (x / side).floor()).remainder(2)
    tint = mix_colours((70, 130, 140), (235, 238, 235), check * 0.9 + 0.1 * noise[:, 1])
    line = torch.maximum((y.remainder(side) < 0.008).float(), (x.remainder(side) < 0.008).float())
    return tint * (1 - 0.35 * line.unsqueeze(1))


def hedge(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """A thick wall of round dark leaves."""
    leaves = torch.sin(x * 75 + noise[:, 1] * 7) * torch.sin(y * 75 + noise[:, 0] * 7)
    return mix_colours((12, 50, 28), (60, 125, 62), 0.5 + 0.4 * leaves + 0.3 * (noise[:, 2] - 0.5))


def night_sky(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Dark violet blue with stars."""
    dark = mix_colours((10, 10, 40), (45, 35, 90), noise[:, 0] * 0.6 + y * 0.4)
    stars = ((noise[:, 2] - 0.87) * 20).clamp(0, 1).unsqueeze(1)
    return dark * (1 - stars) + 245 * stars


#: The stuff names of the miniature world, in the order of its vocabulary.
TEXTURES: dict[str, Texture] = {
    "sky": sky,
    "grass": grass,
    "water": water,
    "sand": sand,
    "snow": snow,
    "brick wall": brick_wall,
    "wood floor": wood_floor,
    "road": road,
    "soil": soil,
    "tiles": tiles,
    "hedge": hedge,
    "night sky": night_sky,
}
