"""`masqclip evaluate` on scenes of the miniature world: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from forked import MASQCLIP, run_together
from masqclip.cli.main import main
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites

SPRITES = Path(__file__).parents[1] / "data" / "sprites"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings())
    write_stickers(folder, world, images=4, seed=78)
    return folder


@pytest.fixture(scope="module")
def words(scenes: Path) -> list[str]:
    return ["evaluate", "-d", "stickers", "--root", str(scenes), "--device", "cpu"]


@pytest.fixture(scope="module")
def measured(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "tuned"
    assert main([*words, "--out", str(out)]) == 0
    return out


def figures(out: Path) -> dict[str, dict[str, float]]:
    return dict(json.loads((out / "report.json").read_text())["figures"])


def test_what_is_written(measured: Path) -> None:
    report = json.loads((measured / "report.json").read_text())
    assert report["figures"].keys() == {"instance", "semantic", "panoptic"}
    assert report["model"]["name"] == "masqclip-mini"
    assert report["protocols"]["panoptic"]["object_threshold"] == 0.3
    table = (measured / "report.md").read_text()
    for task, name in (("instance", "AP50 novel"), ("semantic", "mIoU"), ("panoptic", "PQ things")):
        value = report["figures"][task][name]
        shown = "-" if value is None else f"{100 * value:.1f}"
        assert f"| {name} | {shown} | `{report['hashes'][task]}` |" in table
    with (measured / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 149
    assert rows[0].keys() == {
        "id", "name", "thing", "split", "AP", "AP50", "IoU", "Acc", "PQ", "SQ", "RQ",
    }  # fmt: skip
    with Image.open(measured / "examples.png") as sheet:
        assert min(sheet.size) > 500
    assert len(list((measured / "predictions" / "panoptic").glob("*.png"))) == 4


def test_predictions_are_scored_again(
    measured: Path,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("masqclip.render.overlay.can_write", lambda name: name != "ant")
    out = tmp_path / "again"
    given = ["--predictions", str(measured / "predictions"), "--root", str(scenes)]
    assert main(["evaluate", *given, "--out", str(out)]) == 0
    for name in ("report.json", "report.md", "classes.csv", "examples.png"):
        assert (out / name).read_bytes() == (measured / name).read_bytes()
    assert "note: no font here has the letters of some names" in capsys.readouterr().err


def test_figures_side_by_side(
    measured: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "untuned"
    saved = tmp_path / "elsewhere"
    options = ["-t", "panoptic", "--untuned", "--object-threshold", "0.1", "--quiet"]
    folders = ["--out", str(out), "--save-predictions", str(saved), "--beside", str(measured)]
    assert main([*words, *options, *folders]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "masqclip-mini (untuned)" in shown.out
    assert "not comparable" in shown.out
    table = (out / "report.md").read_text()
    assert "| | masqclip-mini (untuned) | tuned | protocol |" in table
    value = 100 * figures(measured)["panoptic"]["PQ"]
    assert f"| {value:.1f}* |" in table, "another threshold does not compare, and it shows"
    assert len(list((saved / "panoptic").glob("*.png"))) == 4
    assert not (out / "predictions").exists()


def test_oracles(words: list[str], tmp_path: Path) -> None:
    options = ["--oracle", "masks", "--oracle", "classes", "--limit", "2", "--no-object-score"]
    assert main([*words, *options, "--split", "base", "--out", str(tmp_path)]) == 0
    found = figures(tmp_path)
    assert found.keys() == {"masks", "classes"}
    assert found["masks"]["mask quality"] == 1.0
    assert "mask accuracy novel" not in found["masks"], "base classes only"
    table = (tmp_path / "report.md").read_text()
    assert "| mask quality | 100.0 |" in table
    assert not (tmp_path / "examples.png").exists()


def test_two_processes_give_the_figures_of_one(
    measured: Path, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    both = run_together(MASQCLIP, *words, "-o", str(out), processes=2, scratch=tmp_path)
    assert [done.returncode for done in both] == [0, 0], both[0].stderr + both[1].stderr
    assert [done.stdout.count("written:") for done in both] == [1, 0]
    for task, expected in figures(measured).items():
        found = figures(out)[task]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no dataset is given"),
        (["-d", "coco"], "there is no dataset 'coco': choose one of coco-instances"),
        (["-d", "none.json"], "cannot read the annotations none.json"),
        (["-d", "ade20k-150", "--root", "nowhere"], "--root nowhere: there is no such folder"),
        (["--predictions", "nowhere"], "nowhere holds no predictions"),
        (["-d", "stickers", "--beside", "nowhere"], "no report of masqclip evaluate"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *options]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--limit", "0"], "--limit 0"),
        (["--split", "old"], "choose base or novel"),
        (["--vocabulary", "cat, dog"], "lacks 147 classes of stickers"),
        (["--overlap-threshold", "7"], "overlap_threshold is 7"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str],
    said: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*words, *options, "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert not (tmp_path / "out").exists()
