"""`masqclip info`, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from masqclip import __version__
from masqclip.cli.info import packaged_models
from masqclip.cli.main import main


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["masqclip"] == __version__
    assert facts["versions"]["torch"] == torch.__version__
    assert {"python", "transformers"} <= set(facts["versions"])
    assert facts["devices"][0]["name"] == "cpu"
    assert facts["devices"][0]["threads"] == torch.get_num_threads()
    assert facts["default_dtype"] in ("float32", "bfloat16")
    assert "coco-panoptic" in facts["vocabularies"]


def test_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    for part in (
        f"masqclip {__version__}",
        f"torch {torch.__version__}",
        "threads",
        "coco-panoptic",
    ):
        assert part in shown


def test_the_shipped_models_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    model = {"name": "small", "megabytes": 2.04, "summary": "knows [b]stickers[/b]"}
    monkeypatch.setattr("masqclip.cli.info.packaged_models", lambda folder: [model])
    assert main(["info"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("small"))
    assert line.split() == ["small", "2.0", "MB", "knows", "[b]stickers[/b]"]


def test_models_are_folders_with_a_config(tmp_path: Path) -> None:
    small = tmp_path / "small"
    (small / "tokenizer").mkdir(parents=True)
    (small / "config.json").write_text("{}")
    (small / "model.safetensors").write_bytes(bytes(1_499_998))
    (small / "tokenizer" / "merges.txt").write_bytes(bytes(500_000))
    (tmp_path / "other").mkdir()
    (tmp_path / "carded").mkdir()
    (tmp_path / "carded" / "config.json").write_text("{}")
    (tmp_path / "carded" / "model_card.json").write_text('{"summary": "knows stickers"}')
    assert packaged_models(tmp_path) == [
        {"name": "carded", "megabytes": 0.0, "summary": "knows stickers"},
        {"name": "small", "megabytes": 2.0, "summary": ""},
    ]
    assert packaged_models(tmp_path / "gone") == []
