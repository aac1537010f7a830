"""What shapes and names of tensors say of a checkpoint, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from masqclip.convert.masqclip import published_clip, setting_of
from masqclip.convert.openai_clip import (
    NOT_NEEDED,
    VisionTower,
    huggingface_clip,
    openai_clip_to_transformers,
    vision_tower_to_transformers,
)
from masqclip.convert.resnet import widen
from masqclip.errors import MasqclipError

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
