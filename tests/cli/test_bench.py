"""`masqclip bench` on a tiny run of the shipped model."""

from __future__ import annotations

import json
import os

import pytest

from masqclip.cli.main import main


def test_times_every_batch_size(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--picture", "64x96", "--batch-size", "1", "--batch-size", "2", "--rounds", "1"]
    assert main(["bench", *words, "--vocabulary", "cat, car", "--device", "cpu", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["height"], facts["width"], facts["device"]) == (64, 96, "cpu")
    assert [row["batch_size"] for row in facts["results"]] == [1, 2]
    for row in facts["results"]:
        assert row["encode"] > row["panoptic"] > 0
        assert row["pictures_per_second"] == pytest.approx(1 / (row["encode"] + row["panoptic"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--picture", "large"], "height x width"), (["--batch-size", "0"], "1 or more")],
)
def test_mistakes_are_told(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words, "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err


def test_a_busy_machine_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--picture", "64x96", "--batch-size", "1", "--rounds", "1", "--vocabulary", "cat"]
    said = {}
    for load in (0.1, 3.0):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        assert main(["bench", *words, "--device", "cpu", "--json"]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["load"] == load / 2
        said[load] = told.err
    assert "busy" not in said[0.1]
    assert "this machine was busy in the minute before (1.5 running or waiting" in said[3.0]
