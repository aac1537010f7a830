"""Polygons drawn again are the masks they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from masqclip.data.stickers.sprites import load_sprites
from masqclip.export.polygons import TOLERANCE, mask_polygons, simplify_ring

SPRITES = Path(__file__).parents[1] / "data" / "sprites"


def draw(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside any of the polygons (by the even-odd rule)."""
    y, x = np.indices(shape) + 0.5
    drawn = np.zeros(shape, bool)
    for polygon in polygons:
        inside = np.zeros(shape, bool)
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y0 != y1:
                crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                inside ^= ((y0 > y) != (y1 > y)) & (x < crossing)
        drawn |= inside
    return drawn


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def sprite_masks() -> list[np.ndarray]:
    """Outlines of real drawings, 64x64 and, where detail is scarce, 32x32."""
    alpha = load_sprites(SPRITES).pixels[::7, 3] > 127
    masks = [*alpha, *alpha[:, ::2, ::2]]
    assert len(masks) > 40
    return masks


def test_a_pixel_is_a_square() -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    (polygon,) = mask_polygons(mask, tolerance=0)
    assert sorted(polygon.tolist()) == [[3, 2], [3, 3], [4, 2], [4, 3]]
    assert len(mask_polygons(mask)[0]) == 4  # too small to simplify
    (pixel,) = mask_polygons(mask, outline="pixels")
    assert pixel.tolist() == [[3, 2]]


def test_the_whole_picture_is_four_corners() -> None:
    (polygon,) = mask_polygons(np.ones((6, 9), bool))
    assert sorted(polygon.tolist()) == [[0, 0], [0, 6], [9, 0], [9, 6]]


def test_nothing_has_no_polygon() -> None:
    assert mask_polygons(np.zeros((4, 4), bool)) == []
    assert mask_polygons(np.zeros((0, 4), bool)) == []


def test_parts_come_largest_first_and_holes_are_filled() -> None:
    mask = np.zeros((20, 30), bool)
    mask[1:3, 1:3] = True
    mask[5:18, 8:28] = True
    mask[8:12, 12:20] = False
    filled = ndimage.binary_fill_holes(mask)
    large, small = mask_polygons(mask, tolerance=0)
    assert len(large) == len(small) == 4
    assert np.array_equal(draw([large, small], mask.shape), filled)
    assert large[:, 0].max() == 28
    *_, hole = mask_polygons(mask, tolerance=0, holes=True)
    assert sorted(hole.tolist()) == [[12, 8], [12, 12], [20, 8], [20, 12]]


def test_pixels_that_touch_at_a_corner_belong_together() -> None:
    for mask in (np.eye(4, dtype=bool), np.eye(4, dtype=bool)[::-1]):
        polygons = mask_polygons(mask, tolerance=0)
        assert len(polygons) == 1
        assert np.array_equal(draw(polygons, mask.shape), mask)


@pytest.mark.parametrize("seed", range(8))
def test_without_tolerance_nothing_is_lost(seed: int) -> None:
    """Noise has every kind of corner; only its holes, and what lies in them, are another thing."""
    mask = np.random.default_rng(seed).random((13, 17)) < (0.2 + 0.08 * seed)
    surrounded = ndimage.binary_fill_holes(mask, np.ones((3, 3)))
    polygons = mask_polygons(mask, tolerance=0)
    # An opening between two pixels that touch at a corner is closed, as they belong together.
    outside, _ = ndimage.label(~np.pad(mask, 1))
    filled = (outside != outside[0, 0])[1:-1, 1:-1]
    assert surrounded[~filled].sum() == 0
    assert np.array_equal(draw(polygons, mask.shape), filled)
    assert len(polygons) == ndimage.label(filled, np.ones((3, 3)))[1]


def test_real_masks_keep_their_pixels() -> None:
    exact, simple, corners, points = [], [], 0, 0
    for mask in sprite_masks():
        filled = ndimage.binary_fill_holes(mask)
        every, fewer = mask_polygons(mask, tolerance=0), mask_polygons(mask)
        exact.append(iou(draw(every, mask.shape), filled))
        simple.append(iou(draw(fewer, mask.shape), filled))
        corners += sum(map(len, every))
        points += sum(map(len, fewer))
        assert all(len(polygon) >= 3 for polygon in fewer)
    assert min(exact) == 1
    assert min(simple) >= 0.9
    assert points < corners / 2


def test_pixel_outlines_are_the_pixels_next_to_the_outside() -> None:
    for mask in sprite_masks():
        filled = ndimage.binary_fill_holes(mask)
        # A pixel inside has the mask on all four sides, the picture's edge counting as outside.
        border = filled & ~ndimage.binary_erosion(filled)
        outlines = mask_polygons(filled, tolerance=0, outline="pixels")
        points = np.concatenate(outlines).astype(int)
        found = np.zeros_like(border)
        found[points[:, 1], points[:, 0]] = True
        assert np.array_equal(found, border)
        for ring in outlines:  # from each to a neighbour
            assert abs(ring - np.roll(ring, 1, axis=0)).max() <= 1


def test_simplification_stays_within_its_tolerance() -> None:
    y, x = np.indices((80, 80))
    mask = (x - 40) ** 2 + (y - 40) ** 2 < 35**2
    (polygon,) = mask_polygons(mask, tolerance=TOLERANCE)
    (contour,) = mask_polygons(mask, tolerance=0)
    assert {tuple(point) for point in polygon} < {tuple(point) for point in contour}
    starts, steps = polygon, np.roll(polygon, -1, axis=0) - polygon
    offsets = contour[:, None] - starts
    along = (offsets * steps).sum(-1) / (steps**2).sum(-1)
    nearest = starts + np.clip(along, 0, 1)[..., None] * steps
    gaps = np.linalg.norm(contour[:, None] - nearest, axis=-1).min(axis=1)
    assert gaps.max() <= TOLERANCE


def test_the_teeth_of_a_comb_are_not_cut_off_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from masqclip.export import polygons

    measured = 0
    distances = polygons._distances

    def counted(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        nonlocal measured
        measured += len(points)
        return distances(points, start, end)

    monkeypatch.setattr(polygons, "_distances", counted)
    mask = np.zeros((12, 4000), bool)
    mask[:3] = mask[:10, ::4] = mask[:10, 1::4] = True
    (comb,) = mask_polygons(mask)
    assert len(comb) > 3000
    assert measured < 40 * 20_000  # of 20,000 points, each so often; it was 750 times


def test_a_point_of_just_the_tolerance_is_left_out() -> None:
    """What lies within it need not be kept, and of a ring no less than three points."""
    ring = np.array([[0, 0], [4, 0], [8, 1], [16, 0], [16, 8], [0, 8]], float)
    without = [[0, 0], [0, 8], [16, 0], [16, 8]]
    assert sorted(simplify_ring(ring, 1.0).tolist()) == without
    kept = simplify_ring(ring, 0.99).tolist()
    assert sorted(kept) == sorted([*without, [8, 1]])
    assert len(simplify_ring(ring, 0.0)) == 6
    assert sorted(simplify_ring(ring, 0.01).tolist()) == sorted(ring.tolist())
    for small in (ring[:3], ring[:2], ring[:1]):
        assert np.array_equal(simplify_ring(small, 100.0), small)
    assert len(simplify_ring(ring, 1e-9)) == 6


def test_a_ring_that_would_shrink_to_a_line_stays() -> None:
    line = np.array([[0, 0], [10, 0], [10, 0.5], [0, 0.5]])
    assert np.array_equal(np.sort(simplify_ring(line, 5.0), axis=0), np.sort(line, axis=0))


def test_a_diagonal_loses_its_stairs() -> None:
    """At the usual tolerance, three quarters of a pixel, which is more than a stair is high."""
    assert TOLERANCE == 0.75
    mask = np.tril(np.ones((30, 30), bool))
    (polygon,) = mask_polygons(mask)
    assert len(polygon) <= 5
    assert len(mask_polygons(mask, tolerance=0.3)[0]) > 30


def test_outer_contours_run_clockwise_and_holes_the_other_way() -> None:
    mask = np.zeros((9, 12), bool)
    mask[1:8, 2:11] = True
    mask[3:5, 4:7] = False
    outer, hole = mask_polygons(mask, tolerance=0, holes=True)
    areas = [
        sum(
            x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True)
        )
        for ring in (outer, hole)
    ]
    assert areas == [2 * 63, -2 * 6]
    assert len(mask_polygons(mask, tolerance=0)) == 1


def test_outlines_of_parts_of_one_and_two_pixels() -> None:
    mask = np.zeros((6, 9), bool)
    mask[1, 1] = mask[4, 5] = mask[4, 6] = True
    pair, single = mask_polygons(mask, outline="pixels")
    assert single.tolist() == [[1, 1]]
    assert sorted(pair.tolist()) == [[5, 4], [6, 4]]
