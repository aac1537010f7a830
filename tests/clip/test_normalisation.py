"""Mean and deviation of a CLIP's pictures: read from its files, kept in models, written."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_folders import openai_names, small_clip, write_open_clip, write_transformers
from safetensors.torch import save_file
from transformers import CLIPProcessor, Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from masqclip import MasqclipError, Segmenter
from masqclip.cli.main import main
from masqclip.configuration import MasQClipConfig
from masqclip.towers.loading import load_clip
from masqclip.towers.normalisation import OPENAI, clip_normalisation, write_normalisation
from masqclip.towers.tokenizer import load_tokenizer

OWN, OPEN_CLIP = "preprocessor_config.json", "open_clip_config.json"
HALF = {"clip_mean": (0.5,) * 3, "clip_std": (0.5,) * 3}


def processor(**settings: Any) -> Any:
    module = importlib.import_module("transformers.models.clip.image_processing_pil_clip")
    return module.CLIPImageProcessorPil(**settings)


def written(folder: Path, told: Any, name: str = OWN) -> Path:
    (folder / name).write_text(json.dumps(told))
    return folder


def test_openais_are_the_defaults(tmp_path: Path) -> None:
    standard = MasQClipConfig()
    assert {"clip_mean": standard.clip_mean, "clip_std": standard.clip_std} == OPENAI
    assert clip_normalisation(tmp_path) == OPENAI
    processor().save_pretrained(tmp_path)
    assert clip_normalisation(tmp_path) == OPENAI
    assert clip_normalisation(written(tmp_path, {})) == OPENAI


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        {"image_mean": 0.0, "image_std": 1.0},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    ],
)
def test_as_transformers_normalises(tmp_path: Path, told: dict[str, Any]) -> None:
    """Nested and not: what CLIPs and their processors are saved as."""
    images = processor(**told)
    red = np.full((224, 224, 3), (200, 30, 90), np.uint8)
    values = images(red, return_tensors="np")["pixel_values"][0, :, 0, 0]
    (tmp_path / "own").mkdir()
    images.save_pretrained(tmp_path / "own")
    CLIPProcessor(images, load_tokenizer()).save_pretrained(tmp_path / "nested")
    assert not (tmp_path / "nested" / OWN).exists()
    for name in ("own", "nested"):
        found = clip_normalisation(tmp_path / name)
        ours = (red[0, 0] / 255 - np.array(found["clip_mean"])) / np.array(found["clip_std"])
        np.testing.assert_allclose(ours, values, rtol=1e-6, atol=1e-6)


def test_what_open_clip_wrote_counts_before_a_conversions(tmp_path: Path) -> None:
    written(tmp_path, {"image_mean": [0.1] * 3, "image_std": [0.2] * 3})
    told = {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}}
    assert clip_normalisation(written(tmp_path, told, OPEN_CLIP)) == HALF
    assert clip_normalisation(written(tmp_path, {"preprocess_cfg": {}}, OPEN_CLIP)) == OPENAI
    found = clip_normalisation(written(tmp_path, {"model_cfg": {}}, OPEN_CLIP))
    assert found["clip_mean"] == (0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("told", "name", "said"),
    [
        ({"resample": 0}, OWN, "says resample = 0: .* resized bilinear .2. or bicubic .3. here"),
        ({"resample": True}, OWN, "says resample = True"),
        ({"do_flip_channel_order": True}, OWN, "do_flip_channel_order"),
        ({"image_std": [0, 1, 1]}, OWN, "image_std = .* above 0"),
        ([], OWN, "no object of settings"),
        ({"preprocess_cfg": {"interpolation": "random"}}, OPEN_CLIP, "says interpolation = rand"),
        ({"preprocess_cfg": {"mean": "x"}}, OPEN_CLIP, "says mean = x: it is three numbers"),
        ({"preprocess_cfg": {"std": 0}}, OPEN_CLIP, "says std = 0"),
        ({"preprocess_cfg": []}, OPEN_CLIP, "no object of settings"),
    ],
)
def test_what_is_refused(tmp_path: Path, told: Any, name: str, said: str) -> None:
    with pytest.raises(MasqclipError, match=said):
        clip_normalisation(written(tmp_path, told, name))


def test_how_pictures_are_resized(tmp_path: Path) -> None:
    """SigLIP 2's processors say bilinear; nothing is said of bicubic, which is the default."""
    found = clip_normalisation(written(tmp_path, {"resample": 2}))
    assert found == {**OPENAI, "clip_resample": "bilinear"}
    write_normalisation(tmp_path, found, 32)
    assert clip_normalisation(tmp_path) == found
    assert clip_normalisation(written(tmp_path, {"resample": 3})) == OPENAI
    told = {"preprocess_cfg": {"interpolation": "bilinear"}}
    assert clip_normalisation(written(tmp_path, told, OPEN_CLIP)) == found


def test_what_is_written_is_read_by_both(tmp_path: Path) -> None:
    write_normalisation(tmp_path, {"clip_mean": (0.5, 0.4, 0.3), "clip_std": (0.1, 0.2, 0.3)}, 336)
    assert clip_normalisation(tmp_path)["clip_std"] == (0.1, 0.2, 0.3)
    theirs = type(processor()).from_pretrained(tmp_path)
    assert (theirs.image_mean, theirs.crop_size["height"]) == ((0.5, 0.4, 0.3), 336)


# In models


@pytest.fixture(scope="module")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proposer")
    backbone = {
        "model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
        "window_size": 2, "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, dim_feedforward=32, num_attention_heads=2, encoder_layers=1,
        decoder_layers=2, num_queries=7, num_labels=3,
    )  # fmt: skip
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    (folder / OWN).write_text('{"size": {"shortest_edge": 64, "longest_edge": 96}}')
    return folder


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
def test_a_joined_model_keeps_its_clips(tmp_path: Path, proposer: Path, layout: str) -> None:
    if layout == "transformers":
        write_transformers(tmp_path)
        write_normalisation(tmp_path, HALF, 32)
        expected = HALF
    else:
        write_open_clip(tmp_path)
        expected = {"clip_mean": (0.5, 0.4, 0.3), "clip_std": (0.25, 0.5, 0.75)}
    segmenter = Segmenter.from_parts(tmp_path, proposer)
    segmenter.save_pretrained(tmp_path / "model")
    for model in (segmenter.model, Segmenter.from_pretrained(tmp_path / "model").model):
        found = {name: getattr(model.config, name) for name in expected}
        assert found == expected


# By the converter


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "clip.safetensors"
    save_file(openai_names(small_clip()), path)
    return path


def test_a_converted_clip_carries_its_own(file: Path, tmp_path: Path) -> None:
    words = ["convert", str(file), str(tmp_path / "a"), "--activation", "gelu"]
    assert main(words) == 0
    assert clip_normalisation(tmp_path / "a") == OPENAI
    words[2] = str(tmp_path / "b")
    assert main([*words, "--mean", "0.5", "--std", "0.1,0.2,0.3"]) == 0
    found = clip_normalisation(tmp_path / "b")
    assert found == {"clip_mean": (0.5, 0.5, 0.5), "clip_std": (0.1, 0.2, 0.3)}
    assert isinstance(processor().from_pretrained(tmp_path / "b"), type(processor()))


def test_tokens_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written beside another tower, OpenAI's tokenizer would make nonsense of every word."""
    tensors = openai_names(small_clip(vocab_size=60_000, eos_token_id=59_999))
    save_file(tensors, tmp_path / "clip.safetensors")
    words = ["convert", str(tmp_path / "clip.safetensors"), str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "60000 tokens, and OpenAI's tokenizer 49408: give its own (--tokenizer FOLDER)" in error
    assert not (tmp_path / "out").exists()
    # Another's, here one of fewer tokens than the table has rows.
    load_tokenizer().save_pretrained(tmp_path / "tokenizer")
    assert main([*words, "--tokenizer", str(tmp_path / "tokenizer")]) == 0
    config = load_clip(tmp_path / "out").config.text_config
    assert (config.bos_token_id, config.eos_token_id) == (49_406, 49_407)
    assert len(load_tokenizer(tmp_path / "out")) == 49_408
    # One of more tokens than that is not its own either.
    tensors = openai_names(small_clip(vocab_size=40_000, eos_token_id=39_999))
    save_file(tensors, tmp_path / "less.safetensors")
    words = ["convert", str(tmp_path / "less.safetensors"), str(tmp_path / "less")]
    assert main([*words, "--tokenizer", str(tmp_path / "tokenizer")]) == 2
    assert "49408 tokens and the CLIP's text tower 40000" in capsys.readouterr().err
