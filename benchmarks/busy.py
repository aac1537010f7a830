"""A folder of pictures on an idle machine, and beside a process that keeps every core busy.

    python benchmarks/busy.py FOLDER

`masqclip segment` goes through the folder once a round alone and once beside another PyTorch that
multiplies matrices on all cores, for each of several settings of GNU's OpenMP; they take turns. A
fair share of the cores makes twice the time; what is beyond that, threads lose that wait for one
another. What the command sets by itself (``masqclip.cli.main``) is in the first row.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cyclopts

from masqclip.errors import MasqclipError
from mistakes import check_count, mistakes_told

SETTINGS: dict[str, dict[str, str]] = {
    "as the command sets it": {},
    "OpenMP's default": {"GOMP_SPINCOUNT": "300000"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "never spinning": {"OMP_WAIT_POLICY": "PASSIVE"},
}
_NAMES = "rocket, tulip, car, snake, penguin, stuff: sand, stuff: grass"
_BUSY = "import torch\na = torch.randn(700, 700)\nwhile True: a @ a"


@contextmanager
def busy() -> Iterator[None]:
    """Another process that uses every core, with OpenMP as it comes."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY], env=_environment({}))
    try:
        time.sleep(3)  # it imports
        if process.poll() is not None:
            raise MasqclipError("the process that was to keep the cores busy ended")
        yield
    finally:
        process.kill()
        process.wait()


def seconds(folder: Path, setting: dict[str, str]) -> float:
    """What the folder takes, start of the program included."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "masqclip.cli.main", "segment", str(folder)]
        command += ["--vocabulary", _NAMES, "--device", "cpu", "--out", out]
        started = time.perf_counter()
        done = subprocess.run(command, env=_environment(setting), capture_output=True, text=True)
        took = time.perf_counter() - started
    if done.returncode:
        (*_, last) = done.stderr.strip().splitlines()
        raise MasqclipError(last.removeprefix("masqclip: error: "))
    return took


def _environment(setting: dict[str, str]) -> dict[str, str]:
    mine = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    return {key: value for key, value in os.environ.items() if key not in mine} | setting


def main(folder: Path, *, rounds: int = 3) -> int:
    """Print the medians and what being busy costs.

    Args:
        folder: of pictures.
        rounds: how often everything is run.
    """
    with mistakes_told():
        check_count("--rounds", rounds, 1)
        alone: dict[str, list[float]] = {name: [] for name in SETTINGS}
        beside: dict[str, list[float]] = {name: [] for name in SETTINGS}
        for _ in range(rounds):
            for name, setting in SETTINGS.items():
                alone[name].append(seconds(folder, setting))
                with busy():
                    beside[name].append(seconds(folder, setting))
        print("| OpenMP | alone, s | beside a busy process, s | times |")
        print("| --- | ---: | ---: | ---: |")
        for name in SETTINGS:
            quiet, loud = statistics.median(alone[name]), statistics.median(beside[name])
            print(f"| {name} | {quiet:.1f} | {loud:.1f} | {loud / quiet:.2f} |")
        return 0
    return 2


if __name__ == "__main__":
    cyclopts.run(main)
