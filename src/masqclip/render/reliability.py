"""Plots of a calibration, as SVG: what scores mean, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Bins = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

_SIDE, _LEFT, _TOP = 260, 46, 28
_COLOURS = {"before": "#b2182b", "after": "#2166ac"}


def reliability_svg(sides: Mapping[str, Bins]) -> str:
    """The share that is right against the score, a dot a bin, its area the bin's share.

    Args:
        sides: by name mean scores, shares that are right, and shares of all detections.
    """
    parts = [_line([(0.0, 0.0), (1.0, 1.0)], "#999", dashed=True)]
    for row, (name, (scores, shares, weights)) in enumerate(sides.items()):
        colour = _COLOURS.get(name, "#333")
        parts.append(_line(list(zip(scores.tolist(), shares.tolist(), strict=True)), colour))
        for score, share, weight in zip(scores, shares, weights, strict=True):
            x, y = _place(score, share)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 14 * weight**0.5:.1f}" '
                f'fill="{colour}" fill-opacity="0.5"/>'
            )
        parts.append(
            f'<text x="{_LEFT + 10}" y="{_TOP + 16 + 15 * row}" fill="{colour}">{name}</text>'
        )
    return _page(parts, "score", "share that is right")


def precision_recall_svg(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> str:
    """Precision against recall, from the highest score down."""
    step = max(1, len(recall) // 400)
    points = list(zip(recall[::step].tolist(), precision[::step].tolist(), strict=True))
    return _page([_line(points, _COLOURS["after"])], "recall", "precision")


def _place(x: float, y: float) -> tuple[float, float]:
    return _LEFT + _SIDE * x, _TOP + _SIDE * (1 - y)


def _line(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(*point) for point in points))
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{placed}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>'


def _page(parts: Sequence[str], across: str, up: str) -> str:
    width, height = _LEFT + _SIDE + 20, _TOP + _SIDE + 44
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" '
        'stroke="#ccc"/>',
    ]
    for tick in (0.0, 0.5, 1.0):
        x, y = _place(tick, tick)
        lines.append(
            f'<text x="{x:.0f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{tick:g}</text>'
        )
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>')
    middle = _LEFT + _SIDE / 2
    lines.append(f'<text x="{middle:.0f}" y="{height - 8}" text-anchor="middle">{across}</text>')
    lines.append(f'<text x="6" y="16">{up}</text>')
    return "\n".join([*lines, *parts, "</svg>"]) + "\n"
