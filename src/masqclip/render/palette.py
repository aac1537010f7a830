"""A colour for every name, and colours that are apart for the names of one vocabulary.

A name has one colour, computed from the name alone, in every picture, on every machine and in
every vocabulary - unless another name of the vocabulary has the same one: then the earlier name
keeps it, and the later one takes another. The first 32 names of a vocabulary are at least 20 apart
in CIEDE2000 (of two colours 2 apart one just sees that they differ); up to 64 names are 12 apart,
up to 1024 are 3.9. The colours are those of ``colours.txt``, which ``benchmarks/palette.py`` finds:
none is near black, white or grey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

Colour = tuple[int, int, int]

# So many of the colours are far apart from one another; the others lie between them.
FAR_APART = 32
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)
# How much lighter (darker where negative) the first, second, ... segment of a name in a picture is.
_STEPS = (0.0, 0.14, -0.14, 0.07, -0.07)
# The contrast that small text needs on its ground (WCAG 2, level AA).
_LEGIBLE = 4.5


def name_colour(name: str) -> Colour:
    """The colour of a name as sRGB, 0 to 255; letter case and surrounding space do not count."""
    return palette()[_wanted(_key(name), FAR_APART)[0]]


def vocabulary_colours(names: Sequence[str]) -> dict[str, Colour]:
    """The colours of the names of one vocabulary, which are apart.

    Args:
        names: in the vocabulary's order; names that differ by letter case and space are one.

    Returns:
        By name. Up to 32 names are at least 20 apart in CIEDE2000, and so are the first 32 of
        more. No two names have one colour until there are more than 1024.
    """
    keys = list(dict.fromkeys(_key(name) for name in names))
    places: dict[str, int] = {}
    taken: set[int] = set()

    def take(key: str, place: int) -> bool:
        if place in taken:
            return False
        taken.add(place)
        places[key] = place
        return True

    first, rest = keys[:FAR_APART], keys[FAR_APART:]
    # Every name gets what it wants before any gets what is left.
    later = [key for key in first if not take(key, _wanted(key, FAR_APART)[0])]
    for key in later:
        place, stride = _wanted(key, FAR_APART)
        while not take(key, place):
            place = (place + stride) % FAR_APART
    total = len(palette())
    size = FAR_APART
    while size < min(len(keys), total):
        size *= 2
    for key in rest:
        place, stride = _wanted(key, size)
        if len(taken) == total:  # from here on colours are shared
            places[key] = place
            continue
        while not take(key, place):
            place = (place + stride) % size
    return {name: palette()[places[_key(name)]] for name in names}


def instance_colour(colour: Colour, index: int) -> Colour:
    """The colour of the index-th segment of a name in one picture.

    Index 0 has the name's own; the next ones are a little lighter or darker, so that neighbours can
    be told apart; the steps repeat after five.
    """
    step = _STEPS[index % len(_STEPS)]
    light = sum(colour) / (3 * 255)
    # White changes a dark colour more than a light one, and black a light one more.
    return (
        mix(colour, _WHITE, step * (0.5 + light))
        if step > 0
        else mix(colour, _BLACK, -step * (1.5 - light))
    )


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """The sRGB blend of two colours; ``share`` (0 to 1) is how much of ``other`` is in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def ink_on(colour: Colour) -> Colour:
    """White where it is legible on a colour (a contrast of 4.5, WCAG 2), black elsewhere.

    Of the two one always is: black has 4.6 where white has no more.
    """
    linear = [_linear(value / 255) for value in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _WHITE if 1.05 / (luminance + 0.05) >= _LEGIBLE else _BLACK


@cache
def palette() -> tuple[Colour, ...]:
    """All colours, those that are far apart first."""
    lines = resources.files("masqclip.render").joinpath("colours.txt").read_text("ascii").split()
    return tuple((int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for c in lines)


def _key(name: str) -> str:
    return " ".join(name.casefold().split())


def _wanted(key: str, size: int) -> tuple[int, int]:
    """The place that a name wants among the first `size` colours, and the step to the next one.

    The step is odd and `size` a power of two, so that steps come by all places.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:4], "big")
    stride = int.from_bytes(digest[4:8], "big")
    return place % size, (2 * stride + 1) % size


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
