"""EVA02-CLIP, PE-Core and timm's SigLIP against the recorded numbers of timm and open_clip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recorded_towers import RECORDED, ROTARY, TEXTS, model_of, recorded, size_of
from torch import Tensor

from masqclip.clip.masked_vision import (
    MaskQueries,
    embed_masks,
    encode_and_embed,
    encode_image,
    read_picture,
)
from masqclip.clip.queries_file import load_queries, save_queries
from masqclip.errors import MasqclipError
from masqclip.towers.families import family_of, tower_of
from masqclip.weights.folders import load_model
from tower_recipe import picture, tokens


@torch.no_grad()
@pytest.mark.parametrize("name", RECORDED)
def test_a_mask_of_everything_is_the_references_picture(name: str) -> None:
    """At the tower's own size and, but for SigLIP, at others, which timm is set to."""
    model, (_, answers) = model_of(name), recorded(name)
    tower = tower_of(model)
    queries = MaskQueries(tower)
    queries.start(tower, "clip")
    sizes = [key for key in answers if key.startswith("image-")]
    assert len(sizes) == (1 if name == "siglip" else 4)
    for key in sizes:
        rows, columns = (side // tower.patch_size for side in size_of(key))
        pixels = picture(size_of(key))
        seen = torch.ones(2, 1, rows * columns, dtype=torch.bool)
        apart = embed_masks(tower, queries, encode_image(tower, pixels), seen)
        _, at_once = encode_and_embed(tower, queries, pixels, seen)
        for found in (apart, at_once):
            assert (found[:, 0] - answers[key]).abs().max() <= 1e-5, key


@torch.no_grad()
@pytest.mark.parametrize("name", ROTARY)
def test_words_are_the_references(name: str) -> None:
    model, (_, answers) = model_of(name), recorded(name)
    words = family_of(model.config.model_type).words(model, None)
    assert words.context_length == 12
    found = words.embed(tokens(99, 12, TEXTS))
    assert (found - answers["text"]).abs().max() <= 1e-5


@torch.no_grad()
def test_a_siglips_words_are_the_references() -> None:
    model, (_, answers) = model_of("siglip"), recorded("siglip")
    found = model.text_model(input_ids=tokens(99, 12, TEXTS)).pooler_output
    assert (found - answers["text"]).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ROTARY)
def test_a_whole_picture_is_read_from_its_last_tokens(name: str) -> None:
    tower, (_, answers) = tower_of(model_of(name)), recorded(name)
    hidden, turns = tower.start(picture((32, 32)))
    for block in tower.blocks[:-1]:
        read = block.read(hidden)
        parts = [block.project(part, read).unflatten(-1, (block.heads, -1)).transpose(1, 2)
                 for part in ("q", "k", "v")]  # fmt: skip
        query, key = (block.turn(x, turns) for x in parts[:2])
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, parts[2])
        hidden = block.finish(hidden, mixed)
    found = read_picture(tower, hidden, turns)
    assert (found - answers["image-32x32"]).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ROTARY)
def test_masks_do_not_see_one_another_nor_what_they_hide(name: str) -> None:
    tower = tower_of(model_of(name))
    queries = MaskQueries(tower)
    queries.start(tower, "random")
    tokens_ = encode_image(tower, picture((32, 32), 1))
    visible = torch.rand(1, 5, 16, generator=torch.Generator().manual_seed(1)) > 0.5
    together = embed_masks(tower, queries, tokens_, visible)
    for i in range(5):
        alone = embed_masks(tower, queries, tokens_, visible[:, i : i + 1])
        torch.testing.assert_close(alone[:, 0], together[:, i], atol=1e-5, rtol=1e-5)
    hidden = (~visible[0, 0]).nonzero().flatten() + tower.prefix
    for value in tokens_.values:
        value[:, :, hidden] += 100.0
    changed = embed_masks(tower, queries, tokens_, visible)
    torch.testing.assert_close(changed[:, 0], together[:, 0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(changed[:, 1], together[:, 1], atol=1e-2)
    nothing = embed_masks(tower, queries, tokens_, torch.zeros(1, 1, 16, dtype=torch.bool))
    assert nothing.isfinite().all()


@pytest.mark.parametrize("name", ROTARY)
def test_only_the_queries_get_gradients(name: str) -> None:
    model = model_of(name).requires_grad_(False)
    tower = tower_of(model)
    queries = MaskQueries(tower)
    queries.start(tower, "clip")
    visible = torch.rand(2, 4, 16, generator=torch.Generator().manual_seed(1)) > 0.5
    _, found = encode_and_embed(tower, queries, picture((32, 32)), visible)
    found.square().sum().backward()
    assert len(queries.projections) == {"eva02": 3, "pe": 4, "pe-giant": 1}[name]
    for parameter in queries.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ROTARY)
def test_an_add_on_fits_its_own_tower_alone(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    tower = tower_of(model)
    queries = MaskQueries(tower)
    queries.start(tower, "random")
    file = tmp_path / "queries.safetensors"
    save_queries(file, queries, tower)
    other = MaskQueries(tower)
    clean = model_of(name)
    with torch.no_grad():
        for moved in tower_of(clean).moving().values():
            moved += 1  # which comes with the file, and tells no tower from another
    load_queries(file, other, tower_of(clean))
    for key, value in queries.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    for key, value in tower.moving().items():
        assert torch.equal(tower_of(clean).moving()[key], value), key
    with torch.no_grad():
        clean.vision_model.embeddings.position_embedding[-1] += 1
    with pytest.raises(MasqclipError, match="tuned on another CLIP of the same sizes"):
        load_queries(file, other, tower_of(clean))
    wrong = tower_of(model_of("siglip"))
    with pytest.raises(MasqclipError, match="fit a CLIP of family"):
        load_queries(file, MaskQueries(wrong), wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ROTARY)
def test_a_model_is_saved_and_loaded(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """float32 is filled as it is, and anything else goes the way that large models go."""
    model = model_of(name)
    model.save_pretrained(tmp_path)
    again, missing = load_model(type(model), tmp_path, dtype=dtype)
    assert missing == set()
    for part in ("vision_config", "text_config"):
        ours, theirs = (getattr(each.config, part).to_dict() for each in (again, model))
        assert ours | {"dtype": 0} == theirs | {"dtype": 0}
    assert again.config.projection_dim == 24
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value.to(dtype)), key
    ids = tokens(99, 12, TEXTS)
    with torch.no_grad():
        found: Tensor = again.text_model(input_ids=ids).pooler_output.float()
        wanted: Tensor = model.to(dtype).text_model(input_ids=ids).pooler_output.float()
        pixels = picture((32, 32)).to(dtype)
        hidden, turns = tower_of(again).start(pixels)
        assert torch.equal(hidden, tower_of(model).start(pixels)[0])
    assert torch.equal(found, wanted)
    assert turns is not None
    assert turns[0].dtype == dtype
