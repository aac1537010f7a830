"""What commands that were made for MasQCLIP say to the other systems."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from small import frames, joined

from masqclip.acceleration import compile_model
from masqclip.baselines.lseg import LSegModel
from masqclip.baselines.maskclip import MaskClipModel
from masqclip.baselines.openseg import OpenSegModel
from masqclip.cli.main import main
from masqclip.data.images import read_image
from masqclip.data.label_maps import png_bytes
from masqclip.encoding import encode_pictures
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.segmenter import Segmenter
from masqclip.serve.app import create_app
from masqclip.serve.store import ImageStore
from masqclip.training.small_clip import learn_tokenizer

SYSTEMS: dict[str, type[MasQClipModel]] = {
    "lseg": LSegModel,
    "maskclip": MaskClipModel,
    "openseg": OpenSegModel,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained models as folders to load."""
    out = tmp_path_factory.mktemp("systems")
    tokenizer = learn_tokenizer(["a cat and a dog on grass"] * 3, merges=20)
    for name, system in SYSTEMS.items():
        joined(system).save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)
    return {name: out / name for name in SYSTEMS}


@pytest.mark.parametrize("system", SYSTEMS)
def test_info_says_which_system_a_folder_is_of(
    system: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(folders[system]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["system"] == system


@pytest.mark.parametrize("system", SYSTEMS)
def test_bench_times_the_tasks_that_there_are(
    system: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["bench", "--model", str(folders[system]), "--rounds", "1", "--batch-size", "1"]
    call += ["--device", "cpu", "-v", "cat, dog"]
    assert main([*call, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    counted = "panoptic" if system == "maskclip" else "semantic"
    assert ("panoptic" in row) is (system == "maskclip")
    assert row["pictures_per_second"] == pytest.approx(1 / (row["encode"] + row[counted]))
    assert main(call) == 0
    assert ("panoptic" in capsys.readouterr().out) is (system == "maskclip")


@pytest.mark.parametrize(
    ("system", "task", "reason"),
    [
        ("lseg", "semantic", "has none before it knows the names: use"),
        ("openseg", "panoptic", "has no panoptic segmentation: ask for semantic"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_before_it_begins(
    system: str,
    task: str,
    reason: str,
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "pictures" / "black.png")
    call = ["batch", str(tmp_path / "pictures"), "-v", "cat", "--model", str(folders[system])]
    assert main([*call, "--task", task, "--out", str(tmp_path / "out")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_of_a_task_that_there_is_not_leave_no_folder_that_refuses_another(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "pictures" / "black.png")
    call = ["label", str(tmp_path / "pictures"), "-v", "cat", "--model", str(folders["lseg"])]
    call += ["--format", "coco", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(call) == 2
    assert "has no instance segmentation: ask for semantic" in capsys.readouterr().err
    assert main([*call, "--task", "semantic"]) == 0


@pytest.mark.parametrize("system", ["lseg", "openseg"])
def test_what_has_nothing_to_compile_says_so(system: str) -> None:
    with pytest.raises(MasqclipError, match=f"{system!r} has no proposer and no masked CLIP"):
        compile_model(joined(SYSTEMS[system]))


def test_the_service_counts_embeddings_of_pixels_and_keeps_no_batch() -> None:
    pixels = frames()[0].permute(0, 2, 3, 1).byte().numpy()
    encoded, _ = encode_pictures(joined(LSegModel), [read_image(image) for image in pixels])
    store = ImageStore(max_bytes=1 << 30)
    kept = store.get(store.put(b"file", encoded))
    assert kept is not None
    assert encoded.pixel_embeddings is not None
    assert kept.pixel_embeddings is not None
    assert torch.equal(kept.pixel_embeddings, encoded.pixel_embeddings)
    assert kept.pixel_embeddings.untyped_storage().nbytes() == encoded.pixel_embeddings.nbytes
    assert store.bytes == pixels[0].nbytes + encoded.pixel_embeddings.nbytes


def test_label_studio_gets_what_the_system_has(folders: dict[str, Path]) -> None:
    picture = base64.b64encode(png_bytes(np.zeros((64, 64, 3), np.uint8))).decode()
    labels = '<BrushLabels name="l" toName="i"><Label value="cat"/></BrushLabels>'
    wish = {
        "tasks": [{"data": {"image": f"data:image/png;base64,{picture}"}}],
        "label_config": f'<View><Image name="i" value="$image"/>{labels}</View>',
    }
    app = create_app(Segmenter.from_pretrained(folders["lseg"], device="cpu"))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        (found,) = client.post("/predict", json=wish).json()["results"]
    assert [region["type"] for region in found["result"]] == ["brushlabels"]


def test_masks_are_not_put_out_where_there_are_none() -> None:
    pixels, inside = frames()
    with pytest.raises(MasqclipError, match="'lseg' has no masks to put out: a Segmenter of"):
        joined(LSegModel)(pixels, inside)
