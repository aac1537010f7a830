"""`masqclip bench` on a tiny run of the shipped model."""

from __future__ import annotations

import json

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
