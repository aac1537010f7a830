"""Damage to the long jobs `label` and `train`: each case ends in equal bytes or in one line.

    python tests/fuzz/label_train_damage.py [PART OF A NAME]

prints a line a case, and how many there are.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from contextlib import AbstractContextManager
from pathlib import Path

import label_damage
import train_damage
import tune_damage
from damage import Case

#: Every case, by the name that tests and people know it by.
CASES: dict[str, Case] = {
    f"{job}: {case.name}": case
    for job, cases in (
        ("label", label_damage.CASES),
        ("train", train_damage.CASES),
        ("train", tune_damage.CASES),
    )
    for case in cases
}


def prepared(name: str, scratch: Path) -> AbstractContextManager[object]:
    """What a case needs, in an empty folder, in which it then stands."""
    job = label_damage if name.startswith("label") else train_damage
    return job.prepared(scratch)


def main(part: str = "") -> int:
    """Run the cases whose names hold a part; returns how many failed."""
    failures = 0
    chosen = {name: case for name, case in CASES.items() if part in name}
    for name, case in chosen.items():
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                with prepared(name, Path(scratch)):
                    case.run()
                end = "ok"
            except Exception:
                failures += 1
                end = f"FAILED\n{traceback.format_exc(limit=-4)}"
        print(f"{name} ({time.monotonic() - begun:.1f} s): {end}", flush=True)
    print(f"{len(chosen)} cases, {failures} failed")
    return failures


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]) > 0)
