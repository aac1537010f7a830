"""Families of CLIPs: as transformers computes, tuned, saved, joined; what is refused of each."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from family_folders import FAMILIES, small_model, write_family, write_tokenizer
from torch.nn import functional

from masqclip import MasqclipError, Segmenter
from masqclip.clip.masked_vision import (
    MaskQueries,
    embed_masks,
    encode_and_embed,
    encode_image,
    read_picture,
)
from masqclip.clip.queries_file import load_queries, save_queries
from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import Vocabulary
from masqclip.levels import at_level
from masqclip.towers.families import FAMILIES as KNOWN
from masqclip.towers.families import family_of, learned_scale, tower_of
from masqclip.towers.loading import load_clip, load_clip_and_tokenizer
from masqclip.towers.normalisation import clip_normalisation
from tiny import write_tiny_proposer

MODELS = ("siglip", "metaclip_2", "tipsv2")
TEXTS = ["a cat", "This is a photo of the Red Car.", "кот и 狗 on grass", "traffic light"]


def theirs_of(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    size = tuple(pixels.shape[-2:])
    more = (
        {"interpolate_pos_encoding": size != (32, 32)}
        if model.config.model_type != "tipsv2"
        else {}
    )
    return model.get_image_features(pixel_values=pixels, **more).pooler_output


@pytest.fixture(scope="module")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proposer")
    write_tiny_proposer(folder)
    return folder


@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [*((kind, {}) for kind in MODELS), ("tipsv2", {"use_swiglu_ffn": True}),
     ("tipsv2", {"num_register_tokens": 3}), ("siglip", {"hidden_act": "gelu"})],
)  # fmt: skip
def test_a_mask_of_everything_is_the_picture(
    kind: str, sizes: dict[str, Any], size: tuple[int, int]
) -> None:
    model = small_model(kind, **sizes)
    tower = tower_of(model)
    queries = MaskQueries(tower)
    queries.start(tower)
    pixels = torch.randn(2, 3, *size)
    whole = torch.ones(2, 1, size[0] * size[1] // 64, dtype=torch.bool)
    with torch.no_grad():
        theirs = theirs_of(model, pixels)
        ours = embed_masks(tower, queries, encode_image(tower, pixels, queries), whole)[:, 0]
        both = encode_and_embed(tower, queries, pixels, whole)[1][:, 0]
        hidden, turns = tower.start(pixels)
        encoder = model.vision_model.encoder
        layers = list(encoder.layer if kind == "tipsv2" else encoder.layers)
        for layer in layers if kind == "siglip" else layers[:-1]:
            hidden = layer(hidden, None)
        read = read_picture(tower, hidden, turns)
    assert theirs.abs().max() > 0.1
    for found in (ours, both, read):
        assert (found - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("kind", FAMILIES)
def test_words_are_as_transformers_embeds_them(tmp_path: Path, kind: str) -> None:
    """Of tokens padded to the whole length, as its processors do."""
    write_family(tmp_path, kind)
    model, tokenizer = load_clip_and_tokenizer(tmp_path)
    ours = TextEncoder(model, tokenizer).embed_strings(TEXTS)
    given = tokenizer(TEXTS, padding="max_length", max_length=64, return_tensors="pt")
    attention = {"attention_mask": given["attention_mask"]} if kind == "tipsv2" else {}
    with torch.no_grad():
        found = model.get_text_features(input_ids=given["input_ids"], **attention)
    assert (ours - found.pooler_output).abs().max() < 1e-5
    alone = torch.cat([TextEncoder(model, tokenizer).embed_strings([text]) for text in TEXTS])
    assert (ours - alone).abs().max() < 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_tuning_moves_queries_alone(tmp_path: Path, kind: str) -> None:
    model = small_model(kind).requires_grad_(False)
    tower = tower_of(model)
    queries = MaskQueries(tower)
    queries.start(tower)
    before = copy.deepcopy(model.state_dict())
    pixels = torch.randn(2, 3, 32, 32)
    visible = torch.rand(2, 5, 16) > 0.5
    goal = torch.randint(3, (10,))
    words = functional.normalize(torch.randn(3, model.config.text_config.hidden_size), dim=-1)
    with torch.no_grad():
        words = words[:, : embed_masks(
            tower, queries, encode_image(tower, pixels, queries), visible
        ).shape[-1]]  # fmt: skip
    learner = torch.optim.Adam(queries.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        found = encode_and_embed(tower, queries, pixels, visible)[1].flatten(0, 1)
        loss = functional.cross_entropy(10 * functional.normalize(found, dim=-1) @ words.T, goal)
        learner.zero_grad()
        loss.backward()
        learner.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.02
    assert all(parameter.grad is not None for parameter in queries.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())

    save_queries(tmp_path / "q.safetensors", queries, tower)
    other = MaskQueries(tower)
    load_queries(tmp_path / "q.safetensors", other, tower)
    for name, tensor in queries.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    with pytest.raises(MasqclipError, match="tuned on another CLIP of the same sizes"):
        load_queries(tmp_path / "q.safetensors", other, tower_of(small_model(kind, 1)))
    for wrong in {*MODELS} - {kind}:
        tower = tower_of(small_model(wrong))
        with pytest.raises(
            MasqclipError, match=f"family {KNOWN[kind].name}, .*{KNOWN[wrong].name}"
        ):
            load_queries(tmp_path / "q.safetensors", MaskQueries(tower), tower)


@pytest.mark.parametrize("kind", FAMILIES)
def test_from_folders_to_an_answer_and_back(tmp_path: Path, kind: str, proposer: Path) -> None:
    write_family(tmp_path / "clip", kind)
    segmenter = Segmenter.from_parts(tmp_path / "clip", proposer, device="cpu", size=64)
    picture = (torch.rand(48, 64, 3) * 255).byte().numpy()
    names = ["cat", "Red car", "grass"]
    found = segmenter(picture, names, min_score=0.0)
    segmenter.save_pretrained(tmp_path / "model")
    again = Segmenter.from_pretrained(tmp_path / "model", device="cpu")
    config, kept = segmenter.model.config, again.model.config
    for name in ("clip_mean", "clip_std", "clip_resample", "logit_scale", "logit_bias", "scores"):
        assert getattr(config, name) == getattr(kept, name), name
    for name, tensor in segmenter.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    words = Vocabulary.parse(names)
    rows = segmenter.text.embed_vocabulary(words)
    assert torch.equal(again.text.embed_vocabulary(words), rows)
    assert [s.score for s in again(picture, names, min_score=0.0).segments] == [
        s.score for s in found.segments
    ]
    # In half precision, and copied.
    half = Segmenter.from_pretrained(tmp_path / "model", device="cpu", dtype="bfloat16")
    assert torch.allclose(half.text.embed_vocabulary(words), rows, atol=0.05)
    half(picture, names)
    copied = copy.deepcopy(segmenter)
    assert torch.equal(copied.text.embed_vocabulary(words), rows)
    # The temperature that the model was trained with, and how its pictures are resized.
    model = segmenter.model.clip
    if kind == "tipsv2":
        assert config.logit_scale == pytest.approx(1 / float(model.temperature.detach()))
        assert config.logit_bias is None
    elif kind in ("siglip", "siglip2"):
        assert config.logit_scale == pytest.approx(109.947, rel=1e-5)
        assert config.logit_bias == -12.0
    else:
        assert (config.logit_scale <= 100, config.logit_bias) == (True, None)
    assert config.clip_resample == ("bilinear" if kind in ("siglip2", "tipsv2") else "bicubic")
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(MasqclipError, match=r"cannot be loaded: .*no tokenizer"):
        Segmenter.from_pretrained(tmp_path / "model", device="cpu")


def test_sigmoid_scores(tmp_path: Path, proposer: Path) -> None:
    """Each name is judged by itself, as SigLIP was trained to: others change nothing."""
    write_family(tmp_path, "siglip")
    model = Segmenter.from_parts(tmp_path, proposer, device="cpu").model
    masks = functional.normalize(torch.randn(1, 4, 32), dim=-1)
    rows = functional.normalize(torch.randn(3, 32), dim=-1)
    competing = model.classify(masks, rows, 2)
    model.config.scores = "sigmoid"
    alone = model.classify(masks, rows, 2)
    scale, bias = model.config.logit_scale, model.config.logit_bias
    expected = torch.sigmoid(scale * masks @ rows[:2].T + bias)
    assert torch.allclose(alone.exp(), expected, atol=1e-6)
    assert torch.allclose(model.classify(masks, rows, 1), alone[..., :1])
    assert not torch.allclose(alone, competing)
    # Two that are both sure are together no surer than one can be.
    words = Vocabulary.parse("animal > cat, dog")
    _, together = at_level(words, torch.tensor([[-0.1, -0.2], [-4.0, -5.0]]), 0)
    assert together[:, 0].tolist() == pytest.approx([0.0, math.log(math.exp(-4) + math.exp(-5))])


@pytest.mark.parametrize("kind", MODELS)
def test_templates_of_a_familys_own_makers(tmp_path: Path, kind: str) -> None:
    write_family(tmp_path, kind)
    encoder = TextEncoder(*load_clip_and_tokenizer(tmp_path))
    own = encoder.embed_vocabulary(Vocabulary.parse(["cat", "dog"], templates="tower"))
    written = family_of(kind).templates
    said = encoder.embed_vocabulary(Vocabulary.parse(["cat", "dog"], templates=written))
    assert torch.equal(own, said)
    plain = encoder.embed_vocabulary(Vocabulary.parse(["cat", "dog"]))
    assert not torch.allclose(own, plain)


@pytest.mark.parametrize("kind", ["siglip", "metaclip_2"])
def test_a_cache_tells_tokenizers_apart(tmp_path: Path, kind: str) -> None:
    """By their scores, too: with others the same pieces are other tokens."""
    write_family(tmp_path / "a", kind)
    names = []
    for change in (0.0, 1.0):
        file = tmp_path / "a" / "tokenizer.json"
        document = json.loads(file.read_text())
        document["model"]["vocab"][-1][1] -= change
        file.write_text(json.dumps(document))
        encoder = TextEncoder(*load_clip_and_tokenizer(tmp_path / "a"), cache=tmp_path / "cache")
        encoder.embed_strings(["a cat"])
        names.append({path.name for path in (tmp_path / "cache").iterdir()})
    assert len(names[0]) == 1
    assert len(names[1]) == 2


def test_a_published_tips_has_no_temperature(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_family(tmp_path, "tipsv2")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["temperature"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = load_clip(tmp_path)
    assert float(model.temperature.detach()) == pytest.approx(0.005065968260169029)


def test_pictures_of_a_folder_that_says_nothing(tmp_path: Path) -> None:
    for kind, mean, resample in (
        ("siglip", 0.5, "bicubic"),
        ("tipsv2", 0.0, "bilinear"),
        ("metaclip_2", 0.48145466, "bicubic"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        found = clip_normalisation(tmp_path)
        assert found["clip_mean"][0] == mean
        assert found.get("clip_resample", "bicubic") == resample


@pytest.mark.parametrize("kind", FAMILIES)
def test_half_a_folder(tmp_path: Path, kind: str) -> None:
    def refused() -> str:
        with pytest.raises(MasqclipError) as caught:
            load_clip_and_tokenizer(tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    write_family(tmp_path, kind)
    (tmp_path / "tokenizer.json").unlink()
    assert "tokenizer.json" in refused()
    write_tokenizer(tmp_path, kind)
    config = json.loads((tmp_path / "config.json").read_text())
    small = config | {"text_config": config["text_config"] | {"vocab_size": 20}}
    (tmp_path / "config.json").write_text(json.dumps(small))
    assert "tokens and the text tower 20" in refused()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").unlink()
    assert "model.safetensors" in refused()
    (tmp_path / "config.json").unlink()
    assert "config.json" in refused()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_none_is_refused(tmp_path: Path, temperature: float) -> None:
    write_family(tmp_path, "tipsv2")
    clip, _ = load_clip_and_tokenizer(tmp_path)
    torch.nn.init.constant_(clip.temperature, temperature)
    with pytest.raises(MasqclipError, match="this TIPS has the temperature"):
        learned_scale(clip)
