"""Every setting changes what it should: a run with it differs from one without.

Two steps of each stage on the golden world are a run's fingerprint: its batches, its losses, its
rates and the weights that come out. A setting that may be ignored would leave it as it is; a new
one has to be answered for here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import golden_runs
import pytest
import torch

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.data.digests import digest_tensors
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.training.distill import DistillStage
from masqclip.training.loop import Trainer
from masqclip.training.pretrain import PretrainStage
from masqclip.training.sampling import picture_seed
from masqclip.training.settings import LoopSettings
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

Fingerprints = Callable[..., list[Any]]
LOOP = LoopSettings(4, clip_norm=0.5, workers=0, schedule="constant")

#: Another value of every setting that changes what is computed.
OTHERS: dict[str, dict[str, Any]] = {
    "pretrain": {
        "image_size": 128, "patch_size": 16, "vision_width": 48, "vision_layers": 1,
        "vision_heads": 1, "text_width": 48, "text_layers": 2, "text_heads": 1,
        "embedding_size": 16, "merges": 5, "batch_size": 2, "extra_captions": 0,
        "drop_patches": 0.5, "second_moment": 0.9, "muon_rate": 1e-3,
        "learning_rate": 1e-3, "weight_decay": 0.2, "family": "siglip", "seed": 1,
    },
    # What AdamW does not show.
    "pretrain, by Muon": {"muon_steps": 2},
    # What a CLIP cannot do.
    "pretrain, of a SigLIP": {"contrast": "softmax"},
    # What pictures do not show that are too large for it.
    "pretrain, of small pictures": {"mosaics": 1.0},
    "teacher": {
        "augmentation": "none", "image_size": 96, "min_scale": 0.4, "max_scale": 1.6, "flip": False,
        "filter_empty": False, "backbone": "", "freeze_batch_norm": False, "batch_size": 1,
        "learning_rate": 1e-4, "weight_decay": 0.1, "backbone_multiplier": 1.0, "class_weight": 1.0,
        "mask_weight": 1.0, "dice_weight": 1.0, "no_object_weight": 0.2, "num_points": 128,
        "muon_rate": 1e-3,
        "seed": 1,
    },
    "distill": {"score_threshold": 0.9, "dice_threshold": 0.01},
    "tune": {
        "augmentation": "none", "image_size": 96, "min_scale": 0.4, "max_scale": 1.6, "flip": False,
        "filter_empty": False, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.05,
        "learns": "qkv", "masks": "proposals", "dice_cost_threshold": 0.5, "assign_size": 8,
        "background_weight": 0.2, "loss_weight": 1.0, "query_start": "random", "seed": 1,
        "consistency": 1.0, "mix_names": 1.0,
    },
    # What a square frame does not show.
    "tune, as pictures are": {"clip_input": "aspect", "shortest_edge": 96, "longest_edge": 72},
}  # fmt: skip
#: What a run does not show: where it is shown.
ELSEWHERE = {
    "teacher": {"architecture"},  # test_train_commands.py
    # A student has its teacher's; all else is the teacher stage's, in the same code.
    "distill": {field.name for field in fields(golden_runs.TEACHER)} | {"rounds"},
    "tune": set(OTHERS["tune, as pictures are"]),
    "pretrain": {
        "compile",
        "muon_steps",
        "contrast",
        "mosaics",
    },  # compiled: the same but for rounding
}
#: The loop's: another value, and whether a run must differ (else it must not). Its seed is for
#: what draws from the global generator, as dropout does, and none of ours has any: test_loop.py.
LOOP_OTHERS: dict[str, tuple[Any, bool]] = {
    "steps": (8, True), "warmup_steps": (2, True), "schedule": ("cosine", True),
    "milestones": ((2,), True), "clip_norm": (0.1, True), "precision": ("bf16", True),
    "seed": (1, False), "accumulate": (2, False), "save_every": (1, False), "keep_last": (1, False),
    "eval_every": (1, False), "log_every": (1, False), "max_minutes": (9.0, False),
    "workers": (1, False),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    world, parts = tmp_path_factory.mktemp("golden") / "world", tmp_path_factory.mktemp("parts")
    golden_runs.write_world(world, empty=True)
    golden_runs.write_parts(parts, world)
    return world, parts


def stage(name: str, folders: tuple[Path, Path], **settings: Any) -> Stage:
    """A stage of the golden runs, but for some settings."""
    world, parts = folders
    base = CocoPanoptic(world, keep=is_base)
    if name.startswith("pretrain"):
        if name == "pretrain, by Muon":
            settings = {"muon_rate": 1e-3} | settings
        if name == "pretrain, of a SigLIP":
            settings = {"family": "siglip"} | settings
        if name == "pretrain, of small pictures":
            settings = {"image_size": 128} | settings
        return PretrainStage([world], replace(golden_runs.PRETRAIN, **settings))
    if name == "distill":
        return DistillStage(base, parts / "proposer", replace(golden_runs.DISTILL, **settings))
    if name.startswith("tune"):
        if name != "tune":
            settings = {"augmentation": "none"} | settings
        tune = replace(golden_runs.TUNE, **settings)
        torch.manual_seed(7)  # where random queries come from
        model, tokenizer = join(parts / "clip", parts / "proposer", tune)
        return TuneStage(model, tokenizer, base, tune)
    config = Mask2FormerProposer.from_pretrained(parts / "proposer").config
    with_backbone = {"backbone": str(parts / "backbone")} | settings
    if settings.get("backbone") == "":
        with_backbone["freeze_batch_norm"] = False
    return TeacherStage(base, config, replace(golden_runs.TEACHER, **with_backbone))


def fingerprint(trained: Stage, loop: LoopSettings, steps: int = 2) -> Iterator[object]:
    """What each of some steps gives: losses, rates, and the weights after it."""
    trainer = Trainer(trained, loop, device="cpu")
    for step, parts in zip(range(steps), trainer.batches(0), strict=False):
        losses = trainer.step(step, parts)
        rates = [(group["lr"], group["weight_decay"]) for group in trainer.optimizer.param_groups]
        yield losses, rates, digest_tensors(trained.module.state_dict())


@pytest.fixture(scope="module")
def plain(folders: tuple[Path, Path]) -> Fingerprints:
    """The fingerprint of a stage as it is, in some loop."""

    @cache
    def made(name: str, loop: LoopSettings = LOOP, steps: int = 2) -> list[object]:
        return list(fingerprint(stage(name, folders), loop, steps))

    return made


CASES = [(name, setting) for name, settings in OTHERS.items() for setting in settings]


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_repeats_itself(name: str, folders: tuple[Path, Path], plain: Fingerprints) -> None:
    assert list(fingerprint(stage(name, folders), LOOP)) == plain(name)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_setting_is_answered_for(name: str) -> None:
    kind = type(getattr(golden_runs, name.upper()))
    assert set(OTHERS[name]) | ELSEWHERE[name] == {field.name for field in fields(kind)}
    assert not set(OTHERS[name]) & ELSEWHERE[name]


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_a_setting_changes_the_run(
    name: str, setting: str, folders: tuple[Path, Path], plain: Fingerprints
) -> None:
    changed = stage(name, folders, **{setting: OTHERS[name][setting]})
    # Most differ after the first step: the second is not taken then.
    assert any(map(operator.ne, fingerprint(changed, LOOP), plain(name)))


def test_every_setting_of_the_loop_is_answered_for() -> None:
    assert set(LOOP_OTHERS) == {field.name for field in fields(LoopSettings)}


@pytest.mark.parametrize("setting", LOOP_OTHERS)
def test_a_setting_of_the_loop_changes_the_run_if_it_should(
    setting: str, folders: tuple[Path, Path], plain: Fingerprints
) -> None:
    """How a run is kept, watched and spread changes nothing of what it computes."""
    value, differs = LOOP_OTHERS[setting]
    # Where the rate falls in time: all settings of a schedule show.
    loop = replace(LOOP, schedule="step", milestones=(1,), steps=3, warmup_steps=1)
    if setting == "steps":
        loop = replace(loop, schedule="cosine")
    before = plain("teacher", loop, 3)
    changed = replace(loop, **{setting: value})
    after = list(fingerprint(stage("teacher", folders), changed, steps=3))
    if setting == "accumulate":  # the same up to the order of sums
        for (row, *_), (expected, *_) in zip(after, before, strict=True):
            assert row == pytest.approx(expected, rel=1e-4)
    else:
        assert (after != before) == differs


@pytest.mark.parametrize("name", ["pretrain", "teacher"])
def test_the_first_weights_follow_from_the_seed(name: str, folders: tuple[Path, Path]) -> None:
    """Whatever was drawn before, and in a random stage all of them."""
    alone = {"backbone": ""} if name == "teacher" else {}
    first, again, other = (
        digest_tensors(stage(name, folders, **alone, seed=seed).module.state_dict())
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_every_draw_of_a_picture_has_its_own_numbers(folders: tuple[Path, Path]) -> None:
    """Frames and points of a picture, pictures of a batch, and steps: none share a seed."""
    trained = stage("teacher", folders)
    seeds = [seed for step in range(4) for seed in trained.batch(step)["seeds"]]
    frames = [picture_seed(0, step, place, "frame") for step in range(4) for place in range(2)]
    assert len({*seeds, *frames}) == 16
    assert all(0 <= seed < 2**32 for seed in seeds)
