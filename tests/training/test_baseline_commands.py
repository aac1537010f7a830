"""`masqclip train baseline`, and what other commands say to its results, on tiny models."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from baseline_runs import SETTINGS, STAGES
from transformers import SamConfig, SamModel

from drawings import drawings, write_cache
from masqclip.cli.main import main
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter
from masqclip.training.recipes import load_recipe, write_recipe
from masqclip.training.settings import LoopSettings
from masqclip.training.systems import BASELINES

CAPTIONED = ("openseg", "xpm")


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of every stage."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    loop = LoopSettings(steps=2, clip_norm=1.0, workers=0)
    text = "\n".join(write_recipe(name, SETTINGS[name], loop) for name in STAGES)
    file.write_text(text)
    return file


@pytest.fixture
def words(tiny_scenes: Path, tiny_clip: Path, tiny_proposer: Path, recipe: Path) -> list[str]:
    """What every call gives, but for the system, what it reads, and --out."""
    return [
        "--data", str(tiny_scenes), "--clip", str(tiny_clip), "--proposer", str(tiny_proposer),
        "--recipe", str(recipe), "--device", "cpu",
    ]  # fmt: skip


def own(system: str) -> list[str]:
    return ["--words", "stickers"] if system == "xpm" else []


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_scenes: Path,
    tiny_clip: Path,
    tiny_proposer: Path,
    recipe: Path,
) -> dict[str, Path]:
    """The folders of all systems, as the command makes them."""
    out = tmp_path_factory.mktemp("baselines")
    for system in BASELINES:
        call = ["train", "baseline", system, "--data", str(tiny_scenes), "--clip", str(tiny_clip)]
        call += ["--proposer", str(tiny_proposer), "--recipe", str(recipe), "--device", "cpu"]
        assert main([*call, *own(system), "--out", str(out / system)]) == 0
    return {system: out / system for system in BASELINES}


def refused(capsys: pytest.CaptureFixture[str], *call: str, code: int = 2) -> str:
    """The one line of an error."""
    capsys.readouterr()
    assert main([*call]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_recipes_hold_every_setting_of_every_stage(recipe: Path) -> None:
    for name in STAGES:
        settings, loop = load_recipe(recipe, name)
        assert asdict(settings) == asdict(SETTINGS[name])
        assert loop.steps == 2


@pytest.mark.parametrize("system", BASELINES)
def test_a_baseline_is_trained(system: str, trained: dict[str, Path]) -> None:
    folder = trained[system]
    assert json.loads((folder / "config.json").read_text())["system"] == system
    assert Segmenter.from_pretrained(folder, device="cpu").model.system == system
    stages = {"xpm": ["captions", "teacher", ""]}.get(system, [""])
    for place in stages:
        assert json.loads((folder / place / "progress.json").read_text())["step"] == 2
        inputs = json.loads((folder / place / "inputs.json").read_text())
        assert {"--data", "--clip", "--proposer"} <= set(inputs)
        assert ("--captions" in inputs) == (system in CAPTIONED)
        assert ("the stage before" in inputs) == (place != stages[0])


def test_what_is_done_is_not_done_again(
    trained: dict[str, Path], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (trained["xpm"] / "model.safetensors").read_bytes()
    torch.manual_seed(99)  # as another process draws
    call = ["train", "baseline", "xpm", *words, *own("xpm"), "--out", str(trained["xpm"])]
    assert main(call) == 0
    assert (trained["xpm"] / "model.safetensors").read_bytes() == weights
    assert "xpm-student is done" in capsys.readouterr().out


def test_captions_may_stand_elsewhere(
    words: list[str], tiny_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "said.json"
    captions.write_bytes((tiny_scenes / "annotations/captions.json").read_bytes())
    call = ["train", "baseline", "openseg", *words, "--out", str(tmp_path / "out")]
    call += ["--caption-data", str(tiny_scenes), "--captions", str(captions)]
    assert main([*call, "--held-out", "0.2"]) == 0
    assert "openseg is done" in capsys.readouterr().out
    found = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert any("evaluation/mIoU" in line for line in found)
    document = json.loads(captions.read_text())
    for annotation in document["annotations"]:
        annotation["caption"] = "a blue whale"
    captions.write_text(json.dumps(document))
    line = refused(capsys, *call, "--held-out", "0.2")
    assert "other content of --captions" in line


def test_a_dry_run_trains_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", "baseline", "maskclip", *words, "--out", str(out), "--dry-run"]) == 0
    assert "parameters: 10,624 train" in capsys.readouterr().out
    assert not out.exists()


@pytest.mark.parametrize(
    ("system", "more", "said"),
    [
        ("lseg", ["--captions", "x.json"], "--captions: lseg reads no captions"),
        ("maskclip", ["--words", "stickers"], "--words: maskclip reads no captions"),
        ("xpm", ["--caption-data", "x", "--words", "stickers"], "--caption-data: xpm"),
        ("lseg", ["--caption-data", "x"], "--caption-data: lseg"),
        ("xpm", [], "say which, by the name of a vocabulary or a file of names, with --words"),
        ("openseg", ["--captions", "nowhere"], "there are no captions in nowhere"),
        ("openseg", ["--caption-data", "nowhere"], "nowhere"),
        ("lseg", ["--set", "momentun=0.5"], "did you mean 'momentum'?"),
        ("lseg", ["--set", "momentum=1.5"], "momentum is 1.5"),
        ("lseg", ["--recipe", "miniature-nowhere"], "there is no recipe 'miniature-nowhere'"),
        ("lseg", ["--clip", "nowhere/at/all"], "nowhere/at/all"),
        ("openseg", ["--set", "width=30"], "no multiple of two times heads"),
        ("openseg", ["--set", "accumulate=2"], "cannot split it"),
    ],
)
def test_a_mistake_is_one_line(
    system: str,
    more: list[str],
    said: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = list(words)
    for option in ("--recipe", "--clip"):
        if option in more:
            at = call.index(option)
            del call[at : at + 2]
    out = ["--out", str(tmp_path / "out")]
    assert said in refused(capsys, "train", "baseline", system, *call, *out, *more)
    assert not (tmp_path / "out/model.safetensors").exists()


def test_there_is_no_other_baseline(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["train", "baseline", "ovseg", *words, "--out", str(tmp_path / "out")]
    assert "ovseg" in refused(capsys, *call)


def test_data_without_captions(
    words: list[str], tiny_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "mine.json"
    data.write_bytes((tiny_scenes / "annotations/instances.json").read_bytes())
    call = ["train", "baseline", "openseg", *words, "--out", str(tmp_path / "out")]
    call[call.index("--data") + 1] = str(data)
    call += ["--images", str(tiny_scenes / "images")]
    line = refused(capsys, *call)
    assert f"openseg reads captions, and {data} is no folder with some" in line
    assert "with --captions" in line
    document = json.loads((tiny_scenes / "annotations/captions.json").read_text())
    for image in document["images"]:
        image["id"] += 1000
    for annotation in document["annotations"]:
        annotation["image_id"] += 1000
    other = tmp_path / "others.json"
    other.write_text(json.dumps(document))
    line = refused(capsys, *call, "--captions", str(other))
    assert "none of the 12 pictures of" in line
    assert "has a caption" in line


def test_scenes_that_are_drawn_have_no_captions(
    words: list[str], tiny_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = write_cache(tmp_path / "cache", drawings())
    call = [*words, "--out", str(tmp_path / "out")]
    call[call.index("--data") + 1] = f"stickers:sprites={cache},size=64,styles=0.5,seed=3"
    line = refused(capsys, "train", "baseline", "openseg", *call)
    assert "is no folder with some: give COCO's file of captions with --captions" in line
    captions = ["--captions", str(tiny_scenes)]
    line = refused(capsys, "train", "baseline", "openseg", *call, *captions)
    assert "openseg reads captions of files; write scenes to a folder" in line
    assert main(["train", "baseline", "lseg", *call]) == 0  # which reads none


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Proposers without a pixel decoder that can be trained."""
    folder = tmp_path_factory.mktemp("others")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "mlp_dim": 16}
    SamModel(SamConfig(vision_config=small)).save_pretrained(folder / "sam")
    eomt: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 2,
        "image_size": 64, "patch_size": 16, "num_blocks": 1, "num_queries": 7, "num_labels": 3,
    }  # fmt: skip
    config = transformers.EomtConfig(**eomt)
    transformers.EomtForUniversalSegmentation(config).save_pretrained(folder / "eomt")
    return {"sam": folder / "sam", "eomt": folder / "eomt"}


@pytest.mark.parametrize("system", ["lseg", "openseg", "xpm"])
@pytest.mark.parametrize("kind", ["sam", "eomt"])
def test_a_proposer_without_a_pixel_decoder(
    system: str,
    kind: str,
    others: dict[str, Path],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["train", "baseline", system, *words, *own(system), "--out", str(tmp_path / "out")]
    call[call.index("--proposer") + 1] = str(others[kind])
    line = refused(capsys, *call)
    assert f"a proposer of the type {kind!r} has no pixel decoder that {system} could" in line


def test_maskclip_takes_any_proposer(
    others: dict[str, Path], words: list[str], tmp_path: Path
) -> None:
    call = ["train", "baseline", "maskclip", *words, "--out", str(tmp_path / "out")]
    call[call.index("--proposer") + 1] = str(others["eomt"])
    assert main(call) == 0


# Its results elsewhere


@pytest.mark.parametrize("system", BASELINES)
def test_what_a_system_has_is_measured(
    system: str,
    trained: dict[str, Path],
    tiny_scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["evaluate", "--dataset", "stickers", "--root", str(tiny_scenes), "--limit", "2"]
    call += ["--model", str(trained[system]), "--device", "cpu", "--quiet"]
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    noted = capsys.readouterr().err
    figures = json.loads((tmp_path / "out/report.json").read_text())["figures"]
    if system in ("lseg", "openseg"):
        assert set(figures) == {"semantic"}
        assert f"note: {system} has no instance and no panoptic segmentation" in noted
    else:
        assert set(figures) == {"instance", "semantic", "panoptic"}
        assert "note: " not in noted
    assert "mIoU" in figures["semantic"]

    def cannot(*more: str) -> str:
        return refused(capsys, *call, *more, "--out", str(tmp_path / "none"))

    assert f"--untuned: a model of the system {system!r} has no tuned" in cannot("--untuned")
    line = cannot("--oracle", "masks")
    assert f"the system {system!r} cannot be measured in 'masks': choose" in line
    if system in ("lseg", "openseg"):
        assert "cannot be measured in 'panoptic': choose semantic" in cannot("--task", "panoptic")
        assert "cannot be measured in 'classes'" in cannot("--oracle", "classes")
    else:
        assert main([*call, "--oracle", "classes", "--out", str(tmp_path / "recall")]) == 0


def test_pictures_are_segmented(
    trained: dict[str, Path],
    tiny_scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = str(sorted((tiny_scenes / "images").iterdir())[0])
    call = ["segment", picture, "-v", "cat, rocket", "--model", str(trained["lseg"])]
    call += ["--device", "cpu", "--out", str(tmp_path)]
    assert main([*call, "--task", "semantic"]) == 0
    line = refused(capsys, *call)
    assert "'lseg' has no panoptic segmentation: ask for semantic" in line


def test_no_queries_are_tuned_in_them(
    trained: dict[str, Path],
    tiny_scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["train", "tune", "--data", str(tiny_scenes), "--model", str(trained["maskclip"])]
    line = refused(capsys, *call, "--out", str(tmp_path / "out"), "--device", "cpu")
    assert "'maskclip' has no queries to tune" in line


# What a folder may say of itself


@pytest.mark.parametrize(
    ("system", "change", "said"),
    [
        ("lseg", {"system": "nobody"}, "the system 'nobody', which is not known: there are"),
        ("lseg", {"system": ["lseg"]}, "not known"),
        ("lseg", {"system": None}, "not known"),
        ("lseg", {"system": "x" * 9999}, "not known"),
        ("lseg", {"system": "maskclip"}, "it has no 'attention."),
        ("lseg", {"system": "xpm"}, "it has no 'encoder."),
        ("openseg", {"system_config": {"width": "32"}}, "width = 32; of openseg it is a whole"),
        ("openseg", {"system_config": {"width": True}}, "width = True"),
        ("openseg", {"system_config": {"width": 10**9}}, "width = 1000000000"),
        ("openseg", {"system_config": {"queries": -1}}, "queries = -1"),
        ("openseg", {"system_config": {"layers": 10**6}}, "describes 1000010 layers"),
        ("openseg", {"system_config": {"heads": [2]}}, "heads = [2]"),
        ("openseg", {"system_config": {"heads": 7, "width": 32}}, "not a multiple of 7 heads"),
        ("openseg", {"system_config": {"layers": 33}}, "layers = 33"),
        ("openseg", {"system_config": {}}, "the configuration asks for (640, 32, 1, 1)"),
        ("openseg", {"system_config": {"width": 4096}}, "the configuration asks for"),
        ("openseg", {"system_config": [1]}, "system_config is a list; it is a dictionary"),
        ("openseg", {"proposer_type": "sam", "proposer_config": {}}, "has no pixel decoder"),
        ("openseg", {"logit_scale": 0}, "logit_scale is 0"),
        ("maskclip", {"system": "lseg"}, "it has no 'head."),
    ],
)
def test_a_folder_is_not_trusted(
    system: str,
    change: dict[str, Any],
    said: str,
    trained: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in trained[system].iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    config = json.loads((trained[system] / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(MasqclipError) as caught:
        Segmenter.from_pretrained(folder, device="cpu")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
