"""The masked tower against the authors' recorded numbers, and against CLIP itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionModelWithProjection,
    SiglipConfig,
    SiglipModel,
)

from masqclip.clip.classifier import class_log_probs, clip_logits
from masqclip.clip.masked_vision import (
    MaskQueries,
    embed_masks,
    encode_and_embed,
    encode_image,
    read_picture,
)
from masqclip.clip.patches import patch_visibility
from masqclip.towers.clip import ClipTower
from masqclip.towers.families import tower_of
from masqclip.towers.openai_clip import vision_tower_to_transformers
from masqclip.weights.checkpoint import read_state_dict

DATA = Path(__file__).parent.parent / "data"
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def small_clip(**settings: str) -> CLIPModel:
    torch.manual_seed(0)
    vision = settings | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 99}  # fmt: skip
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)).eval()


def small_siglip() -> SiglipModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    vision = sizes | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
    text = sizes | {"num_hidden_layers": 1, "vocab_size": 99, "projection_size": 32}
    return SiglipModel(SiglipConfig(vision_config=vision, text_config=text)).eval()


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return small_clip()


@pytest.mark.parametrize("setting", ["instance", "panoptic"])
def test_reproduces_the_authors_model(setting: str) -> None:
    with safe_open(DATA / f"masqclip_{setting}.safetensors", "pt") as file:
        golden: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    weights = read_state_dict(DATA / f"masqclip_{setting}.pth")
    tower = vision_tower_to_transformers(weights, heads=2)
    model = CLIPVisionModelWithProjection(tower.config).eval()
    model.load_state_dict(tower.state_dict)
    reads = ClipTower(model)
    queries = MaskQueries(reads)
    with torch.no_grad():
        for projection, (weight, bias) in zip(
            queries.projections, tower.query_projections, strict=True
        ):
            projection.weight.copy_(weight)
            projection.bias.copy_(bias)
        queries.embedding.copy_(tower.mask_embedding)
        image = golden["image"].float()
        padding = (0, -image.shape[2] % 32, 0, -image.shape[1] % 32)
        size = tower.config.image_size
        stretched = F.interpolate(
            F.pad(image, padding)[None] / 255, size=(size, size), mode="bicubic"
        )
        pixels = (stretched - MEAN) / STD
        tokens = encode_image(reads, pixels)
        visible = patch_visibility(
            golden["proposal_masks"], image_size=size, patch_size=tower.config.patch_size
        )
        apart = embed_masks(reads, queries, tokens, visible)
        _, at_once = encode_and_embed(reads, queries, pixels, visible)
        logits = [clip_logits(each, golden["text_embeddings"]) for each in (apart, at_once)]
    for found in (apart, at_once):
        assert (found - golden["mask_embeddings"]).abs().max() <= 2e-4
    for found in logits:
        assert (found - golden["clip_logits"]).abs().max() <= 2e-4


@torch.no_grad()
def test_both_paths_at_once_are_the_two_apart(clip: CLIPModel) -> None:
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip), "random")
    pixels, visible = torch.randn(2, 3, 32, 32), torch.rand(2, 5, 16) > 0.5
    tokens, embeddings = encode_and_embed(tower_of(clip), queries, pixels, visible)
    apart = encode_image(tower_of(clip), pixels)
    torch.testing.assert_close(tokens.keys, apart.keys, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens.values, apart.values, atol=1e-5, rtol=1e-5)
    expected = embed_masks(tower_of(clip), queries, apart, visible)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])  # OpenAI's CLIPs, and OpenCLIP's
def test_untuned_and_all_visible_is_clip_itself(activation: str) -> None:
    """A mask class token that sees everything, with CLIP's own queries, is CLIP's class token."""
    clip = small_clip(hidden_act=activation)
    pixels = torch.randn(2, 3, 32, 32)
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip), "clip")
    tokens = encode_image(tower_of(clip), pixels)
    seen = torch.ones(2, 1, 16, dtype=torch.bool)
    ours = embed_masks(tower_of(clip), queries, tokens, seen)[:, 0]
    theirs = clip.visual_projection(clip.vision_model(pixels).pooler_output)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_masks_do_not_see_one_another_nor_what_they_hide(clip: CLIPModel) -> None:
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip), "random")
    tokens = encode_image(tower_of(clip), torch.randn(1, 3, 32, 32))
    visible = torch.rand(1, 5, 16) > 0.5
    together = embed_masks(tower_of(clip), queries, tokens, visible)
    alone = torch.cat(
        [embed_masks(tower_of(clip), queries, tokens, visible[:, i : i + 1]) for i in range(5)],
        dim=1,
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    hidden = (~visible[0, 0]).nonzero().flatten() + 1
    for value in tokens.values:
        value[:, :, hidden] += 100.0
    changed = embed_masks(tower_of(clip), queries, tokens, visible)
    torch.testing.assert_close(changed[:, 0], together[:, 0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(changed[:, 1], together[:, 1], atol=1e-2)


@torch.no_grad()
def test_an_empty_mask_is_finite(clip: CLIPModel) -> None:
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip), "clip")
    tokens = encode_image(tower_of(clip), torch.randn(1, 3, 32, 32))
    embedding = embed_masks(
        tower_of(clip), queries, tokens, torch.zeros(1, 1, 16, dtype=torch.bool)
    )
    assert embedding.isfinite().all()


def test_only_the_queries_get_gradients(clip: CLIPModel) -> None:
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip), "clip")
    clip.requires_grad_(False)
    tokens = encode_image(tower_of(clip), torch.randn(1, 3, 32, 32))
    embed_masks(
        tower_of(clip), queries, tokens, torch.rand(1, 4, 16) > 0.5
    ).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in queries.parameters())
    assert all(p.grad is None for p in clip.parameters())
    clip.requires_grad_(True)


def test_a_patch_is_visible_where_any_pixel_of_it_is_positive() -> None:
    logits = torch.full((1, 1, 32, 32), -1.0)
    logits[0, 0, 9, 17] = 1.0
    visible = patch_visibility(logits, image_size=32, patch_size=8)
    assert visible.shape == (1, 1, 16)
    assert visible.nonzero().tolist() == [[0, 0, 1 * 4 + 2]]


@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_patches_are_those_of_masks_resized_to_clips_input(size: tuple[int, int]) -> None:
    """The published rule: bilinear, not aligned at corners, then the highest pixel of a patch."""
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 11, 13, generator=chance) - 1.2
    resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    patches = resized.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).amax(dim=(3, 5))
    found = patch_visibility(logits, image_size=size, patch_size=8)
    assert torch.equal(found, patches.flatten(2) > 0)
    assert 0.2 < found.float().mean() < 0.8
    if size == (32, 32):
        assert torch.equal(patch_visibility(logits, image_size=32, patch_size=8), found)
    half = patch_visibility(logits.bfloat16(), image_size=size, patch_size=8)
    whole = patch_visibility(logits.bfloat16().float(), image_size=size, patch_size=8)
    assert torch.equal(half, whole)


def test_a_logit_of_zero_covers_no_patch() -> None:
    assert not patch_visibility(torch.zeros(1, 1, 4, 4), image_size=32, patch_size=8).any()


def test_queries_start_from_clips_or_by_chance_and_at_the_class_tokens_place(
    clip: CLIPModel,
) -> None:
    vision, queries = clip.vision_model, MaskQueries(tower_of(clip))
    place = vision.embeddings.position_embedding.weight[0]
    for how in ("clip", "random", "clip"):
        queries.start(tower_of(clip), how)  # type: ignore[arg-type]
        assert torch.equal(queries.embedding, place)
        for projection, layer in zip(queries.projections, vision.encoder.layers, strict=True):
            for name, own in layer.self_attn.q_proj.state_dict().items():
                same = torch.allclose(projection.state_dict()[name], own, atol=1e-3)
                assert same == (how == "clip")
    queries.start(tower_of(clip), "random")
    before = queries.projections[0].weight.detach().clone()
    queries.start(tower_of(clip), "random")
    assert not torch.equal(queries.projections[0].weight, before)


@torch.no_grad()
def test_pictures_of_another_size_are_seen_as_clip_sees_them(clip: CLIPModel) -> None:
    """Position embeddings are interpolated."""
    pixels = torch.randn(1, 3, 40, 24)
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip), "clip")
    seen = torch.ones(1, 1, 15, dtype=torch.bool)
    _, ours = encode_and_embed(tower_of(clip), queries, pixels, seen)
    theirs = clip.vision_model(pixels, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(ours[:, 0], clip.visual_projection(theirs), atol=1e-5, rtol=1e-5)


def test_tokens_of_some_pictures_are_theirs(clip: CLIPModel) -> None:
    tokens = encode_image(tower_of(clip), torch.randn(3, 3, 32, 32))
    some = tokens.select(torch.tensor([2, 0]))
    for ours, all_of_them in ((some.keys, tokens.keys), (some.values, tokens.values)):
        assert len(ours) == len(all_of_them) == 3
        assert all(torch.equal(a, b[[2, 0]]) for a, b in zip(ours, all_of_them, strict=True))


def test_classes_are_scored_by_the_cosine_at_the_published_temperature() -> None:
    """log-softmax(100 cosine), whatever the length of an embedding, in float32 always."""
    chance = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(4, 8, generator=chance), dim=-1)
    embeddings = 7 * torch.randn(1, 3, 8, generator=chance)
    cosines = F.cosine_similarity(embeddings[0][:, None], texts[None], dim=-1)
    expected = (100 * cosines).log_softmax(-1)[None, :, :3]
    torch.testing.assert_close(class_log_probs(embeddings, texts, num_classes=3), expected)
    torch.testing.assert_close(clip_logits(embeddings, texts), 100 * cosines[None])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(class_log_probs(embeddings, texts, num_classes=3), expected)


def test_dropped_rows_compete_but_are_not_reported() -> None:
    texts = F.normalize(torch.randn(5, 8), dim=-1)
    embeddings = texts[:1][None] * 3
    few = class_log_probs(embeddings, texts, num_classes=2, logit_scale=10)
    assert few.shape == (1, 1, 2)
    everything = class_log_probs(embeddings, texts, num_classes=5, logit_scale=10)
    torch.testing.assert_close(few, everything[..., :2])
    torch.testing.assert_close(everything.exp().sum(-1), torch.ones(1, 1))


def test_weights_of_one_and_zero_are_seen_and_hidden(clip: CLIPModel) -> None:
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip), "random")
    tokens = encode_image(tower_of(clip), torch.rand(2, 3, 32, 32))
    visible = torch.rand(2, 5, 16) > 0.5
    visible[0, 0] = False
    torch.testing.assert_close(
        embed_masks(tower_of(clip), queries, tokens, visible.float()),
        embed_masks(tower_of(clip), queries, tokens, visible),
    )


def test_a_patch_of_half_a_weight_counts_as_half_of_two_equal_ones(clip: CLIPModel) -> None:
    """Two patches with the same keys and values at one half are one of them at one."""
    queries = MaskQueries(tower_of(clip))
    tokens = encode_image(tower_of(clip), torch.rand(1, 3, 32, 32))
    for keys in (*tokens.keys, *tokens.values):
        keys[:, :, 2] = keys[:, :, 1]  # of patches 0 and 1
    halves, whole = torch.zeros(1, 1, 16), torch.zeros(1, 1, 16)
    halves[..., :2], whole[..., 0] = 0.5, 1.0
    torch.testing.assert_close(
        embed_masks(tower_of(clip), queries, tokens, halves),
        embed_masks(tower_of(clip), queries, tokens, whole),
    )


@pytest.mark.parametrize("model", [small_clip(hidden_act="gelu"), small_siglip()])
def test_a_picture_read_by_one_token_alone_is_read_as_by_the_whole_tower(model: Any) -> None:
    """The last block is asked for the class token, or the probe, and for nothing else."""
    tower: Any = tower_of(model.train())
    hidden = torch.randn(4, 7, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for alone in (False, True):
        given = hidden.clone().requires_grad_()
        model.zero_grad()
        out = read_picture(tower, given) if alone else _whole(model, given)
        out.square().sum().backward()
        assert given.grad is not None
        found.append({"out": out.detach(), "hidden": given.grad} | _gradients(model))
    whole, of_one = found
    assert len(whole) > 10
    assert whole.keys() == of_one.keys()
    for name, value in whole.items():
        torch.testing.assert_close(of_one[name], value)
        assert value.abs().sum() > 0 or name.endswith("k_proj.bias")


def _whole(model: Any, hidden: Tensor) -> Tensor:
    """The last block, and what follows it, as transformers has them."""
    vision = model.vision_model
    if isinstance(model, SiglipModel):
        return vision.head(vision.post_layernorm(hidden))
    pooled = vision.post_layernorm(vision.encoder.layers[-1](hidden, None)[:, 0])
    return model.visual_projection(pooled)


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@torch.no_grad()
@pytest.mark.parametrize("model", [small_clip(), small_siglip()])
def test_without_queries_masks_are_read_with_clips_own(model: Any) -> None:
    tower = tower_of(model)
    queries = MaskQueries(tower)
    queries.start(tower, "clip")
    tokens = encode_image(tower, torch.randn(2, 3, 32, 32))
    visible = torch.rand(2, 5, 16) > 0.5
    own = embed_masks(tower, None, tokens, visible)
    torch.testing.assert_close(own, embed_masks(tower, queries, tokens, visible))
