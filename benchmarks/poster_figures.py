"""What is kept of the seeds that are measured to their end, and the tables of them.

A finished seed is one file of figures. Its weights may be gone, and it may come from another
machine: a seed's folder with that file alone counts as done.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError
from poster_runs import Setup
from poster_tables import POSTER, TABLES, curves_plot, gains_plot, markdown, orders
from poster_world import read_settings


def keep_figures(setup: Setup, seed: int, out: Path, figures: dict[str, Any]) -> None:
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
    every = {name: _cells(name, kept) for name in TABLES}
    facts = every["poster"]
    extra = {
        "learned, millions": {
            row: f"{runs[0]['learned'] / 1e6:.2f}" for row, runs in facts.items() if runs
        },
        "minutes": {
            row: f"{sum(run['minutes'] for run in runs) / len(runs):.0f}"
            for row, runs in facts.items()
            if runs
        },
        "GFLOPs": {
            row: f"{runs[0]['gflops']:.2f}"
            for row, runs in facts.items()
            if runs and "gflops" in runs[0]
        },
    }
    count = len(kept)
    parts = [f"{count} seed{'' if count == 1 else 's'}; in brackets the paper's figures."]
    for name, table in TABLES.items():
        beside = extra if name == POSTER.name else {}
        parts += [f"## {table.title}", markdown(table, every[name], beside)]
        parts.append(orders(table, every[name]))
    text = "\n\n".join(parts) + "\n"
    curve: dict[str, list[dict[str, float]]] = {"teacher": [], "distilled": []}
    for one in kept:
        for kind, points in one["curves"].items():
            curve[kind] += points
    content = json.dumps({"cells": every, "curves": curve}, indent=1) + "\n"
    write_atomically(out / "poster.json", content.encode())
    write_atomically(out / "poster.md", text.encode())
    if kept:
        write_atomically(out / "gains.svg", gains_plot(every["poster"]).encode())
        write_atomically(out / "curves.svg", curves_plot(curve).encode())
    return text


def _cells(name: str, kept: list[dict[str, Any]]) -> dict[str, list[dict[str, float]]]:
    rows = TABLES[name].paper
    return {row: [one["tables"][name][row] for one in kept] for row in rows}
