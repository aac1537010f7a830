"""What is kept of the seeds that are measured to their end, and the tables of them.

    python benchmarks/poster_figures.py docs/poster docs/table.md

A finished seed is one file of figures. Its weights may be gone, and it may come from another
machine: a seed's folder with that file alone counts as done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cyclopts

from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError
from mistakes import mistakes_told
from poster_runs import Setup
from poster_tables import POSTER, TABLES, curves_plot, gains_plot, markdown, orders
from poster_world import read_settings

Figures = dict[str, Any]  # of a finished seed
#: A mark in a page, and the tables below it.
_MARKED = re.compile(r"^(<!-- poster: ([a-z ]+) -->\n)((?:\|.*\n|\n)*)", re.MULTILINE)


def keep_figures(setup: Setup, seed: int, out: Path, figures: Figures) -> None:
    """Write what was measured of a seed, with the settings it was made by."""
    kept = {"made by": read_settings(setup.settings), **figures}
    write_atomically(_figures(out, seed), json.dumps(kept, indent=1).encode())


def _figures(out: Path, seed: int) -> Path:
    return out / f"seed-{seed}" / "figures.json"


def unfinished(setup: Setup, seeds: list[int], out: Path) -> list[int]:
    """The seeds that are not measured to their end.

    Raises:
        MasqclipError: one is, with other settings.
    """
    waiting, settings = [], read_settings(setup.settings)
    for seed in seeds:
        path = _figures(out, seed)
        if not path.exists():
            waiting.append(seed)
        elif json.loads(path.read_text())["made by"] != settings:
            raise MasqclipError(
                f"{path} was measured with other settings: choose another --out, or delete "
                f"{path.parent}"
            )
    return waiting


def write_tables(out: Path, seeds: list[int]) -> str:
    """The tables of all seeds that are done; ``poster.md``, ``poster.json`` and the plots."""
    kept = [
        json.loads(path.read_text()) for seed in seeds if (path := _figures(out, seed)).exists()
    ]
    count = len(kept)
    parts = [f"{count} seed{'' if count == 1 else 's'}; in brackets the paper's figures."]
    for name, text in tables(kept).items():
        parts += [f"## {TABLES[name].title}", text]
    told = "\n\n".join(parts) + "\n"
    content = json.dumps({"cells": _every(kept), "curves": _curves(kept)}, indent=1) + "\n"
    write_atomically(out / "poster.json", content.encode())
    write_atomically(out / "poster.md", told.encode())
    if kept:
        write_plots(out, kept)
    return told


def tables(kept: Sequence[Figures]) -> dict[str, str]:
    """By its name each table as Markdown: means and spreads, and below them the paper's orders."""
    every = _every(kept)
    facts = {row: runs for row, runs in every[POSTER.name].items() if runs}
    extra = {
        "learned, millions": {
            row: f"{runs[0]['learned'] / 1e6:.2f}" for row, runs in facts.items()
        },
        "minutes": {
            row: f"{sum(run['minutes'] for run in runs) / len(runs):.0f}"
            for row, runs in facts.items()
        },
        "GFLOPs": {
            row: f"{runs[0]['gflops']:.2f}" for row, runs in facts.items() if "gflops" in runs[0]
        },
    }
    return {
        name: markdown(table, every[name], extra if name == POSTER.name else {})
        + f"\n\n{orders(table, every[name])}"
        for name, table in TABLES.items()
    }


def write_plots(out: Path, kept: Sequence[Figures]) -> None:
    """``gains.svg`` and ``curves.svg``."""
    write_atomically(out / "gains.svg", gains_plot(_every(kept)[POSTER.name]).encode())
    write_atomically(out / "curves.svg", curves_plot(_curves(kept)).encode())


def _every(kept: Sequence[Figures]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By table and row, for each seed its figures."""
    return {
        name: {row: [one["tables"][name][row] for one in kept] for row in table.paper}
        for name, table in TABLES.items()
    }


def _curves(kept: Sequence[Figures]) -> dict[str, list[dict[str, float]]]:
    return {
        kind: [point for one in kept for point in one["curves"][kind]]
        for kind in ("teacher", "distilled")
    }


def filled(page: str, kept: Sequence[Figures]) -> str:
    """A page with the tables of what was measured below its marks, such as
    ``<!-- poster: distillation -->``."""
    found = tables(kept)
    return _MARKED.sub(lambda marked: f"{marked[1]}\n{found[marked[2]]}\n\n", page)


def main(kept: Path, page: Path) -> None:
    """Fill the tables of a page, and draw the plots.

    Args:
        kept: a folder of finished seeds, the figures.json of each in seed-N.
        page: Markdown.
    """
    with mistakes_told():
        figures = read_figures(kept)
        write_atomically(page, filled(page.read_text("utf-8"), figures).encode())
        write_plots(kept, figures)


def read_figures(folder: Path) -> list[Figures]:
    """What is kept of all finished seeds of a folder.

    Raises:
        MasqclipError: there are none.
    """
    found = sorted(folder.glob("seed-*/figures.json"))
    if not found:
        raise MasqclipError(f"{folder}: no seed is finished there (seed-N/figures.json)")
    return [json.loads(path.read_text()) for path in found]


if __name__ == "__main__":
    cyclopts.run(main)
