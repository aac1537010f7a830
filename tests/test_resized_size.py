"""Sizes are resized by the published rule, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from masqclip.configuration import MasQClipConfig
from masqclip.data.frames import resized_size


def published(
    heights: np.ndarray, widths: np.ndarray, short: int, long: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rule as it stands, in double precision and in its order of operations.

    The shorter side becomes `short`; if the longer one is then above `long`, both shrink to fit;
    halves are rounded up.
    """
    scale = short / np.minimum(heights, widths)
    lower = heights < widths
    tall = np.where(lower, float(short), scale * heights)
    wide = np.where(lower, scale * widths, float(short))
    longest = np.maximum(tall, wide)
    shrink = long / longest
    tall = np.where(longest > long, tall * shrink, tall)
    wide = np.where(longest > long, wide * shrink, wide)
    return (tall + 0.5).astype(int), (wide + 0.5).astype(int)


@pytest.mark.parametrize(("short", "long"), [(800, 1333), (640, 2560)])
def test_every_size_of_pictures_is_resized_as_published(short: int, long: int) -> None:
    config = MasQClipConfig(shortest_edge=short, longest_edge=long)
    sides = np.arange(200, 1001)
    heights, widths = (side.ravel() for side in np.meshgrid(sides, sides, indexing="ij"))
    expected = np.stack(published(heights, widths, short, long), axis=1)
    pairs = zip(heights.tolist(), widths.tolist(), strict=True)
    found = np.array([resized_size(height, width, config) for height, width in pairs])
    assert len(found) == 641_601
    wrong = np.flatnonzero((found != expected).any(1))
    assert len(wrong) == 0, (heights[wrong[0]], widths[wrong[0]])


def test_a_half_is_rounded_up() -> None:
    assert resized_size(320, 640, MasQClipConfig()) == (667, 1333)


def test_a_strip_keeps_a_pixel() -> None:
    assert resized_size(1, 4000, MasQClipConfig()) == (1, 1333)
    assert resized_size(4000, 1, MasQClipConfig()) == (1333, 1)
