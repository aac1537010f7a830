"""How pictures are prepared, as repositories say it: honoured, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import (
    Mask2FormerImageProcessorPil,
)
from transformers.models.maskformer.image_processing_pil_maskformer import (
    MaskFormerImageProcessorPil,
)
from transformers.models.oneformer.image_processing_pil_oneformer import OneFormerImageProcessorPil
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
from transformers.models.sam.processing_sam import SamProcessor

from masqclip.clip.loading import clip_settings
from masqclip.configuration import _BOUNDS, MasQClipConfig
from masqclip.encoding import resize_input, resized_size
from masqclip.errors import MasqclipError
from masqclip.hub.registry import published_size
from masqclip.options import MAX_LONGEST, MAX_SHORTEST, check_size
from masqclip.proposals.picture_settings import picture_settings

IMAGENET = {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375)}


def settings(folder: Path, told: dict[str, Any], **more: Any) -> dict[str, Any]:
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return picture_settings(folder, **more)


def edges(folder: Path, told: dict[str, Any], **more: Any) -> tuple[int, int] | None:
    found = settings(folder, told, **more)
    return (found["shortest_edge"], found["longest_edge"]) if "shortest_edge" in found else None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"size": 800, "max_size": 1333}, (800, 1333)),
        ({"size": 800, "_max_size": 1333}, (800, 1333)),
        ({"size": 800}, (800, 1333)),
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, (800, 1333)),
        ({"size": {"shortest_edge": 800, "longest_edge": None}}, (800, 1333)),
        ({"size": {"shortest_edge": 640}, "max_size": 2560}, (640, 2560)),
        ({"size": {"shortest_edge": 1500}}, (1500, 1500)),
        (
            {"size": {"shortest_edge": 640}, "image_processor_type": "EomtImageProcessor"},
            (640, 640),
        ),
        ({"size": {"longest_edge": 1024}}, (1024, 1024)),
        ({"size": {"height": 384, "width": 384}}, (384, 384)),
        ({"size": {"height": 384, "width": 512}}, (512, 512)),
        ({"size": {"height": 512, "width": 384}}, (512, 512)),
        ({"size": {"max_height": 600, "max_width": 900}}, (900, 900)),
        ({"do_resize": True}, None),
        ({}, None),
    ],
)
def test_sizes(tmp_path: Path, told: dict[str, Any], expected: tuple[int, int] | None) -> None:
    assert edges(tmp_path, told) == expected
    assert edges(tmp_path, told, published=(640, 2560)) == (640, 2560)
    assert edges(tmp_path, told, sized=True) == expected


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"do_resize": False}, "do_resize = false.*--size"),
        ({"size": {"width": 384}}, "a size by width: known are"),
        ({"size": {}}, "a size by nothing"),
        ({"size": "large"}, "size = large"),
        ({"size": {"height": 1.5, "width": 3}}, r"size\.height = 1\.5"),
        ({"do_split_image": True}, "do_split_image = true"),
        ({"do_center_crop": True}, "do_center_crop = true"),
        ({"resample": 3}, "resample = 3"),
        ({"pad_size": {"height": 640, "width": 640}}, "pad_size"),
        ({"image_mean": "x"}, "image_mean = x: one number, or three"),
        ({"image_std": [1, 2]}, "image_std = "),
        ({"image_mean": [True, 1, 2]}, "image_mean"),
        ({"rescale_factor": 0}, "rescale_factor = 0: a number above 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor = 1/255"),
        ({"rescale_factor": 1.0, "image_std": [1, 1, 1]}, "has no image_mean: add it"),
    ],
)
def test_what_is_refused(tmp_path: Path, told: dict[str, Any], said: str) -> None:
    with pytest.raises(MasqclipError, match=f"^the image processor of .*{said}"):
        settings(tmp_path, told)


def test_a_size_that_was_asked_for_is_enough(tmp_path: Path) -> None:
    assert edges(tmp_path, {"do_resize": False}, sized=True) is None
    config = MasQClipConfig(shortest_edge=640, longest_edge=960)
    resize_input(config, (500, 700))
    assert (config.shortest_edge, config.longest_edge) == (500, 700)
    resize_input(config, (1000, None))
    assert (config.shortest_edge, config.longest_edge) == (1000, 1400)
    resize_input(config, (MAX_SHORTEST, MAX_LONGEST))
    resize_input(config, (100, None))
    assert (config.shortest_edge, config.longest_edge) == (100, 200)


def normalised(value: np.ndarray, found: dict[str, Any]) -> np.ndarray:
    return (value - np.array(found["pixel_mean"])) / np.array(found["pixel_std"])


@pytest.mark.parametrize(
    "told",
    [
        {"image_mean": [0.48, 0.45, 0.4], "image_std": [0.2, 0.3, 0.25]},
        {"image_mean": 0.5, "image_std": 0.25},
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 0.00392156862745098},
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5},
        {"image_mean": [120.0] * 3, "image_std": [60.0] * 3, "do_rescale": False},
        {"do_normalize": False},
        {"do_normalize": False, "rescale_factor": 1 / 128},
        {"do_normalize": False, "do_rescale": False},
    ],
)
def test_values_are_what_transformers_makes_of_them(tmp_path: Path, told: dict[str, Any]) -> None:
    found = settings(tmp_path, told)
    processor = Mask2FormerImageProcessorPil(**told, do_resize=False, size_divisor=1)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    theirs = processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(normalised(picture, found), theirs, rtol=2e-6, atol=2e-6)
    clip = clip_settings(tmp_path)
    ours = (picture / 255 - np.array(clip["clip_mean"])) / np.array(clip["clip_std"])
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


def test_published_values_stay_whole(tmp_path: Path) -> None:
    """Those of ImageNet in 0..255, as the papers' code has them."""
    Mask2FormerImageProcessorPil().save_pretrained(tmp_path)
    found = picture_settings(tmp_path)
    for name, values in IMAGENET.items():
        assert found[name] == pytest.approx(values, rel=1e-12)


PROCESSORS = {
    "mask2former": (Mask2FormerImageProcessorPil, {}),
    "mask2former, other edges": (
        Mask2FormerImageProcessorPil,
        {"size": {"shortest_edge": 640, "longest_edge": 2560}},
    ),
    "maskformer": (MaskFormerImageProcessorPil, {}),
    "oneformer": (OneFormerImageProcessorPil, {"repo_path": None, "class_info_file": "x.json"}),
    "eomt": (EomtImageProcessorPil, {}),
    "sam": (SamImageProcessorPil, {}),
}


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("whole", [False, True])
def test_files_that_transformers_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, whole: bool
) -> None:
    """Sizes are transformers' own, to the pixel, before its rounding up to 32: we pad instead."""
    build, options = PROCESSORS[kind]
    if kind == "oneformer":
        module = "transformers.models.oneformer.image_processing_pil_oneformer"
        monkeypatch.setattr(f"{module}.load_metadata", lambda *_: {"class_names": []})
        monkeypatch.setattr(f"{module}.prepare_metadata", lambda _: {"class_names": []})
    processor = build(**options)
    processor.save_pretrained(tmp_path)
    if whole:  # as transformers 5 writes a processor of several parts
        written = tmp_path / "preprocessor_config.json"
        document = {"image_processor": json.loads(written.read_text()), "processor_class": "X"}
        (tmp_path / "processor_config.json").write_text(json.dumps(document))
        written.unlink()
    found = picture_settings(tmp_path)
    config = MasQClipConfig(**found)
    for height, width in ((480, 640), (640, 480), (3024, 4032), (4032, 3024)):
        picture = np.zeros((3, height, width), np.uint8)
        if kind == "sam":
            theirs = processor._get_preprocess_shape((height, width), 1024)
        else:
            more = {} if kind == "eomt" else {"size_divisor": 0}
            theirs = processor.resize(picture, processor.size, **more).shape[-2:]
        ours = resized_size(height, width, config)
        if kind.startswith(("mask", "one")) and theirs != ours:
            # Theirs cuts what is left after the point off; published is rounding.
            assert (abs(ours[0] - theirs[0]) + abs(ours[1] - theirs[1])) == 1
            assert max(ours) == round(max(config.shortest_edge * 4 / 3, 1))
        else:
            assert ours == tuple(theirs)
    for name, values in IMAGENET.items():
        assert found[name] == pytest.approx(values, rel=1e-6)


def test_a_processor_that_transformers_writes_whole(tmp_path: Path) -> None:
    SamProcessor(SamImageProcessorPil()).save_pretrained(tmp_path)
    assert (tmp_path / "processor_config.json").is_file()
    assert edges_of(picture_settings(tmp_path)) == (1024, 1024)


def edges_of(found: dict[str, Any]) -> tuple[int, int]:
    return found["shortest_edge"], found["longest_edge"]


@pytest.mark.parametrize("mean", [[0.5, 0.5, 0.5], [0.48145466, 0.4578275, 0.40821073]])
def test_clips_are_normalised_as_they_say(tmp_path: Path, mean: list[float]) -> None:
    CLIPImageProcessorPil(image_mean=mean, image_std=[0.5, 0.5, 0.5]).save_pretrained(tmp_path)
    found = clip_settings(tmp_path)
    assert found == {"clip_mean": tuple(mean), "clip_std": (0.5, 0.5, 0.5)}
    (tmp_path / "preprocessor_config.json").unlink()
    assert clip_settings(tmp_path) == {}
    told = {"preprocess_cfg": {"mean": mean, "std": [0.25] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
    assert clip_settings(tmp_path) == {"clip_mean": tuple(mean), "clip_std": (0.25,) * 3}


def test_what_is_known_of_sizes() -> None:
    """By name; of a folder of unknown origin by the conversion's own size and the classes."""
    placeholder = {"height": 384, "width": 384}
    coco, ade = "facebook/mask2former-swin-tiny-coco-panoptic", "mask2former-swin-l-ade20k"
    assert published_size(coco, placeholder, None) == (800, 1333)
    assert published_size(ade, None, None) == (640, 2560)
    assert published_size("tue-mps/coco_panoptic_eomt_large_640", placeholder, 133) is None
    assert published_size(None, placeholder, 133) == (800, 1333)
    assert published_size(None, placeholder, 150) == (640, 2560)
    assert published_size(None, placeholder, 3) is None
    assert published_size(None, placeholder, None) is None
    assert published_size(None, {"height": 512, "width": 512}, 133) is None
    assert published_size("somebody/else", placeholder, 133) == (800, 1333)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, None),
        ("800", (800, None)),
        (800, (800, None)),
        (np.int64(800), (800, None)),
        ("800:1333", (800, 1333)),
        ((640, 640), (640, 640)),
        ([1, MAX_LONGEST], (1, MAX_LONGEST)),
        (MAX_SHORTEST, (MAX_SHORTEST, None)),
    ],
)
def test_sizes_that_are_asked_for(given: Any, read: Any) -> None:
    assert check_size(given) == read


@pytest.mark.parametrize(
    "given",
    ["", "x", "800:", ":800", "800:600", "0", "-1", "8e2", "1:2:3", 0, True, 1.5, (800, None),
     MAX_SHORTEST + 1, (1, MAX_LONGEST + 1), "٨٠٠", {}, "9" * 5000],
)  # fmt: skip
def test_what_is_no_size(given: Any) -> None:
    with pytest.raises(MasqclipError, match=r"^--size .*: give the shorter side in pixels"):
        check_size(given, what="--size")


def test_the_bounds_are_the_configurations() -> None:
    assert _BOUNDS["shortest_edge"][1] == MAX_SHORTEST
    assert _BOUNDS["longest_edge"][1] == MAX_LONGEST
