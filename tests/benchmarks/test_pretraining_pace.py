"""The benchmarks of pretraining run through, and count what they say they count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gpu_calls import BENCHMARKS
from test_mean_weights import clip

import portraits
import pretraining
import styles
from masqclip.data.stickers.source import StickerSource
from masqclip.errors import MasqclipError

SPRITES = BENCHMARKS.parent / "tests" / "data" / "sprites"


def test_both_sides_train_in_turns_and_name_portraits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    try:
        pretraining.main(
            sprites=SPRITES, minutes=0.01, pictures=64, count=20, threads=1, out=tmp_path
        )
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "pretraining.json").read_text())
    files, streamed = found["rows"]["files"], found["rows"]["streamed, all means"]
    assert files["times the first"] == 1
    assert streamed["pictures"] % 256 == 0 < streamed["pictures"]
    assert streamed["pictures a second"] > files["pictures a second"]
    assert "streamed, all means" in capsys.readouterr().out


def test_each_kind_of_change_has_a_clip_of_its_own(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        styles.main(
            sprites=SPRITES, minutes=0.005, count=20, looks=["none", "line+shape"], out=tmp_path
        )
    finally:
        torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "styles.json").read_text())["rows"]
    assert rows.keys() == {"none", "line+shape"}
    assert all(row["pictures"] >= 256 and "studios of training" in row for row in rows.values())


def test_accuracy_counts_ranks() -> None:
    assert portraits.accuracies(torch.tensor([0, 0, 3, 9])) == {"top 1": 50.0, "top 5": 75.0}


def test_strangers_are_the_families_that_nobody_trains_on() -> None:
    source = StickerSource(sprites=SPRITES, kind="portraits")
    assert portraits.strangers(source) == {}  # of the first world only one of the Fluents is unseen


def test_clips_are_told_apart_by_their_whole_paths(tmp_path: Path) -> None:
    """Runs are named, and what they make is called the same in all of them."""
    folders = [clip(tmp_path / run / "clip", seed) for seed, run in enumerate(("a", "b"))]
    portraits.main(folders, sprites=SPRITES, count=2, out=tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.keys() == {str(folder) for folder in folders}
    with pytest.raises(MasqclipError, match="--size 128: this CLIP sees 112 pixels; give no more"):
        portraits.main(folders, sprites=SPRITES, count=2, size=128)
    with pytest.raises(MasqclipError, match="--size 50: give a multiple of 8, the side of this"):
        portraits.main(folders, sprites=SPRITES, count=2, size=50)
