"""This checkout against another one on the ordinary path: is it slower than it was?

    git worktree add ../before a16dc87
    python benchmarks/against.py ../before --rounds 10

Folder by the command line, `Segmenter.stream`, and the service under load with pictures one by one
and in batches. The two take turns on the same pictures, each turn in a process of its own (two
processes of the same code may differ by some per cent for as long as they live); every other round
begins with the other one, so that a busy machine favours neither. Printed of each part: the median
rates, their ratio, and the median ratio of a round's pair (below 1: slower here than there).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import cyclopts

from load import NAMES, load, pictures, start

HERE = Path(__file__).parents[1]

Part = Literal["folder", "stream", "one by one", "batches"]

_STREAM = """
import sys, time
from pathlib import Path
from PIL import Image
from masqclip import Segmenter
segmenter = Segmenter.from_pretrained()
images = [Image.open(path).convert("RGB") for path in sorted(Path(sys.argv[1]).iterdir())]
for _ in segmenter.stream(images[:8], sys.argv[2]): pass
started = time.perf_counter()
for _ in segmenter.stream(images, sys.argv[2]): pass
print(len(images) / (time.perf_counter() - started))
"""


def environment(checkout: Path) -> dict[str, str]:
    """The environment in which `masqclip` is that of a checkout, which is made sure of."""
    variables = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-c", "import masqclip; print(masqclip.__file__)"]
    found = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    if not Path(found.stdout.strip()).is_relative_to(checkout / "src"):
        raise SystemExit(f"{checkout}: no masqclip in src/; {found.stdout.strip()} would run")
    return variables


def in_turns(
    part: Part,
    measure: Callable[[Mapping[str, str]], float],
    environments: tuple[dict[str, str], dict[str, str]],
    rounds: int,
) -> None:
    """Measure both rates (1/s) in turns and print how they compare."""
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            rates[side].append(measure(environments[side]))
    here, there = (statistics.median(each) for each in rates)
    pairs = statistics.median(a / b for a, b in zip(*rates, strict=True))
    print(
        f"{part}: {here:.2f}/s here, {there:.2f}/s there: {here / there:.3f} "
        f"({pairs:.3f} the median of {rounds} pairs)",
        flush=True,
    )


def folder_rate(variables: Mapping[str, str], folder: Path) -> float:
    """Pictures a second of `masqclip segment` on a folder, its start included."""
    number = len(list(folder.iterdir()))
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "masqclip.cli.main", "segment", str(folder)]
        started = time.perf_counter()
        subprocess.run([*command, "-v", NAMES, "-o", out, "-q"], env=variables, check=True)
        return number / (time.perf_counter() - started)


def stream_rate(variables: Mapping[str, str], folder: Path) -> float:
    """Pictures a second of `Segmenter.stream`, without its start."""
    command = [sys.executable, "-c", _STREAM, str(folder), NAMES]
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return float(done.stdout)


def service_rate(
    variables: Mapping[str, str], files: list[bytes], batch: str, clients: int, seconds: float
) -> float:
    """Answers a second of a service under load, without its start."""
    service = start("service", "--batch-size", batch, variables=variables)
    try:
        asyncio.run(load(service, files, 4, 3.0))  # warm, words known
        service.latencies, service.seconds = [], 0.0
        asyncio.run(load(service, files, clients, seconds))
    finally:
        service.process.kill()
        service.process.wait()
    if service.errors:
        raise SystemExit(f"{variables['PYTHONPATH']}: {service.errors[0]}")
    return len(service.latencies) / service.seconds


def main(
    other: Path,
    *,
    rounds: int = 10,
    number: int = 200,
    clients: int = 32,
    seconds: float = 10.0,
    part: tuple[Part, ...] = ("folder", "stream", "one by one", "batches"),
) -> None:
    """Compare this checkout with another.

    Args:
        other: the root of the other checkout.
        rounds: turns of each.
        number: of pictures.
        clients: that ask a service at a time.
        seconds: of load a turn.
        part: of the ordinary path; again for more.
    """
    environments = environment(HERE), environment(other.resolve())
    files = pictures(sorted((HERE / "examples").glob("*.png")), number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, data in enumerate(files):
            (folder / f"{index:04d}.jpg").write_bytes(data)
        measures: dict[Part, Callable[[Mapping[str, str]], float]] = {
            "folder": lambda of: folder_rate(of, folder),
            "stream": lambda of: stream_rate(of, folder),
            "one by one": lambda of: service_rate(of, files, "1", clients, seconds),
            "batches": lambda of: service_rate(of, files, "8", clients, seconds),
        }
        for kind in part:
            in_turns(kind, measures[kind], environments, rounds)


if __name__ == "__main__":
    cyclopts.run(main)
