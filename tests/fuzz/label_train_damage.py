"""Damage to the long jobs `label` and `train`: each case ends in equal bytes or in one line.

    python tests/fuzz/label_train_damage.py [PART OF A NAME]

prints a line a case, and how many there are.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import label_damage
import train_damage
import tune_damage
from damage import Case, main_of

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


if __name__ == "__main__":
    sys.exit(main_of(CASES, lambda name: partial(prepared, name)))
