"""Colours of names: apart within a vocabulary, the same across vocabularies, legible."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from masqclip.clip.vocabulary import builtin_vocabularies, load_builtin
from masqclip.render.palette import (
    Colour,
    ink_on,
    instance_colour,
    mix,
    name_colour,
    palette,
    vocabulary_colours,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from palette import ciede2000, is_bright, to_lab

# Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula" (2005), Table 1: pairs of colours
# in CIELAB on both sides of every corner of the formula, and their differences.
SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, 2.8361, -74.0200), (50, 0, -82.7485), 3.4412),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, -1.1848, -84.8006), (50, 0, -82.7485), 1.0000),
    ((50, -0.9009, -85.5211), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, -1, 2), (50, 0, 0), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0010), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.49, -0.001), (50, -2.49, 0.0012), 7.2195),
    ((50, -0.001, 2.49), (50, 0.0009, -2.49), 4.8045),
    ((50, -0.001, 2.49), (50, 0.0010, -2.49), 4.8045),
    ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
    ((50, 2.5, 0), (50, 3.1736, 0.5854), 1.0000),
    ((50, 2.5, 0), (50, 3.2972, 0), 1.0000),
    ((50, 2.5, 0), (50, 1.8634, 0.5757), 1.0000),
    ((50, 2.5, 0), (50, 3.2592, 0.3350), 1.0000),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((61.2901, 3.7196, -5.3901), (61.4292, 2.2480, -4.9620), 1.8731),
    ((35.0831, -44.1164, 3.7933), (35.0232, -40.0716, 1.5901), 1.8645),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((36.4612, 47.8580, 18.3852), (36.2715, 50.5065, 21.2231), 1.4146),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((90.9257, -0.5406, -0.9208), (88.6381, -0.8985, -0.7239), 1.5381),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]

# A name has one colour in every picture, on every machine and in every version.
COLOURS = {
    "cat": (96, 65, 8),
    "dog": (8, 159, 176),
    "sky": (122, 105, 254),
    "grass": (245, 5, 121),
    "person": (130, 124, 73),
    "traffic light": (254, 143, 143),
    "sea": (173, 5, 165),
    "road": (141, 236, 253),
    "banana": (18, 152, 251),
    "tree": (255, 172, 237),
    "\xe9toile": (142, 22, 0),
    "x": (252, 205, 166),
}


def apart(colours: list[Colour]) -> float:
    """The difference of the two that are nearest to each other."""
    labs = to_lab(colours)
    differences = ciede2000(labs[:, None], labs[None])
    np.fill_diagonal(differences, np.inf)
    return float(differences.min())


def contrast(one: Colour, other: Colour) -> float:
    """WCAG 2's, from 1 to 21."""

    def luminance(colour: Colour) -> float:
        parts = [v / 255 for v in colour]
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("one", "other", "difference"), SHARMA)
def test_differences_are_those_of_the_paper(
    one: tuple[float, ...], other: tuple[float, ...], difference: float
) -> None:
    assert float(ciede2000(one, other)) == pytest.approx(difference, abs=5e-5)
    assert float(ciede2000(other, one)) == pytest.approx(difference, abs=5e-5)


def test_cielab_is_that_of_srgb() -> None:
    assert to_lab((255, 255, 255)) == pytest.approx((100, 0, 0), abs=0.02)
    assert to_lab((255, 0, 0)) == pytest.approx((53.24, 80.09, 67.20), abs=0.02)
    assert to_lab((0, 0, 255)) == pytest.approx((32.30, 79.19, -107.86), abs=0.02)


@pytest.mark.parametrize("name", list(builtin_vocabularies()))
def test_a_built_in_vocabularys_first_names_are_apart(name: str) -> None:
    """Alone, and as the first of all of its names."""
    names = [category.name for category in load_builtin(name).categories]
    assert apart(list(vocabulary_colours(names[:30]).values())) >= 20
    whole = vocabulary_colours(names)
    assert apart([whole[name] for name in names[:30]]) >= 20


def test_any_thirty_names_are_apart() -> None:
    chance = random.Random(0)
    for _ in range(50):
        names = [f"name {chance.random()}" for _ in range(chance.randint(2, 30))]
        assert apart(list(vocabulary_colours(names).values())) >= 20
    assert apart([vocabulary_colours(["taxi", "road"])[name] for name in ("taxi", "road")]) >= 20


@pytest.mark.parametrize(("number", "least"), [(64, 12), (128, 8.9), (850, 3.8), (1024, 3.8)])
def test_many_names_are_as_far_apart_as_can_be_and_soon(number: int, least: float) -> None:
    names = [f"name {i}" for i in range(number)]
    started = time.perf_counter()
    colours = vocabulary_colours(names)
    assert time.perf_counter() - started < 0.1
    assert apart(list(colours.values())) >= least


def test_very_many_names_sharepalette() -> None:
    colours = vocabulary_colours([f"name {i}" for i in range(20_000)])
    assert len(colours) == 20_000
    assert len(set(colours.values())) == 1024
    assert vocabulary_colours([]) == {}


def test_a_name_keeps_its_colour_where_no_other_wants_it() -> None:
    names = [f"name {i}" for i in range(30)]
    colours = vocabulary_colours(names)
    wanted = [name_colour(name) for name in names]
    kept = 0
    for place, name in enumerate(names):
        # The earlier of two keeps what both want.
        first = wanted.index(wanted[place]) == place
        assert (colours[name] == wanted[place]) == first
        kept += first
    assert 10 < kept < 30
    assert vocabulary_colours(names[:1]) == {names[0]: wanted[0]}
    assert vocabulary_colours([names[3], "cat"])[names[3]] == wanted[3]


def test_names_that_are_written_alike_have_one_colour() -> None:
    colours = vocabulary_colours(["cat", "  CAT ", "traffic light", "Traffic\t light"])
    assert colours["cat"] == colours["  CAT "] == name_colour("cat") == name_colour(" Cat")
    assert colours["traffic light"] == colours["Traffic\t light"]
    assert len(set(colours.values())) == 2


@pytest.mark.parametrize("name", COLOURS)
def test_the_colours_of_names_are_pinned(name: str) -> None:
    assert name_colour(name) == COLOURS[name]


def test_no_colour_is_near_black_white_or_grey() -> None:
    assert len(set(palette())) == len(palette()) == 1024
    assert is_bright(to_lab(palette())).all()
    assert not is_bright(to_lab([(0, 0, 0), (255, 255, 255), (128, 128, 128)])).any()


def test_ink_is_legible_on_every_colour_and_its_variations() -> None:
    for colour in palette():
        for index in range(5):
            ground = instance_colour(colour, index)
            assert contrast(ground, ink_on(ground)) >= 4.5
    for value in range(256):
        grey = (value, value, value)
        assert contrast(grey, ink_on(grey)) >= 4.5
    assert ink_on((255, 240, 60)) == (0, 0, 0)
    assert ink_on((60, 40, 200)) == (255, 255, 255)


def test_segments_of_a_name_differ_and_stay_nearer_to_it_than_to_any_other() -> None:
    colours = palette()[:32]
    labs = to_lab(colours)
    for place, colour in enumerate(colours):
        variations = [instance_colour(colour, i) for i in range(5)]
        assert variations[0] == colour == instance_colour(colour, 5)
        assert apart(variations[:3]) > 1.2
        assert apart(variations) > 0.6
        for lab in to_lab(variations):
            assert int(ciede2000(lab, labs).argmin()) == place


def test_colours_are_mixed_by_a_share() -> None:
    assert mix((0, 100, 200), (100, 0, 200), 0.25) == (25, 75, 200)
    assert mix((0, 100, 200), (100, 0, 200), 0.0) == (0, 100, 200)
    assert mix((0, 100, 200), (100, 0, 200), 1.0) == (100, 0, 200)
