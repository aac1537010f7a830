"""Every entry of the registry and every preset: downloaded, loaded, asked, saved, loaded again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hub_layouts import layout
from hub_server import Hub

from masqclip import Segmenter
from masqclip.cli.main import main
from masqclip.data.frames import resized_size
from masqclip.hub import find_model, find_weights, named_models, presets
from masqclip.hub.kinds import TYPES
from masqclip.hub.local import cached
from masqclip.hub.registry import NamedModel
from masqclip.proposals.adapters import _VIDEOS, ADAPTERS
from masqclip.result import Task

sys.path.insert(0, str(Path(__file__).parents[1] / "proposals"))
from families import FAMILIES

CLIPS = [model for model in named_models() if model.kind == "clip"]
PROPOSERS = [model for model in named_models() if model.kind == "proposer"]
SIZES = {  # (height, width) of a photograph of 480 x 640, as each was published
    "mask2former-swin-t-coco": (800, 1067),
    "mask2former-swin-s-coco": (800, 1067),
    "mask2former-swin-b-coco": (800, 1067),
    "mask2former-swin-l-coco": (800, 1067),
    "mask2former-swin-l-ade20k": (640, 853),
    "maskformer-swin-b-coco": (800, 1067),
    "oneformer-swin-l-coco": (800, 1067),
}


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def fill(hub: Hub, *models: NamedModel) -> None:
    for model in models:
        hub.repositories[model.repository] = layout(model, FAMILIES)


def accept(*names: str) -> None:
    for name in names:
        assert main(["download", name, "--accept-licence", "--dry-run"]) == 0


def three_tasks(segmenter: Segmenter) -> None:
    encoded = segmenter.encode(picture())
    for task in get_args(Task):
        result = segmenter(encoded, "cat, sky", task, min_score=0.0)
        assert result.image.shape == (60, 80, 3)


def test_types_are_those_of_the_adapters() -> None:
    assert set(TYPES["proposer"]) == {*ADAPTERS, *_VIDEOS}


@pytest.mark.parametrize("model", CLIPS, ids=lambda model: model.name)
def test_a_clip(hub: Hub, model: NamedModel, tmp_path: Path) -> None:
    proposer = next(one for one in PROPOSERS if one.name == "eomt-s-640-coco")
    fill(hub, model, proposer)
    if model.restricted:
        from masqclip.hub.licences import accept as agree

        agree([model.repository])
    segmenter = Segmenter.from_parts(model.name, proposer.name, device="cpu", size=64)
    large = [name for name in hub.files() if name != "config.json"]
    kinds = {Path(name).suffix for name in large if "tokenizer" not in name and "vocab" not in name}
    assert kinds <= {".safetensors", ".bin", ".txt", ".json", ".md"}
    assert not any(name.startswith(("open_clip_pytorch", "tf_", "flax")) for name in large)
    halves = model.name == "laion-l14" or model.name.startswith("pe-")
    expected = (0.5, 0.5, 0.5) if halves else (0.48145466, 0.4578275, 0.40821073)
    resample = "bilinear" if model.name.startswith("pe-") else "bicubic"
    assert segmenter.model.config.clip_resample == resample
    assert segmenter.model.config.clip_mean == pytest.approx(expected, rel=1e-12)
    three_tasks(segmenter)
    segmenter.save_pretrained(tmp_path / "saved")
    again = Segmenter.from_pretrained(tmp_path / "saved", device="cpu")
    assert again.model.config.clip_mean == segmenter.model.config.clip_mean
    for name, tensor in segmenter.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    words = segmenter.text.embed_strings(["a cat"])
    torch.testing.assert_close(again.text.embed_strings(["a cat"]), words)


@pytest.mark.parametrize("model", PROPOSERS, ids=lambda model: model.name)
def test_a_proposer(hub: Hub, model: NamedModel, tmp_path: Path) -> None:
    from masqclip.hub.licences import accept as agree

    clip = next(one for one in CLIPS if one.name == "clip-b16")
    fill(hub, model, clip)
    if model.restricted:
        agree([model.repository])
    segmenter = Segmenter.from_parts(clip.name, model.name, device="cpu")
    assert "pytorch_model.bin" not in hub.files()
    config = segmenter.model.config
    if model.name in SIZES:
        assert resized_size(480, 640, config) == SIZES[model.name]
        # The same for files that somebody put into a folder of his own.
        folder = find_weights(model.name, what="proposer")
        moved = tmp_path / "moved"
        moved.mkdir()
        for file in folder.iterdir():
            (moved / file.name).write_bytes(file.read_bytes())
        other = Segmenter.from_parts(clip.name, moved, device="cpu").model.config
        assert (other.shortest_edge, other.longest_edge) == (
            config.shortest_edge, config.longest_edge
        )  # fmt: skip
    else:
        assert max(resized_size(480, 640, config)) == config.longest_edge == 64
    small = Segmenter.from_parts(clip.name, model.name, device="cpu", size="64:96")
    three_tasks(small)
    small.save_pretrained(tmp_path / "saved")
    again = Segmenter.from_pretrained(tmp_path / "saved", device="cpu")
    assert (again.model.config.shortest_edge, again.model.config.longest_edge) == (64, 96)
    before, after = small.encode(picture()), again.encode(picture())
    torch.testing.assert_close(after.object_logits, before.object_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("preset", [p for p in presets() if not p.drive], ids=lambda p: p.name)
def test_a_preset(
    hub: Hub, preset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fill(hub, *preset.parts)
    monkeypatch.chdir(tmp_path)
    if any(part.restricted for part in preset.parts):
        assert main(["download", preset.name]) == 2
        error = capsys.readouterr().err
        assert f"run 'masqclip download {preset.name} --accept-licence' once" in error
        assert hub.asked == []
        assert main(["download", preset.name, "--accept-licence"]) == 0
        told = capsys.readouterr()
    else:
        assert main(["download", preset.name]) == 0
        told = capsys.readouterr()
    assert f"fetching {preset.name}: " in told.err
    assert told.out.endswith(f"masqclip segment photo.jpg -v NAMES --model {preset.name}\n")
    for part in preset.parts:
        assert cached(part.repository) is not None
    asked = len(hub.asked)
    segmenter = Segmenter.from_pretrained(preset.name, device="cpu")
    assert segmenter.name == preset.name
    three_tasks(segmenter)
    assert len(hub.asked) == asked
    # The same in a folder, for a machine without a network; its name finds it there.
    assert main(["download", preset.name, "--to", preset.name]) == 0
    assert sorted(path.name for path in Path(preset.name).iterdir()) == ["clip", "proposer"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    assert find_model(preset.name) == find_model(Path(preset.name))
    three_tasks(Segmenter.from_pretrained(tmp_path / preset.name, device="cpu"))


def test_what_another_program_left_out_is_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and configuration alone say nothing of pictures; without a network they must do."""
    laion = next(model for model in CLIPS if model.name == "laion-l14")
    fill(hub, laion)
    folder = find_weights(laion.name, what="CLIP")
    (folder / "preprocessor_config.json").unlink()
    (folder / "open_clip_config.json").unlink()
    hub.asked.clear()
    served = hub.served
    assert find_weights(laion.name, what="CLIP") == folder
    assert (folder / "preprocessor_config.json").is_file()
    assert hub.served == served, "only what was missing"
    (folder / "preprocessor_config.json").unlink()
    (folder / "open_clip_config.json").unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert find_weights(laion.name, what="CLIP") == folder
