"""Every command that reads a dataset, on photographs with COCO's own annotations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from masqclip.cli.main import main

PHOTOGRAPHS = Path(__file__).parents[1] / "data" / "photographs"
PANOPTIC, INSTANCES = (PHOTOGRAPHS / f"{k}_train2017.json" for k in ("panoptic", "instances"))
IMAGES = ["--images", str(PHOTOGRAPHS / "train2017")]
QUICK = ["--set", "steps=1", "--set", "batch_size=2", "--set", "workers=0", "--device", "cpu"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs where COCO's validation set would lie."""
    root = tmp_path_factory.mktemp("root") / "coco"
    shutil.copytree(PHOTOGRAPHS / "train2017", root / "val2017")
    annotations = root / "annotations"
    shutil.copytree(PHOTOGRAPHS / "panoptic_train2017", annotations / "panoptic_val2017")
    for kind in ("panoptic", "instances"):
        path = PHOTOGRAPHS / f"{kind}_train2017.json"
        shutil.copyfile(path, annotations / f"{kind}_val2017.json")
    return root


@pytest.mark.parametrize("name", ["coco-instances", "coco-base-novel"])
def test_instances_are_checked(coco: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", name, "--root", str(coco), "--convert"]) == 0
    assert "1 pictures are ready for: instance" in capsys.readouterr().out


def test_panoptic_segments_are_checked(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """COCO's panoptic pictures are those with instances; here they are others."""
    root = tmp_path / "coco"
    shutil.copytree(coco, root, ignore=shutil.ignore_patterns("instances_*", "masqclip"))
    assert main(["data", "check", "coco-panoptic", "--root", str(root)]) == 0
    assert "4 pictures are ready for: semantic, panoptic" in capsys.readouterr().out


def test_a_model_is_measured(tmp_path: Path) -> None:
    for file, tasks in ((PANOPTIC, {"semantic", "panoptic"}), (INSTANCES, {"instance"})):
        out = tmp_path / file.stem
        oracles = ["--oracle", "masks", "--oracle", "classes"]
        tasked = [word for task in sorted(tasks) for word in ("-t", task)]
        words = ["evaluate", "-d", str(file), *IMAGES, "--limit", "1", "--size", "128:512"]
        assert main([*words, *tasked, *oracles, "--device", "cpu", "-o", str(out)]) == 0
        report = json.loads((out / "report.json").read_text())
        assert report["figures"].keys() == {*tasks, "masks", "classes"}
        assert report["figures"]["masks"]["mask quality"] == 1


def test_a_proposer_is_trained_distilled_and_tuned(tmp_path: Path) -> None:
    data = ["--data", str(PANOPTIC), *IMAGES, *QUICK]
    teacher, student = str(tmp_path / "teacher"), str(tmp_path / "student")
    assert main(["train", "teacher", *data, "--held-out", str(PANOPTIC), "--out", teacher]) == 0
    assert main(["train", "distill", *data, "--teacher", teacher, "--out", student]) == 0
    figures = [json.loads(line) for line in (tmp_path / "teacher/log.jsonl").open()]
    assert any("evaluation/recall stuff" in line for line in figures)


@pytest.mark.parametrize("file", [PANOPTIC, INSTANCES])
def test_a_model_is_tuned(tmp_path: Path, file: Path) -> None:
    data = ["--data", str(file), *IMAGES, *QUICK, "--held-out", str(file)]
    out = tmp_path / "tuned"
    assert main(["train", "tune", *data, "--model", "masqclip-mini", "--out", str(out)]) == 0
    assert (out / "held-out.md").exists()


def test_captions_are_learned_from(tmp_path: Path) -> None:
    """`train pretrain` takes folders of one layout."""
    folder = tmp_path / "captioned"
    shutil.copytree(PHOTOGRAPHS / "train2017", folder / "images")
    (folder / "annotations").mkdir()
    captions = PHOTOGRAPHS / "captions_train2017.json"
    shutil.copyfile(captions, folder / "annotations" / "captions.json")
    small = ["merges=60", "vision_layers=1", "text_layers=1", "batch_size=1", "steps=1"]
    settings = [word for setting in (*small, "workers=0") for word in ("--set", setting)]
    words = ["train", "pretrain", "--data", str(folder), *settings, "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "clip")]) == 0
    assert (tmp_path / "clip" / "model.safetensors").exists()


def test_a_photograph_is_segmented(tmp_path: Path) -> None:
    picture = Path(__file__).parents[2] / "examples" / "cat-and-parakeet.jpg"
    words = ["segment", str(picture), "-v", "cat, parakeet, bowl, stuff: floor tiles"]
    assert main([*words, "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir())
