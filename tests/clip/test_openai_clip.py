"""OpenAI's CLIP in transformers, against features that the authors' code recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel, CLIPVisionModelWithProjection

from masqclip.clip.text import TextEncoder
from masqclip.errors import MasqclipError
from masqclip.towers.openai_clip import openai_clip_to_transformers, vision_tower_to_transformers
from masqclip.towers.tokenizer import load_tokenizer

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def openai_weights() -> dict[str, Tensor]:
    """The small CLIP; of its token embedding, only the rows that the tests need were kept."""
    weights = load_file(DATA / "clip_instance.safetensors")
    rows = weights.pop("token_embedding_rows")
    table = torch.zeros(49_408, rows.shape[1])
    table[weights.pop("token_rows")] = rows
    return weights | {"token_embedding.weight": table}


@pytest.fixture(scope="module")
def clip(openai_weights: dict[str, Tensor]) -> CLIPModel:
    config, weights = openai_clip_to_transformers(openai_weights, vision_heads=2, text_heads=2)
    model = CLIPModel(config)
    model.load_state_dict(weights, strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(DATA / "clip.safetensors")


def with_masqclip(weights: Mapping[str, Tensor], blocks: int = 3) -> dict[str, Tensor]:
    """The CLIP's vision tower as a MasQCLIP checkpoint holds it, with made-up additions."""
    state = {f"masqclip.{k}": v for k, v in weights.items() if k.startswith("visual.")}
    for i in range(blocks):
        name = f"masqclip.visual.transformer.resblocks.{i}.attn.new_q_proj"
        state |= {
            f"{name}.weight": torch.full((128, 128), i),
            f"{name}.bias": torch.full((128,), i),
        }
    return state | {"masqclip.mask_embeddings": torch.ones(128), "backbone.stem": torch.ones(1)}


def test_image_features(clip: CLIPModel, golden: dict[str, Tensor]) -> None:
    with torch.no_grad():
        features = clip.get_image_features(golden["pixel_values"]).pooler_output
    torch.testing.assert_close(features, golden["image_features"], atol=1e-4, rtol=0)


def test_text_features(clip: CLIPModel, golden: dict[str, Tensor]) -> None:
    with safe_open(DATA / "clip.safetensors", "pt") as file:
        texts = json.loads(file.metadata()["texts"])
    features = TextEncoder(clip, load_tokenizer()).embed_strings(texts)
    torch.testing.assert_close(features, golden["text_features"], atol=1e-4, rtol=0)
    with torch.no_grad():
        padded = clip.get_text_features(golden["tokens"].long()).pooler_output
    torch.testing.assert_close(padded, golden["text_features"], atol=1e-4, rtol=0)
    assert clip.logit_scale.item() == pytest.approx(golden["logit_scale"].item())


def test_vision_tower_of_a_masqclip(
    openai_weights: dict[str, Tensor], golden: dict[str, Tensor]
) -> None:
    tower = vision_tower_to_transformers(with_masqclip(openai_weights), heads=2)
    model = CLIPVisionModelWithProjection(tower.config)
    model.load_state_dict(tower.state_dict, strict=True)
    with torch.no_grad():
        features = model.eval()(golden["pixel_values"]).image_embeds
    torch.testing.assert_close(features, golden["image_features"], atol=1e-4, rtol=0)
    assert [weight[0, 0].item() for weight, _ in tower.query_projections] == [0, 1, 2]
    assert [bias[0].item() for _, bias in tower.query_projections] == [0, 1, 2]
    assert tower.mask_embedding is not None
    assert tower.mask_embedding.shape == (128,)
    plain = vision_tower_to_transformers(openai_weights, prefix="visual.", heads=2)
    assert (plain.query_projections, plain.mask_embedding) == ([], None)


def test_input_is_left_as_it_was(openai_weights: dict[str, Tensor]) -> None:
    before = {name: tensor.clone() for name, tensor in openai_weights.items()}
    extra = openai_weights | {"input_resolution": torch.tensor(64)}
    _, weights = openai_clip_to_transformers(extra, text_heads=2)
    assert "input_resolution" not in weights
    assert all(torch.equal(before[name], tensor) for name, tensor in openai_weights.items())


def test_sizes_follow_the_shapes(openai_weights: dict[str, Tensor]) -> None:
    config, _ = openai_clip_to_transformers(openai_weights, text_heads=2)
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (128, 3, 2)
    assert (vision.image_size, vision.patch_size, vision.intermediate_size) == (64, 16, 512)
    assert (text.hidden_size, text.num_hidden_layers, text.vocab_size) == (16, 2, 49_408)
    assert (text.max_position_embeddings, text.eos_token_id) == (77, 49_407)
    assert config.projection_dim == text.projection_dim == vision.projection_dim == 32
    assert vision.hidden_act == text.hidden_act == "quick_gelu"


def test_what_does_not_fit_is_named(openai_weights: dict[str, Tensor]) -> None:
    def convert(weights: dict[str, Tensor]) -> None:
        openai_clip_to_transformers(weights, text_heads=2)

    with pytest.raises(MasqclipError, match="give text_heads"):
        openai_clip_to_transformers(openai_weights)
    with pytest.raises(MasqclipError, match="unknown tensor 'strange'"):
        convert(openai_weights | {"strange": torch.ones(1)})
    for name in ("ln_final.bias", "visual.proj", "transformer.resblocks.1.ln_2.bias"):
        with pytest.raises(MasqclipError, match=f"no tensor '{name}'"):
            convert({k: v for k, v in openai_weights.items() if k != name})
    with pytest.raises(MasqclipError, match=r"no tensor 'transformer\.resblocks\.0"):
        convert({k: v for k, v in openai_weights.items() if not k.startswith("transformer.")})
    with pytest.raises(MasqclipError, match="ResNet"):
        convert({"visual.layer1.0.conv1.weight": torch.ones(1)})
    with pytest.raises(MasqclipError, match="20 patches, not a square"):
        convert(openai_weights | {"visual.positional_embedding": torch.zeros(21, 128)})
    with pytest.raises(
        MasqclipError, match=r"no tensor '.*resblocks\.2\.attn\.new_q_proj\.weight'"
    ):
        vision_tower_to_transformers(with_masqclip(openai_weights, blocks=2), heads=2)
    with pytest.raises(MasqclipError, match=r"below 'masqclip\.visual\.'"):
        vision_tower_to_transformers(openai_weights)
