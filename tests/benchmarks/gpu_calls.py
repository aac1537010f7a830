"""Calls of `benchmarks/gpu.py` for tests: started, watched, and ended in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))


def start(out: Path, *options: str, minutes: float = 3.0) -> subprocess.Popen[bytes]:
    """A call at work; what it prints is added to OUT.txt."""
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--tiny"]
    command += ["--out", str(out), "--minutes", str(minutes), *options]
    with out.with_name(f"{out.name}.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))


def entries(out: Path) -> dict[str, dict[str, Any]]:
    """What is measured so far."""
    path = out / "results.json"
    found: dict[str, dict[str, Any]] = (
        json.loads(path.read_text())["entries"] if path.exists() else {}
    )
    return found


def wait_for(happens: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until something happens while a call is at work."""
    end = time.monotonic() + 90
    while not happens():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end
        time.sleep(0.05)


def keeps(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> bool:
    """Whether nothing was lost or measured again: the seconds of every piece are its own."""
    return before == {key: entry for key, entry in now.items() if key in before}


def home(out: Path) -> None:
    """See that a folder can be brought home."""
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) <= 8
    assert all(path.parent == out and path.stat().st_size < 16_000_000 for path in files)
