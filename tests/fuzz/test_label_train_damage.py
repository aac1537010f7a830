"""The quick cases of damage; `label_train_damage.py` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_train_damage import CASES, prepared


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.slow])
def test_equal_bytes_or_one_line(name: str, tmp_path: Path) -> None:
    with prepared(name, tmp_path):
        CASES[name].run()
