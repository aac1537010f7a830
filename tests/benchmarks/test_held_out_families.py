"""The benchmark of held-out families draws, measures and compares what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gpu_calls import BENCHMARKS

import held_out_families as families
from masqclip.data.stickers.worlds import FAMILIES

SPRITES = BENCHMARKS.parent / "tests" / "data" / "sprites"


def test_no_model_is_asked_about_what_it_knows() -> None:
    seeds = [scenes.seed for f in families.FAMILIES.values() for scenes in (f.known, f.unseen)]
    assert len(set(seeds)) == len(seeds)
    for family in families.FAMILIES.values():
        away = next(f for f in FAMILIES.values() if set(family.unseen.studios) <= set(f))
        assert not set(away) & set(family.known.studios)


def test_the_share_is_that_of_known_studios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = families.FAMILIES["Fluent Emoji"]
    same = replace(one, unseen=one.known)
    monkeypatch.setattr(families, "FAMILIES", {"one": one, "same": same})
    families.main(sprites=SPRITES, images=6, out=tmp_path)
    rows = json.loads((tmp_path / "families.json").read_text())["families"]
    assert rows["same"]["known"] == rows["same"]["unseen"] == rows["one"]["known"]
    assert rows["one"]["unseen"] != rows["one"]["known"]
    for row in rows.values():
        for figure in families.FIGURES:
            assert 0 < row["known"][figure] <= 100
            assert row["share"][figure] == pytest.approx(
                row["unseen"][figure] / row["known"][figure]
            )
    share = rows["one"]["share"]["AP50"]
    table = capsys.readouterr().out
    assert f"{rows['one']['known']['AP50']:.1f} -> {rows['one']['unseen']['AP50']:.1f}" in table
    assert f"| mean | {50 * (share + 1):.0f} %" in table


def test_of_nothing_there_is_no_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few scenes may show no novel thing, or none that is found; JSON has no NaN."""
    seen = {"AP50": 50.0, "AP50 base": 0.0, "AP50 novel": float("nan")}
    monkeypatch.setattr(families, "measure", lambda *_: seen)
    families.main(sprites=SPRITES, families=["Fluent Emoji"], images=1, out=tmp_path)
    rows = json.loads((tmp_path / "families.json").read_text(), parse_constant=pytest.fail)
    share = rows["families"]["Fluent Emoji"]["share"]
    assert share == {"AP50": 1.0, "AP50 base": None, "AP50 novel": None}
