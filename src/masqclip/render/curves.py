"""Curves over the steps of a run, one panel each, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from masqclip.errors import MasqclipError
from masqclip.render.palette import name_colour

_PAPER, _INK, _GRID = (255, 255, 255), (40, 40, 48), (226, 226, 230)
_WIDTH, _HEIGHT = 460, 280
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 34, 16, 30


def draw_curves(series: Mapping[str, Sequence[tuple[float, float]]]) -> Image.Image:
    """Draw each series of (step, value) in a panel of its own.

    Args:
        series: by name; steps ascend, values that are not finite are left out.

    Returns:
        An RGB picture, two panels a row.

    Raises:
        MasqclipError: there is no series.
    """
    if not series:
        raise MasqclipError("there are no curves to draw")
    columns = min(2, len(series))
    rows = math.ceil(len(series) / columns)
    page = Image.new("RGB", (columns * _WIDTH, rows * _HEIGHT), _PAPER)
    for number, (name, points) in enumerate(series.items()):
        finite = [(x, y) for x, y in points if math.isfinite(y)]
        panel = _panel(name, finite)
        page.paste(panel, (number % columns * _WIDTH, number // columns * _HEIGHT))
    return page


def _panel(name: str, points: Sequence[tuple[float, float]]) -> Image.Image:
    panel = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw = ImageDraw.Draw(panel)
    heading, font = ImageFont.load_default(15), ImageFont.load_default(12)
    title = f"{name}: {points[-1][1]:.4g}" if points else name
    draw.text((_LEFT, 9), title, _INK, heading)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    if points:
        across = _ticks(points[0][0], points[-1][0])
        upward = _ticks(min(y for _, y in points), max(y for _, y in points))

        def place(x: float, y: float) -> tuple[float, float]:
            return (
                _LEFT + (right - _LEFT) * (x - across[0]) / (across[-1] - across[0]),
                bottom - (bottom - _TOP) * (y - upward[0]) / (upward[-1] - upward[0]),
            )

        for value in upward:
            y = place(across[0], value)[1]
            draw.line([(_LEFT, y), (right, y)], _GRID)
            draw.text((_LEFT - 6, y), f"{value:.4g}", _INK, font, anchor="rm")
        for value in across:
            x = place(value, upward[0])[0]
            draw.text((x, bottom + 6), f"{value:,.0f}", _INK, font, anchor="mt")
        line = [place(x, y) for x, y in points]
        draw.line(line, name_colour(name), 2, joint="curve")
        x, y = line[-1]
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], name_colour(name))
    draw.line([(_LEFT, _TOP), (_LEFT, bottom), (right, bottom)], _INK)
    return panel


def _ticks(low: float, high: float) -> list[float]:
    """Four or so round numbers that enclose a range."""
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(first, last + 1)]
