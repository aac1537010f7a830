"""YOLO's text files hold the same masks."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from masqclip.data.images import MAX_SIDE
from masqclip.data.stickers.sprites import load_sprites
from masqclip.export import yolo
from masqclip.export.polygons import mask_polygons
from masqclip.export.yolo import (
    HEAD_BYTES,
    PIXEL_TOLERANCE,
    data_yaml,
    join_polygons,
    trainer_suffix,
    yolo_line,
)

SPRITES = Path(__file__).parents[1] / "data" / "sprites"


READERS = ["cuts off", "cuts off, after it added points", "rounds"]


def draw(line: str, shape: tuple[int, int], reader: str = READERS[0]) -> np.ndarray:
    """The polygon of a line, inside and outline, as trainers draw it.

    Ultralytics' reader has shares in 32 bits, adds points between the corners while it loads, and
    cuts the fractions of pixels off before it fills. Supervision's rounds them.
    """
    points = np.array(line.split()[1:], np.float32).reshape(-1, 2) * np.float32(shape[::-1])
    if reader == READERS[1]:
        closed = np.concatenate([points, points[:1]])
        at = np.linspace(0, len(points), max(1000, len(points) + 1))
        places = np.arange(len(closed))
        points = np.stack([np.interp(at, places, axis) for axis in closed.T], axis=1)
    if reader == READERS[2]:
        points = points.round()
    corners = points.astype(np.float32).astype(np.int32)
    canvas = Image.new("1", shape[::-1])
    ImageDraw.Draw(canvas).polygon([tuple(c) for c in corners.tolist()], fill=1, outline=1)
    return np.asarray(canvas)


def test_a_line_is_the_class_and_shares_of_the_picture() -> None:
    mask = np.zeros((10, 20), bool)
    mask[5:10, 10:15] = True
    number, *shares = yolo_line(mask, 3).split()  # type: ignore[union-attr]
    assert number == "3"
    points = np.array(shares, float).reshape(-1, 2) * (20, 10)
    centres = [[10.5, 5.5], [10.5, 9.5], [14.5, 5.5], [14.5, 9.5]]
    assert np.allclose(sorted(points.tolist()), centres, rtol=0, atol=0.021)
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


@pytest.mark.parametrize("reader", READERS)
def test_real_masks_are_drawn_as_they_are(reader: str) -> None:
    alpha = load_sprites(SPRITES).pixels[::7, 3] > 127
    overlaps = []
    for mask in alpha:
        line = yolo_line(mask, 0)
        assert line is not None
        drawn = draw(line, mask.shape, reader)
        overlaps.append((drawn & mask).sum() / (drawn | mask).sum())
    assert min(overlaps) > 0.97
    assert np.mean(overlaps) > 0.99


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("side", [37, 333, 1333, MAX_SIDE])
def test_no_pixel_falls_to_its_neighbour(side: int, reader: str) -> None:
    """A share in six digits, times the size, becomes the pixel that it came from."""
    mask = np.zeros((1, side), bool)
    for x in range(0, side, max(1, side // 97)):
        mask[:] = False
        mask[0, x] = True
        assert np.array_equal(draw(str(yolo_line(mask, 0)), mask.shape, reader), mask)


def test_a_seam_goes_to_the_nearest_corner_and_back() -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
    joined = join_polygons([square, square + np.array([5, 0])])
    assert joined.tolist() == [
        [0, 0], [2, 0], [5, 0], [7, 0], [7, 2], [5, 2], [5, 0], [2, 0], [2, 2], [0, 2]
    ]  # fmt: skip


def seams_length(polygons: list[np.ndarray]) -> float:
    """Of the shortest seams: each polygon is compared with all before it."""
    total, before = 0.0, polygons[0]
    for polygon in polygons[1:]:
        total += float(np.linalg.norm(before[:, None] - polygon, axis=-1).min())
        before = np.concatenate([before, polygon])
    return total


def ring_length(ring: np.ndarray) -> float:
    return float(np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1).sum())


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_many_polygons_are_joined_by_the_shortest_seams(share: float) -> None:
    mask = np.random.default_rng(0).random((90, 90)) < share
    polygons = mask_polygons(mask, outline="pixels", holes=True)
    joined = join_polygons(polygons)
    rings = sum(map(ring_length, polygons))
    assert ring_length(joined) == pytest.approx(rings + 2 * seams_length(polygons))
    assert len(joined) == sum(map(len, polygons)) + 2 * (len(polygons) - 1)


def test_the_work_grows_little_faster_than_the_number_of_polygons() -> None:
    def seconds(rings: int) -> float:
        corners = np.random.default_rng(rings).random((rings, 1, 2)) * 10_000
        polygons = list(corners + np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float))
        began = process_time()
        join_polygons(polygons)
        return process_time() - began

    seconds(100)  # imports
    assert min(seconds(4000) for _ in range(2)) < 30 * max(seconds(500) for _ in range(3))


def test_names_are_quoted() -> None:
    names = ["cat", 'a "big" dog: brown', "no", "\u00e9toile", "#1"]
    document = yaml.safe_load(data_yaml(names, train="images/train", val="images/val"))
    assert document == {
        "train": "images/train", "val": "images/val", "names": dict(enumerate(names))
    }  # fmt: skip


HEADS = {
    b"\xff\xd8\xff\xe0": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"RIFF\n\0\0\nWEBP": ".webp",
    b"BM12": ".bmp",
    b"II*\0": ".tif",
    b"II+\0": ".tif",
    b"MM\0*": ".tif",
    b"MM\0+": ".tif",
}


@pytest.mark.parametrize(("head", "usual"), HEADS.items())
def test_trainers_open_pictures_by_their_suffix_and_look_into_them(head: bytes, usual: str) -> None:
    assert len(b"RIFF....WEBP") == HEAD_BYTES
    for kept in (".jpg", ".JPEG", ".png", ".webp", ".bmp", ".tif", ".tiff"):
        assert trainer_suffix(kept, head) == kept.lower()
    for unknown in ("", ".gif", ".mpo", ".jpe", ".ti"):
        assert trainer_suffix(unknown, head) == usual
    for before in (b"x", b"\0"):
        assert trainer_suffix(".jpg", before + head) is None
    assert trainer_suffix(".jpg", head[:1]) is None
    assert trainer_suffix(".gif", b"GIF89a") is None


def test_a_line_has_six_digits_and_little_is_moved() -> None:
    assert PIXEL_TOLERANCE == 0.35
    mask = np.zeros((10, 20), bool)
    mask[2, 3] = True
    assert yolo_line(mask, 12) == "12 " + " ".join(["0.174000 0.248000"] * 3)
    circle = np.hypot(*(np.indices((60, 60)) - 30)) < 25
    assert len(str(yolo_line(circle, 0, tolerance=0))) > len(str(yolo_line(circle, 0)))
    assert len(str(yolo_line(circle, 0))) > len(str(yolo_line(circle, 0, tolerance=2)))
    assert yolo_line(circle, 0) == yolo_line(circle, 0, tolerance=0.35)


@pytest.mark.parametrize("few", [0, 4, 30, 1 << 20])
def test_nearest_corners_are_found_in_halves_as_in_the_whole(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(0)
    polygons = [chance.random((int(n), 2)) * 4 + chance.random(2) * 40 for n in (3, 9, 4, 4, 7, 3)]
    monkeypatch.setattr(yolo, "_FEW_POINTS", few)
    starts = np.cumsum([0, *map(len, polygons)])
    points = np.concatenate(polygons)
    seams = list(yolo._nearest_corners(points, starts))
    assert len(seams) == len(polygons) - 1
    for number, (here, there) in enumerate(seams, start=1):
        begin, end = starts[number], starts[number + 1]
        assert 0 <= here < begin <= there < end
        distances = np.linalg.norm(points[:begin, None] - points[begin:end], axis=-1)
        assert np.linalg.norm(points[here] - points[there]) == pytest.approx(distances.min())


def test_a_name_is_written_so_that_any_reader_of_yaml_takes_it() -> None:
    document = data_yaml(["a\x7f\x85b", "\u00e9"], train="t", val="v")
    assert document == 'train: t\nval: v\nnames:\n  0: "a\\u007f\\u0085b"\n  1: "\u00e9"\n'
