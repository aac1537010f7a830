"""Maps of labels and segments: read as they are, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data.label_maps import read_labels, read_segment_ids
from masqclip.errors import MasqclipError


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        (np.array([[0, 255]], np.uint8), "png"),
        (np.array([[0, 65_535]], np.uint16), "png"),
        (np.array([[0, 700]], np.int32), "tif"),
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
