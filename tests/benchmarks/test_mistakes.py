"""A benchmark that is given something wrong says so in one line, before anything is made."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from gpu_calls import BENCHMARKS

import masqclip
import ship
from masqclip.errors import MasqclipError
from mistakes import mistakes_told

SPRITES = str(BENCHMARKS.parent / "tests" / "data" / "sprites")
WITH = f"--sprites {SPRITES} --out out "

MISTAKES = {
    "mean_weights nowhere other --out out": "'nowhere/config.json': no such file",
    "mean_weights a-list other --out out": "no CLIP can be loaded from 'a-list'",
    "mean_weights nowhere other --out a-list/config.json": "is a file; name a folder",
    "portraits nowhere --sprites nowhere": "no sprite cache at nowhere",
    f"portraits nowhere --sprites {SPRITES}": "there is no CLIP 'nowhere'",
    f"portraits nowhere --sprites {SPRITES} --count 0": "--count 0: give 1 or more",
    f"portraits nowhere --sprites {SPRITES} --size 0": "--size 0: give 16 or more",
    f"pretraining {WITH} --minutes 0": "--minutes 0: give more than 0",
    f"pretraining {WITH} --minutes nan": "--minutes nan: give more than 0",
    f"pretraining {WITH} --pictures 0": "--pictures 0: give 1 or more",
    "pretraining --sprites nowhere --out out": "no sprite cache at nowhere",
    f"styles {WITH} --minutes -1": "--minutes -1: give more than 0",
    f"styles {WITH} --count 0": "--count 0: give 1 or more",
    f"held_out_families {WITH} --images 0": "--images 0: give 1 or more",
    f"held_out_families {WITH} --families Nots": "--families 'Nots': there are 'Fluent Emoji',",
    "held_out_families --sprites nowhere --out out": "no sprite cache at nowhere",
    "busy nowhere": "nowhere: no such file or folder",
    "busy nowhere --rounds 0": "--rounds 0: give 1 or more",
    "examples nonsense": "nonsense: give --shots",
    "examples nonsense --shots nowhere": "nonsense: give --held-out",
    "examples time --rounds 0": "--rounds 0: give 1 or more",
    "fill_tables nowhere": "nowhere/first/untuned is no report of masqclip evaluate",
    "own_world nowhere a-list a-list": "a-list",
    "own_world nowhere nowhere a-list": "nowhere: no such file or folder",
    "own_world nowhere nowhere a-list --scenes 1": "--scenes 1: give 4 or more",
    "ship --run nowhere --stage nowhere": "'nowhere/progress.json': no such file",
}


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")
@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Some choose their threads first; with others, later tests would add in another order.
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    Path("a-list").mkdir()
    Path("a-list/config.json").write_text("[]")
    program, *options = words.split()
    monkeypatch.setattr(sys, "argv", [program, *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{program}.py"), run_name="__main__")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("masqclip: error: ")
    assert MISTAKES[words] in line
    assert not Path("out").exists()


def test_what_a_disk_refuses_is_one_line_and_a_defect_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, mistakes_told():
        tmp_path.write_text("")
    assert ended.value.code == 2
    assert "Is a directory: name a file" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), mistakes_told():
        _ = 1 / 0


def test_what_cannot_be_shipped_leaves_the_model_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = BENCHMARKS.parent / "src" / "masqclip" / "models" / "masqclip-mini"
    monkeypatch.setattr(masqclip, "__file__", str(tmp_path / "__init__.py"))
    model = tmp_path / "models" / "mine"
    stage = tmp_path / "clip"
    stage.mkdir()
    (stage / "progress.json").write_text(json.dumps({"step": 3, "seconds": 90}))
    ship.main(run=mini, stage=[stage], name="mine")
    before = {path: path.read_bytes() for path in model.iterdir()}
    assert json.loads(before[model / "model_card.json"])["stages"] == {
        "clip": {"steps": 3, "minutes": 1.5}
    }
    wrong = (
        ({"stage": [tmp_path / "other"]}, "no such file"),
        ({"stage": [stage], "measured": [tmp_path]}, "is no report"),
        (
            {"stage": [stage], "earlier": ["clip-a"]},
            "--earlier clip-a: the card of mine has the",
        ),
        ({"stage": [stage], "earlier": ["clip"]}, "two stages are called 'clip'"),
        ({"stage": [stage, stage]}, "two stages are called 'clip'"),
    )
    for options, said in wrong:
        with pytest.raises(MasqclipError, match=said):
            ship.main(run=mini, name="mine", **options)  # type: ignore[arg-type]
        assert {path: path.read_bytes() for path in model.iterdir()} == before
