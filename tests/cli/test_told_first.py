"""What is told first: what is missing, where to get it, what is not installed; before any work."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from masqclip.cli import plan
from masqclip.cli.main import main
from masqclip.cli.serve import _open
from masqclip.cli.training import Run
from masqclip.clip.vocabulary import builtin_vocabularies
from masqclip.errors import MasqclipError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["segment"], "masqclip segment: no IMAGE is given; 'masqclip segment --help'"),
        (["segment", "a.png"], "masqclip segment: no --vocabulary is given"),
        (["label"], "masqclip label: no DIR is given"),
        (["convert"], "masqclip convert: no CHECKPOINT is given"),
        (["data", "check"], "masqclip data check: no NAME is given; 'masqclip data check --help'"),
        (["train", "baseline"], "masqclip train baseline: no SYSTEM is given"),
        (["train", "tune"], "masqclip train tune: no --data is given"),
        (["serve", "--port"], "--port requires an argument"),
        (["evaluate", "stickers"], "masqclip evaluate: stickers: nothing is known to do with that"),
        (["info", "a", "b"], "masqclip info: b: nothing is known to do with that"),
        (["segment", "a.png", "--vocabular", "cat"], "Did you mean --vocabulary?"),
    ],
)
def test_what_is_missing_is_told_by_its_name(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert "Unused Tokens" not in errors


@pytest.mark.parametrize("name", ["ade20k-150", "coco-base-novel", "pascal-context-59"])
def test_a_dataset_that_is_not_there_is_told_with_where_to_get_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    missing = str(tmp_path / "missing")
    sources = {"ade20k-150": "MIT", "coco-base-novel": "val2017", "pascal-context-59": "VOC"}
    for options in ([], ["--convert"]):
        assert main(["data", "check", name, "--root", missing, *options]) == 2
        shown, errors = capsys.readouterr()
        assert "missing" in shown
        assert sources[name] in shown
        assert "there is no such folder: make it, and get what the table names" in errors
    assert main(["evaluate", "-d", name, "--root", missing, "-o", str(tmp_path / "out")]) == 2
    assert f"'masqclip data check {name}' says what belongs into it" in capsys.readouterr().err
    assert not os.path.exists(missing)


def test_info_knows_vocabularies(capsys: pytest.CaptureFixture[str]) -> None:
    for name in builtin_vocabularies():
        assert main(["info", name]) == 0
        shown = capsys.readouterr().out
        assert f"masqclip segment IMAGE --vocabulary {name}" in shown
    assert main(["info", "stickers", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "vocabulary"
    assert len(facts["137 things"]) == 137
    assert "sand" in facts["12 regions"]


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "open http://127.0.0.1:80/"),
        ("photos.example.org", "open http://photos.example.org:80/"),
        ("::1", "open http://[::1]:80/"),
        ("0.0.0.0", "open http://127.0.0.1:80/ here, or this machine's name or address elsewhere"),
        ("::", "open http://[::1]:80/ here, or this machine's name or address elsewhere"),
    ],
)
def test_serve_prints_an_address_that_can_be_opened(host: str, said: str) -> None:
    assert _open(host, 80) == said


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("data sprites --out x", "resvg_py", "train"),
        ("train tune --data x", "accelerate", "train"),
        ("evaluate -d stickers", "pycocotools.cocoeval", "eval"),
    ],
)
def test_a_plan_asks_for_packages_before_its_first_step(
    command: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("masqclip.evaluation.instance.find_spec", lambda name: None)
    ran: list[Any] = []
    monkeypatch.setattr(plan, "_run", lambda *given: ran.append(given) or 0)
    steps = [plan.PlanStep("first", "info", "x"), plan.PlanStep("last", command, "y")]
    with pytest.raises(MasqclipError, match=rf"pip install 'masqclip\[{extra}\]'"):
        plan.run_plan(steps, tmp_path / "out")
    assert ran == []
    assert not (tmp_path / "out").exists()


def test_a_stage_asks_for_packages_before_it_reads_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, extra, track in (("accelerate", "train", None), ("wandb", "track", ["wandb"])):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            run = Run(out=tmp_path / "run", track=track)
            with pytest.raises(MasqclipError, match=rf"pip install 'masqclip\[{extra}\]'"):
                run.settings("tune")
    assert not (tmp_path / "run").exists()


def test_tuning_asks_for_what_counts_instances_before_it_measures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from masqclip.data.coco import CocoInstances
    from masqclip.training.held_out import check_metrics

    monkeypatch.setattr("masqclip.evaluation.instance.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    dataset: Any = object.__new__(CocoInstances)
    dataset.categories = type("Categories", (), {"kept": {1: 0}})
    with pytest.raises(MasqclipError, match=r"pip install 'masqclip\[eval\]'"):
        check_metrics(dataset)
    other: Any = object()
    check_metrics(other)  # panoptic segments need none
