"""Keys and values of the masks' own: they start as CLIP's, and no token of the picture knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_masked_vision import small_clip
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

from masqclip.clip.masked_vision import (
    ImageTokens,
    MaskQueries,
    embed_masks,
    encode_and_embed,
    encode_image,
)
from masqclip.clip.queries_file import load_queries, save_queries
from masqclip.configuration import OWN_PROJECTIONS
from masqclip.errors import MasqclipError
from masqclip.towers.families import tower_of

LAYERS = 3


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return small_clip().requires_grad_(False)


def started(clip: CLIPModel, own: str) -> MaskQueries:
    queries = MaskQueries(tower_of(clip), own)
    queries.start(tower_of(clip))
    return queries.requires_grad_(False)


def given() -> tuple[Tensor, Tensor]:
    """Two pictures, and the patches of five masks in each."""
    chance = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 32, 32, generator=chance), torch.rand(2, 5, 16, generator=chance) > 0.5


def equal(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)]


def apart(clip: CLIPModel, queries: MaskQueries) -> tuple[ImageTokens, Tensor]:
    pixels, visible = given()
    tokens = encode_image(tower_of(clip), pixels, queries)
    return tokens, embed_masks(tower_of(clip), queries, tokens, visible)


@pytest.mark.parametrize("own", OWN_PROJECTIONS)
def test_at_the_start_they_are_clips_bit_by_bit(clip: CLIPModel, own: str) -> None:
    pixels, visible = given()
    queries, plain = started(clip, own), started(clip, "q")
    without = encode_image(tower_of(clip), pixels)
    tokens, embeddings = apart(clip, queries)
    assert equal(tokens.keys, without.keys) == equal(tokens.values, without.values) == [True] * 3
    assert torch.equal(embeddings, embed_masks(tower_of(clip), plain, without, visible))
    once, at_once = encode_and_embed(tower_of(clip), queries, pixels, visible)
    expected, plain_at_once = encode_and_embed(tower_of(clip), plain, pixels, visible)
    assert equal(once.keys + once.values, expected.keys + expected.values) == [True] * 2 * LAYERS
    assert torch.equal(at_once, plain_at_once)


@pytest.mark.parametrize("own", OWN_PROJECTIONS)
def test_both_paths_at_once_are_the_two_apart(clip: CLIPModel, own: str) -> None:
    queries = started(clip, own)
    for parameter in queries.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape))
    tokens, embeddings = apart(clip, queries)
    once, at_once = encode_and_embed(tower_of(clip), queries, *given())
    torch.testing.assert_close(once.keys, tokens.keys, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(once.values, tokens.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(at_once, embeddings, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(embeddings, apart(clip, started(clip, own))[1], atol=1e-2)


@pytest.mark.parametrize("own", ["k", "v", "qk", "qkv"])
@pytest.mark.parametrize("together", [False, True])
def test_the_pictures_tokens_do_not_depend_on_them(
    clip: CLIPModel, own: str, together: bool
) -> None:
    """What the first block's own projections make changes, and nothing of later blocks does."""

    def seen(queries: MaskQueries) -> tuple[ImageTokens, Tensor]:
        return (
            encode_and_embed(tower_of(clip), queries, *given())
            if together
            else apart(clip, queries)
        )

    queries = started(clip, own)
    before, embeddings = seen(queries)
    changed = [part[0] for part in (queries.keys, queries.values) if part is not None]
    for projection in changed:
        projection.weight.normal_()
    after, other = seen(queries)
    same = [True] * (LAYERS - 1)
    assert equal(after.keys, before.keys) == ["k" not in own, *same]
    assert equal(after.values, before.values) == ["v" not in own, *same]
    assert len(changed) == ("k" in own) + ("v" in own)
    assert not torch.allclose(other, embeddings, atol=1e-3)


def test_a_model_of_queries_has_what_it_always_had(clip: CLIPModel) -> None:
    names = [f"projections.{n}.{part}" for n in range(LAYERS) for part in ("weight", "bias")]
    assert list(MaskQueries(tower_of(clip)).state_dict()) == ["embedding", *names]
    more = [name.replace("projections", part) for part in ("keys", "values") for name in names]
    assert list(MaskQueries(tower_of(clip), "qkv").state_dict()) == [
        "embedding", *names, *more,
    ]  # fmt: skip


@pytest.mark.parametrize("own", OWN_PROJECTIONS)
def test_by_chance_start_the_queries_that_learn_and_nothing_else(clip: CLIPModel, own: str) -> None:
    queries = MaskQueries(tower_of(clip), own)
    queries.start(tower_of(clip), "random")
    for number, layer in enumerate(clip.vision_model.encoder.layers):
        attention = layer.self_attn
        found = queries.projections[number].weight
        assert torch.equal(found, attention.q_proj.weight) == ("q" not in own)
        for projections, source in (
            (queries.keys, attention.k_proj), (queries.values, attention.v_proj),
        ):  # fmt: skip
            if projections is not None:
                for name, value in source.state_dict().items():
                    assert torch.equal(projections[number].state_dict()[name], value)
                assert projections[number].weight.data_ptr() != source.weight.data_ptr()


@pytest.mark.parametrize(
    ("own", "count"),
    [("q", 25_191_424), ("k", 50_381_824), ("v", 50_381_824), ("qk", 50_381_824),
     ("qkv", 75_572_224)],
)  # fmt: skip
def test_how_many_numbers_they_are_at_the_published_size(own: str, count: int) -> None:
    """24 blocks of 1024 x 1024 + 1024 numbers a kind; without "q", the queries are CLIP's."""
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16
    )
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(vision_config=vision.to_dict(), projection_dim=768))
        queries: nn.Module = MaskQueries(tower_of(clip), own)
    assert sum(parameter.numel() for parameter in queries.parameters()) == count


@pytest.mark.parametrize("own", ["k", "v", "qk", "qkv"])
def test_a_file_of_queries_is_of_queries_alone(clip: CLIPModel, own: str, tmp_path: Path) -> None:
    file, queries = tmp_path / "queries.safetensors", started(clip, own)
    line = f"holds query projections alone, and .* own projections '{own}': save and load the whole"
    with pytest.raises(MasqclipError, match=line):
        save_queries(file, queries, tower_of(clip))
    assert not file.exists()
    save_queries(file, started(clip, "q"), tower_of(clip))
    with pytest.raises(MasqclipError, match=line):
        load_queries(file, queries, tower_of(clip))
