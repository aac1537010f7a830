"""The size at which pictures are seen, given in place of a model's own; and what is said of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig

from masqclip import MasqclipError, Segmenter
from masqclip.batch.settings import JobSettings
from masqclip.cli.evaluate import _protocol
from masqclip.cli.main import main
from masqclip.configuration import MasQClipConfig
from masqclip.devices import slow_dtype_advice
from masqclip.encoding import seen_sizes, set_size
from masqclip.options import check_size, longest_edge


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("800", (800, None)),
        ("0800", (800, None)),
        ("800:1333", (800, 1333)),
        ("64:64", (64, 64)),
        ("2048:4096", (2048, 4096)),
        (800, (800, None)),
        (np.int64(800), (800, None)),
        ((800, 1333), (800, 1333)),
        ([640, 2560], (640, 2560)),
        ((800,), (800, None)),
    ],
)
def test_sizes(value: object, expected: tuple[int, int | None]) -> None:
    assert check_size(value, what="size") == expected


@pytest.mark.parametrize(
    "value",
    [
        "", ":", "800:", ":800", "800x1333", "800:1333:1", "-8", "8.5", "0", "0:9", "9:0", "1e3",
        " 800", "\u0663", "9" * 7, 0, -1, 2.5, True, None, (), (1, 2, 3), (800, None),
        "2049", "800:4097", (2049, 4096), {"shortest_edge": 800},
    ],
)  # fmt: skip
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(MasqclipError, match=r"^--size .*: give the shorter side in pixels"):
        check_size(value, what="--size")


def test_the_longer_side_is_not_the_shorter() -> None:
    with pytest.raises(MasqclipError, match="the longer side cannot be the shorter one"):
        check_size("800:799", what="size")


def test_the_shorter_side_alone_keeps_the_ratio() -> None:
    config = MasQClipConfig(shortest_edge=640, longest_edge=2560)
    set_size(config, "320")
    assert (config.shortest_edge, config.longest_edge) == (320, 1280)
    set_size(config, (100, 200))
    assert (config.shortest_edge, config.longest_edge) == (100, 200)
    assert longest_edge(400, (800, 1333), what="size") == 666  # to the even one
    with pytest.raises(MasqclipError, match="may be 8000 pixels, more than 4096: give 2000:LONG"):
        longest_edge(2000, (640, 2560), what="--size")


def test_a_model_takes_it(tmp_path: Path) -> None:
    own = Segmenter.from_pretrained().model.config
    segmenter = Segmenter.from_pretrained(size="64:128")
    assert (segmenter.model.config.shortest_edge, segmenter.model.config.longest_edge) == (64, 128)
    assert segmenter.encode(np.zeros((50, 100, 3), np.uint8)).resized == (64, 128)
    half = Segmenter.from_pretrained(size=own.shortest_edge // 2).model.config
    assert half.longest_edge == own.longest_edge // 2
    with pytest.raises(MasqclipError, match="size 'x': give"):
        JobSettings(inputs=(), kind="files", model="m", vocabulary=None, size="x")
    with pytest.raises(MasqclipError, match="size 'large': give"):
        Segmenter.from_pretrained("nowhere", size="large")
    # It goes with the model.
    segmenter.save_pretrained(tmp_path)
    assert Segmenter.from_pretrained(tmp_path).model.config.longest_edge == 128


def clip(size: int = 336, patch: int = 14) -> dict[str, Any]:
    return CLIPConfig(vision_config={"image_size": size, "patch_size": patch}).to_dict()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "the proposer sees 1067 x 800 pixels, CLIP 336 x 336"),
        ({"clip_input": "aspect"}, "the proposer sees 1067 x 800 pixels, CLIP 392 x 294"),
        (
            {"proposer_type": "sam", "proposer_config": {"vision_config": {"image_size": 512}}},
            "the proposer sees 512 x 384 pixels, CLIP 336 x 336",
        ),
        (
            {"proposer_type": "eomt", "proposer_config": {"image_size": 640}},
            "the proposer sees 640 x 480 pixels, CLIP 336 x 336",
        ),
        (
            {"shortest_edge": 64, "longest_edge": 64},
            "the proposer sees 64 x 48 pixels, CLIP 336 x 336",
        ),
    ],
)  # fmt: skip
def test_what_is_seen_in_words(settings: dict[str, Any], said: str) -> None:
    assert seen_sizes(MasQClipConfig(clip_config=clip(), **settings), 480, 640) == said


def test_what_is_said_is_what_is_done() -> None:
    segmenter = Segmenter.from_pretrained(size="80:160")
    encoded = segmenter.encode(np.zeros((100, 300, 3), np.uint8))
    tall, wide = encoded.resized
    rows, columns = segmenter.model.clip_size(encoded.frame_size)
    expected = f"the proposer sees {wide} x {tall} pixels, CLIP {columns} x {rows}"
    assert seen_sizes(segmenter.model.config, 100, 300) == expected


# On the command line


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (90, 60), (90, 120, 30)).save(folder / "a.png")
    return folder


def test_segment_and_bench(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "photos/a.png", "-v", "cat", "--device", "cpu"]
    assert main([*words, "--size", "64:96", "-q"]) == 0
    assert main([*words, "--size", "64x96"]) == 2
    assert "--size '64x96': give the shorter side in pixels" in capsys.readouterr().err
    words = ["bench", "--device", "cpu", "--batch-size", "1", "--rounds", "1", "--json"]
    assert main([*words, "--size", "48"]) == 0
    assert json.loads(capsys.readouterr().out)["height"] == 48


def test_another_size_is_another_dataset(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["label", "photos", "-v", "cat", "-f", "coco", "-o", "out", "--device", "cpu"]
    assert main([*words, "--size", "64:96"]) == 0
    assert main([*words, "--size", "064:96"]) == 0  # the same one
    capsys.readouterr()
    assert main([*words, "--size", "64"]) == 2
    assert "labels made with another size" in capsys.readouterr().err
    assert main(words) == 2
    shutil.rmtree("out")
    assert main(words) == 0  # a journal of before there were sizes reads as one without


def test_slow_precisions_are_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    advice = slow_dtype_advice(torch.float16, cpu)
    assert advice == (
        "float16 is several times slower than float32 on a CPU: use float32 or bfloat16"
    )
    assert slow_dtype_advice(torch.float16, cuda) is None
    for dtype in (torch.float32, torch.bfloat16):
        assert slow_dtype_advice(dtype, cpu) is None
    words = ["segment", "photos/a.png", "-v", "cat", "--device", "cpu", "--dtype", "float16"]
    words += ["--size", "32:48"]
    assert main(words) == 0
    assert capsys.readouterr().err.count(f"masqclip: note: {advice}") == 1
    assert main([*words, "-q"]) == 0
    assert capsys.readouterr().err == ""
    words[words.index("float16")] = "float32"
    assert main(words) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "size", "edges"),
    [
        ("ade20k-150", None, (640, 2560)),
        ("ade20k-150", "320", (320, 1280)),
        ("ade20k-150", "320:400", (320, 400)),
        ("stickers", None, (None, None)),
        ("stickers", "64", (None, None)),  # the model's own ratio, which only the model knows
        ("stickers", "64:96", (64, 96)),
    ],
)
def test_sizes_of_protocols(name: str, size: str | None, edges: tuple[int | None, ...]) -> None:
    protocol = _protocol(SimpleNamespace(name=name), size, {}, object_score=True)  # type: ignore[arg-type]
    assert (protocol.shortest_edge, protocol.longest_edge) == edges
