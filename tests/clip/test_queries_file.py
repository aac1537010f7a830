"""The MasQ add-on: saved from one model, taken over by another of the same CLIP, and no other."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import CLIPConfig, CLIPModel

from masqclip.clip.masked_vision import MaskQueries
from masqclip.clip.queries_file import digest, load_queries, save_queries
from masqclip.errors import MasqclipError
from masqclip.towers.families import tower_of

TOWER = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}


def tiny_clip(seed: int = 0, layers: int = 2) -> CLIPModel:
    torch.manual_seed(seed)
    vision = TOWER | {"num_hidden_layers": layers, "image_size": 32, "patch_size": 8}
    text = TOWER | {"num_hidden_layers": 1, "vocab_size": 99}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).eval()


@pytest.fixture
def tuned(tmp_path: Path) -> tuple[Path, CLIPModel, MaskQueries]:
    clip = tiny_clip()
    queries = MaskQueries(tower_of(clip))
    with torch.no_grad():
        for parameter in queries.parameters():
            parameter.normal_()
    save_queries(tmp_path / "q.safetensors", queries, tower_of(clip))
    return tmp_path / "q.safetensors", clip, queries


def test_there_and_back(tuned: tuple[Path, CLIPModel, MaskQueries]) -> None:
    file, clip, queries = tuned
    other = MaskQueries(tower_of(clip))
    load_queries(file, other, tower_of(clip))
    for name, parameter in queries.state_dict().items():
        assert torch.equal(other.state_dict()[name], parameter)


def test_the_class_position_comes_along(tuned: tuple[Path, CLIPModel, MaskQueries]) -> None:
    """Published training moves that one row of CLIP: it is no part of what tells a CLIP."""
    file, clip, queries = tuned
    clean = copy.deepcopy(clip)
    with torch.no_grad():
        clean.vision_model.embeddings.position_embedding.weight[0] += 1
    assert digest(tower_of(clean)) == digest(tower_of(clip))
    load_queries(file, queries, tower_of(clean))
    rows = (m.vision_model.embeddings.position_embedding.weight[0] for m in (clean, clip))
    assert torch.equal(*rows)


def test_another_clip_is_refused(
    tuned: tuple[Path, CLIPModel, MaskQueries], tmp_path: Path
) -> None:
    file, clip, queries = tuned
    with pytest.raises(MasqclipError, match="tuned on another CLIP of the same sizes"):
        load_queries(file, queries, tower_of(tiny_clip(seed=1)))
    deep = tower_of(tiny_clip(layers=3))
    with pytest.raises(MasqclipError, match=r"fit a CLIP of width 32, blocks 2, .* has .*blocks 3"):
        load_queries(file, MaskQueries(deep), deep)
    with pytest.raises(MasqclipError, match="there is no file of queries"):
        load_queries(tmp_path / "nowhere", queries, tower_of(clip))
    clip.save_pretrained(tmp_path / "clip")
    with pytest.raises(MasqclipError, match="holds no queries of masqclip"):
        load_queries(tmp_path / "clip" / "model.safetensors", queries, tower_of(clip))
    (tmp_path / "broken").write_bytes(b"nothing of the kind")
    with pytest.raises(MasqclipError, match="cannot be read as safetensors"):
        load_queries(tmp_path / "broken", queries, tower_of(clip))
    with pytest.raises(MasqclipError, match="saved from a model in float32"):
        save_queries(tmp_path / "half", queries, tower_of(clip.half()))


def test_a_file_for_a_vit_l_is_small(tuned: tuple[Path, CLIPModel, MaskQueries]) -> None:
    """Nothing but the queries and one row is in a file: 24 (1024 + 1) 1024 + 2 x 1024 floats."""
    with safe_open(tuned[0], "pt") as file:
        sizes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert sizes == {
        "projections.0.weight": [32, 32],
        "projections.0.bias": [32],
        "projections.1.weight": [32, 32],
        "projections.1.bias": [32],
        "embedding": [32],
        "class_position": [32],
    }
    assert 4 * (24 * 1025 * 1024 + 2 * 1024) <= 110e6
