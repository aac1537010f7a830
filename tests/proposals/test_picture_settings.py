"""What the files beside a proposer's weights say of pictures: followed, or refused by its name."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import OneFormerProcessor, SamProcessor

from masqclip import MasqclipError
from masqclip.configuration import MasQClipConfig
from masqclip.data.frames import resized_size
from masqclip.proposals.picture_settings import picture_settings
from masqclip.towers.tokenizer import load_tokenizer

OWN = "preprocessor_config.json"
STANDARD = MasQClipConfig()


def written(folder: Path, kind: str | None, told: Any, **config: Any) -> Path:
    (folder / OWN).write_text(json.dumps(told))
    if kind is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": kind, **config}))
    return folder


def edges(folder: Path, **options: Any) -> tuple[int, int] | None:
    found = picture_settings(folder, **options)
    if "shortest_edge" not in found:
        return None
    return found["shortest_edge"], found["longest_edge"]


def processor(kind: str, name: str) -> Any:
    """transformers' own image processor of Pillow; the other one needs torchvision."""
    module = importlib.import_module(f"transformers.models.{kind}.image_processing_pil_{kind}")
    return getattr(module, f"{name}ImageProcessorPil")


KINDS = {
    "mask2former": "Mask2Former",
    "maskformer": "MaskFormer",
    "oneformer": "OneFormer",
    "eomt": "Eomt",
    "sam": "Sam",
}


@pytest.mark.parametrize(("height", "width"), [(480, 640), (4032, 3024)])
@pytest.mark.parametrize("kind", KINDS)
def test_as_transformers_prepares_pictures(
    tmp_path: Path, kind: str, height: int, width: int
) -> None:
    """Files that transformers wrote: the same size but for rounding, the same numbers."""
    theirs = processor(kind, KINDS[kind])()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    ours = MasQClipConfig(**picture_settings(tmp_path))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:] = (10, 100, 200)
    tall, wide = resized_size(height, width, ours)
    if kind in ("mask2former", "maskformer"):
        # They round up to a multiple of 32 by stretching, where detectron2, with which all of these
        # were trained, pads: without that step they cut where detectron2 rounds.
        size = theirs(picture, size_divisor=0, return_tensors="np")["pixel_values"].shape[-2:]
    elif kind == "sam":
        seen = theirs(picture, return_tensors="np")
        assert seen["pixel_values"].shape[-2:] == (1024, 1024)
        size = tuple(int(n) for n in seen["reshaped_input_sizes"][0])
    else:
        arguments = {"task_inputs": ["panoptic"]} if kind == "oneformer" else {}
        size = theirs(picture, return_tensors="np", **arguments)["pixel_values"].shape[-2:]
    expected = {
        ("detectron2", 480): ((800, 1067), (800, 1066)),
        ("detectron2", 4032): ((1067, 800), (1066, 800)),
        ("eomt", 480): ((480, 640), (480, 640)),
        ("eomt", 4032): ((640, 480), (640, 480)),
        ("sam", 480): ((768, 1024), (768, 1024)),
        ("sam", 4032): ((1024, 768), (1024, 768)),
    }
    family = kind if kind in ("eomt", "sam") else "detectron2"
    assert ((tall, wide), tuple(size)) == expected[family, height]
    values = theirs(picture, return_tensors="np", **({"task_inputs": ["panoptic"]}
                    if kind == "oneformer" else {}))["pixel_values"][0, :, 0, 0]  # fmt: skip
    mean, std = np.array(ours.pixel_mean), np.array(ours.pixel_std)
    np.testing.assert_allclose((picture[0, 0] - mean) / std, values, rtol=0, atol=1e-6)


def test_defaults_are_the_published_numbers(tmp_path: Path) -> None:
    processor("mask2former", "Mask2Former")().save_pretrained(tmp_path)
    found = MasQClipConfig(**picture_settings(tmp_path))
    for name in ("pixel_mean", "pixel_std"):  # in the precision that they are used in
        ours, published = (np.float32(getattr(config, name)) for config in (found, STANDARD))
        assert (ours == published).all()
    assert (found.shortest_edge, found.longest_edge, found.size_divisor) == (800, 1333, 32)


@pytest.mark.parametrize(
    ("kind", "told", "expected"),
    [
        ("mask2former", {"size": 800, "max_size": 1333}, (800, 1333)),
        ("mask2former", {"size": 640, "max_size": 2560}, (640, 2560)),
        ("mask2former", {"size": 640, "_max_size": 2560}, (640, 2560)),
        ("mask2former", {"size": 640}, (640, 1333)),
        ("maskformer", {"size": {"shortest_edge": 640}}, (640, 1333)),
        ("mask2former", {"size": {"shortest_edge": 640}, "max_size": 1000}, (640, 1000)),
        ("mask2former", {"max_size": 1000}, (800, 1000)),
        (None, {"size": 800}, (800, 1333)),
        (None, {}, None),
        ("mask2former", {"size": None}, None),
        ("oneformer", {"size": {"shortest_edge": 640}}, (640, 4096)),
        ("eomt", {"size": {"shortest_edge": 640, "longest_edge": None}}, (640, 4096)),
        ("oneformer", {"size": {"shortest_edge": 640, "longest_edge": 2560}}, (640, 2560)),
        ("sam", {"size": {"longest_edge": 1024}}, (1024, 1024)),
        ("sam", {"size": 1024}, (1024, 1024)),
        ("mask2former", {"size": {"height": 384, "width": 384}}, (384, 384)),
        ("mask2former", {"size": {"height": 384, "width": 640}}, (640, 640)),
        ("mask2former", {"size": [384, 640]}, (640, 640)),
        ("mask2former", {"size": {"max_height": 700, "max_width": 700}}, (700, 700)),
    ],
)
def test_sizes(
    tmp_path: Path, kind: str | None, told: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    assert edges(written(tmp_path, kind, told)) == expected
    # What is known to be right counts, whatever the file says.
    assert edges(tmp_path, published=(640, 2560)) == (640, 2560)


def test_silent_files_of_models_that_see_one_square(tmp_path: Path) -> None:
    assert edges(written(tmp_path, "eomt", {}, image_size=1280)) == (1280, 1280)
    assert edges(written(tmp_path, "sam", {}, vision_config={"image_size": 512})) == (512, 512)
    (tmp_path / OWN).unlink()
    assert picture_settings(tmp_path) == {"shortest_edge": 512, "longest_edge": 512}
    (tmp_path / "config.json").unlink()
    assert picture_settings(tmp_path) == {}


@pytest.mark.parametrize(
    "told",
    [
        {"size": {"max_height": 700, "max_width": 900}},
        {"size": {"height": 384}},
        {"size": {"min_pixels": 10, "max_pixels": 100}},
        {"size": {}},
        {"size": "x"},
        {"size": 0},
        {"size": True},
        {"size": 800.5},
        {"size": {"shortest_edge": "800"}},
        {"size": {"shortest_edge": 800, "longest_edge": 10**6}},
        {"size": [1, 2, 3]},
        {"do_resize": False},
        {"do_resize": "no"},
        {"size": 800, "max_size": -1},
    ],
)
def test_sizes_that_are_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    with pytest.raises(MasqclipError, match=r"preprocessor_config.json' says \w+ .*|a size of"):
        picture_settings(written(tmp_path, "mask2former", told))
    # A size of the user's own makes it work.
    assert edges(tmp_path, published=(800, 1333)) == (800, 1333)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"resample": 3}, "resample = 3"),
        ({"resample": "x"}, "resample = x"),
        ({"do_split_image": True}, "do_split_image, which cuts pictures into windows"),
        ({"do_center_crop": True}, "do_center_crop"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"pad_size": {"height": 900, "width": 900}}, "pad_size"),
        ({"size_divisor": 48}, "size_divisor = 48"),
        ({"size_divisor": -32}, "size_divisor = -32"),
        ({"size_divisibility": "x"}, "size_divisibility = x"),
        ({"rescale_factor": 0}, "rescale_factor = 0"),
        ({"rescale_factor": "x"}, "rescale_factor = x"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_mean": [0.0, 1, "x"]}, "image_mean"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std"),
        ({"image_std": True}, "image_std"),
        ({"do_normalize": 1}, "do_normalize"),
    ],
)
def test_what_is_not_done_is_refused(tmp_path: Path, told: dict[str, Any], word: str) -> None:
    with pytest.raises(MasqclipError) as caught:
        picture_settings(written(tmp_path, "mask2former", told), published=(800, 1333))
    assert word in str(caught.value)
    assert OWN in str(caught.value)


@pytest.mark.parametrize(
    ("told", "divisor"),
    [
        ({}, 32),
        ({"size_divisor": None}, 32),
        ({"size_divisor": 0}, 32),
        ({"size_divisor": 16}, 32),
        ({"size_divisor": 32}, 32),
        ({"size_divisor": 64}, 64),
        ({"size_divisibility": 128}, 128),
    ],
)
def test_divisors_of_frames(tmp_path: Path, told: dict[str, Any], divisor: int) -> None:
    found = MasQClipConfig(**picture_settings(written(tmp_path, "maskformer", told)))
    assert found.size_divisor == divisor


def test_padding_to_a_models_own_square(tmp_path: Path) -> None:
    """That is what is done anyway; to another one, it is not."""
    vision = {"image_size": 64}
    told = {"pad_size": {"height": 64, "width": 64}, "do_pad": True}
    assert edges(written(tmp_path, "sam", told, vision_config=vision)) == (64, 64)
    told = {"pad_size": {"height": 1024, "width": 1024}}
    with pytest.raises(MasqclipError, match="pad_size"):
        picture_settings(written(tmp_path, "sam", told, vision_config=vision))


RED = np.full((64, 64, 3), (200, 30, 90), np.uint8)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"image_mean": 0.5, "image_std": 0.25},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"do_rescale": False, "image_mean": [123.0, 116.0, 103.0], "image_std": [1.0, 1.0, 1.0]},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        {"rescale_factor": 1.0, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
        {"rescale_factor": 0.00392156862745098},
        {"rescale_factor": 0.0039},
        {"rescale_factor": 0.0039, "do_rescale": False},
        {"image_mean": None, "image_std": [0.5] * 3},
    ],
)
def test_normalisation_has_transformers_effect(tmp_path: Path, told: dict[str, Any]) -> None:
    """Written and computed by transformers, read and computed by us: the same numbers."""
    kept = {name: value for name, value in told.items() if value is not None}
    theirs = processor("eomt", "Eomt")(size={"shortest_edge": 64, "longest_edge": 64}, **kept)
    theirs.save_pretrained(tmp_path)
    config = MasQClipConfig(**picture_settings(tmp_path))
    values = theirs(RED, return_tensors="np")["pixel_values"][0, :, 0, 0]
    ours = (RED[0, 0] - np.array(config.pixel_mean)) / np.array(config.pixel_std)
    np.testing.assert_allclose(ours, values, rtol=1e-6, atol=1e-6)


def test_values_are_exact(tmp_path: Path) -> None:
    told = {"image_mean": [0.0, 1, 0.5], "image_std": [0.2, 0.4, 1.0]}
    found = picture_settings(written(tmp_path, None, told))
    assert found == {"pixel_mean": (0.0, 255.0, 127.5), "pixel_std": (51.0, 102.0, 255.0)}


# Where it is read from


def test_settings_inside_of_a_processors(tmp_path: Path) -> None:
    """What transformers 5 writes for models that have prompts or a tokenizer as well."""
    sam = processor("sam", "Sam")(image_mean=[0.5] * 3)
    SamProcessor(sam).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    assert not (tmp_path / OWN).exists()
    found = picture_settings(tmp_path)
    assert found["pixel_mean"] == (127.5, 127.5, 127.5)
    assert (found["shortest_edge"], found["longest_edge"]) == (1024, 1024)
    # Beside one another the nested ones count, as in transformers.
    (tmp_path / OWN).write_text('{"size": 7}')
    assert picture_settings(tmp_path) == found


def test_a_oneformers_processor(tmp_path: Path) -> None:
    size = {"shortest_edge": 640, "longest_edge": 2560}
    images = processor("oneformer", "OneFormer")(size=size)
    OneFormerProcessor(images, load_tokenizer()).save_pretrained(tmp_path)
    assert not (tmp_path / OWN).exists()
    assert edges(tmp_path) == (640, 2560)


def test_a_processor_without_settings_of_pictures(tmp_path: Path) -> None:
    """As earlier versions wrote it, beside the settings."""
    (tmp_path / "processor_config.json").write_text('{"processor_class": "SamProcessor"}')
    assert picture_settings(tmp_path) == {}
    assert edges(written(tmp_path, "sam", {"size": {"longest_edge": 512}})) == (512, 512)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (OWN, "[]", "is no object of settings"),
        (OWN, "{", "no valid JSON"),
        ("processor_config.json", "[]", "is no object of settings"),
        ("processor_config.json", '{"image_processor": 3}', "is no object of settings"),
        ("config.json", "[]", "is no object of settings"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MasqclipError, match=said):
        picture_settings(tmp_path)
