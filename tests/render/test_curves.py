"""Curves: a panel for each series, whatever the numbers are."""

from __future__ import annotations

import numpy as np
import pytest

from masqclip.errors import MasqclipError
from masqclip.render.curves import _ticks, draw_curves
from masqclip.render.palette import name_colour


def test_a_panel_for_each_series_and_the_line_in_it() -> None:
    falling = [(step, 1 / step) for step in range(1, 50)]
    one = draw_curves({"loss": falling})
    three = draw_curves({"loss": falling, "mask": falling, "dice": falling})
    assert three.size == (2 * one.width, 2 * one.height)
    drawn = (np.asarray(one) == name_colour("loss")).all(-1)
    rows, columns = np.nonzero(drawn)
    assert rows[columns.argmin()] < rows[columns.argmax()]  # it begins high and ends low


@pytest.mark.parametrize(
    "points", [[], [(3, 1.0)], [(1, 0.0), (2, 0.0)], [(1, float("nan")), (2, 1e9), (9, -1e-9)]]
)
def test_odd_series_are_drawn(points: list[tuple[float, float]]) -> None:
    assert draw_curves({"odd": points}).width > 0


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 977.0), (1e-7, 2e-7), (5.0, 5.0)])
def test_ticks_are_few_and_enclose_the_range(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 7


def test_nothing_to_draw() -> None:
    with pytest.raises(MasqclipError, match="no curves"):
        draw_curves({})
