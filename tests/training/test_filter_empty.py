"""Pictures without an annotation to learn from are left out, as published, or a recipe says no."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masqclip.cli.main import main
from masqclip.data.coco import CocoInstances, CocoPanoptic, is_base
from masqclip.data.open_coco import CocoMasks
from masqclip.errors import MasqclipError
from masqclip.training.checkpoints import Checkpoints
from masqclip.training.distill import DistillStage
from masqclip.training.loop import train
from masqclip.training.settings import (
    DistillSettings,
    FrameSettings,
    LoopSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join
from tiny import tiny_proposer_config

LOOP = LoopSettings(steps=1, workers=0, log_every=1)
SMALL = {"image_size": 64, "batch_size": 2}
TEACHER = TeacherSettings(**SMALL, num_points=64, freeze_batch_norm=False)
DISTILL = DistillSettings(**SMALL, num_points=64, freeze_batch_norm=False)
TUNE = TuneSettings(augmentation="none", batch_size=2, shortest_edge=64, longest_edge=128)
SETTINGS: dict[str, FrameSettings] = {"teacher": TEACHER, "distill": DISTILL, "tune": TUNE}


@pytest.fixture
def scenes(tiny_scenes: Path, tmp_path: Path) -> Path:
    """Scenes: the first has a crowd only, the second novel things only, the third nothing."""
    folder = tmp_path / "scenes"
    shutil.copytree(tiny_scenes, folder)
    for kind in ("instances", "panoptic"):
        path = folder / f"annotations/{kind}.json"
        document = json.loads(path.read_text())
        novel = next(c["id"] for c in document["categories"] if c["split"] == "novel")
        first, second, third = (image["id"] for image in document["images"][:3])
        for annotation in document["annotations"]:
            entries = annotation.get("segments_info", [annotation])
            for entry in entries:
                if annotation["image_id"] == first:
                    entry["iscrowd"] = 1
                if annotation["image_id"] == second:
                    entry["category_id"] = novel
        document["annotations"] = [a for a in document["annotations"] if a["image_id"] != third]
        path.write_text(json.dumps(document))
    return folder


KINDS = {"instances": CocoInstances, "panoptic": CocoPanoptic}


def make(
    stage: str, dataset: CocoMasks, settings: FrameSettings, clip: Path, proposer: Path
) -> Stage:
    if isinstance(settings, DistillSettings):
        return DistillStage(dataset, proposer, settings)
    if isinstance(settings, TeacherSettings):
        return TeacherStage(dataset, tiny_proposer_config(), settings)
    assert isinstance(settings, TuneSettings)
    model, tokenizer = join(clip, proposer, settings)
    return TuneStage(model, tokenizer, dataset, settings)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_told_without_reading_a_picture(scenes: Path, kind: str) -> None:
    shutil.rmtree(scenes / "images")
    dataset = KINDS[kind](scenes, keep=is_base)
    left = dataset.annotated()
    kept = [dataset.entry(row)["id"] for row in range(3, len(dataset))]
    found = [left.entry(row)["id"] for row in range(len(left))]
    assert set(found) <= set(kept)
    for row in range(3, len(dataset)):
        entries = dataset.annotations(row)
        if kind == "panoptic":
            entries = [segment for entry in entries for segment in entry["segments_info"]]
        base = any(e["category_id"] in dataset.categories.kept for e in entries)
        assert (dataset.entry(row)["id"] in found) is base
    everything = dataset.keeping(None).annotated()
    assert len(everything) == len(dataset) - 2  # novel things count, once they are kept
    assert len(dataset.keeping(lambda category: False).annotated()) == 0


@pytest.mark.parametrize("stage", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_without_an_annotation_are_left_out_and_counted(
    scenes: Path, tiny_clip: Path, tiny_proposer: Path, kind: str, stage: str
) -> None:
    dataset, settings = KINDS[kind](scenes, keep=is_base), SETTINGS[stage]
    assert settings.filter_empty
    left = len(dataset.annotated())
    assert 0 < left <= 9
    filtered = make(stage, dataset, settings, tiny_clip, tiny_proposer)
    whole = make(stage, dataset, replace(settings, filter_empty=False), tiny_clip, tiny_proposer)
    assert filtered.data["pictures"] == left
    assert whole.data["pictures"] == 12
    told = [note for note in filtered.notes if note not in whole.notes]
    assert len(told) == 1
    assert f"{12 - left} of 12 pictures" in told[0]
    assert "\n" not in told[0]
    assert filtered.inputs["--data"] == dataset.annotated().fingerprint()
    assert filtered.inputs["--data"] != whole.inputs["--data"]
    assert filtered.skipped.total == left  # type: ignore[attr-defined]


def test_held_out_pictures_are_all_kept(scenes: Path) -> None:
    dataset = CocoInstances(scenes, keep=is_base)
    stage = TeacherStage(dataset, tiny_proposer_config(), TEACHER, held_out=dataset)
    assert stage.held_out is not None
    assert len(stage.held_out) == 12


@pytest.mark.parametrize("stage", SETTINGS)
def test_nothing_left_is_refused_in_a_line(
    scenes: Path, tiny_clip: Path, tiny_proposer: Path, stage: str
) -> None:
    empty = CocoInstances(scenes, keep=is_base).part([0, 1, 2])
    with pytest.raises(MasqclipError, match="none of the 3 pictures") as error:
        make(stage, empty, SETTINGS[stage], tiny_clip, tiny_proposer)
    assert "filter_empty" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_does_not_go_on_with_the_other_value(scenes: Path, tmp_path: Path) -> None:
    dataset = CocoInstances(scenes, keep=is_base)

    def run(pictures: CocoMasks, out: Path, *, filter_empty: bool) -> None:
        settings = replace(TEACHER, filter_empty=filter_empty)
        stage = TeacherStage(pictures, tiny_proposer_config(), settings)
        train(stage, LOOP, out, device="cpu")

    run(dataset, tmp_path / "some", filter_empty=True)
    with pytest.raises(MasqclipError, match="--data"):
        run(dataset, tmp_path / "some", filter_empty=False)
    run(dataset.annotated(), tmp_path / "all", filter_empty=True)
    with pytest.raises(MasqclipError, match="filter_empty"):
        run(dataset.annotated(), tmp_path / "all", filter_empty=False)


def test_a_run_of_a_release_that_did_not_know_a_setting_does_not_go_on(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = TeacherStage(CocoInstances(tiny_scenes), tiny_proposer_config(), TEACHER)
    known = Checkpoints._settings

    def older(self: Checkpoints) -> dict[str, Any]:
        settings = known(self)
        return {
            table: {name: value for name, value in values.items() if name != "filter_empty"}
            for table, values in settings.items()
        }

    monkeypatch.setattr(Checkpoints, "_settings", older)
    assert train(stage, LOOP, tmp_path / "run", device="cpu")
    monkeypatch.undo()
    with pytest.raises(MasqclipError, match=r"another release, which did not know 'filter_empty'"):
        train(stage, replace(LOOP, steps=2), tmp_path / "run", device="cpu")


def test_a_preview_of_pseudo_labels_is_of_the_pictures_that_are_trained_on(
    scenes: Path, tiny_proposer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "found.json"
    words = ["train", "distill", "--data", str(scenes), "--teacher", str(tiny_proposer)]
    words += ["--save-pseudo-labels", str(labels), "--out", str(tmp_path / "student")]
    words += ["--device", "cpu", "--set", "batch_size=2", "--set", "filter_empty=true"]
    words += ["--set", "steps=1", "--set", "workers=0", "--set", "warmup_steps=0"]
    assert main(words) == 0
    left = len(CocoPanoptic(scenes, keep=is_base).annotated())
    assert len(json.loads(labels.read_text())["images"]) == left
    assert f"{12 - left} of 12 pictures" in capsys.readouterr().err
