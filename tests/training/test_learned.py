"""Which numbers tuning changes (the paper's Table 5): these, and no others, in every way of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig

from masqclip.configuration import MasQClipConfig
from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.segmenter import Segmenter
from masqclip.training.dry_run import forecast
from masqclip.training.learned import choose_learned
from masqclip.training.loop import Trainer, train
from masqclip.training.settings import LoopSettings, TuneSettings
from masqclip.training.tune import QUERIES_FILE, TuneStage, join
from masqclip.weights.configs import describe
from tiny import tiny_proposer_config

WAYS = ("q", "k", "v", "qk", "qkv", "clip")
SMALL = TuneSettings(
    batch_size=2, augmentation="none", masks="ground-truth", shortest_edge=64, learning_rate=1e-2
)
LOOP = LoopSettings(steps=1, clip_norm=0.0, workers=0, log_every=1)
LAST = "clip.vision_model.encoder.layers.1.self_attn.q_proj."
#: Where each kind of own projections is, in a model.
PLACES = {"q": "queries.projections.", "k": "queries.keys.", "v": "queries.values."}


class Parts:
    """Makes stages on the tiny scenes, each with a model of its own."""

    def __init__(self, clip: Path, proposer: Path, scenes: Path) -> None:
        self.folders = clip, proposer
        self.dataset = CocoPanoptic(scenes, keep=is_base)
        self.untuned, self.tokenizer = join(clip, proposer, SMALL)

    def stage(self, model: MasQClipModel | None = None, **changes: Any) -> TuneStage:
        settings = replace(SMALL, **changes)
        joined = join(*self.folders, settings)[0] if model is None else model
        return TuneStage(joined, self.tokenizer, self.dataset, settings)


@pytest.fixture(scope="module")
def parts(tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path) -> Parts:
    return Parts(tiny_clip, tiny_proposer, tiny_scenes)


def learned(learns: str, name: str) -> bool:
    """Whether a parameter of a model is to learn, by its name."""
    if name == "queries.embedding":
        return True
    if learns == "clip":
        tower = name.startswith(("clip.vision_model.", "clip.visual_projection."))
        return (tower and not name.startswith(LAST)) or name.startswith(PLACES["q"])
    return name.startswith(tuple(PLACES[kind] for kind in learns))


def shifts(name: str) -> bool:
    """Biases of keys: they move all of a mask's scores alike, which changes nothing."""
    return name.endswith("k_proj.bias") or (name.startswith(PLACES["k"]) and name.endswith("bias"))


def state(model: MasQClipModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def seen(model: MasQClipModel) -> tuple[Tensor, Tensor, Tensor]:
    """The last block's keys, and embeddings of masks, at once and apart."""
    chance = torch.Generator().manual_seed(4)
    pixels = 255 * torch.rand(2, 3, 64, 64, generator=chance)
    masks = torch.randn(2, 3, 16, 16, generator=chance)
    with torch.no_grad():
        tokens, embeddings = model.encode_and_embed(pixels, masks)
        apart = model.embed_masks(model.encode_image(pixels), masks)
    torch.testing.assert_close(apart, embeddings, atol=1e-5, rtol=1e-5)
    return tokens.keys[-1], embeddings, apart


@pytest.mark.parametrize("learns", WAYS)
def test_what_learns_gets_gradients_and_changes_and_nothing_else(parts: Parts, learns: str) -> None:
    stage = parts.stage(learns=learns)
    expected = {name for name, _ in stage.model.named_parameters() if learned(learns, name)}
    assert {n for n, p in stage.model.named_parameters() if p.requires_grad} == expected
    trainer, before = Trainer(stage, LOOP, device="cpu"), state(stage.model)
    trainer.step(0, next(trainer.batches(0)))
    with_gradient = {n for n, p in stage.model.named_parameters() if p.grad is not None}
    assert with_gradient == expected
    changed = {
        name for name, value in stage.model.state_dict().items()
        if not torch.equal(value, before[name])
    }  # fmt: skip
    assert changed <= expected
    assert {name for name in expected - changed if not shifts(name)} == set()
    moved = not torch.equal(seen(stage.model)[0], seen(parts.untuned)[0])
    assert moved == ("k" in learns or learns == "clip")


@pytest.mark.parametrize("learns", WAYS)
def test_a_checkpoint_and_the_optimizer_have_what_learns(parts: Parts, learns: str) -> None:
    stage = parts.stage(learns=learns)
    names = {id(p): name for name, p in stage.model.named_parameters()}
    expected = {name for name in names.values() if learned(learns, name)}
    (group,) = stage.parameter_groups()
    assert {names[id(p)] for p in group["params"]} == expected
    held = {names[id(p)] for p in stage.module.parameters()}
    frozen = {f"{LAST}weight", f"{LAST}bias"} if learns == "clip" else set()
    assert held == expected | frozen
    assert len(stage.module.state_dict()) == len(held)


@pytest.mark.parametrize("learns", WAYS)
def test_untuned_they_are_all_the_same_model(parts: Parts, learns: str) -> None:
    for found, expected in zip(
        seen(parts.stage(learns=learns).model), seen(parts.untuned), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("learns", WAYS)
def test_a_result_loads_as_it_was_and_a_stopped_run_goes_on(
    parts: Parts, learns: str, tmp_path: Path
) -> None:
    loop = replace(LOOP, steps=2, save_every=1)
    whole = parts.stage(learns=learns)
    assert train(whole, loop, tmp_path / "whole", device="cpu")
    assert not train(
        parts.stage(learns=learns), replace(loop, max_minutes=1e-9), tmp_path / "parts"
    )
    again = parts.stage(learns=learns)
    assert train(again, loop, tmp_path / "parts", device="cpu")
    loaded = Segmenter.from_pretrained(tmp_path / "whole", device="cpu", cache=False).model
    assert loaded.config.own_projections == ("q" if learns == "clip" else learns)
    for model in (loaded, again.model):
        for found, expected in zip(seen(model), seen(whole.model), strict=True):
            assert torch.equal(found, expected)
    assert not torch.equal(seen(loaded)[1], seen(parts.untuned)[1])
    assert (tmp_path / "whole" / QUERIES_FILE).exists() == (learns == "q")
    saved = load_file(tmp_path / "whole" / "model.safetensors")
    for kind, place in PLACES.items():
        there = kind == "q" or (learns != "clip" and kind in learns)
        assert any(name.startswith(place) for name in saved) == there
    if learns in ("k", "v", "qk", "qkv"):
        with pytest.raises(MasqclipError, match=f"own projections '{learns}': save and load the"):
            loaded.save_queries(tmp_path / "alone.safetensors")


def test_a_finished_model_gets_what_is_to_learn_and_keeps_its_queries(parts: Parts) -> None:
    tuned = deepcopy(parts.untuned)
    with torch.no_grad():
        for parameter in tuned.queries.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    before = seen(tuned)
    grown = parts.stage(tuned, learns="v")
    assert grown.model.config.own_projections == "v"
    for found, expected in zip(seen(grown.model), before, strict=True):
        assert torch.equal(found, expected)
    parts.stage(grown.model, learns="v")  # goes on
    for other in ("q", "qkv", "clip"):
        line = f"learns is '{other}', and the masks .* own projections 'v': go on with learns=v, or"
        with pytest.raises(MasqclipError, match=line):
            parts.stage(grown.model, learns=other)


def test_queries_that_do_not_learn_are_clips_however_queries_start(parts: Parts) -> None:
    for learns, same in (("k", True), ("v", True), ("qk", False), ("q", False)):
        model = parts.stage(learns=learns, query_start="random").model
        own = model.clip.vision_model.encoder.layers[0].self_attn.q_proj.weight
        assert torch.equal(model.queries.projections[0].weight, own) == same


def test_a_dry_run_counts_what_learns(parts: Parts) -> None:
    """Blocks of 32 x 32 + 32 numbers a kind, and the embedding."""
    found = {
        learns: forecast(parts.stage(learns=learns), LOOP, "cpu").trainable
        for learns in ("q", "k", "qkv")
    }
    assert found == {"q": 2 * 1056 + 32, "k": 2 * 1056 + 32, "qkv": 6 * 1056 + 32}


@pytest.mark.parametrize(
    ("learns", "count"),
    [("q", 25_191_424), ("k", 25_191_424), ("v", 25_191_424), ("qk", 50_381_824),
     ("qkv", 75_572_224), ("clip", 328_435_712)],
)  # fmt: skip
def test_how_many_numbers_learn_at_the_published_size(learns: str, count: int) -> None:
    """ViT-L/14 at 336 pixels: 24 blocks, 1024 wide."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
              "num_attention_heads": 16, "image_size": 336, "patch_size": 14}  # fmt: skip
    clip = CLIPConfig(vision_config=vision, projection_dim=768)
    proposer = describe(tiny_proposer_config())
    with torch.device("meta"):
        model = MasQClipModel(MasQClipConfig(clip_config=describe(clip), proposer_config=proposer))
        module = choose_learned(model, learns)
    found = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert found == count == sum(p.numel() for p in model.parameters() if p.requires_grad)
