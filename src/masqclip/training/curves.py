"""The curves of a run as a picture, from its log."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from masqclip.data.files import write_atomically
from masqclip.data.label_maps import png_bytes
from masqclip.render.curves import draw_curves
from masqclip.training.trackers import read_log


def write_curves(folder: Path) -> None:
    """Write ``curves.png`` beside the run's ``log.jsonl``; nothing before the first line."""
    series: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in read_log(folder / "log.jsonl"):
        step = line.pop("step")
        for name, value in line.items():
            if isinstance(value, int | float):  # null stands for what is no number
                series[name].append((step, value))
    if series:
        write_atomically(folder / "curves.png", png_bytes(draw_curves(series)))
