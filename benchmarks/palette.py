"""The colours of names: as many and as far apart as the eye needs them, found once and kept.

    python benchmarks/palette.py src/masqclip/render/colours.txt     # four minutes

The first 32 are searched together by annealing, until any two are at least 20 apart in CIEDE2000
(Sharma, Wu and Dalal, 2005); each of the others is the one farthest from all before it. None is
near black, white or grey.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FIRST, ALL = 32, 1024
APART = 20.6  # with a little to spare
LIGHTNESS, LEAST_CHROMA = (30.0, 92.0), 28.0  # of CIELAB
_STEPS = 600_000
_GRID = 6  # steps of sRGB among which the others are sought

Floats = NDArray[np.float64]


def to_lab(rgb: object) -> Floats:
    """CIELAB (D65) of sRGB colours [..., 3], 0 to 255."""
    coded = np.asarray(rgb, float) / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.moveaxis(
        np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116), -1, 0
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def ciede2000(one: object, other: object) -> Floats:
    """The difference of colours in CIELAB, [..., 3] each, by the formula of CIEDE2000."""
    light1, a1, b1 = np.moveaxis(np.asarray(one, float), -1, 0)
    light2, a2, b2 = np.moveaxis(np.asarray(other, float), -1, 0)
    seventh = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(seventh / (seventh + 25.0**7))
    a1, a2 = stretch * a1, stretch * a2
    chroma1, chroma2 = np.hypot(a1, b1), np.hypot(a2, b2)
    hue1, hue2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = chroma1 * chroma2 == 0
    turn = np.where(grey, 0.0, (hue2 - hue1 + 180) % 360 - 180)
    far = np.abs(hue1 - hue2) > 180
    total = hue1 + hue2
    middle = np.where(far, np.where(total < 360, total + 360, total - 360), total) / 2
    hue = np.radians(np.where(grey, total, middle))
    light, chroma = (light1 + light2) / 2, (chroma1 + chroma2) / 2
    weight = (
        1
        - 0.17 * np.cos(hue - np.radians(30))
        + 0.24 * np.cos(2 * hue)
        + 0.32 * np.cos(3 * hue + np.radians(6))
        - 0.20 * np.cos(4 * hue - np.radians(63))
    )
    by_light = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    in_light = (light2 - light1) / by_light
    in_chroma = (chroma2 - chroma1) / (1 + 0.045 * chroma)
    in_hue = 2 * np.sqrt(chroma1 * chroma2) * np.sin(np.radians(turn / 2))
    in_hue = in_hue / (1 + 0.015 * chroma * weight)
    blue = np.radians(60 * np.exp(-(((np.degrees(hue) - 275) / 25) ** 2)))
    rotation = -2 * np.sin(blue) * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    squared = in_light**2 + in_chroma**2 + in_hue**2 + rotation * in_chroma * in_hue
    return np.sqrt(np.maximum(squared, 0.0))


def is_bright(lab: Floats) -> NDArray[np.bool_]:
    """Whether colours in CIELAB [..., 3] are far enough from black, white and grey."""
    within = (lab[..., 0] >= LIGHTNESS[0]) & (lab[..., 0] <= LIGHTNESS[1])
    return within & (np.hypot(lab[..., 1], lab[..., 2]) >= LEAST_CHROMA)


def find_first(count: int, apart: float, seed: int = 0) -> NDArray[np.int64]:
    """Colours [count, 3] in sRGB, the nearest two of them as far apart as annealing brings them."""
    chance = np.random.default_rng(seed)

    def any_colour() -> tuple[NDArray[np.int64], Floats]:
        while True:
            rgb = chance.integers(0, 256, 3)
            if is_bright(lab := to_lab(rgb)):
                return rgb, lab

    drawn = [any_colour() for _ in range(count)]
    rgbs, labs = np.array([rgb for rgb, _ in drawn]), np.array([lab for _, lab in drawn])
    apart_now = ciede2000(labs[:, None], labs[None])
    np.fill_diagonal(apart_now, np.inf)
    best, least = rgbs.copy(), 0.0

    def cost(row: Floats) -> float:
        return float((np.maximum(apart - row, 0) ** 2).sum())

    for step in range(_STEPS):
        left = 1 - step / _STEPS
        place = int(chance.integers(count))
        if chance.random() > 0.3:  # mostly one of the nearest two
            pair = np.unravel_index(apart_now.argmin(), apart_now.shape)
            place = int(pair[int(chance.integers(2))])
        if chance.random() < 0.02:
            rgb, lab = any_colour()
        else:
            jump = chance.normal(0, 2 + 40 * left**2 * chance.random(), 3)
            rgb = np.clip(np.rint(rgbs[place] + jump), 0, 255).astype(int)
            lab = to_lab(rgb)
            if not is_bright(lab):
                continue
        row = ciede2000(lab, labs)
        row[place] = np.inf
        worse = cost(row) - cost(apart_now[place])
        if worse <= 0 or chance.random() < np.exp(-worse / (30 * left**3 + 1e-3)):
            rgbs[place], labs[place] = rgb, lab
            apart_now[place] = apart_now[:, place] = row
            if apart_now.min() > least:
                best, least = rgbs.copy(), float(apart_now.min())
                if least >= apart:
                    break
    return best


def find_others(first: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Colours [count, 3] in sRGB: the first ones, then each the farthest from all before it."""
    levels = np.append(np.arange(0, 255, _GRID), 255)
    rgbs = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    labs = to_lab(rgbs)
    rgbs, labs = rgbs[is_bright(labs)], labs[is_bright(labs)]
    nearest = np.min([ciede2000(lab, labs) for lab in to_lab(first)], axis=0)
    found = list(first)
    while len(found) < count:
        place = int(nearest.argmax())
        found.append(rgbs[place])
        nearest = np.minimum(nearest, ciede2000(labs[place], labs))
    return np.array(found)


def main(path: str) -> None:
    """Find the colours, write them one a line, and say how far apart they are."""
    colours = find_others(find_first(FIRST, APART), ALL)
    Path(path).write_text("".join("#{:02x}{:02x}{:02x}\n".format(*rgb) for rgb in colours))
    labs = to_lab(colours)
    size = FIRST
    while size <= ALL:
        apart = ciede2000(labs[:size, None], labs[None, :size])
        np.fill_diagonal(apart, np.inf)
        print(f"{size} colours: at least {apart.min():.1f} apart")
        size *= 2


if __name__ == "__main__":
    main(*sys.argv[1:])
