"""Datasets of the wider names of a hierarchy, and of objects of whatever class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from masqclip.cli.main import main

BEACH = Path(__file__).parents[2] / "examples/beach.png"
TREE = "vehicle > rocket, car; plant > tulip"


def labelled(tmp_path: Path, words: str, *more: str) -> tuple[list[str], list[int]]:
    """Names of the categories, and those of the annotations, of a dataset of one picture."""
    folder = tmp_path / "pictures"
    folder.mkdir(exist_ok=True)
    shutil.copy(BEACH, folder)
    out = tmp_path / "labels"
    command = ["label", str(folder), "-v", words, "-f", "coco", "-o", str(out), "-q", *more]
    assert main(command) == 0
    document = json.loads((out / "annotations.json").read_text())
    found = sorted(annotation["category_id"] for annotation in document["annotations"])
    return [category["name"] for category in document["categories"]], found


def test_a_level_is_what_is_labelled(tmp_path: Path) -> None:
    names, found = labelled(tmp_path, TREE, "--level", "0", "--not", "snake, sand")
    assert names == ["vehicle", "plant"]
    assert set(found) == {1, 2}


def test_another_level_is_another_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labelled(tmp_path, TREE)[0] == ["rocket", "car", "tulip"]
    command = ["label", str(tmp_path / "pictures"), "-v", TREE, "-f", "coco", "-q"]
    assert main([*command, "-o", str(tmp_path / "labels"), "--level", "0"]) == 2
    assert "level" in capsys.readouterr().err


def test_objects_of_whatever_class_are_one_category(tmp_path: Path) -> None:
    names, found = labelled(tmp_path, "everything")
    assert names == ["object"]
    assert len(found) >= 4
