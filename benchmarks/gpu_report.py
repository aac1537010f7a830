"""What `gpu.py` has measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gpu_record import Record
from masqclip.data.files import write_atomically

Entries = dict[str, dict[str, Any]]
_WHOLE = ("proposer", "masked CLIP", "panoptic")


def write_tables(record: Record, folder: Path, notes: Sequence[str]) -> None:
    """Write ``results.md``.

    Args:
        record: what was measured.
        folder: where.
        notes: what is to be said of this call.
    """
    lines = ["# One GPU", ""]
    machines = {
        f"{e['device']}, torch {e['torch']}, TF32 in "
        f"{' and '.join(name for name, used in e['tf32'].items() if used) or 'nothing'}"
        for e in record.entries.values()
        if "device" in e
    }
    lines += [f"{line}." for line in sorted(machines)]
    lines += [f"{note}." for note in notes]
    for title, tables in (
        ("The second world", _world(record.part("world"))),
        ("Speed", _speed(record.part("speed"))),
        ("MasQ-Tuning, steps", _tuning(record.part("tuning"))),
        ("Proposer, steps of the teacher's training", _proposer(record.part("proposer"))),
    ):
        lines += ["", f"## {title}", "", *(tables or ["Nothing yet."])]
    write_atomically(folder / "results.md", ("\n".join(lines) + "\n").encode())


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """Rows under heads; the first columns are texts."""
    lines = [" | ".join(heads), " | ".join(["---"] * texts + ["---:"] * (len(heads) - texts))]
    lines += [" | ".join(cell.replace("|", "/") for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]


def _world(entries: Entries) -> list[str]:
    if not entries:
        return []
    left_out = entries.pop("left out", {}).get("lines", [])
    rows = [
        (name, f"{e['seconds']:.0f}", str(e.get("steps", "")), e.get("error", ""))
        for name, e in entries.items()
    ]
    lines = _table(("step", "seconds", "steps", "trouble"), rows)
    figures = [
        (name, task, figure, f"{value:.4f}")
        for name, e in entries.items()
        for task, found in e.get("figures", {}).items()
        for figure, value in found.items()
        if isinstance(value, int | float)
    ]
    if figures:
        lines += ["", *_table(("evaluation", "task", "figure", "value"), figures, 3)]
    return lines + [f"\n{line}." for line in left_out]


def _speed(entries: Entries) -> list[str]:
    if not entries:
        return []
    rows = []
    for e in entries.values():
        start = [e["dtype"], str(e["batch"]), e["mode"]]
        if "error" in e:
            rows.append([*start, *["-"] * 7, e["error"]])
            continue
        ours, theirs = (e["sides"][side] for side in ("ours", "reference"))
        mine, published = _total(ours), _total(theirs)
        ratio = f"{published / mine:.2f}" if mine and published else "-"
        troubles = [
            f"{name}: {side['error']}"
            for name, side in (("ours", ours), ("published", theirs))
            if "error" in side
        ]
        if skipped := e.get("compiling", {}).get("CUDA graphs skipped"):
            troubles.append(f"CUDA graphs skipped: {skipped}")
        rows.append(
            [
                *start,
                f"{1000 * mine:.1f}" if mine else "-",
                f"{1000 * published:.1f}" if published else "-",
                ratio,
                f"{e['batch'] / mine:.1f}" if mine else "-",
                *(_share(e, "ours", half) for half in ("proposer", "masked CLIP")),
                f"{_gigabytes(ours)} / {_gigabytes(theirs)}",
                "; ".join(troubles),
            ]
        )
    heads = (
        "dtype", "batch", "mode", "ours, ms", "published, ms", "ratio", "pictures/s",
        "proposer, of the ceiling", "masked CLIP, of the ceiling", "peak GB, ours / published",
        "trouble",
    )  # fmt: skip
    lines = _table(heads, rows)
    ceilings = {
        e["dtype"]: f"{e['ceiling'] / 1e12:.1f}" for e in entries.values() if "ceiling" in e
    }
    told = ", ".join(f"{value} TFLOP/s in {dtype}" for dtype, value in ceilings.items())
    lines += [
        "",
        "Proposer, masked CLIP and panoptic decoding of a batch; medians. Compiled: ours, beside "
        "the published formulation as it is; reference compiled: the other way round.",
    ]
    lines += [f"The ceiling is a large matrix product: {told}."] if told else []
    stages = [
        (e["dtype"], str(e["batch"]), e["mode"], name, *(f"{1000 * s:.2f}" for s in row.values()))
        for e in entries.values()
        for name, side in e.get("sides", {}).items()
        if (row := side.get("seconds"))
    ]
    names = ("proposer, ms", "masked CLIP, ms", "semantic, ms", "instance, ms", "panoptic, ms")
    table = _table(("dtype", "batch", "mode", "side", *names), stages, 4)
    return [*lines, "", *table] if stages else lines


def _total(side: dict[str, Any]) -> float:
    """Seconds of a batch to its panoptic maps; 0 of a side that did not run."""
    seconds = side.get("seconds")
    return sum(seconds[stage] for stage in _WHOLE) if seconds else 0.0


def _share(entry: dict[str, Any], side: str, half: str) -> str:
    seconds = entry["sides"][side].get("seconds")
    if not seconds:
        return "-"
    return f"{entry['flops'][side][half] / seconds[half] / entry['ceiling']:.0%}"


def _gigabytes(found: dict[str, Any]) -> str:
    return f"{found['peak'] / 1e9:.2f}" if "peak" in found else "-"


def _steps(e: dict[str, Any]) -> tuple[str, str, str]:
    """Steps a second, pictures a second and memory of a training's entry."""
    if "error" in e:
        return ("-", "-", "-")
    speed = e["steps_per_second"]
    return (f"{speed:.3f}", f"{speed * e['batch']:.2f}", _gigabytes(e))


def _tuning(entries: Entries) -> list[str]:
    rows = [
        (e["precision"], e["side"], str(e["batch"]), *_steps(e), e.get("error", ""))
        for e in entries.values()
    ]
    heads = ("precision", "side", "batch", "steps/s", "pictures/s", "peak GB", "trouble")
    return _table(heads, rows, 2) if rows else []


def _proposer(entries: Entries) -> list[str]:
    rows = [
        (e["precision"], str(e["batch"]), *_steps(e), e.get("error", "")) for e in entries.values()
    ]
    heads = ("precision", "batch", "steps/s", "pictures/s", "peak GB", "trouble")
    return _table(heads, rows) if rows else []
