"""Saved predictions: of what they were made, and what becomes of damaged ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from masqclip import Segmenter
from masqclip.data.locks import lock_folder
from masqclip.data.published import load_truth
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import evaluate, score
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.report import read_column

SPRITES = Path(__file__).parents[1] / "data" / "sprites"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


@pytest.fixture(scope="module")
def begun(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, and the predictions of them."""
    folder = tmp_path_factory.mktemp("begun")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings())
    write_stickers(folder / "scenes", world, images=2, seed=77)
    predict(segmenter, folder)
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun, tmp_path / "a")
    return tmp_path / "a"


def predict(segmenter: Segmenter, folder: Path) -> None:
    truth = load_truth("stickers", folder / "scenes")
    evaluate(segmenter, truth, ("instance", "panoptic", "masks"), folder=folder / "predictions")


def score_again(folder: Path) -> None:
    score(PredictionFolder(folder / "predictions"), load_truth("stickers", folder / "scenes"))


def test_other_weights_of_the_same_sums_are_refused(segmenter: Segmenter, folder: Path) -> None:
    parameter = next(value for value in segmenter.model.parameters() if value.ndim > 1)
    with torch.no_grad():
        parameter.copy_(parameter.flip(0))
    try:
        with pytest.raises(MasqclipError, match="another model"):
            predict(segmenter, folder)
    finally:
        with torch.no_grad():
            parameter.copy_(parameter.flip(0))


def test_other_pictures_are_refused(segmenter: Segmenter, folder: Path) -> None:
    images = folder / "scenes" / "images"
    shutil.copyfile(images / "000001.png", images / "000000.png")
    with pytest.raises(MasqclipError, match="another images"):
        predict(segmenter, folder)


def test_two_runs_at_once_are_refused(segmenter: Segmenter, folder: Path) -> None:
    with (
        lock_folder(folder / "predictions"),
        pytest.raises(MasqclipError, match="is at work in this folder"),
    ):
        predict(segmenter, folder)


@pytest.mark.parametrize(
    "content", ["", "[", "7", "[7]", "[{}, 7]", '{"a": 1}', "[" * 100_000, '[{"a": 1}]']
)
@pytest.mark.parametrize("name", ["instance/0.json", "panoptic/0.json", "masks/0.json"])
def test_a_damaged_prediction_is_one_line(folder: Path, name: str, content: str) -> None:
    (folder / "predictions" / name).write_text(content)
    with pytest.raises(MasqclipError, match=r"predict again|other masks") as caught:
        score_again(folder)
    assert "\n" not in str(caught.value)


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "deep": lambda _: None,
    "a list": lambda _: [],
    "no tasks": lambda whole: {**whole, "tasks": None},
    "a task of words": lambda whole: {**whole, "tasks": {"instance": "x"}},
    "no vocabulary": lambda whole: {k: v for k, v in whole.items() if k != "vocabulary"},
    "an odd category": lambda whole: {**whole, "vocabulary": {"categories": [1]}},
    "an odd number": lambda whole: {**whole, "pictures": "x"},
    "another protocol": lambda whole: {
        **whole,
        "tasks": {"instance": {"hash": "x", "protocol": {"unknown": 1}}},
    },
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_damaged_manifest_is_one_line(folder: Path, name: str) -> None:
    path = folder / "predictions" / "manifest.json"
    changed = MANIFESTS[name](json.loads(path.read_text()))
    path.write_text("[" * 100_000 if changed is None else json.dumps(changed))
    with pytest.raises(MasqclipError, match="predict again"):
        score_again(folder)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", '{"hashes": [], "figures": {"a": {"b": "c"}}}', "{}"]
)
def test_a_damaged_report_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(MasqclipError, match="no report of masqclip evaluate"):
        read_column(tmp_path)
