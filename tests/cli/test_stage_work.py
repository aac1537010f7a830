"""What `masqclip train` does before and after a stage, with stages and models of straw."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from heard import Heard

from masqclip.cli.stage_work import (
    fill_proposals,
    measured_before,
    report_tuning,
    write_pseudo_labels,
)
from masqclip.errors import MasqclipError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def chosen(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Which devices were asked for; whatever is asked for, it is the CPU."""
    heard = Heard(CPU)
    monkeypatch.setattr("masqclip.devices.choose_device", heard)
    return heard


def test_pseudo_labels_are_those_of_the_teacher(
    chosen: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    document = {"annotations": [1] * 1001}
    made, kept = Heard(document), Heard(([1, 2], ()))
    monkeypatch.setattr("masqclip.training.distill.load_teacher", lambda path: f"teacher {path}")
    monkeypatch.setattr("masqclip.training.inputs.annotated_pictures", kept)
    monkeypatch.setattr("masqclip.training.pseudo_labels.pseudo_labels", made)
    given: Any = [1, 2, 3], "settings"
    write_pseudo_labels(Path("t"), *given, tmp_path / "p.json", "abacus")
    assert kept.only[0] == given
    arguments, named = made.only
    assert arguments == ("teacher t", [1, 2], "settings")
    assert named["device"] is CPU
    assert chosen.only[0] == ("abacus",)
    named["report"](2)
    assert json.loads((tmp_path / "p.json").read_text()) == document
    shown = capsys.readouterr().out.replace("\n", "")
    assert shown.startswith("1,001 masks in 2 pictures: ")


def test_stored_proposals_are_what_the_stage_reads(
    chosen: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = SimpleNamespace(fill=Heard())
    made = Heard(cache)
    monkeypatch.setattr("masqclip.training.proposal_cache.ProposalCache", made)
    stage: Any = SimpleNamespace(dataset=[1, 2, 3, 4], cache=None)
    cache.fill = lambda *given, report: (filled.append(given), report(1))
    filled: list[Any] = []
    fill_proposals(stage, Path("kept"), "abacus")
    assert made.only[0] == (Path("kept"), stage)
    assert filled == [(stage, CPU)]
    assert chosen.only[0] == ("abacus",)
    assert stage.cache is cache
    assert "proposals: 25 %, 1 of 4" in capsys.readouterr().err


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What was measured; each time the same, of which one figure is none."""
    heard = Heard()

    def measure(*given: Any, report: Any) -> dict[str, float]:
        heard(*given)
        report(3, 9)
        return {"accuracy": 0.25, "AP50": math.nan}

    monkeypatch.setattr("masqclip.training.held_out.measure_held_out", measure)
    return heard


def test_the_figures_from_before_are_measured_once(
    chosen: Heard, measured: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    made, moved = Heard("segmenter"), Heard("model there")
    monkeypatch.setattr("masqclip.segmenter.Segmenter", made)
    stage: Any = SimpleNamespace(model=SimpleNamespace(to=moved), tokenizer="tokenizer")
    held_out: Any = [1, 2, 3]
    for _ in range(2):
        found = measured_before(stage, held_out, tmp_path, "abacus")
        assert found.keys() == {"accuracy", "AP50"}
        assert found["accuracy"] == 0.25
        assert math.isnan(found["AP50"])
    assert chosen.only[0] == ("abacus",)
    assert moved.only[0] == (CPU,)
    assert made.only == (("model there", "tokenizer"), {"cache": False})
    assert measured.only[0] == ("segmenter", held_out)
    assert "before: 33 %, 1 of 3" in capsys.readouterr().err
    assert json.loads((tmp_path / "before.json").read_text()) == {"accuracy": 0.25, "AP50": None}


@pytest.mark.parametrize("content", ["[]", "1", '{"accuracy": "high"}', '{"accuracy": [1]}'])
def test_what_is_no_figures_from_before_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "before.json").write_text(content)
    nothing: Any = None
    with pytest.raises(MasqclipError, match=r"before\.json holds no figures: delete it"):
        measured_before(nothing, nothing, tmp_path, None)


def test_whole_figures_from_before_are_read(tmp_path: Path) -> None:
    (tmp_path / "before.json").write_text('{"accuracy": 1, "AP50": 0.5}')
    nothing: Any = None
    assert measured_before(nothing, nothing, tmp_path, None) == {"accuracy": 1.0, "AP50": 0.5}


def test_a_tuned_model_is_reported_beside_what_it_was(
    measured: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    loaded, wrote = (
        Heard("tuned"),
        Heard([("3 pictures", "before", "after"), ("how well", "10.0", "25.0")]),
    )
    monkeypatch.setattr("masqclip.segmenter.Segmenter.from_pretrained", loaded)
    monkeypatch.setattr("masqclip.training.held_out.write_report", wrote)
    held_out: Any = [1, 2, 3]
    report_tuning({"accuracy": 0.1}, held_out, tmp_path, "abacus")
    assert loaded.only == ((tmp_path,), {"device": "abacus", "cache": False})
    assert measured.only[0] == ("tuned", held_out)
    (out, before, after, number), _ = wrote.only
    assert (out, before, after["accuracy"], number) == (tmp_path, {"accuracy": 0.1}, 0.25, 3)
    shown, errors = capsys.readouterr()
    assert [line.split() for line in shown.splitlines()] == [
        ["3", "pictures", "before", "after"], ["how", "well", "10.0", "25.0"]
    ]  # fmt: skip
    assert "|" not in shown
    assert "after: 33 %, 1 of 3" in errors
