"""Arrays and tensors: what is a picture, and what is a mistake."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from masqclip.data.images import read_image
from pictures import noise, refusal


@pytest.mark.parametrize("channels", [None, 1])
def test_grey_arrays(channels: int | None) -> None:
    grey = noise()[:, :, 0]
    loaded = read_image(grey if channels is None else grey[:, :, None])
    np.testing.assert_array_equal(loaded.pixels, np.dstack([grey] * 3))


def test_types_of_arrays() -> None:
    values = np.array([[0.0, 0.5, 1.0]])
    for kind in (np.float16, np.float32, np.float64):
        assert read_image(values.astype(kind)).pixels[0, :, 0].tolist() == [0, 128, 255]
    assert read_image(values > 0.4).pixels[0, :, 0].tolist() == [0, 255, 255]
    sixteen = read_image((values * 65535).astype(np.uint16))
    assert sixteen.pixels[0, :, 0].tolist() == [0, 127, 255]
    assert "16-bit" in sixteen.notes[0]


def test_rounding_beyond_one_is_forgiven() -> None:
    assert read_image(np.array([[-1e-6, 1 + 1e-6]])).pixels[0, :, 0].tolist() == [0, 255]


def test_an_array_is_copied_and_may_be_a_view() -> None:
    array = noise()
    loaded = read_image(array[:, ::-1])
    np.testing.assert_array_equal(loaded.pixels, array[:, ::-1])
    assert loaded.pixels.flags.c_contiguous
    assert loaded.pixels.flags.writeable
    whole = read_image(array)
    array[:] = 0
    assert whole.pixels.any()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 40, 50), np.uint8), "channels first"),
        (np.zeros((1, 40, 50), np.float32), "channels first"),
        (np.zeros((2, 40, 50, 3), np.uint8), "batch"),
        (np.zeros((40, 50, 2), np.uint8), "not a picture"),
        (np.zeros(7, np.uint8), "not a picture"),
        (np.zeros((0, 5, 3), np.uint8), "nothing in it"),
        (np.zeros((4, 5), np.int64), "int64"),
        (np.zeros((4, 5), np.complex64), "complex64"),
        (np.array([["a"]]), "not read"),
        (np.array([[0.0, np.nan]]), "NaN"),
        (np.array([[0.0, np.inf]]), "NaN"),
        (np.array([[0.0, 255.0]]), "divide by 255"),
        (np.array([[-2.1, 2.6]]), "normalised"),
    ],
)
def test_arrays_that_are_mistakes(array: np.ndarray, said: str) -> None:
    assert said in refusal(array)


def test_nan_in_a_float_picture() -> None:
    assert "NaN" in refusal(Image.fromarray(np.array([[np.nan]], dtype=np.float32)))


@pytest.mark.parametrize("source", [None, 7, [1, 2], {"a": 1}])
def test_things_that_are_no_source(source: object) -> None:
    assert "give a path" in refusal(source)


# Tensors


def test_tensors_of_either_layout() -> None:
    array = noise()
    last = torch.from_numpy(array)
    first = last.permute(2, 0, 1)
    floats = first.float() / 255
    for tensor in (last, first, floats, floats.double(), floats.requires_grad_()):
        np.testing.assert_array_equal(read_image(tensor).pixels, array)
    half = read_image(floats.bfloat16()).pixels
    assert np.abs(half.astype(int) - array).max() <= 1
    assert read_image(last[:, :, 0]).pixels.shape == (24, 32, 3)
    assert read_image(first[:1]).pixels.shape == (24, 32, 3)


def test_tensors_that_are_mistakes() -> None:
    assert "batch" in refusal(torch.zeros(2, 3, 8, 8))
    assert "not a picture" in refusal(torch.zeros(5, 8, 8))
    assert "normalised" in refusal(torch.randn(3, 8, 8) - 3)
    assert "int64" in refusal(torch.zeros(3, 8, 8, dtype=torch.int64))
