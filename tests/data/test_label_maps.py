"""Maps of labels and segments: read as they are, or refused."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data import label_maps
from masqclip.data.label_maps import (
    ids_to_rgb,
    png_bytes,
    read_labels,
    read_panoptic_map,
    read_segment_ids,
    rgb_to_ids,
)
from masqclip.errors import MasqclipError


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        (np.array([[0, 255]], np.uint8), "png"),
        (np.array([[0, 65_535]], np.uint16), "png"),
        (np.array([[0, 65_535]], np.int32), "tif"),
        (np.array([[0.0, 3.0]], np.float32), "tif"),
    ],
)
def test_labels_are_read_as_they_are(tmp_path: Path, values: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"labels.{suffix}"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_labels(path), values)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, -1]], np.int32),  # would count from the end of the classes
        np.array([[0, 65_536]], np.int32),
        np.array([[0, 2**31 - 1]], np.int32),  # would ask for gigabytes
        np.array([[0.0, 1.5]], np.float32),
        np.array([[0.0, np.nan]], np.float32),
        np.array([[0.0, 1e30]], np.float32),
    ],
)
def test_other_numbers_are_no_labels(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "labels.tif")
    with pytest.raises(MasqclipError, match=r"labels\.tif holds other values"):
        read_labels(tmp_path / "labels.tif")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1"])
def test_a_map_without_three_colours_is_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "map.png")
    with pytest.raises(MasqclipError, match=r"map\.png is greyscale"):
        read_segment_ids(tmp_path / "map.png")


def test_an_id_is_r_and_256_g_and_65536_b() -> None:
    ids = np.array([[0, 1, 255, 256], [65_535, 65_536, 70_000, (1 << 24) - 1]])
    colours = [[0, 0, 0], [1, 0, 0], [255, 0, 0], [0, 1, 0],
               [255, 255, 0], [0, 0, 1], [112, 17, 1], [255, 255, 255]]  # fmt: skip
    assert ids_to_rgb(ids).reshape(-1, 3).tolist() == colours
    found = rgb_to_ids(ids_to_rgb(ids))
    assert np.array_equal(found, ids)
    assert (ids_to_rgb(ids).dtype, found.dtype) == (np.uint8, np.int32)


def test_a_map_may_have_an_alpha_channel_that_does_not_count(tmp_path: Path) -> None:
    ids = np.array([[1, 70_000]])
    colours = np.concatenate([ids_to_rgb(ids), np.full((1, 2, 1), 9, np.uint8)], axis=2)
    Image.fromarray(colours).save(tmp_path / "map.png")
    assert np.array_equal(read_segment_ids(tmp_path / "map.png"), ids)


def test_a_palette_of_labels_is_its_numbers_and_colours_are_none(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 2]], np.uint8), "P")
    picture.putpalette([9, 8, 7] * 3)
    picture.save(tmp_path / "labels.png")
    assert read_labels(tmp_path / "labels.png").tolist() == [[0, 2]]
    Image.new("RGB", (2, 1)).save(tmp_path / "labels.png")
    with pytest.raises(MasqclipError, match="is a colour picture"):
        read_labels(tmp_path / "labels.png")


def test_the_void_of_a_map_is_no_segment(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.write_bytes(png_bytes(ids_to_rgb(np.array([[0, 5], [7, 7]]))))
    ids, present = read_panoptic_map(path, [{"id": 5}, {"id": 7}, {"id": 9}], (2, 2))
    assert ids.tolist() == [[0, 5], [7, 7]]
    assert present == {5, 7}
    with pytest.raises(MasqclipError, match="holds the segment 5, which"):  # the first of both
        read_panoptic_map(path, [], (2, 2))
    with pytest.raises(MasqclipError, match=r"is 2 x 2 pixels .* picture 2 x 3: they must"):
        read_panoptic_map(path, [{"id": 5}, {"id": 7}], (2, 3))


def test_the_largest_map_is_read_and_a_larger_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_maps, "MAX_PIXELS", 12)
    (tmp_path / "map.png").write_bytes(png_bytes(np.zeros((3, 4), np.uint8)))
    assert read_labels(tmp_path / "map.png").shape == (3, 4)
    (tmp_path / "map.png").write_bytes(png_bytes(Image.new("L", (4, 4))))
    with pytest.raises(MasqclipError, match="more than 12 pixels"):
        read_labels(tmp_path / "map.png")


def test_a_map_that_is_no_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="is missing"):
        read_labels(tmp_path / "map.png")
    os.mkfifo(tmp_path / "map.png")
    with pytest.raises(MasqclipError, match="is not a regular file"):
        read_labels(tmp_path / "map.png")


def test_a_png_is_what_it_was_made_of() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for given in (pixels, Image.fromarray(pixels)):
        with Image.open(io.BytesIO(png_bytes(given))) as read:
            assert read.format == "PNG"
            assert np.array_equal(np.asarray(read), pixels)
