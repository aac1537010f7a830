"""The stages of the compared systems: what learns, what a run goes on with, what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_runs import LOOP, SETTINGS, STAGES, run, stage, steps
from torch import Tensor, nn
from transformers import SwinConfig

from masqclip.baselines.lseg import VOID
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoCaptions, CocoPanoptic, is_base
from masqclip.errors import MasqclipError
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.segmenter import Segmenter
from masqclip.training import baselines
from masqclip.training.loop import Trainer, train
from masqclip.training.settings import LoopSettings, TuneSettings
from masqclip.training.stage import batch_losses
from masqclip.training.systems import BASELINES, Ingredients
from masqclip.training.tune import TuneStage
from tiny import tiny_proposer_config

Make = Callable[..., Any]


def kept(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


#: What each stage trains, by where it is in the model.
ENCODER = "proposer.segmenter.model.pixel_level_module."
LEARNS = {
    "maskclip": ("attention.",),
    "openseg": (ENCODER, "mask_map.", "region_map.", "attention.", "own."),
    "lseg": (ENCODER, "head."),
    "xpm-captions": ("encoder.", "to_words."),
    "xpm-teacher": ("encoder.", "region_head.", "mask_head."),
    "xpm-student": ("region_head.", "mask_head.", "noise_head.", "noise_bias."),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_changes_what_it_trains_and_nothing_else(name: str, make: Make) -> None:
    made = make(name)
    parameters = dict(made.model.named_parameters())
    learned = {name for name, p in parameters.items() if p.requires_grad}
    assert learned == {n for n in parameters if n.startswith(LEARNS[name])}
    assert {id(p) for p in made.module.parameters()} == {id(parameters[n]) for n in learned}
    before, whole = kept(made.model), kept(made.network)
    steps(made, 3)
    after = made.model.state_dict()
    changed = {n for n, value in before.items() if not torch.equal(value, after[n])}
    for n in learned:
        assert parameters[n].grad is not None, n
    # An encoder's batch norms count what they see; a bias before a norm may stay where it is.
    counted = {n for n, _ in made.model.named_buffers() if n.startswith(LEARNS[name])}
    assert changed <= learned | counted
    for part in LEARNS[name]:
        assert {n for n in changed & learned if n.startswith(part)}, part
    assert len(changed & learned) > 0.7 * len(learned)
    teacher = {n for n in whole if n.startswith("teacher.")}
    assert bool(teacher) == (name == "xpm-student")
    for n in teacher:
        assert torch.equal(whole[n], made.network.state_dict()[n]), n


@pytest.mark.parametrize("name", STAGES)
def test_all_that_runs_is_moved(name: str, given: Ingredients, make: Make, tiny_scenes: Path,
                                tmp_path: Path) -> None:  # fmt: skip
    if name == "openseg":
        data = replace(given, caption_data=CocoCaptions(tiny_scenes))
        made = stage(name, data, tmp_path / "captions")
    else:
        made = make(name)
    made.to(torch.device("meta"))
    tensors = [*made.network.parameters(), *made.network.buffers(), made.text_embeddings]
    if name in ("xpm-student", "openseg"):
        tensors += [*made.teacher.parameters(), made.said.embeddings]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("system", BASELINES)
def test_a_run_that_was_stopped_ends_with_the_same_weights(
    system: str, given: Ingredients, tmp_path: Path
) -> None:
    """Also the weights that no stage had trained yet: every process draws its own."""
    assert run(system, given, tmp_path / "straight")
    hasty, calls = replace(LOOP, max_minutes=1e-9), 0
    while not run(system, given, tmp_path / "stopped", hasty):
        calls += 1
        torch.manual_seed(calls)
    assert calls == len(BASELINES[system])
    weights = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "stopped")
    ]
    assert weights[0] == weights[1]


def test_what_never_had_a_gradient_is_no_obstacle(given: Ingredients, tmp_path: Path) -> None:
    """A Swin's last norm, which nothing reads: the proposers that were published have one."""
    swin = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tiny_proposer_config()
    config.backbone_config = swin
    torch.manual_seed(7)
    Mask2FormerProposer(config).save_pretrained(tmp_path / "swin")
    with_swin = replace(given, proposer=tmp_path / "swin")
    assert run("lseg", with_swin, tmp_path / "straight")
    assert not run("lseg", with_swin, tmp_path / "stopped", replace(LOOP, max_minutes=1e-9))
    assert run("lseg", with_swin, tmp_path / "stopped")
    weights = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "stopped")
    ]
    assert weights[0] == weights[1]


def test_a_baseline_follows_from_its_seed(given: Ingredients, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        made = stage("openseg", given, tmp_path / str(number), seed=seed)
        found.append(made.model.own["regions"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("name", STAGES)
def test_batches_are_functions_of_the_step(name: str, make: Make) -> None:
    made = make(name)
    one, other = made.batch(5), made.batch(5)
    first, second = (batch_losses(made, batch)["loss"] for batch in (one, other))
    assert torch.equal(first, second)
    assert first.isfinite()


@pytest.mark.parametrize("name", ["maskclip", "lseg", "xpm-teacher"])
def test_a_split_batch_has_the_same_losses(name: str, make: Make) -> None:
    made = make(name)
    with torch.no_grad():  # batch norms at rest: what trains sees its own part of a batch
        whole, totals = made.prepare(made.batch(1))
        (group,) = whole["groups"]
        halves = []
        for rows in (slice(0, 2), slice(2, 4)):
            half = {k: v[rows] for k, v in group.items()}
            halves.append(made.losses(whole | {"groups": [half]}, totals))
        for key, value in made.losses(whole, totals).items():
            torch.testing.assert_close(halves[0][key] + halves[1][key], value)


@pytest.mark.parametrize("name", ["openseg", "xpm-captions", "xpm-student"])
def test_what_compares_all_pictures_is_not_split(name: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=f"{name} compares all pictures of a batch"):
        train(make(name), replace(LOOP, accumulate=2), tmp_path / "out")


@pytest.mark.parametrize("name", ["lseg", "openseg", "xpm-captions", "xpm-teacher"])
def test_processes_never_wait_for_batch_norms_of_groups_that_others_lack(
    name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, batch = make(name), {"groups": [{}, {}], "skipped": []}
    made.look_at(batch)  # one process waits for nobody
    monkeypatch.setattr(baselines, "is_distributed", lambda: True)
    made.look_at(batch | {"groups": [{}]})
    with pytest.raises(MasqclipError, match="start one process, or --set augmentation=square"):
        made.prepare(batch)


def test_other_captions_and_words_are_another_run(given: Ingredients, tmp_path: Path) -> None:
    assert run("openseg", given, tmp_path / "run")
    others: dict[str, dict[str, Any]] = {
        "--captions": {"captions": dict(given.captions) | {0: ("a cat",)}},
        "--words": {"names": Vocabulary.parse("cat, dog, rocket")},
    }
    for option, change in others.items():
        with pytest.raises(MasqclipError, match=f"other content of {option};"):
            run("openseg", replace(given, **change), tmp_path / "run")


def test_held_out_pixels_are_counted(given: Ingredients, tiny_scenes: Path, tmp_path: Path) -> None:
    """And training goes on in the mode that it was in, batch norms and all."""
    held_out = CocoPanoptic(tiny_scenes, keep=is_base)
    made = stage("lseg", replace(given, held_out=held_out), tmp_path)
    made.module.train()
    found = made.evaluate(tmp_path, 1)
    assert all(part.training for part in made.module.modules())
    kinds = len(made.vocabulary)
    right, either = np.zeros(kinds), np.zeros(kinds)
    shown = np.zeros(kinds, bool)
    segmenter = Segmenter(made.model, made.tokenizer, cache=False)
    for row in range(len(held_out)):
        sample = held_out[row]
        named = np.full(sample.image.shape[:2], -1)
        for segment in segmenter(sample.image, made.vocabulary, "semantic", min_score=0).segments:
            named[segment.mask] = segment.class_id
        truth = np.full(named.shape, -1)
        for mask, category in zip(sample.masks, sample.category_ids, strict=True):
            truth[mask] = made._row[int(category)]
        for kind in range(kinds):
            true, said = truth == kind, (named == kind) & (truth >= 0)
            right[kind] += (true & said).sum()
            either[kind] += (true | said).sum()
            shown[kind] |= true.any()
    assert found == {"mIoU": pytest.approx(float((right[shown] / either[shown]).mean()))}
    assert stage("lseg", given, tmp_path / "none").evaluate(tmp_path, 1) == {}


def test_the_best_weights_are_kept(given: Ingredients, tiny_scenes: Path, tmp_path: Path) -> None:
    held_out = CocoPanoptic(tiny_scenes, keep=is_base)
    assert run("xpm", replace(given, held_out=held_out), tmp_path)
    assert (tmp_path / "best" / "model.safetensors").is_file()


def test_lseg_learns_from_maps_of_classes(make: Make) -> None:
    made = make("lseg")
    (group,) = made.batch(0)["groups"]
    assert group["classes"].shape == (4, 16, 16)
    kept_rows = set(range(len(made.words)))
    assert {int(c) for c in group["classes"].unique()} - {VOID} <= kept_rows
    assert "masks" not in group


def test_encoders_learn_at_their_own_rate(make: Make) -> None:
    fast, slow = make("lseg", encoder_multiplier=0.5).parameter_groups()
    assert (fast["lr"], slow["lr"]) == (1e-3, 5e-4)
    assert {group["momentum"] for group in (fast, slow)} == {0.9}
    assert sum(len(group["params"]) for group in (fast, slow)) == len(
        list(make("lseg").module.parameters())
    )
    (only,) = make("maskclip").parameter_groups()
    assert only["lr"] == 1e-3
    assert "momentum" not in only


def optimizer_of(made: Any) -> torch.optim.Optimizer:
    found: torch.optim.Optimizer = Trainer(made, LOOP, device="cpu").optimizer.optimizer
    return found


def test_momentum_makes_it_sgd(make: Make) -> None:
    assert type(optimizer_of(make("lseg"))) is torch.optim.SGD
    assert type(optimizer_of(make("lseg", momentum=0.0))) is torch.optim.AdamW


# What comes out


@pytest.mark.parametrize("system", BASELINES)
def test_a_result_segments_in_all_of_its_tasks(
    system: str, given: Ingredients, tiny_scenes: Path, tmp_path: Path
) -> None:
    assert run(system, given, tmp_path)
    image = next((tiny_scenes / "images").iterdir())
    for dtype in ("float32", "bfloat16"):
        segmenter = Segmenter.from_pretrained(tmp_path, device="cpu", dtype=dtype)
        assert segmenter.model.system == system
        tasks = segmenter.model.tasks
        assert tasks == (("semantic",) if system in ("lseg", "openseg") else
                         ("instance", "semantic", "panoptic"))  # fmt: skip
        for task in tasks:
            found = segmenter(image, "cat, rocket, grass", task, min_score=0.0)
            assert found.task == task
            assert found.segments
            if task == "instance":
                assert len({s.id for s in found.segments}) == len(found.segments)
        encoded = segmenter.encode(image)  # once for any words
        again = segmenter(encoded, "cat, rocket, grass", tasks[-1], min_score=0.0)
        assert [s.name for s in again.segments] == [s.name for s in found.segments]
        for task in {"instance", "panoptic"} - set(tasks):
            with pytest.raises(MasqclipError, match=f"{system!r} has no {task} segmentation: ask"):
                segmenter(image, "cat", task)
        with pytest.raises(MasqclipError, match=f"{system!r} names its own masks only"):
            segmenter.classify_masks(image, np.ones((1, 64, 64), bool), "cat, dog")
    both = segmenter.encode([image, image])
    assert len(both) == 2


def test_no_other_systems_model_is_tuned(given: Ingredients, make: Make) -> None:
    made = make("maskclip")
    with pytest.raises(MasqclipError, match="'maskclip' has no queries to tune"):
        TuneStage(made.model, made.tokenizer, given.dataset, TuneSettings())


def test_settings_that_cannot_be_are_refused() -> None:
    for name, changes, said in (
        ("lseg", {"momentum": 1.0}, "momentum is 1"),
        ("lseg", {"encoder_multiplier": -1.0}, "encoder_multiplier is -1"),
        ("openseg", {"caption_share": 1.0}, "caption_share is 1"),
        ("openseg", {"width": 30, "heads": 4}, "two times heads = 4"),
        ("xpm-student", {"cells": 0}, "cells is 0"),
        ("xpm-student", {"noise_steps": -1}, "noise_steps is -1"),
    ):
        with pytest.raises(MasqclipError, match=said):
            replace(SETTINGS[name], **changes)  # type: ignore[arg-type]


def test_the_poly_schedule() -> None:
    loop = LoopSettings(steps=12, warmup_steps=2, schedule="poly")
    factors = [loop.learning_rate_factor(step) for step in range(13)]
    expected = [0.5, 1.0, *(((10 - done) / 10) ** 0.9 for done in range(11))]
    assert factors == pytest.approx(expected)
    assert factors[-1] == 0
