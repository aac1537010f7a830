"""The benchmark of a busy machine, on one picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gpu_calls import BENCHMARKS

import busy


def test_a_folder_is_timed_alone_and_beside_a_busy_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(BENCHMARKS.parent / "examples" / "beach.png", tmp_path)
    monkeypatch.setattr(busy, "SETTINGS", {"as the command sets it": {}})
    assert busy.main(tmp_path, rounds=1) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    _, name, *figures, _ = [cell.strip() for cell in row.split("|")]
    assert name == "as the command sets it"
    alone, beside, times = map(float, figures)
    assert min(alone, beside) > 0
    # Seconds are shown with one digit behind the point.
    least, most = (beside - 0.05) / (alone + 0.05), (beside + 0.05) / (alone - 0.05)
    assert least - 0.01 <= times <= most + 0.01
