"""What `speed.py` measured, as Markdown and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_report(result: dict[str, Any], out: Path) -> None:
    """Write OUT.md and OUT.svg."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text("\n".join(_lines(result)) + "\n")
    out.with_suffix(".svg").write_text(_plot(result))


def _lines(result: dict[str, Any]) -> list[str]:
    settings, reference, ours = result["settings"], result["reference"], result["ours"]
    height, width = settings["picture"]
    where = settings["gpu"] or f"{settings['threads']} threads"
    lines = [
        f"{settings['model']}, {height} x {width}, {settings['names']} names, "
        f"{settings['dtype']} (published formulation: {settings['reference dtype']}), "
        f"{settings['device']} ({where}), medians of {settings['rounds']} "
        f"rounds in turns, torch {settings['torch']}. "
        f"Logits differ by {result['logit difference']:.1e} at most.",
        "",
        "| stage | published formulation, ms | masqclip, ms | ratio | of processor time |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for stage, seconds in reference.items():
        mine = ours[stage]
        worked = result["reference, processor"][stage] / result["ours, processor"][stage]
        lines.append(
            f"| {stage} | {1000 * seconds:.0f} | {1000 * mine:.0f} | {seconds / mine:.2f} "
            f"| {worked:.2f} |"
        )
    ceiling = result["ceiling"]
    lines += ["", f"A large matrix product runs at {ceiling / 1e9:.0f} GFLOP/s here.", ""]
    lines += ["| half | GFLOP | share of that |", "| --- | ---: | ---: |"]
    lines += [
        f"| {half} | {flops / 1e9:.0f} | {flops / ours[half] / ceiling:.0%} |"
        for half, flops in result["flops"].items()
    ]
    if "memory" in result:
        theirs, mine = (result["memory"][side] / 1e6 for side in ("reference", "ours"))
        lines += [
            "",
            f"Peak memory beyond the weights: {theirs:.0f} MB and {mine:.0f} MB, "
            f"a ratio of {mine / max(theirs, 1e-9):.2f}.",
        ]
    for cost in result.get("costs", ()):
        lines += ["", f"| {cost['against']} | ms | MB |", "| ---: | ---: | ---: |"]
        lines += [
            f"| {x:g} | {1000 * y:.0f} | {m / 1e6:.0f} |"
            for x, y, m in zip(cost["x"], cost["seconds"], cost["bytes"], strict=True)
        ]
        lines += ["", f"Fitted: {cost['fit']}."]
    return lines


def _plot(result: dict[str, Any]) -> str:
    """Bars of both sides' stages, one under the other."""
    stages = [s for s in result["reference"] if result["reference"][s] > 1e-3]
    longest = max(result["reference"][stage] for stage in stages)
    row, left, span = 44, 150, 480
    body = []
    for i, stage in enumerate(stages):
        y = 40 + row * i
        body.append(f'<text x="{left - 8}" y="{y + 20}" text-anchor="end">{stage}</text>')
        for j, (side, colour) in enumerate((("reference", "#b8bcc4"), ("ours", "#2f6fde"))):
            seconds = result[side][stage]
            width = max(1.0, span * seconds / longest)
            top = y + 15 * j
            body.append(
                f'<rect x="{left}" y="{top}" width="{width:.1f}" height="13" fill="{colour}"/>'
                f'<text x="{left + width + 6:.1f}" y="{top + 11}">{1000 * seconds:.0f} ms</text>'
            )
    title = "grey: published formulation, blue: masqclip"
    height = 50 + row * len(stages)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="24">{title}</text>{"".join(body)}</svg>\n'
    )
