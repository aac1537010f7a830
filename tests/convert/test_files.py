"""`masqclip convert`, from a checkpoint file to a model that gives the recorded numbers."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPModel,
    CLIPVisionModelWithProjection,
    Mask2FormerForUniversalSegmentation,
)

from masqclip import Segmenter
from masqclip.cli.main import main
from masqclip.clip.classifier import clip_logits
from masqclip.convert import files
from masqclip.convert.clip import ClipOptions
from masqclip.convert.files import convert_file
from masqclip.convert.mask2former import NOT_NEEDED, mask2former_to_transformers
from masqclip.convert.masqclip import published_clip, setting_of, vision_tower
from masqclip.decoding.instance import decode_instance
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.towers.loading import load_clip
from masqclip.weights.checkpoint import read_state_dict

DATA = Path(__file__).parents[1] / "data"
CHECKPOINTS = {setting: DATA / f"masqclip_{setting}.pth" for setting in ("instance", "panoptic")}


@pytest.fixture(scope="module")
def openai_weights(clip_file: Path) -> dict[str, Tensor]:
    """The tensors of the small CLIP."""
    weights: dict[str, Tensor] = torch.load(clip_file, weights_only=True)["model"]
    return weights


@pytest.fixture(scope="module")
def clip_folder(clip_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder") / "clip"
    assert main(["convert", str(clip_file), str(folder), "--text-heads", "2"]) == 0
    return folder


@pytest.fixture(scope="module", params=CHECKPOINTS)
def converted(
    request: pytest.FixtureRequest, clip_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("model") / request.param
    words = ["convert", str(CHECKPOINTS[request.param]), str(folder)]
    assert main([*words, "--clip", str(clip_file), "--text-heads", "2"]) == 0
    return request.param, folder


def test_reproduces_every_recorded_tensor(converted: tuple[str, Path]) -> None:
    """The second picture's sides are no multiples of 32."""
    setting, folder = converted
    model, report = MasQClipModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    golden = load_file(DATA / f"masqclip_{setting}.safetensors")
    with safe_open(DATA / "decoded_models.safetensors", "pt") as file:
        settings = file.metadata()
        recorded = {
            name.removeprefix(f"{setting}."): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
            if name.startswith(setting)
        }
    image = golden["image"]
    height, width = image.shape[1:]
    pixels = F.pad(image, (0, -width % 32, 0, -height % 32))[None].float()
    inside = torch.zeros(pixels[:, 0].shape, dtype=torch.bool)
    inside[:, :height, :width] = True
    with torch.inference_mode():
        outputs = model.eval()(pixels, inside, golden["text_embeddings"])
    logits = clip_logits(
        outputs.mask_embeddings, golden["text_embeddings"], logit_scale=model.config.logit_scale
    )
    for found, name in (
        (outputs.mask_logits, "proposal_masks"),
        (outputs.object_logits, "proposal_logits"),
        (outputs.mask_embeddings, "mask_embeddings"),
        (logits, "clip_logits"),
    ):
        assert (found - golden[name]).abs().max() <= 2e-4, name

    size = json.loads(settings[f"{setting}.output_size"])
    classes = golden["text_embeddings"].shape[0] - 1
    stuff = range(int(settings[f"{setting}.n_things"]), classes)
    if setting == "instance":
        kept = decode_instance(outputs.masks(0, size), outputs.log_probs[0], top_k=20)
        order = recorded["instance_scores"].argsort(descending=True)
        assert torch.equal(kept.class_ids, recorded["instance_classes"][order])
        assert (kept.scores - recorded["instance_scores"][order]).abs().max() <= 1e-5
        bits = np.unpackbits(recorded["instance_masks"].numpy(), axis=1, count=size[0] * size[1])
        masks = torch.from_numpy(bits.reshape(-1, *size).astype(bool))[order]
        assert (kept.masks != masks).float().mean(dim=(1, 2)).max() <= 1e-3
    else:
        (panoptic,) = model.post_process_panoptic_segmentation(
            outputs,
            threshold=float(settings["panoptic.object_mask_threshold"]),
            overlap_mask_area_threshold=float(settings["panoptic.overlap_threshold"]),
            label_ids_to_fuse=stuff,
            target_sizes=[size],
        )
        assert torch.equal(panoptic["segmentation"].int(), recorded["panoptic_map"])
        assert [
            {"id": s["id"], "isthing": not s["was_fused"], "category_id": s["label_id"]}
            for s in panoptic["segments_info"]
        ] == json.loads(settings["panoptic.segments_info"])
        (semantic,) = model.post_process_semantic_segmentation(outputs, [size], True)
        scores = semantic["segmentation_scores"][:, ::8]
        # Sums over all proposals, up to 9: float32 rounds those by 1e-6 of their size.
        expected = recorded["semantic_scores"]
        assert ((scores - expected).abs() <= 1e-5 + 2e-6 * expected.abs()).all()


def test_the_folder_segments(converted: tuple[str, Path]) -> None:
    segmenter = Segmenter.from_pretrained(converted[1])
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    segmenter.model.config.shortest_edge = 64
    assert segmenter(picture, ["tiger", "sky"], min_score=0.0).names == ("tiger", "sky")


def test_openai_and_huggingface_files_are_bit_equal(
    clip_folder: Path, openai_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    golden = load_file(DATA / "clip.safetensors")
    clip = load_clip(clip_folder)
    save_file(dict(clip.state_dict()), tmp_path / "huggingface.safetensors")
    options = ClipOptions(text_heads=2)
    convert_file(tmp_path / "huggingface.safetensors", tmp_path / "again", options=options)
    # open_clip: another prefix of the text tower.
    text = {
        name if name.startswith("visual.") or name == "logit_scale" else f"text.{name}": tensor
        for name, tensor in openai_weights.items()
    }
    torch.save({"state_dict": {f"module.{name}": t for name, t in text.items()}}, tmp_path / "o.pt")
    convert_file(tmp_path / "o.pt", tmp_path / "open_clip", options=options)
    outputs = []
    for model in (clip, load_clip(tmp_path / "again"), load_clip(tmp_path / "open_clip")):
        with torch.no_grad():
            image = model.get_image_features(golden["pixel_values"]).pooler_output
            words = model.get_text_features(golden["tokens"].long()).pooler_output
        outputs.append((image, words))
    assert (outputs[0][0] - golden["image_features"]).abs().max() <= 1e-4
    assert (outputs[0][1] - golden["text_features"]).abs().max() <= 1e-4
    for image, words in outputs[1:]:
        assert torch.equal(image, outputs[0][0])
        assert torch.equal(words, outputs[0][1])


def test_what_is_said(clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", str(CHECKPOINTS["instance"]), str(tmp_path / "out")]
    assert main([*words, "--clip", str(clip_file), "--text-heads", "2"]) == 0
    said = capsys.readouterr().out
    for part in (
        "found    a MasQCLIP of the authors",
        "resnet backbone (3-4-6-3 blocks), 2 pixel decoder layers, 3 decoder layers, 12 queries",
        "bit by bit",
        "dropped  criterion.empty_weight: weights of the training loss",
        f"written  {tmp_path / 'out'}",
    ):
        assert part in said
    assert main([*words, "--clip", str(clip_file)]) == 2
    assert "holds something already" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_leaves_nothing(
    clip_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> None:  # as the library says it
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", full)
    out = tmp_path / "out"
    assert main(["convert", str(clip_file), str(out), "--text-heads", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out}: No space left on device: free some space" in line
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_becomes_a_proposer(tmp_path: Path, clip_folder: Path) -> None:
    weights = read_state_dict(CHECKPOINTS["instance"])
    teacher = {name: t for name, t in weights.items() if not name.startswith("masqclip.")}
    torch.save({"model": teacher, "iteration": 9}, tmp_path / "teacher.pth")
    done = convert_file(tmp_path / "teacher.pth", tmp_path / "teacher")
    assert "class-agnostic: a teacher or student" in done.found[0]
    segmenter = Segmenter.from_parts(clip_folder, tmp_path / "teacher")
    with torch.no_grad():
        proposals = segmenter.model.proposer(torch.zeros(1, 3, 64, 64))
    assert proposals.mask_logits.shape == (1, 12, 16, 16)


def mistakes(folder: Path, clip_file: Path, whole: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Files that are wrong, and what is said of each."""
    plain = read_state_dict(clip_file)
    tower = {name: t for name, t in whole.items() if name.startswith("masqclip.")}
    proposer = {name: t for name, t in whole.items() if not name.startswith("masqclip.")}
    without = {
        "backbone.res3.1.conv2.norm.bias": "there is no tensor 'backbone.res3.1.conv2.norm.bias'",
        "masqclip.mask_embeddings": "there is no tensor 'masqclip.mask_embeddings'",
        "masqclip.visual.ln_post.bias": "there is no tensor 'masqclip.visual.ln_post.bias'",
    }
    cases = [
        ({name: t for name, t in whole.items() if name != gone}, said)
        for gone, said in without.items()
    ]
    half = dict(list(whole.items())[: len(whole) // 2])
    other = whole | {"masqclip.visual.proj": whole["masqclip.visual.proj"] + 1e-7}
    cases += [
        (half, "there is no tensor"),
        (tower, "there is no tensor 'sem_seg_head.pixel_decoder"),
        (proposer | plain, "is a mixture: it holds tensors of a Mask2Former"),
        (whole | {"roi_heads.x": torch.ones(1)}, "unknown tensor 'roi_heads.x'"),
        (whole | {"masqclip.strange": torch.ones(1)}, "unknown tensor 'masqclip.strange'"),
        (other, "the numbers of 'visual_projection.weight' differ"),
        ({"fc.weight": torch.ones(1)}, "is no MasQCLIP, MaskCLIP, Mask2Former or CLIP: its first"),
        ({"proposer.x": torch.ones(1)}, "use its folder as it is"),
    ]
    for number, (weights, said) in enumerate(cases):
        torch.save({"model": weights}, folder / f"{number}.pth")
        yield f"{number}.pth", said


def test_mistakes_get_one_line(
    clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_state_dict(CHECKPOINTS["instance"])
    for name, said in mistakes(tmp_path, clip_file, whole):
        words = ["convert", str(tmp_path / name), str(tmp_path / "out"), "--text-heads", "2"]
        with_clip = ["--clip", str(clip_file)] if "no MasQCLIP" not in said else []
        assert main([*words, *with_clip]) == 2, said
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_the_clip_must_be_told_where_openai_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(CHECKPOINTS["instance"]), str(tmp_path / "out")]) == 2
    assert "name the CLIP that this MasQCLIP was tuned on (--clip)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("masqclip_base_novel_instance65", "base-novel"),
        ("masqclip_cross_dataset_coco133", "cross-dataset"),
        ("teacher", None),
    ],
)
def test_full_size_models_by_name(name: str, setting: str | None) -> None:
    """Every published name is consumed or on the list, and gives a name that transformers has."""
    manifest = json.loads(gzip.decompress((DATA / "official_manifest.json.gz").read_bytes()))
    with torch.device("meta"):
        weights = {
            key: torch.empty(shape, dtype=getattr(torch, dtype))
            for key, (shape, dtype) in manifest[name].items()
        }
        proposer = {key: t for key, t in weights.items() if not key.startswith("masqclip.")}
        config, converted = mask2former_to_transformers(proposer)
        expected = Mask2FormerForUniversalSegmentation(config).state_dict()
    assert {key: t.shape for key, t in converted.items()} == {
        key: t.shape for key, t in expected.items()
    }
    assert set(NOT_NEEDED) == {"criterion.empty_weight"}
    assert config.backbone_config.hidden_sizes == [256, 512, 1024, 2048]  # nothing was widened
    assert (config.encoder_layers, config.decoder_layers, config.num_queries) == (6, 10, 100)
    assert (config.num_attention_heads, config.hidden_dim, config.num_labels) == (8, 256, 1)
    if setting is None:
        return
    assert setting_of(weights).name.startswith(setting)
    tower = vision_tower(weights)
    assert published_clip(tower) == "openai/clip-vit-large-patch14-336"
    assert len(tower.query_projections) == 24
    with torch.device("meta"):
        frozen = CLIPVisionModelWithProjection(tower.config).state_dict()
    assert {key: t.shape for key, t in tower.state_dict.items()} == {
        key: t.shape for key, t in frozen.items()
    }
    assert tower.config.num_attention_heads == 16


def test_a_tower_of_another_clip(clip_folder: Path, tmp_path: Path) -> None:
    clip = CLIPModel.from_pretrained(clip_folder)
    config = clip.config
    config.vision_config.num_hidden_layers = 2
    CLIPModel(config).save_pretrained(tmp_path / "shallow")
    with pytest.raises(MasqclipError, match="was not tuned on the CLIP given"):
        convert_file(CHECKPOINTS["instance"], tmp_path / "out", clip=tmp_path / "shallow")


def test_what_goes_with_the_clip_of_a_masqclip(clip_folder: Path, tmp_path: Path) -> None:
    """Its folder's mean, deviation and tokenizer, unless others are asked for."""
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    told = json.loads((folder / "preprocessor_config.json").read_text())
    told |= {"image_mean": [0.5, 0.4, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    file = CHECKPOINTS["instance"]
    options = ClipOptions(vision_heads=2)
    config = convert_file(file, tmp_path / "a", clip=folder, options=options).config
    assert config.clip_mean == (0.5, 0.4, 0.3)
    asked = replace(options, mean=(0.1, 0.2, 0.3))
    config = convert_file(file, tmp_path / "b", clip=folder, options=asked).config
    assert config.clip_mean == (0.1, 0.2, 0.3)
    assert MasQClipModel.from_pretrained(tmp_path / "b").config.clip_mean == (0.1, 0.2, 0.3)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(MasqclipError, match="is of the class 'BertTokenizer'"):
        convert_file(file, tmp_path / "c", clip=folder, options=options)


def test_options_of_a_clip_with_no_clip(tmp_path: Path) -> None:
    masqclip = read_state_dict(CHECKPOINTS["instance"])
    names = ("backbone.", "sem_seg_head.", "criterion.")
    proposer = {name: t.clone() for name, t in masqclip.items() if name.startswith(names)}
    save_file(proposer, tmp_path / "proposer.safetensors")
    with pytest.raises(MasqclipError, match="--mean, --std and --tokenizer go with a CLIP"):
        convert_file(
            tmp_path / "proposer.safetensors", tmp_path / "out", options=ClipOptions(mean=(0, 0, 0))
        )
