"""YOLO's text files hold the same masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from masqclip.data.sprites import load_sprites
from masqclip.export.yolo import data_yaml, join_polygons, yolo_line

SPRITES = Path(__file__).parents[1] / "data" / "sprites"


def draw(line: str, shape: tuple[int, int]) -> np.ndarray:
    """The polygon of a line, inside and outline, as trainers draw it."""
    points = np.array(line.split()[1:], float).reshape(-1, 2) * shape[::-1]
    canvas = Image.new("1", shape[::-1])
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in points.round()], fill=1, outline=1)
    return np.asarray(canvas)


def test_a_line_is_the_class_and_shares_of_the_picture() -> None:
    mask = np.zeros((10, 20), bool)
    mask[5:10, 10:15] = True
    number, *shares = yolo_line(mask, 3).split()  # type: ignore[union-attr]
    assert number == "3"
    points = np.array(shares, float).reshape(-1, 2).tolist()
    assert sorted(points) == [[0.5, 0.5], [0.5, 0.9], [0.7, 0.5], [0.7, 0.9]]
    assert yolo_line(np.zeros((10, 20), bool), 3) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 9), (6, 1), (2, 2), (5, 4)])
def test_small_masks_are_polygons_all_the_same(shape: tuple[int, int]) -> None:
    mask = np.zeros((12, 14), bool)
    mask[3 : 3 + shape[0], 2 : 2 + shape[1]] = True
    line = yolo_line(mask, 0)
    assert line is not None
    assert len(line.split()) >= 7
    assert np.array_equal(draw(line, mask.shape), mask)


def test_parts_are_one_polygon_with_seams() -> None:
    mask = np.zeros((40, 60), bool)
    mask[2:12, 3:20] = mask[20:38, 25:50] = mask[5:9, 40:55] = True
    line = yolo_line(mask, 0)
    assert line is not None
    drawn = draw(line, mask.shape)
    assert drawn[mask].all()
    assert drawn[~mask].sum() < 40  # thin lines, about as long as the gaps are wide


def test_real_masks_are_drawn_as_they_are() -> None:
    alpha = load_sprites(SPRITES).pixels[::7, 3] > 127
    overlaps = []
    for mask in alpha:
        line = yolo_line(mask, 0)
        assert line is not None
        drawn = draw(line, mask.shape)
        overlaps.append((drawn & mask).sum() / (drawn | mask).sum())
    assert min(overlaps) > 0.9
    assert np.mean(overlaps) > 0.97


def test_a_seam_goes_to_the_nearest_corner_and_back() -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
    joined = join_polygons([square, square + np.array([5, 0])])
    assert joined.tolist() == [
        [0, 0], [2, 0], [5, 0], [7, 0], [7, 2], [5, 2], [5, 0], [2, 0], [2, 2], [0, 2]
    ]  # fmt: skip


def test_names_are_quoted() -> None:
    names = ["cat", 'a "big" dog: brown', "no", "\u00e9toile", "#1"]
    document = yaml.safe_load(data_yaml(names, train="images/train", val="images/val"))
    assert document == {
        "train": "images/train", "val": "images/val", "names": dict(enumerate(names))
    }  # fmt: skip
