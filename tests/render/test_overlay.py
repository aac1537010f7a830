"""Overlays: the right pixels change, labels stay in the frame, odd sizes work."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from masqclip.errors import MasqclipError
from masqclip.render.overlay import draw_overlay
from masqclip.render.palette import instance_colour, name_colour
from masqclip.result import Segment


def square(name: str, thing: bool = True, size: int = 400) -> Segment:
    mask = np.zeros((size, size), bool)
    mask[size // 4 : size // 2, size // 4 : size // 2] = True
    return Segment(1, name, 0, 0.9, thing, mask)


def test_the_same_name_has_the_same_colour() -> None:
    assert name_colour("tiger") == name_colour("tiger")
    colours = {name_colour(f"name {i}") for i in range(60)}
    assert len(colours) > 50
    assert instance_colour("tiger", 0) == name_colour("tiger")
    assert instance_colour("tiger", 1) != name_colour("tiger")


def test_only_the_mask_is_tinted() -> None:
    image = np.full((400, 400, 3), 128, np.uint8)
    drawn = np.asarray(draw_overlay(image, [square("cat")], labels=False)).astype(int)
    changed = np.abs(drawn - 128).max(-1) > 3
    assert changed[110:190, 110:190].all()
    assert not changed[:80].any()
    assert not changed[:, 220:].any()
    pale = np.asarray(draw_overlay(image, [square("cat", thing=False)], labels=False)).astype(int)
    assert np.abs(pale - 128)[150, 150].sum() < np.abs(drawn - 128)[150, 150].sum()


def test_it_is_deterministic_and_leaves_the_picture_alone() -> None:
    image = np.full((400, 400, 3), 90, np.uint8)
    segments = [square("cat"), square("grass", thing=False)]
    first, second = draw_overlay(image, segments), draw_overlay(image, segments)
    assert first.tobytes() == second.tobytes()
    assert (image == 90).all()
    assert first.tobytes() != draw_overlay(image, segments, labels=False).tobytes()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (128, 128), (500, 40)])
def test_any_size_works_and_small_ones_are_enlarged(height: int, width: int) -> None:
    mask = np.ones((height, width), bool)
    long_name = "a very long name that no label of a small picture can hold"
    drawn = draw_overlay(
        np.zeros((height, width, 3), np.uint8), [Segment(1, long_name, 0, 0.5, True, mask)]
    )
    assert isinstance(drawn, Image.Image)
    assert max(drawn.size) >= 384
    assert drawn.width * height == drawn.height * width


def test_nothing_found_is_the_picture_itself() -> None:
    image = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(draw_overlay(image, [])), image)


def test_mistakes_are_named() -> None:
    with pytest.raises(MasqclipError, match="opacity"):
        draw_overlay(np.zeros((9, 9, 3), np.uint8), [], opacity=2)
    with pytest.raises(MasqclipError, match="same size"):
        draw_overlay(np.zeros((9, 9, 3), np.uint8), [square("cat")])
