"""The stuff that the second world has besides that of the first; as `textures.py` in every way."""

from __future__ import annotations

import torch
from torch import Tensor

from masqclip.data.stickers.textures import TEXTURES, Texture, mix_colours


def _cells(y: Tensor, x: Tensor, side: Tensor, wobble: Tensor) -> tuple[Tensor, Tensor]:
    """Irregular cells of about `side`: the distance to the nearest joint (0 there, 0.5 at most, in
    cells) and a number in 0..1 for each cell. All are [N,H,W]."""
    line = (y / side + wobble).floor()
    along = x / side + wobble + 0.5 * line.remainder(2) + 0.3 * torch.sin(line * 5.3)
    down = (y / side + wobble).remainder(1)
    joint = torch.minimum(0.5 - (down - 0.5).abs(), 0.5 - (along.remainder(1) - 0.5).abs())
    tone = torch.sin(line * 12.9 + along.floor() * 78.2) * 0.5 + 0.5
    return joint, tone


def stone_wall(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Large grey blocks with dark, uneven joints."""
    side = 0.13 + 0.05 * dice[:, 0, None, None]
    joint, tone = _cells(y, x, side, 0.35 * noise[:, 1])
    stone = mix_colours((112, 108, 102), (176, 170, 160), 0.6 * tone + 0.4 * noise[:, 2])
    return stone * (0.45 + 0.55 * (joint * 9).clamp(0, 1)).unsqueeze(1)


def cobblestone(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Small round stones, bright on top."""
    side = 0.06 + 0.02 * dice[:, 0, None, None]
    joint, tone = _cells(y, x, side, 0.1 * noise[:, 1])
    stone = mix_colours((88, 86, 92), (150, 142, 138), 0.7 * tone + 0.3 * noise[:, 2])
    return stone * (0.4 + 1.4 * joint).clamp(0, 1.1).unsqueeze(1)


def carpet(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Deep red pile with a pattern of golden lozenges."""
    period = 0.16 + 0.06 * dice[:, 0, None, None]
    lozenge = ((x / period).remainder(1) - 0.5).abs() + ((y / period).remainder(1) - 0.5).abs()
    pattern = ((lozenge - 0.4).abs() < 0.06).float() + (lozenge < 0.1).float()
    pile = mix_colours((105, 16, 30), (150, 34, 48), noise[:, 2])
    return pile + pattern.clamp(0, 1).unsqueeze(1) * (pile.new_tensor([70.0, 100, 30])).view(
        3, 1, 1
    )


def wallpaper(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Pale upright stripes in two tones, with a fine line on each edge."""
    width = 0.09 + 0.05 * dice[:, 0, None, None]
    stripe = (x / width).floor().remainder(2)
    tones = mix_colours((214, 196, 206), (240, 232, 226), stripe + 0.1 * noise[:, 0])
    return tones * (1 - 0.2 * (x.remainder(width) < 0.006).float().unsqueeze(1))


def curtain(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Heavy purple folds that hang straight down."""
    folds = torch.sin(x * (60 + 20 * dice[:, 0, None, None]) + 2.5 * noise[:, 0] + 0.6 * y)
    return mix_colours((62, 22, 82), (158, 92, 176), 0.5 + 0.45 * folds)


def marble(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """White stone with thin grey veins."""
    veins = torch.sin(x * 14 + y * 9 + noise[:, 0] * 16 + noise[:, 1] * 5).abs()
    return mix_colours((120, 124, 132), (243, 241, 238), (veins * 3.2).clamp(0, 1) * 0.9 + 0.1)


def roof_tiles(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Rows of round orange tiles, each with a shadow under the row above."""
    side = 0.075 + 0.03 * dice[:, 0, None, None]
    row = (y / side).floor()
    along = (x / side + 0.5 * row.remainder(2)).remainder(1) - 0.5
    depth = ((y / side).remainder(1) + 1.6 * along**2).remainder(1)
    return mix_colours((112, 44, 20), (226, 122, 66), 0.15 + 0.7 * depth + 0.15 * noise[:, 2])


def wheat_field(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Golden stalks that lean in the wind."""
    lean = x * 130 + y * 30 + noise[:, 1] * 10 + dice[:, :1, None] * 6
    stalks = 0.5 + 0.5 * torch.sin(lean)
    ears = (noise[:, 2] > 0.72).float() * 0.3
    return mix_colours((150, 108, 26), (240, 204, 92), 0.55 * stalks + 0.25 * noise[:, 0] + ears)


def autumn_leaves(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Fallen leaves in yellow, orange and red on dark ground."""
    side = 0.07 + 0.02 * dice[:, 0, None, None]
    joint, tone = _cells(y, x, side, 0.8 * noise[:, 1] + 0.4 * noise[:, 0])
    leaf = mix_colours((150, 32, 18), (246, 182, 46), tone)
    ground = (joint < 0.13).float().unsqueeze(1)
    return leaf * (1 - 0.7 * ground) * (0.8 + 0.3 * noise[:, 2:3])


def ice(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Pale blue with sharp white cracks."""
    base = mix_colours((138, 196, 224), (206, 234, 246), 0.6 * noise[:, 0] + 0.4 * noise[:, 1])
    first = torch.sin(x * 17 + y * 7 + noise[:, 1] * 7).abs()
    second = torch.sin(y * 15 - x * 11 + noise[:, 0] * 9).abs()
    cracks = (torch.minimum(first, second) < 0.07).float().unsqueeze(1)
    return base * (1 - cracks) + 252 * cracks


def lava(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Black crust with glowing gaps."""
    glow = 1 - (torch.sin(noise[:, 0] * 14 + noise[:, 1] * 7 + x * 6) * 1.6).abs().clamp(0, 1)
    crust = mix_colours((26, 16, 16), (70, 44, 38), noise[:, 2])
    hot = mix_colours((216, 40, 8), (255, 216, 70), glow)
    amount = (glow * 1.8).clamp(0, 1).unsqueeze(1)
    return crust * (1 - amount) + hot * amount


def tablecloth(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Red and white checks, pink where stripes cross."""
    side = 0.09 + 0.04 * dice[:, 0, None, None]
    stripes = (x / side).floor().remainder(2) + (y / side).floor().remainder(2)
    return mix_colours((198, 36, 46), (250, 246, 242), 1 - 0.5 * stripes + 0.06 * noise[:, 2])


def metal_plate(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Brushed steel in plates, with rivets."""
    side = 0.26 + 0.08 * dice[:, 0, None, None]
    brushed = 0.5 + 0.3 * torch.sin(y * 420 + noise[:, 2] * 5) + 0.3 * (noise[:, 0] - 0.5)
    steel = mix_colours((118, 126, 136), (196, 204, 212), brushed)
    seam = (torch.minimum(x.remainder(side), y.remainder(side)) < 0.008).float()
    u, v = (x / side).remainder(1) - 0.12, (y / side).remainder(1) - 0.12
    rivet = (u**2 + v**2 < 0.0025).float()
    return steel * (1 - 0.55 * torch.maximum(seam, rivet).unsqueeze(1))


def sunset_sky(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """From violet above to orange below, with long dark clouds."""
    base = mix_colours((112, 62, 138), (255, 160, 74), (y * 1.1).expand_as(noise[:, 0]))
    clouds = torch.sin(y * 45 + noise[:, 0] * 8) * noise[:, 1]
    return base * (1 - 0.45 * ((clouds - 0.35) * 4).clamp(0, 1).unsqueeze(1))


def bamboo(y: Tensor, x: Tensor, noise: Tensor, dice: Tensor) -> Tensor:
    """Upright green canes with rings, round by their shading."""
    width = 0.055 + 0.02 * dice[:, 0, None, None]
    cane = (x / width).floor()
    across = (x / width).remainder(1) - 0.5
    ring = ((y + 0.37 * torch.sin(cane * 9.1)).remainder(0.21) < 0.012).float()
    light = 1 - 3.2 * across**2 + 0.15 * noise[:, 1] - 0.35 * ring
    return mix_colours((34, 66, 18), (170, 198, 84), light)


#: The stuff names of the second world, in the order of its vocabulary.
SECOND_TEXTURES: dict[str, Texture] = TEXTURES | {
    "stone wall": stone_wall,
    "cobblestone": cobblestone,
    "carpet": carpet,
    "wallpaper": wallpaper,
    "curtain": curtain,
    "marble": marble,
    "roof tiles": roof_tiles,
    "wheat field": wheat_field,
    "autumn leaves": autumn_leaves,
    "ice": ice,
    "lava": lava,
    "tablecloth": tablecloth,
    "metal plate": metal_plate,
    "sunset sky": sunset_sky,
    "bamboo": bamboo,
}
