"""The commands by which a tower without a class token is made are whole, and none is run twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from gpu_calls import BENCHMARKS

import class_token
from masqclip.cli.main import app

FIGURES = {"instance": {"AP50": 0.5}, "semantic": {"mIoU": 0.25}, "panoptic": {"PQ": 0.125}}


def test_every_command_is_whole_and_is_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Sequence[str]] = []

    def run(words: Sequence[str], *, cwd: Path, check: bool) -> None:
        command = [*words[3:]]
        app.parse_args(command, exit_on_error=False, print_error=False)
        asked.append(command)
        out = cwd / command[command.index("--out") + 1]
        if command[0] == "data":
            (out / "annotations").mkdir(parents=True, exist_ok=True)
            for name in ("captions",) if "--captions-only" in command else ("captions", "panoptic"):
                (out / "annotations" / f"{name}.json").write_text("{}")
            return
        out.mkdir()
        (out / "config.json").write_text("{}")
        (out / "report.json").write_text(json.dumps({"figures": FIGURES}))

    assert (BENCHMARKS / "class_token.py").samefile(str(class_token.__file__))
    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "portraits" / "images").mkdir(parents=True)  # of a run that was stopped
    class_token.main(out=tmp_path, family="siglip", mosaics=0.5, seed=3)
    kinds = [" ".join(words[:2]) for words in asked]
    assert kinds[:4] == ["data stickers"] * 4
    assert kinds[4:7] == ["train pretrain", "train pretrain", "train tune"]
    assert [words[0] for words in asked[7:]] == ["evaluate", "evaluate"]
    assert "mosaics=0.5" in asked[4]
    assert "| siglip, tuned | 50.0 | 25.0 | 12.5 |" in capsys.readouterr().out
    asked.clear()
    class_token.main(out=tmp_path, family="siglip")
    assert not asked
