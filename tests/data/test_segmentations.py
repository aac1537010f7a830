"""A COCO segmentation: what is read as a mask, what covers nothing, what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from masqclip.data import segmentations
from masqclip.data.rle import encode_rle
from masqclip.data.segmentations import segmentation_mask, tidy_segmentation
from masqclip.errors import MasqclipError

BOX = [1, 1, 4, 1, 4, 3, 1, 3]


def area(polygon: list[float]) -> list[list[int]]:
    return np.argwhere(segmentation_mask([polygon], 5, 6)).tolist()


def test_a_polygon_holds_the_pixels_whose_middle_it_encloses() -> None:
    assert area(BOX) == [[y, x] for y in (1, 2) for x in (1, 2, 3)]
    assert area([1.4, 1.4, 3.6, 1.4, 3.6, 2.6, 1.4, 2.6]) == area(BOX)
    assert area([1.6, 1.6, 3.4, 1.6, 3.4, 2.4, 1.6, 2.4]) == []
    # A middle on an edge is of one side only: of two boxes side by side, each pixel is in one.
    left = segmentation_mask([[0, 0, 2.5, 0, 2.5, 5, 0, 5]], 5, 6)
    right = segmentation_mask([[2.5, 0, 6, 0, 6, 5, 2.5, 5]], 5, 6)
    assert not (left & right).any()
    assert (left | right).all()
    above = segmentation_mask([[0, 0, 6, 0, 6, 2.5, 0, 2.5]], 5, 6)
    below = segmentation_mask([[0, 2.5, 6, 2.5, 6, 5, 0, 5]], 5, 6)
    assert not (above & below).any()
    assert (above | below).all()


def test_a_slanted_edge_is_where_it_is() -> None:
    mask = segmentation_mask([[0, 0, 8, 0, 0, 4]], 4, 8)
    assert mask.sum(axis=1).tolist() == [7, 5, 3, 1]
    assert mask[:, 0].all()


def test_polygons_join_and_one_that_crosses_itself_is_even_odd() -> None:
    inner = [2, 1, 3, 1, 3, 3, 2, 3]
    assert np.array_equal(segmentation_mask([BOX, inner], 5, 6), segmentation_mask([BOX], 5, 6))
    twice = segmentation_mask([[0, 0, 6, 0, 6, 5, 0, 5, 0, 0, 6, 0, 6, 5, 0, 5]], 5, 6)
    assert not twice.any()


def test_long_outlines_are_filled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.linspace(0, 6, 50)
    blob = np.stack([10 + 8 * np.cos(angles), 9 + 7 * np.sin(angles)], -1).ravel().tolist()
    whole = segmentation_mask([blob], 20, 22)
    for at_once in (1, 60, 140, 980):
        monkeypatch.setattr(segmentations, "_CROSSINGS_AT_ONCE", at_once)
        assert np.array_equal(segmentation_mask([blob], 20, 22), whole)


@pytest.mark.parametrize(
    "written",
    [
        [BOX],
        BOX,
        [[1, 1], [4, 1], [4, 3], [1, 3]],
        [[[1, 1], [4, 1], [4, 3], [1, 3]]],
        [[str(number) for number in BOX]],
        [str(number) for number in BOX],
        [BOX, []],
        [BOX, [1, 1]],
        [BOX, [1, 1, 4, 3]],  # a line
    ],
)
def test_what_can_mean_only_one_polygon_is_that(written: Any) -> None:
    found = tidy_segmentation(written, 5, 6)
    assert found == [BOX]
    assert np.array_equal(segmentation_mask(written, 5, 6), segmentation_mask([BOX], 5, 6))


def test_a_triangle_is_the_least_that_covers_anything() -> None:
    assert tidy_segmentation([[0, 0, 3, 0, 0, 3]], 5, 6) == [[0, 0, 3, 0, 0, 3]]
    assert tidy_segmentation([[0, 0], [3, 0], [0, 3]], 5, 6) == [[0, 0, 3, 0, 0, 3]]
    assert tidy_segmentation([[0, 0], [3, 3]], 5, 6) is None  # two corners, or two points


@pytest.mark.parametrize("nothing", [None, [], [[]], [[1, 2, 3, 4]], [[1, 2], [3, 4]]])
def test_what_covers_no_pixel_is_none(nothing: Any) -> None:
    assert tidy_segmentation(nothing, 5, 6) is None
    assert not segmentation_mask(nothing, 5, 6).any()


@pytest.mark.parametrize(("right", "down"), [(6, 0), (-3, 0), (0, 5), (0, -3)])
def test_an_outline_is_outside_from_the_picture_s_edge_on(right: int, down: int) -> None:
    """The picture is 6 wide and 5 high; the outline 3 by 3."""

    def moved(by: float) -> Any:
        x = right + math.copysign(by, by * right) * bool(right)
        y = down + math.copysign(by, by * down) * bool(down)
        return [[x, y, x + 3, y, x + 3, y + 3, x, y + 3]]

    assert tidy_segmentation(moved(0), 5, 6) is None
    assert tidy_segmentation(moved(-0.5), 5, 6) is not None
    # The size of the picture is not known: only what lies left of it or above is outside.
    assert (tidy_segmentation(moved(0), 0, 0) is None) == (right < 0 or down < 0)
    # One of several is enough.
    assert tidy_segmentation([*moved(0), BOX], 5, 6) is not None
    assert tidy_segmentation([BOX, *moved(0)], 5, 6) is not None


@pytest.mark.parametrize("number", [1e9, -1e9, float("inf"), float("nan"), 10**400, 1e308])
def test_a_corner_that_is_nowhere_is_refused(number: float) -> None:
    for polygon in ([0, 0, 1, number, 2, 2], [0, 0, number, 1, 2, 2]):
        with pytest.raises(MasqclipError, match="corner"):
            tidy_segmentation([polygon], 5, 6)


def test_an_outline_is_measured_before_it_is_drawn() -> None:
    """At most a hundred million pixels, of all polygons together."""
    most = [0, 0, 2.5e7, 0, 2.5e7, 2.5e7, 0, 2.5e7]
    assert tidy_segmentation([most], 5, 6) is not None
    with pytest.raises(MasqclipError, match="pixels long"):
        tidy_segmentation([most, [0, 0, 9, 0, 9, 9]], 5, 6)
    with pytest.raises(MasqclipError, match="pixels long"):
        tidy_segmentation([[0, 0, 2.5e7, 0, 2.5e7, 2.5e7, 0, 2.5e7 + 1]], 5, 6)
    less = [0, 0, 6e6, 0, 6e6, 6e6, 0, 6e6]
    assert tidy_segmentation([less, less], 5, 6) is not None
    with pytest.raises(MasqclipError, match="pixels long"):
        tidy_segmentation([less, less, less], 5, 6)
    # Many corners along a long edge: the quick bound is too large, the outline is not.
    edge = np.linspace(0, 1e7, 50)
    long = np.stack([edge, edge % 2], -1).ravel().tolist()
    assert tidy_segmentation([long], 5, 6) is not None


RLE = encode_rle(np.eye(3, dtype=bool))


@pytest.mark.parametrize(
    "written",
    [
        RLE,
        {"size": [3, 3], "counts": [0, 1, 3, 1, 3, 1]},
        {"size": [3.0, "3"], "counts": ["0", 1.0, 3, 1, 3, 1]},
        RLE | {"extra": 1},
    ],
)
def test_runs_are_read_however_they_are_written(written: dict[str, Any]) -> None:
    assert np.array_equal(segmentation_mask(written, 3, 3), np.eye(3, dtype=bool))
    found = tidy_segmentation(written, 3, 3)
    assert isinstance(found, dict)
    assert found.keys() == {"size", "counts"}
    assert all(type(side) is int for side in found["size"])
    assert tidy_segmentation(written, 0, 0) is not None  # a picture of unknown size
    for height, width in ((3, 4), (4, 3)):
        with pytest.raises(MasqclipError, match="a mask of 3 x 3 pixels"):
            tidy_segmentation(written, height, width)


def test_runs_of_zeros_alone_cover_nothing() -> None:
    assert tidy_segmentation({"size": [2, 2], "counts": [4]}, 2, 2) is None
    assert tidy_segmentation({"size": [2, 2], "counts": [1, 0, 3]}, 2, 2) is None
    assert tidy_segmentation({"size": [2, 2], "counts": [0, 4]}, 2, 2) is not None


@pytest.mark.parametrize(
    ("rle", "said"),
    [
        ({"counts": [4]}, "needs 'size' and 'counts'"),
        ({"size": [2, 2]}, "needs 'size' and 'counts'"),
        ({"size": [2], "counts": [4]}, "needs 'size' and 'counts'"),
        ({"size": [float("inf"), 2], "counts": [4]}, "needs 'size' and 'counts'"),
        ({"size": [2, 2], "counts": None}, "give a string or a list"),
        ({"size": [0, 2], "counts": []}, "has the size 0 x 2"),
        ({"size": [-1, -1], "counts": [1]}, "has the size -1 x -1"),
        ({"size": [2, 2], "counts": [0.5, 3.5]}, "no whole numbers"),
        ({"size": [2, 2], "counts": [None]}, "no whole numbers"),
        ({"size": [2, 2], "counts": [float("nan")]}, "no whole numbers"),
        ({"size": [2, 2], "counts": [3]}, "needs 4 pixels"),
    ],
)
def test_runs_that_mean_nothing_are_refused(rle: dict[str, Any], said: str) -> None:
    with pytest.raises(MasqclipError, match=said):
        tidy_segmentation(rle, 0, 0)


def test_runs_are_of_two_thousand_million_pixels_at_most() -> None:
    side = 1 << 15
    most = {"size": [2 * side, side], "counts": [0, 2 * side * side]}
    assert tidy_segmentation(most, 0, 0) is not None
    more = {"size": [2 * side, side + 1], "counts": [0, 2 * side * (side + 1)]}
    with pytest.raises(MasqclipError, match="has the size 65536 x 32769"):
        tidy_segmentation(more, 0, 0)


@pytest.mark.parametrize(
    "polygons",
    [
        "1 2 3 4 5 6", 7, [[1, 2, 3, 4, 5]], [[True, 1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, None]],
        [["a", 1, 2, 3, 4, 5]], [BOX, "x"], [[[1, 2], [3, 4], [5, 6, 7]]], [True, 1, 2, 3, 4, 5],
        {1, 2},
    ],
)  # fmt: skip
def test_polygons_that_mean_nothing_are_refused(polygons: Any) -> None:
    with pytest.raises(MasqclipError):
        tidy_segmentation(polygons, 0, 0)
