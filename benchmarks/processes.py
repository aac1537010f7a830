"""Memory and processor time of a program and of all that it starts, as it runs (Linux)."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
STAGES = ("Encoder", "Namer", "read_shard", "Committer")  # in the titles of Ray's processes


class Processes:
    """Memory and processor time of a process and all that it started, by what they do."""

    def __init__(self, root: int, period: float = 0.5) -> None:
        self.root, self.period = root, period
        self.cpu: dict[int, tuple[str, float]] = {}
        self.memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def tree(self) -> dict[int, str]:
        """The processes: number and title."""
        parents: dict[int, int] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                    parents[int(entry)] = int(fields[1])
                except (OSError, IndexError):
                    continue
        found = {self.root: "driver"}
        grown = True
        while grown:
            new = {pid for pid, parent in parents.items() if parent in found and pid not in found}
            grown = bool(new)
            found |= {pid: self._title(pid) for pid in new}
        return found

    @staticmethod
    def _title(pid: int) -> str:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return "gone"
        for stage in STAGES:
            if stage in line:
                return stage
        return "ray"

    def _watch(self) -> None:
        start = time.monotonic()
        while not self._stop.wait(self.period):
            now = time.monotonic() - start
            sums: dict[str, float] = defaultdict(float)
            for pid, title in self.tree().items():
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                seconds = (int(fields[11]) + int(fields[12])) / TICKS
                before = self.cpu.get(pid, ("ray", 0.0))[0]
                # An idle worker is "ray" again; its time stays with the stage it worked for.
                self.cpu[pid] = (title if title not in ("ray", "gone") else before, seconds)
                anonymous = [row for row in status.splitlines() if row.startswith("RssAnon")]
                if anonymous:
                    sums[title] += int(anonymous[0].split()[1]) / 1024
            for title, megabytes in sums.items():
                self.memory[title].append((now, megabytes))
            self.memory["all"].append((now, sum(sums.values())))

    def stop(self) -> dict[str, Any]:
        """Processor seconds and megabytes by stage; memory of the quarters of the run.

        The run ends with the last moment at which a stage had a process: what follows is Ray
        taking down its own.
        """
        self._stop.set()
        self._thread.join()
        stages = [series for title, series in self.memory.items() if title in STAGES]
        end = max((series[-1][0] for series in stages), default=float("inf"))
        memory = {k: [(at, m) for at, m in v if at <= end] for k, v in self.memory.items()}
        seconds: dict[str, float] = defaultdict(float)
        for title, spent in self.cpu.values():
            seconds[title] += spent
        return {
            "cpu_seconds": {k: round(v, 1) for k, v in seconds.items()},
            "cpu_seconds_all": round(sum(seconds.values()), 1),
            "megabytes_by_quarter": {k: _quarters(v) for k, v in memory.items()},
        }


def _quarters(series: list[tuple[float, float]]) -> list[float]:
    """The mean of each quarter of a series, its ramp-up included in the first."""
    cut = [series[len(series) * i // 4 : len(series) * (i + 1) // 4] for i in range(4)]
    return [round(sum(m for _, m in part) / len(part), 1) if part else 0.0 for part in cut]
