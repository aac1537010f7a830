"""MaskFormer in every stage that Mask2Former goes through: teacher, distillation, tuning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import SamConfig, SamModel

from masqclip.cli.main import main
from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import ARCHITECTURES as BUILDERS
from masqclip.proposals.adapters import load_proposer
from masqclip.proposals.maskformer import MaskFormerProposer, miniature_maskformer_config
from masqclip.training.distill import DistillStage, distill_rounds, load_teacher
from masqclip.training.loop import train
from masqclip.training.optimizers import MUON
from masqclip.training.settings import (
    ARCHITECTURES,
    DistillSettings,
    LoopSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.stage import Stage, batch_losses
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

SMALL = TeacherSettings(
    architecture="miniature-maskformer", image_size=64, min_scale=1.0, max_scale=1.0, batch_size=4,
    learning_rate=1e-3, num_points=64, freeze_batch_norm=False,
)  # fmt: skip
# A teacher that has learned little is sure of nothing: here its masks count all the same.
STUDENT = DistillSettings(
    image_size=64, min_scale=1.0, max_scale=1.0, batch_size=4, learning_rate=1e-3, num_points=64,
    freeze_batch_norm=False, score_threshold=0.005, dice_threshold=0.6,
)  # fmt: skip


def loop(steps: int, minutes: float = 0.0) -> LoopSettings:
    return LoopSettings(
        steps=steps, clip_norm=1.0, workers=0, log_every=1, save_every=1, max_minutes=minutes
    )


@pytest.fixture(scope="module")
def base(tiny_scenes: Path) -> CocoPanoptic:
    return CocoPanoptic(tiny_scenes, keep=is_base)


def teacher(base: CocoPanoptic, settings: TeacherSettings = SMALL) -> TeacherStage:
    return TeacherStage(base, BUILDERS[settings.architecture](), settings)


@torch.no_grad()
def mean_loss(stage: Stage) -> float:
    stage.module.train()
    return sum(float(batch_losses(stage, stage.batch(step))["loss"]) for step in range(3)) / 3


@pytest.fixture(scope="module")
def trained(base: CocoPanoptic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a teacher, after a few steps that taught it something."""
    folder = tmp_path_factory.mktemp("maskformer")
    stage = teacher(base)
    before = mean_loss(stage)
    assert train(stage, loop(6), folder, device="cpu")
    assert mean_loss(stage) < before
    return folder


def same(one: nn.Module, other: nn.Module) -> bool:
    found = other.state_dict()
    return all(torch.equal(value, found[name]) for name, value in one.state_dict().items())


def test_the_words_for_architectures_are_those_that_can_be_built() -> None:
    assert tuple(BUILDERS) == ARCHITECTURES


def test_the_teacher_loads_again_and_another_goes_on_from_it(
    trained: Path, base: CocoPanoptic
) -> None:
    loaded = load_proposer(trained)
    assert isinstance(loaded, MaskFormerProposer)
    again = TeacherStage(base, loaded.config, SMALL, start=trained)
    assert same(again.module, loaded)
    assert not same(teacher(base).module, loaded)
    assert mean_loss(again) < mean_loss(teacher(base))


@pytest.mark.parametrize("muon", [0.0, 1e-3])
def test_a_run_that_was_stopped_ends_with_the_same_weights(
    base: CocoPanoptic, tmp_path: Path, muon: float
) -> None:
    settings = replace(SMALL, batch_size=2, muon_rate=muon)

    def weights(folder: Path, minutes: float) -> nn.Module:
        while not train(made := teacher(base, settings), loop(3, minutes), folder, device="cpu"):
            continue
        return made.module

    assert same(weights(tmp_path / "straight", 0.0), weights(tmp_path / "stopped", 1e-9))


def test_a_split_batch_has_the_same_losses(base: CocoPanoptic) -> None:
    """No dropout: what a picture contributes does not depend on which others it runs with."""
    stage = teacher(base)
    stage.module.eval()  # batch norm is another matter
    batch = stage.batch(0)
    whole, totals = stage.prepare(batch)
    parts = [
        {name: value[i : i + 2] for name, value in whole.items() if name != "skipped"}
        for i in (0, 2)
    ]
    losses = [stage.losses(part, totals)["loss"] for part in parts]
    torch.testing.assert_close(sum(losses), stage.losses(whole, totals)["loss"])


def test_a_student_learns_and_its_rounds_resume(
    trained: Path, base: CocoPanoptic, tmp_path: Path
) -> None:
    stage = DistillStage(base, trained, STUDENT)
    assert isinstance(stage.teacher, MaskFormerProposer)
    assert same(stage.module, stage.teacher)
    assert batch_losses(stage, stage.batch(0))["found"] > 0
    before = mean_loss(stage)
    assert train(stage, loop(6), tmp_path / "student", device="cpu")
    assert mean_loss(stage) < before
    assert same(load_teacher(trained), stage.teacher)  # frozen

    def run(out: Path, minutes: float) -> bool:
        settings = replace(STUDENT, rounds=2, batch_size=2)
        return distill_rounds(
            base, trained, settings, out,
            lambda stage, folder: train(stage, loop(2, minutes), folder, device="cpu"),
        )  # fmt: skip

    assert run(tmp_path / "straight", 0.0)
    while not run(tmp_path / "stopped", 1e-9):
        continue
    one, other = (load_teacher(tmp_path / name) for name in ("straight", "stopped"))
    assert same(one, other)
    assert not same(one, load_teacher(tmp_path / "straight/round-1"))


def test_tuning_joins_one(
    trained: Path, base: CocoPanoptic, tiny_clip: Path, tmp_path: Path
) -> None:
    settings = TuneSettings(batch_size=2, augmentation="none", assign_size=64, shortest_edge=64)
    model, tokenizer = join(tiny_clip, trained, settings)
    stage = TuneStage(model, tokenizer, base, settings)
    assert train(stage, loop(1), tmp_path, device="cpu")
    again = MasQClipModel.from_pretrained(tmp_path)
    assert isinstance(again.proposer, MaskFormerProposer)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, expected = again.proposer(pixels), load_proposer(trained).eval()(pixels)
    assert torch.equal(found.mask_logits, expected.mask_logits)
    assert torch.equal(found.object_logits, expected.object_logits)


def test_groups_of_parameters_follow_the_same_rule(base: CocoPanoptic) -> None:
    """Norms and embeddings do not decay, the backbone is slow, Muon has the inner matrices."""
    stage = teacher(base, replace(SMALL, muon_rate=0.02, backbone_multiplier=0.1))
    names = {id(p): name for name, p in stage.module.named_parameters()}
    groups = [
        ({names[id(p)] for p in group["params"]}, group) for group in stage.parameter_groups()
    ]
    assert sorted(name for found, _ in groups for name in found) == sorted(names.values())
    backbone = "segmenter.model.pixel_level_module.encoder."
    for found, group in groups:
        rate = 0.02 if group[MUON] else 1e-4 if next(iter(found)).startswith(backbone) else 1e-3
        assert group["lr"] == pytest.approx(rate)
    kinds = {
        f"{path}.{name}": module
        for path, module in stage.module.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    still = {name for found, group in groups if group["weight_decay"] == 0 for name in found}
    norms = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)
    assert still == {name for name, module in kinds.items() if isinstance(module, norms)}
    queries = "segmenter.model.transformer_module.queries_embedder.weight"
    assert queries in still
    muon = {name for found, group in groups if group[MUON] for name in found}
    linear = {name for name, module in kinds.items() if isinstance(module, nn.Linear)}
    assert muon == {name for name in linear if name.endswith("weight")}
    # Attention's four matrices twice a layer, its MLP's two, and the heads'.
    assert len(muon) == 4 * (2 * 4 + 2) + 3 + 1


def test_frozen_norms_come_with_a_backbone(base: CocoPanoptic, tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = miniature_maskformer_config()
    MaskFormerProposer(config).backbone.save_pretrained(tmp_path)
    settings = replace(SMALL, freeze_batch_norm=True, backbone=str(tmp_path))
    stage = teacher(base, settings)
    norms = [
        child for child in stage.module.backbone.modules() if isinstance(child, nn.BatchNorm2d)
    ]
    assert norms
    grouped = {id(p) for group in stage.parameter_groups() for p in group["params"]}
    assert not grouped & {id(p) for norm in norms for p in norm.parameters()}


def test_the_command_line_makes_one(
    tiny_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["train", "teacher", "--data", str(tiny_scenes), "--out", str(out), "--device", "cpu"]
    for change in ("image_size=64", "batch_size=2", "num_points=16", "steps=1", "workers=0",
                   "warmup_steps=0"):  # fmt: skip
        words += ["--set", change]
    chosen = [*words, "--set", "architecture=miniature-maskformer"]
    assert main([*chosen, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "2,207,842" in shown
    assert not out.exists()
    assert main(chosen) == 0
    assert json.loads((out / "config.json").read_text())["model_type"] == "maskformer"
    # The family is the start's, whatever the recipe's architecture.
    again = [*words, "--start", str(out), "--set", "learning_rate=0"]
    again[again.index(str(out))] = str(tmp_path / "again")
    assert main(again) == 0
    assert isinstance(load_proposer(tmp_path / "again"), MaskFormerProposer)


def test_what_cannot_be_is_said_in_a_line(
    tiny_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(tiny_scenes), "--out", str(tmp_path / "out"), "--device", "cpu"]

    def refused(*words: str) -> str:
        assert main(["train", *words, *data]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    line = refused("teacher", "--set", "architecture=detr")
    assert "resnet50, miniature, maskformer, miniature-maskformer" in line
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "mlp_dim": 16}
    SamModel(SamConfig(vision_config=small)).save_pretrained(tmp_path / "sam")
    for words in (("distill", "--teacher"), ("teacher", "--start")):
        line = refused(*words, str(tmp_path / "sam"))
        assert "is a SAM" in line
        assert "cannot be trained here: use a Mask2Former or a MaskFormer" in line
