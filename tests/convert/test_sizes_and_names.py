"""What shapes and names of tensors say of a checkpoint, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPVisionConfig

from masqclip.convert import clip, files
from masqclip.convert.files import _dropped
from masqclip.convert.masqclip import published_clip, setting_of
from masqclip.convert.resnet import resnet_backbone, widen
from masqclip.errors import MasqclipError
from masqclip.towers.openai_clip import (
    NOT_NEEDED,
    VisionTower,
    attention_heads,
    huggingface_clip,
    openai_clip_to_transformers,
    vision_tower_to_transformers,
)

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    found = load_file(DATA / "clip_instance.safetensors")
    rows = found.pop("token_embedding_rows")
    found.pop("token_rows")
    return found | {"token_embedding.weight": torch.zeros(49_408, rows.shape[1])}


# The options that shapes do not tell


@pytest.mark.parametrize(("vision", "text"), [(1, 2), (4, 1), (None, 2)])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_heads_and_activation_are_those_given(
    vision: int | None, text: int, activation: str, weights: dict[str, Tensor]
) -> None:
    options: Any = {"vision_heads": vision, "text_heads": text, "activation": activation}
    config, converted = openai_clip_to_transformers(weights, **options)
    again, same = huggingface_clip(converted, **options)
    for found in (config, again):
        assert found.vision_config.num_attention_heads == (vision or 2)
        assert found.text_config.num_attention_heads == text
        assert found.vision_config.hidden_act == found.text_config.hidden_act == activation
    assert again.to_dict() == config.to_dict()
    assert same.keys() == converted.keys()
    assert all(torch.equal(same[name], tensor) for name, tensor in converted.items())


@pytest.mark.parametrize(
    ("width", "heads"),
    [(64, 1), (768, 12), (1024, 16), (1280, 16), (1408, 16), (1664, 16), (1281, None), (63, None)],
)
def test_heads_are_64_wide_but_in_the_largest_towers(width: int, heads: int | None) -> None:
    if heads is not None:
        assert attention_heads(width, None, what="vision") == heads
        assert attention_heads(width, 1, what="vision") == 1
    else:
        with pytest.raises(MasqclipError, match=f"text tower is {width} wide .*--text-heads"):
            attention_heads(width, None, what="text")
    for wrong in (0, width + 1):
        with pytest.raises(MasqclipError, match="give vision_heads"):
            attention_heads(width, wrong, what="vision")


def test_words_are_read_by_heads_of_64_but_in_the_largest_siglips() -> None:
    """ViT-bigG and PE-Core G have pictures' towers with wide heads, and words' with twenty."""
    assert [attention_heads(w, None, what="text") for w in (1024, 1280, 1152)] == [16, 20, 16]


def test_what_is_dropped_is_said_with_its_reason() -> None:
    given = {"criterion.empty_weight": torch.ones(1), "vocab_size": torch.ones(1), "a": None}
    assert _dropped(given) == {  # type: ignore[arg-type]
        "criterion.empty_weight": "weights of the training loss",
        "vocab_size": "a count that the sizes repeat",
    }
    assert set(_dropped(dict.fromkeys(NOT_NEEDED, torch.ones(1)))) == set(NOT_NEEDED)


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"sem_seg_head.x": 1}, "Mask2Former"),
        ({"visual.class_embedding": 1}, "CLIP"),
    ],
)
def test_kinds_are_converted_with_what_is_dropped(
    tensors: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SimpleNamespace(
        num_labels=3,
        model_type="clip",
        to_dict=lambda: {
            "backbone_config": {"model_type": "resnet", "depths": [1, 2]}, "encoder_layers": 6,
            "decoder_layers": 10, "num_queries": 100, "hidden_dim": 256,
        },
        vision_config=CLIPVisionConfig(), text_config=CLIPTextConfig(),
    )  # fmt: skip
    for place, name in (
        (files, "mask2former_to_transformers"),
        (clip, "openai_clip_to_transformers"),
    ):
        monkeypatch.setattr(place, name, lambda *given, **named: (config, {}))
    monkeypatch.setattr(files, "check_fits", lambda *given, **named: None)
    extra = "criterion.empty_weight" if what == "Mask2Former" else "context_length"
    given: Any = {name: torch.ones(1) for name in (*tensors, extra)}
    done = files.convert_state_dict(given, name="x")
    assert [*done.dropped] == [extra]
    assert (done.tokenizer is not None) == (what == "CLIP")
    if what == "Mask2Former":
        assert done.found == [
            "a Mask2Former of detectron2, 3 classes",
            "Mask2Former: resnet backbone (1-2 blocks), 6 pixel decoder layers, 9 decoder layers, "
            "100 queries, width 256",
        ]
        config.num_labels = 1
        done = files.convert_state_dict(given, name="x")
        assert done.found[0].endswith("class-agnostic: a teacher or student")
    with pytest.raises(
        MasqclipError, match="--clip goes with a MasQCLIP or MaskCLIP, and 'x' is a "
    ):
        files.convert_state_dict(given, name="x", clip="c")
    with pytest.raises(MasqclipError, match=r"'x' is no MasQCLIP, .*: its first tensor is 'other'"):
        files.convert_state_dict({"other": torch.ones(1)}, name="x")


def test_the_last_two_tokens_begin_and_end(weights: dict[str, Tensor]) -> None:
    text = openai_clip_to_transformers(weights, text_heads=2)[0].text_config
    assert (text.bos_token_id, text.eos_token_id, text.pad_token_id) == (49_406, 49_407, 49_407)
    default = huggingface_clip(openai_clip_to_transformers(weights, text_heads=2)[1], text_heads=2)
    assert default[0].vision_config.hidden_act == "quick_gelu"


@pytest.mark.parametrize("name", NOT_NEEDED)
def test_counts_of_old_versions_are_passed_over(name: str, weights: dict[str, Tensor]) -> None:
    config, converted = openai_clip_to_transformers(weights | {name: torch.ones(1)}, text_heads=2)
    assert name not in converted
    again, same = huggingface_clip(converted | {name: torch.ones(1)}, text_heads=2)
    assert (again.to_dict(), same.keys()) == (config.to_dict(), converted.keys())
    for convert, given in (
        (openai_clip_to_transformers, weights), (huggingface_clip, converted),
    ):  # fmt: skip
        with pytest.raises(MasqclipError, match="unknown tensor 'strange'"):
            convert(given | {"strange": torch.ones(1)}, text_heads=2)


def test_a_missing_tensor_is_named_in_its_own_names(weights: dict[str, Tensor]) -> None:
    converted = openai_clip_to_transformers(weights, text_heads=2)[1]
    for name in converted:
        if "layers.1" in name or "layers" not in name:
            less = {other: tensor for other, tensor in converted.items() if other != name}
            with pytest.raises(MasqclipError, match=name.replace(".", r"\.")):
                huggingface_clip(less, text_heads=2)


@pytest.mark.parametrize(
    ("name", "hint"), [("layer1.0.conv1.weight", "it is a ResNet CLIP"), ("x", "is it a CLIP?")]
)
def test_what_is_below_a_prefix_in_place_of_a_tower_is_guessed(name: str, hint: str) -> None:
    with pytest.raises(MasqclipError) as refused:
        vision_tower_to_transformers({f"visual.{name}": torch.ones(1)}, prefix="visual.")
    assert str(refused.value) == f"there is no OpenAI ViT tower below 'visual.': {hint}"


def test_a_masqclip_is_no_plain_clip(weights: dict[str, Tensor]) -> None:
    query = "visual.transformer.resblocks.{}.attn.new_q_proj"
    learned = {
        f"{query.format(i)}.{kind}": torch.zeros(128, *size)
        for i in range(3)
        for kind, size in (("weight", (128,)), ("bias", ()))
    }
    for more in (learned, {"mask_embeddings": torch.ones(128)}):
        with pytest.raises(MasqclipError, match="this is a MasQCLIP, not a plain CLIP"):
            openai_clip_to_transformers(weights | more, text_heads=2)


# Published models


@pytest.mark.parametrize(
    ("classes", "name", "edges"),
    [
        (66, "base-novel setting, COCO instances, 65 classes", (800, 1333)),
        (134, "cross-dataset setting, COCO panoptic, 133 classes", (640, 2560)),
        (65, "no published setting", (800, 1333)),
        (67, "no published setting", (800, 1333)),
        (133, "no published setting", (800, 1333)),
        (None, "no published setting", (800, 1333)),
    ],
)
def test_a_setting_is_told_by_its_classes(
    classes: int | None, name: str, edges: tuple[int, int]
) -> None:
    given = {} if classes is None else {"criterion.empty_weight": torch.ones(classes)}
    found = setting_of(given)
    assert (found.name, (found.shortest_edge, found.longest_edge)) == (name, edges)


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ((1024, 24, 14, 336), "openai/clip-vit-large-patch14-336"),
        ((1024, 24, 14, 224), "openai/clip-vit-large-patch14"),
        ((768, 12, 16, 224), "openai/clip-vit-base-patch16"),
        ((768, 12, 32, 224), "openai/clip-vit-base-patch32"),
        ((768, 12, 16, 225), None), ((768, 12, 17, 224), None),
        ((768, 13, 16, 224), None), ((769, 12, 16, 224), None),
    ],
)  # fmt: skip
def test_a_published_clip_is_told_by_its_sizes(
    sizes: tuple[int, int, int, int], name: str | None, weights: dict[str, Tensor]
) -> None:
    tower = vision_tower_to_transformers(weights, prefix="visual.")
    config = tower.config
    config.hidden_size, config.num_hidden_layers, config.patch_size, config.image_size = sizes
    assert published_clip(VisionTower(config, {}, [], None)) == name


# Wider tensors


def test_a_tensor_is_made_longer_and_never_shorter() -> None:
    given = torch.arange(6.0).reshape(2, 3)
    assert widen(given, 2) is given
    assert widen(given, 1) is given
    assert widen(given, 3, dim=1) is given
    longer = widen(given, 3)
    assert longer.tolist() == [[0, 1, 2], [3, 4, 5], [0, 0, 0]]
    assert widen(given, 5, dim=1, value=1.0).tolist() == [[0, 1, 2, 1, 1], [3, 4, 5, 1, 1]]


# ResNets


def resnet(depths: tuple[int, ...], width: int = 8, inner: int = 2) -> dict[str, Tensor]:
    """A ResNet of detectron2 whose bottlenecks are so wide, a stage twice the one before."""
    found: dict[str, Tensor] = {}

    def convolution(name: str, out: int, into: int) -> None:
        found[f"{name}.weight"] = torch.ones(out, into, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.norm.{part}"] = torch.full((out,), 2.0)

    convolution("backbone.stem.conv1", 4, 3)
    before = 4
    for stage, depth in enumerate(depths):
        out, narrow = width << stage, inner << stage
        for i in range(depth):
            name = f"backbone.res{stage + 2}.{i}"
            if i == 0:
                convolution(f"{name}.shortcut", out, before)
            sizes = [(narrow, before), (narrow, narrow), (out, narrow)]
            for n, (rows, columns) in enumerate(sizes, start=1):
                convolution(f"{name}.conv{n}", rows, columns)
            before = out
    return found


def test_a_resnet_is_told_by_its_shapes() -> None:
    given = resnet((1, 2, 3, 1))
    config, converted = resnet_backbone(given)
    assert config.depths == [1, 2, 3, 1]
    assert config.hidden_sizes == [8, 16, 32, 64]
    assert (config.embedding_size, config.layer_type) == (4, "bottleneck")
    assert config.out_features == ["stage1", "stage2", "stage3", "stage4"]
    counts = [name for name in converted if name.endswith("num_batches_tracked")]
    assert len(counts) == len(converted) - len(given) == 1 + 4 + 3 * 7
    assert all(converted[name].item() == 0 for name in counts)
    assert sum(tensor.numel() for tensor in converted.values()) - len(counts) == sum(
        tensor.numel() for tensor in given.values()
    ), "nothing is widened"


@pytest.mark.parametrize(("inner", "scale"), [(4, 2), (2, 1), (8, 4), (32, 16)])
def test_wide_bottlenecks_widen_what_they_give(inner: int, scale: int) -> None:
    config, converted = resnet_backbone(resnet((2, 1, 1, 1), inner=inner))
    assert config.hidden_sizes == [scale * size for size in (8, 16, 32, 64)]
    block = "encoder.stages.0.layers.{}.{}.{}"
    shapes = {
        (0, "layer.0", "convolution.weight"): (inner, 4, 1, 1),  # it reads the stem
        (0, "layer.2", "convolution.weight"): (8 * scale, inner, 1, 1),
        (0, "shortcut", "convolution.weight"): (8 * scale, 4, 1, 1),
        (1, "layer.0", "convolution.weight"): (inner, 8 * scale, 1, 1),
        (1, "layer.1", "convolution.weight"): (inner, inner, 1, 1),
        (1, "layer.2", "normalization.bias"): (8 * scale,),
    }
    for names, shape in shapes.items():
        assert converted[block.format(*names)].shape == shape
    widened = {
        "convolution.weight": 0.0, "normalization.running_var": 1.0,
        "normalization.running_mean": 0.0, "normalization.weight": 0.0,
    }  # fmt: skip
    for part in ("layer.2", "shortcut"):
        for kind, value in widened.items():
            tensor = converted[block.format(0, part, kind)]
            assert (tensor[:8] == (1 if "conv" in kind else 2)).all()
            assert (tensor[8:] == value).all()


@pytest.mark.parametrize(
    ("width", "inner", "said"),
    [
        (9, 2, "2 of 9 channels wide, and transformers has no such ResNet: a quarter"),
        (6, 2, "2 of 6 channels wide, and transformers has no such ResNet"),
        (0, 2, "2 of 0 channels wide, and transformers has no such ResNet"),
        (8, 34, "34 of 8 channels wide: no model's are more than 4 times as wide"),
    ],
)
def test_a_resnet_that_transformers_does_not_have(width: int, inner: int, said: str) -> None:
    with pytest.raises(MasqclipError, match=said):
        resnet_backbone(resnet((1, 1, 1, 1), width=width, inner=inner))
    with pytest.raises(MasqclipError, match=r"no tensor 'backbone\.res5\.0\.shortcut\.weight'"):
        resnet_backbone(resnet((1, 1, 1, 0)))
