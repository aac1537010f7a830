"""The poster's tables out of measured figures: means, spreads, orders against the paper's, plots.

Figures are shares, tables percent. A spread is the standard deviation over seeds; two systems are
compared seed by seed, and their order counts as shown where the mean difference is larger than the
spread of the differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Cells = Mapping[str, Sequence[Mapping[str, float]]]  # by row, for each seed its figures


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        name: what it is kept as.
        title: what stands above it.
        columns: for each figure what it is called.
        paper: for each row the paper's figures, in percent, None where it has none.
        orders: for each column pairs of rows, the lower by the paper's figures first.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    paper: Mapping[str, Mapping[str, float | None]]
    orders: Mapping[str, Sequence[tuple[str, str]]]


_INSTANCES = {"base": "base", "novel": "novel", "all": "all"}
_WORDS = {"150": "150 names", "644": "644 names", "59": "59 names", "459": "459 names"}
_PANOPTIC = {"PQ": "PQ", "things": "PQ things", "stuff": "PQ stuff"}


def _row(columns: Sequence[str], *values: float | None) -> dict[str, float | None]:
    return dict(zip(columns, values, strict=True))


def _rising(*rows: str) -> tuple[tuple[str, str], ...]:
    return tuple(pairwise(rows))


_AT_HOME = {"trained mIoU": "known studio"}
_FIRST = [*_INSTANCES, *_WORDS, *_PANOPTIC, *_AT_HOME]
_SEMANTIC = _rising("LSeg+", "OpenSeg", "MaskCLIP", "MasQCLIP")
_ONE_PAIR = _rising("XPM", "MasQCLIP")

POSTER = Table(
    "poster",
    "The poster's table: instances AP50 (all names compete), mIoU on four vocabularies, PQ",
    _INSTANCES | _WORDS | _PANOPTIC | _AT_HOME,
    {
        "XPM": _row(_FIRST, 41.5, 21.6, 36.3, *[None] * 8),
        "LSeg+": _row(_FIRST, *[None] * 3, 18.0, 3.8, 46.5, 7.8, *[None] * 4),
        "OpenSeg": _row(_FIRST, *[None] * 3, 21.1, 6.3, 42.1, 9.0, *[None] * 4),
        "OpenSeg, more captions": _row(_FIRST, *[None] * 11),
        "MaskCLIP": _row(_FIRST, *[None] * 3, 23.7, 8.2, 45.9, 10.0, 15.1, 13.5, 18.3, None),
        "MasQCLIP": _row(_FIRST, 51.0, 31.9, 46.0, 30.4, 10.7, 57.8, 18.2, 23.3, 21.2, 27.7, None),
    },
    {
        **dict.fromkeys(_INSTANCES, _ONE_PAIR),
        **dict.fromkeys(("150", "644", "459"), _SEMANTIC),
        "59": (
            ("OpenSeg", "LSeg+"),
            ("MaskCLIP", "LSeg+"),
            *_rising("OpenSeg", "MaskCLIP", "MasQCLIP"),
        ),
        **dict.fromkeys(_PANOPTIC, _rising("MaskCLIP", "MasQCLIP")),
    },
)
CONSTRAINED = Table(
    "constrained",
    "Table 2: instances AP50, only the names of one split compete",
    {"base": "base", "novel": "novel"},
    {"XPM": {"base": 42.4, "novel": 24.0}, "MasQCLIP": {"base": 51.2, "novel": 34.3}},
    dict.fromkeys(("base", "novel"), _ONE_PAIR),
)
OBJECT_SCORE = Table(
    "object score",
    "Table 3: the object score",
    _INSTANCES,
    {
        "without": {"base": 16.9, "novel": 11.3, "all": 15.4},
        "with": {"base": 53.8, "novel": 22.6, "all": 45.6},
    },
    dict.fromkeys(_INSTANCES, _rising("without", "with")),
)
DISTILLATION = Table(
    "distillation",
    "Table 4: progressive distillation",
    _INSTANCES,
    {
        "teacher": {"base": 53.8, "novel": 22.6, "all": 45.6},
        "one round": {"base": 50.6, "novel": 26.1, "all": 44.2},
        "two rounds": {"base": 51.0, "novel": 31.9, "all": 46.0},
        "three rounds": {"base": 51.2, "novel": 31.2, "all": 46.0},
        "longer teacher": {"base": 54.7, "novel": 18.2, "all": 45.1},
    },
    {
        "novel": (
            *_rising("longer teacher", "teacher", "one round", "two rounds"),
            ("teacher", "two rounds"),
            ("longer teacher", "two rounds"),  # after as many steps
        )
    },
)
_TAUGHT = ("V", "Q, K and V", "all of CLIP")
_TUNED = ("PQ", "150", "trained PQ", "trained mIoU")
TUNED = Table(
    "tuned",
    "Table 5: what is tuned",
    {
        "PQ": "strangers' PQ",
        "150": "strangers' mIoU",
        "trained PQ": "trained PQ",
        "trained mIoU": "trained mIoU",
    },
    {
        "nothing": _row(_TUNED, 10.7, 15.7, 19.4, 22.1),
        "V": _row(_TUNED, 14.4, 18.0, 50.0, 63.2),
        "Q, K and V": _row(_TUNED, 14.9, 18.6, 50.5, 63.5),
        "all of CLIP": _row(_TUNED, 14.7, 18.3, 49.0, 63.6),
        "K": _row(_TUNED, 22.5, 29.8, 48.3, 61.6),
        "Q and K": _row(_TUNED, 22.9, 30.1, 49.0, 62.3),
        "Q": _row(_TUNED, 23.3, 30.4, 48.5, 62.0),
    },
    {
        **dict.fromkeys(
            ("PQ", "150"), tuple((row, "Q") for row in ("nothing", *_TAUGHT, "K", "Q and K"))
        ),
        **dict.fromkeys(
            ("trained PQ", "trained mIoU"), (("nothing", "Q"), *(("Q", row) for row in _TAUGHT))
        ),
    },
)
TABLES = {t.name: t for t in (POSTER, CONSTRAINED, OBJECT_SCORE, DISTILLATION, TUNED)}
LEARNED_NAMES = {
    "nothing": "nothing",
    "v": "V",
    "qkv": "Q, K and V",
    "clip": "all of CLIP",
    "k": "K",
    "qk": "Q and K",
    "q": "Q",
}


def markdown(table: Table, cells: Cells, extra: Mapping[str, Mapping[str, str]]) -> str:
    """A table's means and spreads, the paper's figures in brackets.

    Args:
        table: which.
        cells: measured.
        extra: more columns, by their names, a text a row.
    """
    heads = [*table.columns.values(), *extra]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for row, runs in cells.items():
        paper = table.paper.get(row, {})
        shown = [_cell(runs, column, paper.get(column)) for column in table.columns]
        shown += [texts.get(row, "-") for texts in extra.values()]
        lines.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _cell(runs: Sequence[Mapping[str, float]], column: str, paper: float | None) -> str:
    values = _values(runs, column)
    beside = "" if paper is None else f" ({paper:.1f})"
    return "-" if values is None else f"{mean_and_spread(values)}{beside}"


def _values(runs: Sequence[Mapping[str, float]], column: str) -> np.ndarray | None:
    found = [run.get(column) for run in runs]
    if not found or any(value is None for value in found):
        return None
    return 100 * np.array(found, float)


def mean_and_spread(values: np.ndarray) -> str:
    """``51.2 ± 0.4``; of a single seed, which has no spread, ``51.2``."""
    mean = f"{values.mean():.1f}"
    return f"{mean} ± {deviation(values):.1f}" if len(values) > 1 else mean


def deviation(values: np.ndarray) -> float:
    """Standard deviation over seeds; 0 of a single one."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Step:
    """Two rows in the paper's order, in one column.

    Attributes:
        column, lower, higher: which.
        gain: mean difference over seeds, in points.
        spread: the standard deviation of the differences.
        seeds: of how many.
    """

    column: str
    lower: str
    higher: str
    gain: float
    spread: float
    seeds: int

    @property
    def verdict(self) -> str:
        """Whether the order shows."""
        if self.seeds < 2:
            return "one seed only"
        if self.gain > self.spread:
            return "as in the paper"
        return "the other way" if -self.gain > self.spread else "within the spread"


def steps(table: Table, cells: Cells) -> list[Step]:
    """The paper's orders, pair by pair, as they were measured."""
    found = []
    for column, pairs in table.orders.items():
        for lower, higher in pairs:
            below, above = (_values(cells.get(row, ()), column) for row in (lower, higher))
            if below is not None and above is not None:
                gains = above - below
                mean, spread = float(gains.mean()), deviation(gains)
                found.append(Step(column, lower, higher, mean, spread, len(gains)))
    return found


def orders(table: Table, cells: Cells) -> str:
    """The steps as Markdown."""
    lines = ["| column | order | gain | |", "| --- | --- | ---: | --- |"]
    for step in steps(table, cells):
        spread = f" ± {step.spread:.1f}" if step.seeds > 1 else ""
        lines.append(
            f"| {table.columns[step.column]} | {step.lower} < {step.higher} "
            f"| {step.gain:+.1f}{spread} | {step.verdict} |"
        )
    return "\n".join(lines)


def gains_plot(cells: Cells) -> str:
    """MasQCLIP's gain over every system in every column, a dot a seed, as SVG."""
    columns, best = POSTER.columns, cells["MasQCLIP"]
    rows = [row for row in cells if row != "MasQCLIP"]
    left, panel, gap, line, top = 180, 84, 14, 24, 40
    width, height = left + len(columns) * (panel + gap), top + line * len(rows) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="8" y="14">Gain of MasQCLIP, points</text>',
    ]
    for number, (column, title) in enumerate(columns.items()):
        x = left + number * (panel + gap)
        parts.append(f'<text x="{x}" y="{top - 10}" font-weight="bold">{title}</text>')
        ours = _values(best, column)
        differences = {
            row: ours - theirs
            for row in rows
            if ours is not None and (theirs := _values(cells[row], column)) is not None
        }
        most = max((np.abs(found).max() for found in differences.values()), default=1.0) or 1.0
        for place, row in enumerate(rows):
            if row not in differences:
                continue
            y, gains = top + place * line, differences[row]
            long = panel * max(0.0, float(gains.mean())) / most
            parts.append(
                f'<rect x="{x}" y="{y}" width="{long:.1f}" height="{line - 8}" fill="#9ecae1"/>'
            )
            parts += [
                f'<circle cx="{x + panel * max(0.0, float(gain)) / most:.1f}" '
                f'cy="{y + (line - 8) / 2}" r="2" fill="#08519c"/>'
                for gain in gains
            ]
            parts.append(f'<text x="{x + 3}" y="{y + line - 12}">{gains.mean():+.1f}</text>')
    parts += [
        f'<text x="{left - 8}" y="{top + place * line + line - 12}" text-anchor="end">{row}</text>'
        for place, row in enumerate(rows)
    ]
    return "\n".join([*parts, "</svg>"])


def curves_plot(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Recall of things against steps of training, a line a seed and split, as SVG.

    Args:
        curves: by what is trained (``teacher``, ``distilled``), points with ``seed``, ``step``,
            ``base`` and ``novel``.
    """
    # A figure that is none, such as the recall of what no scene shows, has no place.
    curves = {
        kind: [p for p in found if p["base"] is not None and p["novel"] is not None]
        for kind, found in curves.items()
    }
    points = [point for found in curves.values() for point in found]
    width, height, left, bottom = 560, 320, 46, 34
    longest = max((point["step"] for point in points), default=1)
    values = [point[split] for point in points for split in ("base", "novel")]
    low, high = min(values, default=0.0) - 0.02, max(values, default=1.0) + 0.02
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="{height - 6}">steps of training, up to {longest}</text>',
        '<text x="4" y="14">AR@100, percent: base blue, novel red; dashed: distilled</text>',
    ]

    def place(point: Mapping[str, Any], split: str) -> str:
        x = left + (width - left - 12) * point["step"] / longest
        y = 24 + (height - 24 - bottom) * (1 - (point[split] - low) / (high - low))
        return f"{x:.1f},{y:.1f}"

    for share in (0.0, 0.5, 1.0):
        y = 24 + (height - 24 - bottom) * (1 - share)
        parts.append(f'<text x="4" y="{y + 4:.0f}">{100 * (low + share * (high - low)):.0f}</text>')
        parts.append(f'<path d="M{left},{y:.1f} H{width - 12}" stroke="#ddd"/>')
    for kind, found in curves.items():
        dash = ' stroke-dasharray="4 3"' if kind == "distilled" else ""
        for seed in sorted({point["seed"] for point in found}):
            mine = sorted((p for p in found if p["seed"] == seed), key=lambda p: p["step"])
            for split, colour in (("base", "#08519c"), ("novel", "#cb181d")):
                line = " ".join(place(point, split) for point in mine)
                parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"{dash}/>')
    return "\n".join([*parts, "</svg>"])
