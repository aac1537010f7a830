"""What AdamW gets of a proposer: nothing frozen, and decay where the published code has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import Mask2FormerConfig, SwinConfig

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.training.distill import DistillStage
from masqclip.training.distributed import synchronise_batch_norm
from masqclip.training.dry_run import forecast
from masqclip.training.loop import train
from masqclip.training.settings import DistillSettings, LoopSettings, TeacherSettings
from masqclip.training.stage import batch_losses
from masqclip.training.teacher import TeacherStage
from tiny import tiny_proposer_config

LOOP = LoopSettings(steps=2, workers=0, log_every=1, save_every=1)
SMALL = {
    "image_size": 64,
    "min_scale": 1.0,
    "batch_size": 2,
    "learning_rate": 0.1,
    "num_points": 64,
}


Starts = dict[str, Path]


@pytest.fixture
def starts(tiny_backbone: Path, tiny_proposer: Path) -> Starts:
    """What each stage starts from."""
    return {"teacher": tiny_backbone, "distill": tiny_proposer}


def make(scenes: Path, starts: Starts, stage: str, *, frozen: bool) -> TeacherStage:
    dataset, start = CocoPanoptic(scenes, keep=is_base), starts[stage]
    if stage == "distill":
        return DistillStage(dataset, start, DistillSettings(**SMALL, freeze_batch_norm=frozen))
    settings = TeacherSettings(**SMALL, backbone=str(start), freeze_batch_norm=frozen)
    return TeacherStage(dataset, tiny_proposer_config(), settings)


def norms(module: nn.Module) -> list[_BatchNorm]:
    return [child for child in module.modules() if isinstance(child, _BatchNorm)]


def state(module: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for norm in norms(module) for value in norm.state_dict().values()]


@pytest.mark.parametrize("stage", ["teacher", "distill"])
@pytest.mark.parametrize("synchronised", [False, True])
def test_frozen_batch_norms_are_constants(
    tiny_scenes: Path, starts: Starts, tmp_path: Path, stage: str, synchronised: bool
) -> None:
    trained = make(tiny_scenes, starts, stage, frozen=True)
    if synchronised:  # as with several processes
        synchronise_batch_norm(trained.module)
    assert len(norms(trained.module)) == 12
    before = state(trained.module)
    frozen = {id(p) for norm in norms(trained.module) for p in norm.parameters()}
    grouped = [id(p) for group in trained.parameter_groups() for p in group["params"]]
    assert frozen
    assert not frozen & set(grouped)
    assert len(grouped) == len(set(grouped))
    assert train(trained, LOOP, tmp_path, device="cpu")
    after = state(trained.module)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    again = Mask2FormerProposer.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, state(again), strict=True))
    if isinstance(trained, DistillStage):
        assert not any(p.requires_grad for p in trained.teacher.train().parameters())


def test_a_run_with_frozen_norms_goes_on(tiny_scenes: Path, starts: Starts, tmp_path: Path) -> None:
    def losses(folder: Path, minutes: float) -> dict[str, torch.Tensor]:
        loop = LoopSettings(steps=3, workers=0, save_every=1, max_minutes=minutes)
        while not train(
            made := make(tiny_scenes, starts, "teacher", frozen=True),
            loop,
            folder,
            device="cpu",
        ):
            continue  # fmt: skip
        return made.module.state_dict()

    straight, stopped = losses(tmp_path / "straight", 0.0), losses(tmp_path / "stopped", 1e-9)
    assert all(torch.equal(value, stopped[name]) for name, value in straight.items())


@pytest.mark.parametrize("stage", ["teacher", "distill"])
def test_batch_norms_that_are_not_frozen_learn(
    tiny_scenes: Path, starts: Starts, tmp_path: Path, stage: str
) -> None:
    trained = make(tiny_scenes, starts, stage, frozen=False)
    before = state(trained.module)
    assert train(trained, LOOP, tmp_path, device="cpu")
    after = state(trained.module)
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_frozen_batch_norms_do_not_count_as_trained(tiny_scenes: Path, starts: Starts) -> None:
    counts = {}
    for frozen in (False, True):
        stage = make(tiny_scenes, starts, "teacher", frozen=frozen)
        counts[frozen] = forecast(stage, LoopSettings(steps=1, workers=0), "cpu")
    gains_and_biases = sum(p.numel() for norm in norms(stage.module) for p in norm.parameters())
    assert counts[False].trainable - counts[True].trainable == gains_and_biases
    assert counts[True].frozen == gains_and_biases


def test_what_is_frozen_is_in_no_group_whatever_was_said_since(
    tiny_proposer: Path, tiny_scenes: Path
) -> None:
    settings = DistillSettings(freeze_batch_norm=True)
    stage = DistillStage(CocoPanoptic(tiny_scenes, keep=is_base), tiny_proposer, settings)
    expected = [len(group["params"]) for group in stage.parameter_groups()]
    stage.module.requires_grad_(True)
    assert [len(group["params"]) for group in stage.parameter_groups()] == expected


def test_what_is_frozen_stays_so(tiny_proposer: Path) -> None:
    def learning(proposer: Mask2FormerProposer) -> set[bool]:
        return {p.requires_grad for norm in norms(proposer) for p in norm.parameters()}

    loaded = Mask2FormerProposer.from_pretrained(tiny_proposer, freeze_batch_norm=True)
    assert learning(loaded) == {False}
    loaded.load_state_dict(loaded.state_dict())
    assert learning(loaded.eval().train()) == {False}
    # "Train everything" is what the published distillation says of a student.
    assert learning(loaded.requires_grad_(True).train()) == {False}
    assert all(p.requires_grad for p in loaded.segmenter.model.transformer_module.parameters())
    loaded.freeze_batch_norm = False
    assert learning(loaded.train()) == {True}
    assert all(norm.training for norm in norms(loaded))
    assert learning(Mask2FormerProposer.from_pretrained(tiny_proposer)) == {True}
    # Who freezes a whole model keeps it.
    still = Mask2FormerProposer.from_pretrained(tiny_proposer).eval().requires_grad_(False)
    assert not any(p.requires_grad for p in still.train().parameters())


def test_a_frozen_norm_gets_no_gradient(tiny_scenes: Path, starts: Starts) -> None:
    stage = make(tiny_scenes, starts, "teacher", frozen=True)
    stage.module.train()
    batch_losses(stage, stage.batch(0))["loss"].backward()
    assert all(p.grad is None for norm in norms(stage.module) for p in norm.parameters())


def decays(stage: TeacherStage) -> dict[str, bool]:
    """Whether each parameter that trains decays, by its name."""
    names = {id(p): name for name, p in stage.module.named_parameters()}
    groups = stage.parameter_groups()
    assert {group["weight_decay"] for group in groups} == {0.0, stage.settings.weight_decay}
    return {names[id(p)]: group["weight_decay"] > 0 for group in groups for p in group["params"]}


NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@pytest.mark.parametrize("stage", ["teacher", "distill"])
@pytest.mark.parametrize("synchronised", [False, True])
def test_only_norms_and_embeddings_do_not_decay(
    tiny_scenes: Path, starts: Starts, stage: str, synchronised: bool
) -> None:
    """The published rule, by the kind of the module that holds a parameter."""
    made = make(tiny_scenes, starts, stage, frozen=False)
    if synchronised:
        synchronise_batch_norm(made.module)
    expected = {
        f"{path}.{name}": not isinstance(module, (*NORMS, nn.Embedding))
        for path, module in made.module.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    found = decays(made)
    assert found == expected
    biases = [name for name in expected if name.endswith("bias") and "norm" not in name]
    assert any(name.endswith("in_proj_bias") for name in biases)
    level = [name for name in expected if name.endswith("level_embed")]
    assert found[next(name for name in level if "pixel_level_module" in name)]
    kept = {name for name, decaying in found.items() if not decaying}
    assert any("queries_embedder" in name for name in kept)
    assert any(name.endswith("normalization.bias") for name in kept)


def test_swins_table_of_positions_does_not_decay(tiny_scenes: Path, tmp_path: Path) -> None:
    backbone = SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
        use_absolute_embeddings=True, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    values = tiny_proposer_config().to_dict() | {"backbone_config": backbone}
    Mask2FormerProposer(Mask2FormerConfig(**values)).save_pretrained(tmp_path)
    found = decays(make(tiny_scenes, {"distill": tmp_path}, "distill", frozen=True))
    tables = [name for name in found if "relative_position_bias_table" in name]
    assert len(tables) == 4
    positions = [name for name in found if name.endswith("embeddings.position_embeddings")]
    assert len(positions) == 1
    assert not any(found[name] for name in [*tables, *positions])
