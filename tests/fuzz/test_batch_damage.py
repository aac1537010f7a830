"""The quick cases of damage to batch jobs; `batch_damage.py` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_damage import CASES
from batch_job import prepared


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.slow], ids=lambda case: case.name
)
def test_equal_bytes_or_one_line(case: object, folder: Path) -> None:
    with prepared(folder):
        case.run()  # type: ignore[attr-defined]
