"""A colour for every name.

A name has the same colour in every picture, on every machine and in every vocabulary, because the
colour is computed from the name alone. Colours are chosen in OKLCH (Ottosson, "A perceptual color
space for image processing", 2020), where equal steps of hue look about equally different; yellows
and greens are lifted, because dark ones look muddy.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

Colour = tuple[int, int, int]

_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
_LIGHTNESS = (0.59, 0.72)
_CHROMA = 0.21
# The hue, in degrees of OKLCH, about which dark colours look olive or brown.
_MUDDY_HUE = 95.0
_MUDDY_WIDTH = 75.0
_MUDDY_LIFT = 0.15
# Lightness added to the first, second, ... segment of one name in one picture.
_STEPS = (0.0, 0.06, -0.06, 0.03, -0.03)


def name_colour(name: str) -> Colour:
    """The colour of a name as sRGB, 0 to 255; letter case and surrounding space do not count."""
    return _oklch_to_srgb(*_name_oklch(name))


def instance_colour(name: str, index: int) -> Colour:
    """The colour of the index-th segment of a name in one picture.

    Index 0 has `name_colour`; the next ones are a little lighter or darker, so that neighbours can
    be told apart; the steps repeat after five.
    """
    lightness, chroma, hue = _name_oklch(name)
    return _oklch_to_srgb(lightness + _STEPS[index % len(_STEPS)], chroma, hue)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """The sRGB blend of two colours; ``share`` (0 to 1) is how much of ``other`` is in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def ink_on(colour: Colour) -> Colour:
    """Near-black or white, whichever is legible on a colour, by its relative luminance (WCAG 2)."""
    linear = [_linear(value / 255) for value in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # By contrast alone dark text wins above about 0.18; white reads better on saturated
    # mid-tones than the formula says, so that the switch is a little higher.
    return (20, 20, 24) if luminance > 0.26 else (255, 255, 255)


def _name_oklch(name: str) -> tuple[float, float, float]:
    digest = hashlib.sha256(
        " ".join(name.casefold().split()).encode("utf-8", "surrogatepass")
    ).digest()
    place = int.from_bytes(digest[:4], "big")
    hue = 360.0 * math.fmod(place * _GOLDEN_RATIO, 1.0)
    distance = abs((hue - _MUDDY_HUE + 180.0) % 360.0 - 180.0)
    lift = _MUDDY_LIFT * max(0.0, 1.0 - distance / _MUDDY_WIDTH)
    low, high = _LIGHTNESS
    return low + (high - low) * digest[4] / 255 + lift, _CHROMA, hue


@lru_cache(maxsize=4096)
def _oklch_to_srgb(lightness: float, chroma: float, hue: float) -> Colour:
    """The nearest colour of sRGB with this lightness and hue: chroma is lowered until it fits."""
    angle = math.radians(hue)
    while True:
        a, b = chroma * math.cos(angle), chroma * math.sin(angle)
        # OKLab to linear sRGB; the constants are those of Ottosson's definition.
        long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
        medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
        short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
        red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
        green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
        blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
        if chroma <= 0 or all(-1e-4 <= value <= 1 + 1e-4 for value in (red, green, blue)):
            return _encoded(red), _encoded(green), _encoded(blue)
        chroma -= 0.005


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _encoded(value: float) -> int:
    value = min(max(value, 0.0), 1.0)
    curved = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return round(255 * curved)
