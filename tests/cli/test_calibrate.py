"""`masqclip calibrate` on a few scenes: what it writes, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masqclip.cli.main import main
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites

pytestmark = pytest.mark.usefixtures("here")
SPRITES = Path(__file__).parents[1] / "data" / "sprites"


def test_a_vocabulary_and_its_report_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    world = StickerWorld(load_sprites(SPRITES), SceneSettings())
    write_stickers(Path("scenes"), world, images=10, seed=1)
    assert main(["calibrate", "-d", "scenes", "--out", "words.json", "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "expected calibration error" in told.out
    assert "stay as they were" in told.err
    words = Vocabulary.parse("words.json")
    report = json.loads(Path("words/report.json").read_text())
    assert list(words.calibration or ()) == report["calibration"]
    least = {c.name: c.min_score for c in words.categories if c.min_score is not None}
    named = {entry["name"]: entry["min_score"] for entry in report["names"]}
    assert least == {name: round(score, 3) for name, score in named.items() if score is not None}
    assert least
    for plot in ("reliability.svg", "precision-recall.svg"):
        assert (Path("words") / plot).read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "w.txt"], "--out w.txt: a vocabulary is a JSON file"),
        (["--out", "folder.json"], "is a folder: name a file"),
        (["--out", "w.json", "--held-out", "1"], "--held-out 1: give a share between 0 and 1"),
        (["--out", "w.json", "--precision", "2"], "--precision"),
        (["--out", "w.json"], "nowhere.json"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.json").mkdir()
    assert main(["calibrate", "-d", "nowhere.json", "--images", ".", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("w.json").exists()
