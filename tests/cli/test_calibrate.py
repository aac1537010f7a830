"""`masqclip calibrate` on a few scenes: what it writes, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masqclip.cli.calibrate import _with_scores
from masqclip.cli.main import main
from masqclip.clip.category import Category
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.score_scale import least_scores

pytestmark = pytest.mark.usefixtures("here")
SPRITES = Path(__file__).parents[1] / "data" / "sprites"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


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


def test_names_that_are_not_annotated_are_reported_as_before() -> None:
    given = Vocabulary((Category("fox", min_score=0.4), Category("owl")), calibration=(2, 2, 0.5))
    words = _with_scores(given, given, (1.0, 1.0, -1.0), [None, 0.25])
    assert words.categories[1].min_score == 0.25
    least, before = (least_scores(v, 0.3)[0] for v in (words, given))
    assert least == pytest.approx(before)


def test_held_out_pictures_show_something(capsys: pytest.CaptureFixture[str]) -> None:
    world = StickerWorld(load_sprites(SPRITES), SceneSettings())
    write_stickers(Path("scenes"), world, images=6, seed=1)
    file = Path("scenes/annotations/instances.json")
    document = json.loads(file.read_text())
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] == 0]
    Path("few.json").write_text(json.dumps(document))
    words = ["calibrate", "-d", "few.json", "--images", "scenes/images", "--held-out", "0.2"]
    assert main([*words, "--out", "w.json", "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing is annotated on the 1 pictures that are held out" in line
    assert not Path("w.json").exists()


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
