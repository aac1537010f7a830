"""`masqclip train distill` and `tune` from the command line, on tiny models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from masqclip.cli.main import main
from masqclip.data.digests import digest_model
from masqclip.segmenter import Segmenter
from masqclip.training.settings import TuneSettings
from masqclip.training.tune import join

QUICK = ["--device", "cpu", "--set", "steps=2", "--set", "workers=0", "--set", "warmup_steps=0"]


@pytest.fixture
def model(tiny_clip: Path, tiny_proposer: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    settings = TuneSettings(shortest_edge=64, longest_edge=128)
    joined, tokenizer = join(tiny_clip, tiny_proposer, settings)
    joined.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_is_tuned_on_pictures_of_ones_own(
    model: Path, tiny_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "mine.json"
    data.write_bytes((tiny_scenes / "annotations/instances.json").read_bytes())
    out = tmp_path / "out"
    words = ["train", "tune", "--data", str(data), "--model", str(model), "--out", str(out)]
    assert main([*words, *QUICK]) == 2
    assert "--images DIR" in capsys.readouterr().err
    assert main([*words, "--images", str(tiny_scenes / "images"), *QUICK]) == 0
    shown, progress = capsys.readouterr()
    for label in ("before", "after"):
        ends = re.findall(rf"^{label}: (\d+) %, (\d+) of (\d+),", progress, re.MULTILINE)
        assert ends == [("100", "1", "1")], progress
    assert "1 held-out pictures" in shown
    assert "|" not in shown
    report = json.loads((out / "held-out.json").read_text())
    assert report["pictures"] == 1
    assert report["before"].keys() == report["after"].keys() >= {"mask accuracy", "AP50"}
    table = (out / "held-out.md").read_text()
    assert table.startswith("| 1 held-out pictures | before | after |")
    assert all(cell in shown for cell in table.splitlines()[2].split("|")[2:4])
    queries = load_file(out / "queries.safetensors")
    tuned = Segmenter.from_pretrained(out, device="cpu").model.queries.state_dict()
    assert all(torch.equal(queries[name], value) for name, value in tuned.items())


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"iscrowd": 1}, 2, "holds no mask to learn from"),
        ({"segmentation": []}, 2, "annotations without a mask"),
        ({"image_id": 99}, 2, "annotations of pictures that 'images' does not list"),
        (None, 0, "left out: 1 annotations without a mask (the first: annotations[0], of"),
    ],
)
def test_what_is_left_out_is_said_and_nothing_is_not_tuned_on(
    model: Path,
    tiny_scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object] | None,
    code: int,
    said: str,
) -> None:
    document = json.loads((tiny_scenes / "annotations/instances.json").read_text())
    for annotation in document["annotations"]:
        annotation |= change or {}
    if change is None:
        document["annotations"][0]["segmentation"] = []
    data = tmp_path / "mine.json"
    data.write_text(json.dumps(document))
    words = ["train", "tune", "--data", str(data), "--images", str(tiny_scenes / "images")]
    words += ["--model", str(model), "--out", str(tmp_path / "out"), "--held-out", "0"]
    assert main([*words, *QUICK]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert len([line for line in shown.splitlines() if line.startswith("masqclip: ")]) == 1


def test_a_student_is_distilled_and_its_teachers_masks_can_be_looked_at(
    tiny_scenes: Path, tiny_proposer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "found.json"
    words = ["train", "distill", "--data", str(tiny_scenes), "--teacher", str(tiny_proposer)]
    words += ["--rounds", "2", "--save-pseudo-labels", str(labels), "--set", "batch_size=2"]
    assert main([*words, "--out", str(tmp_path / "student"), *QUICK]) == 0
    assert "distill is done" in capsys.readouterr().out
    assert len(json.loads(labels.read_text())["images"]) == 12
    for folder in ("student", "student/round-1"):
        assert (tmp_path / folder / "model.safetensors").is_file()


def test_weights_by_a_name_of_the_hub_are_told_apart_too(
    tiny_scenes: Path,
    tiny_clip: Path,
    tiny_proposer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The paper's recipe names its CLIP so; a run holds the digest of what was downloaded."""
    places = {"some/clip": tiny_clip, "some/proposer": tiny_proposer}
    monkeypatch.setattr("masqclip.hub.find.download", lambda name, **_: places[name])
    monkeypatch.chdir(tmp_path)
    words = ["--data", str(tiny_scenes), "--set", "shortest_edge=64", "--set", "batch_size=2"]
    tune = ["train", "tune", *words, "--clip", "some/clip", "--proposer", "some/proposer"]
    assert main([*tune, "--out", "tuned", *QUICK]) == 0
    distil = ["train", "distill", *words[:2], "--teacher", "some/proposer", *words[-2:]]
    assert main([*distil, "--out", "student", *QUICK]) == 0
    held = json.loads((tmp_path / "tuned/inputs.json").read_text())
    held |= json.loads((tmp_path / "student/inputs.json").read_text())
    assert held["--clip"] == digest_model(tiny_clip)
    assert held["--proposer"] == held["--teacher"] == digest_model(tiny_proposer)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clip", "x"], "--model"),
        (["--model", "x", "--clip", "y"], "--model"),
        (["--model", "masqclip-mini", "--held-out", "1.5"], "held out"),
        (["--model", "masqclip-mini", "--classes", "coco"], "no class list"),
        (["--model", "masqclip-mini", "--set", "maks=both"], "'masks'"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    said: str,
    tiny_scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ["--data", str(tiny_scenes), "--out", str(tmp_path / "out")]
    assert main(["train", "tune", *data, *words]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
