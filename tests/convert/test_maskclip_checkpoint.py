"""A MaskCLIP with the published names: converted, loaded, the same numbers as with convolutions.

The checkpoint is made here: a tower of as many blocks as the published one, and small, with the
recorded proposer less its class head.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig

from masqclip import Segmenter
from masqclip.baselines.maskclip import MaskClipModel, RelativeMaskAttention
from masqclip.cli.main import main
from masqclip.convert.files import convert_state_dict
from masqclip.convert.maskclip import maskclip_to_model
from masqclip.errors import MasqclipError
from masqclip.weights.checkpoint import read_state_dict
from masqclip.weights.folders import check_fits

DATA = Path(__file__).parents[1] / "data"
BLOCKS = (5, 11, 17, 23)
WIDTH, PATCH, SIDE, TEXT, WORDS = 64, 8, 32, 64, 16
VISUAL = "maskclip.visual."


def added(width: int, patch: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all that a published MaskCLIP learns."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, block in enumerate(BLOCKS):
        attention = f"transformer.resblocks.{block}.attn."
        shapes |= {
            f"transformer.conv1_added_params.{i}.weight": (width, 1, patch, patch),
            f"transformer.conv1_added_params.{i}.bias": (width,),
            f"{attention}q_prime_norm_added_params.weight": (width,),
            f"{attention}q_prime_norm_added_params.bias": (width,),
            f"{attention}k_prime_proj_weight_added_params.weight": (width, width),
            f"{attention}k_prime_proj_weight_added_params.bias": (width,),
            f"transformer.conv3_added_params.{i}.weight": (patch * patch, width, 1, 1),
            f"transformer.conv3_added_params.{i}.bias": (patch * patch,),
        }
    return {f"{VISUAL}{name}": shape for name, shape in shapes.items()}


def tower(width: int, blocks: int, text: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the blocks of a tower of OpenAI's."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(blocks):
        sizes = {"attn.in_proj_": (3 * width, width), "attn.out_proj.": (width, width),
                 "mlp.c_fc.": (2 * width, width), "mlp.c_proj.": (width, 2 * width),
                 "ln_1.": (width,), "ln_2.": (width,)}  # fmt: skip
        for name, shape in sizes.items():
            shapes |= {f"{i}.{name}weight": shape, f"{i}.{name}bias": shape[:1]}
    prefix = "" if text else "visual."
    return {f"{prefix}transformer.resblocks.{name}": shape for name, shape in shapes.items()}


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Numbers of chance, norms about one."""
    chance = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=chance) * 0.1 + float("ln_" in name and "w" in name)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def clip() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (WIDTH,),
        "visual.conv1.weight": (WIDTH, 3, PATCH, PATCH),
        "visual.positional_embedding": ((SIDE // PATCH) ** 2 + 1, WIDTH),
        "visual.ln_pre.weight": (WIDTH,),
        "visual.ln_pre.bias": (WIDTH,),
        "visual.ln_post.weight": (WIDTH,),
        "visual.ln_post.bias": (WIDTH,),
        "visual.proj": (WIDTH, WORDS),
        "token_embedding.weight": (49_408, TEXT),
        "positional_embedding": (77, TEXT),
        "ln_final.weight": (TEXT,),
        "ln_final.bias": (TEXT,),
        "text_projection": (TEXT, WORDS),
        "logit_scale": (),
    }
    return drawn(shapes | tower(WIDTH, 24) | tower(TEXT, 1, text=True))


@pytest.fixture(scope="module")
def checkpoint(clip: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the authors' code saves it."""
    recorded = read_state_dict(DATA / "masqclip_panoptic.pth")
    proposer = {
        name: tensor
        for name, tensor in recorded.items()
        if not name.startswith("masqclip.") and ".class_embed." not in name
    }
    frozen = {f"maskclip.{name}": t for name, t in clip.items() if name.startswith("visual.")}
    return proposer | frozen | drawn(added(WIDTH, PATCH))


@pytest.fixture(scope="module")
def folder(
    checkpoint: dict[str, Tensor],
    clip: dict[str, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    here = tmp_path_factory.mktemp("maskclip")
    torch.save({"model": checkpoint}, here / "maskclip.pth")
    torch.save(clip, here / "clip.pt")
    words = ["convert", str(here / "maskclip.pth"), str(here / "out"), "--clip"]
    assert main([*words, str(here / "clip.pt"), "--vision-heads", "2"]) == 0
    return here / "out"


def test_every_published_tensor_arrives(folder: Path, checkpoint: dict[str, Tensor]) -> None:
    segmenter = Segmenter.from_pretrained(folder)
    model = segmenter.model
    assert isinstance(model, MaskClipModel)
    for i, block in enumerate(BLOCKS):
        ours, attention = model.attention[i], f"transformer.resblocks.{block}.attn."
        assert isinstance(ours, RelativeMaskAttention)
        for layer, name in (
            (ours.shape, f"transformer.conv1_added_params.{i}"),
            (ours.norm, f"{attention}q_prime_norm_added_params"),
            (ours.key, f"{attention}k_prime_proj_weight_added_params"),
            (ours.refine, f"transformer.conv3_added_params.{i}"),
        ):
            for part in ("weight", "bias"):
                given = checkpoint[f"{VISUAL}{name}.{part}"]
                assert torch.equal(getattr(layer, part).flatten(), given.flatten())
    learned = sum(parameter.numel() for parameter in model.learned.parameters())
    assert learned == sum(np.prod(shape) for shape in added(WIDTH, PATCH).values())
    layer = model.clip.vision_model.encoder.layers[11].self_attn.q_proj
    assert torch.equal(layer.weight, model.queries.projections[11].weight)
    stacked = checkpoint[f"{VISUAL}transformer.resblocks.11.attn.in_proj_weight"]
    assert torch.equal(layer.weight, stacked[:WIDTH])
    positions = checkpoint[f"{VISUAL}positional_embedding"]
    assert torch.equal(model.queries.embedding, positions[0])
    config = model.config
    assert (config.shortest_edge, config.longest_edge, config.logit_scale) == (640, 2560, 100)
    assert (config.object_threshold, config.overlap_threshold) == (0.3, 0.5)
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    config.shortest_edge = 64
    assert segmenter(picture, ["tiger", "sky"], min_score=0.0).names == ("tiger", "sky")


def published_reading(
    weights: dict[str, Tensor], frames: Tensor, masks: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """The method's equations with convolutions, all tokens in one sequence: embeddings and masks.

    Args:
        weights: below ``maskclip.visual.``.
        frames: [B,3,S,S], normalised.
        masks: [B,Q,S,S] logits.
        heads: N.
    """
    batch, count = masks.shape[:2]
    patches = F.conv2d(frames, weights["conv1.weight"], stride=PATCH).flatten(2).mT
    start = weights["class_embedding"].expand(batch, 1, -1)
    hidden = norm(
        weights, "ln_pre", torch.cat([start, patches], 1) + weights["positional_embedding"]
    )
    hidden = torch.cat([hidden[:, :1].expand(-1, count, -1), hidden], 1)
    width, tokens = hidden.shape[-1], hidden.shape[1]
    for number in range(24):
        block = f"transformer.resblocks.{number}."
        normed = norm(weights, f"{block}ln_1", hidden)
        stacked = linear(weights, f"{block}attn.in_proj_", normed)
        query, key, value = (
            x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in stacked.chunk(3, dim=-1)
        )
        query = query / (width // heads) ** 0.5
        logits = query @ key.mT
        hidden_from = torch.zeros(batch, tokens, tokens, dtype=torch.bool)
        hidden_from[:, :, :count] = True
        covered = F.max_pool2d((masks.sigmoid() >= 0.5).float(), PATCH).flatten(2)
        hidden_from[:, :count, count + 1 :] = covered == 0
        if number in BLOCKS:
            i = BLOCKS.index(number)
            shapes = convolved(weights, f"transformer.conv1_added_params.{i}",
                               masks.tanh().flatten(0, 1).unsqueeze(1), PATCH)  # fmt: skip
            told = shapes.flatten(2).mT.unflatten(0, (batch, count))
            told = norm(weights, f"{block}attn.q_prime_norm_added_params", told)
            cells = linear(weights, f"{block}attn.k_prime_proj_weight_added_params.",
                           normed[:, count + 1 :])  # fmt: skip
            both = (told * cells.unsqueeze(1)).unflatten(-1, (heads, -1)).sum(-1)
            bias = both.permute(0, 3, 1, 2) / (width // heads) ** 0.5
            near = logits[:, :, :count, count + 1 :]
            logits[:, :, :count, count + 1 :] = (near + bias) / 2
            asked, answers = (x.transpose(1, 2).flatten(2) for x in (query, key))
            product = asked[:, :count, None] * answers[:, None, count + 1 :]
            product = product * (1.702 * product).sigmoid()
            side = SIDE // PATCH
            cells = product.flatten(0, 1).mT.unflatten(2, (side, side))
            refined = convolved(weights, f"transformer.conv3_added_params.{i}", cells, 1)
            masks = masks + F.pixel_shuffle(refined, PATCH).unflatten(0, (batch, count))[:, :, 0]
        logits = logits.masked_fill(hidden_from.unsqueeze(1), -torch.inf)
        mixed = (logits.softmax(-1) @ value).transpose(1, 2).flatten(2)
        hidden = hidden + linear(weights, f"{block}attn.out_proj.", mixed)
        wide = linear(weights, f"{block}mlp.c_fc.", norm(weights, f"{block}ln_2", hidden))
        wide = wide * (1.702 * wide).sigmoid()
        hidden = hidden + linear(weights, f"{block}mlp.c_proj.", wide)
    return norm(weights, "ln_post", hidden[:, :count]) @ weights["proj"], masks


def norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}weight"], weights[f"{name}bias"])


def convolved(weights: dict[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride)


def test_the_same_numbers_as_with_convolutions(folder: Path, checkpoint: dict[str, Tensor]) -> None:
    model = Segmenter.from_pretrained(folder).model
    assert isinstance(model, MaskClipModel)
    torch.manual_seed(0)
    pixels = torch.rand(2, 3, 48, 64) * 255
    logits = 3 * torch.randn(2, 5, 6, 8)
    logits[0, 1] = -9.0  # a mask of nothing
    weights = {
        name.removeprefix(VISUAL): t for name, t in checkpoint.items() if name.startswith(VISUAL)
    }
    with torch.no_grad():
        masks, embeddings = model.refine(pixels, logits)
        frames = model._clip_input(pixels)
        larger = F.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=False)
        expected, refined = published_reading(weights, frames, larger, heads=2)
    assert len(masks) == len(BLOCKS)
    assert (refined - larger).abs().max() > 0.1
    torch.testing.assert_close(masks[-1], refined, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(embeddings, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"maskclip.strange": torch.ones(1)}, "unknown tensor 'maskclip.strange'"),
        ({f"{VISUAL}strange": torch.ones(1)}, f"unknown tensor '{VISUAL}strange'"),
        (
            {f"{VISUAL}transformer.resblocks.4.attn.q_prime_norm_added_params.bias": torch.ones(1)},
            "unknown tensor 'maskclip.visual.transformer.resblocks.4.attn.q_prime_norm",
        ),
        (
            {f"{VISUAL}transformer.resblocks.0.attn.new_q_proj.bias": torch.ones(WIDTH)},
            "unknown tensor 'maskclip.visual.transformer.resblocks.0.attn.new_q_proj.bias'",
        ),
        (
            {
                f"{VISUAL}transformer.conv1_added_params.2.weight": torch.ones(
                    WIDTH, PATCH, PATCH, 1
                )
            },
            r"params.2.weight' is \(64, 8, 8, 1\), and the tower asks for \(64, 1, 8, 8\)",
        ),
        (
            {f"{VISUAL}transformer.conv3_added_params.0.bias": torch.ones(3)},
            r"'attention.0.refine.bias' is \(3,\), and the configuration asks for \(64,\)",
        ),
        (
            {f"{VISUAL}class_embedding": torch.ones(WIDTH)},
            "this MaskCLIP was not tuned on the CLIP",
        ),
        (
            {"masqclip.mask_embeddings": torch.ones(1)},
            "is a mixture: it holds tensors of a MasQCLIP",
        ),
        ({"visual.proj": torch.ones(1)}, "is a mixture: it holds tensors of a MaskCLIP"),
        ({"backbone.res6.0.x": torch.ones(1)}, "unknown tensor 'backbone.res6.0.x'"),
    ],
)
def test_what_is_strange_is_named(
    change: dict[str, Tensor],
    said: str,
    checkpoint: dict[str, Tensor],
    clip: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    torch.save(clip, tmp_path / "clip.pt")
    with pytest.raises(MasqclipError, match=said):
        convert_state_dict(checkpoint | change, name="x", clip=tmp_path / "clip.pt")


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in added(WIDTH, PATCH) if ".17." in name or "params.3" in name),
        f"{VISUAL}proj",
        "sem_seg_head.predictor.query_feat.weight",
        "backbone.stem.conv1.weight",
    ],
)
def test_what_is_missing_is_named(
    name: str, checkpoint: dict[str, Tensor], clip: dict[str, Tensor], tmp_path: Path
) -> None:
    less = {other: tensor for other, tensor in checkpoint.items() if other != name}
    torch.save(clip, tmp_path / "clip.pt")
    with pytest.raises(MasqclipError, match=f"there is no tensor '{name}'"):
        convert_state_dict(less, name="x", clip=tmp_path / "clip.pt")


def test_a_class_head_that_is_there_is_kept(
    checkpoint: dict[str, Tensor], clip: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(clip, tmp_path / "clip.pt")
    predictor = "sem_seg_head.predictor.class_embed"
    width = checkpoint["sem_seg_head.predictor.query_feat.weight"].shape[1]
    head = {f"{predictor}.weight": torch.ones(2, width), f"{predictor}.bias": torch.ones(2)}
    for more, value in (({}, 0.0), (head, 1.0)):
        done = convert_state_dict(checkpoint | more, name="x", clip=tmp_path / "clip.pt")
        for part in ("weight", "bias"):
            assert (done.weights[f"proposer.segmenter.class_predictor.{part}"] == value).all()
        assert done.dropped == {"criterion.empty_weight": "weights of the training loss"}


def test_the_clip_must_be_told_where_openai_has_none(checkpoint: dict[str, Tensor]) -> None:
    with pytest.raises(MasqclipError, match="name the CLIP that this MaskCLIP was tuned on"):
        convert_state_dict(checkpoint, name="x")


def test_the_published_size_by_name() -> None:
    """The proposer and tower of the authors' next model, and what this one learns: 5.82 million."""
    manifest = json.loads(gzip.decompress((DATA / "official_manifest.json.gz").read_bytes()))
    given = manifest["masqclip_cross_dataset_coco133"]
    shapes: dict[str, tuple[int, ...]] = {
        name.replace("masqclip.", "maskclip."): tuple(shape)
        for name, (shape, _) in given.items()
        if not any(part in name for part in ("new_q_proj", "mask_embeddings", "class_embed."))
    } | added(1024, 14)
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
              "num_attention_heads": 16, "image_size": 336, "patch_size": 14}  # fmt: skip
    config = CLIPConfig(vision_config=vision, projection_dim=768)
    with torch.device("meta"):
        weights = {name: torch.empty(shape) for name, shape in shapes.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("masqclip.convert.masqclip.check_same_tower", lambda *_, **__: None)
        ours, converted = maskclip_to_model(weights, config, {})
    wanted = check_fits(MaskClipModel, ours, converted, source="x")
    text = {name for name in wanted if "text_" in name or "logit_scale" in name}
    assert wanted - text == converted.keys()
    assert sum(t.numel() for name, t in converted.items() if name.startswith("attention.")) == (
        5_817_104
    )
