"""Every value of the paper's recipes and of the defaults, beside a table of what was published.

The table is written by hand from the paper and the authors' configuration files. A field of a
recipe or a default that changes, or a new one, has to be answered for here.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from masqclip.proposals.criterion import CriterionSettings
from masqclip.proposals.mask2former import resnet50_mask2former_config
from masqclip.training.recipes import SHIPPED, STAGES, load_recipe
from masqclip.training.settings import LoopSettings

DOCS = Path(__file__).parents[2] / "docs"
PAPER = ("base-novel", "cross-dataset")
Values = dict[str, Any]

# What both settings and all stages share.
ADAMW: Values = {"weight_decay": 0.05, "flip": True}
SCHEDULE: Values = {"warmup_steps": 0, "clip_norm": 0.01, "precision": "fp16"}
MASK2FORMER: Values = ADAMW | {
    "freeze_batch_norm": True,
    "backbone_multiplier": 0.1,
    "class_weight": 2.0,
    "mask_weight": 5.0,
    "dice_weight": 5.0,
    "no_object_weight": 0.1,
    "num_points": 12_544,
}
TEACHER: Values = MASK2FORMER | {
    "architecture": "resnet50",
    "backbone": "microsoft/resnet-50",  # published: torchvision's, of the same architecture
    "batch_size": 16,
    "learning_rate": 1e-4,
}
STUDENT: Values = MASK2FORMER | {
    "batch_size": 4,
    "score_threshold": 0.8,
    "dice_threshold": 0.1,
    "rounds": 2,
}
TUNING: Values = ADAMW | {
    "batch_size": 4,
    "learning_rate": 1e-4,
    "learns": "q",
    "masks": "proposals",
    "dice_cost_threshold": 0.4,
    "assign_size": 336,
    "background_weight": 0.1,
    "loss_weight": 2.0,
    "query_start": "random",
    "clip_input": "stretch",
}
JITTER: Values = {
    "augmentation": "jitter",
    "image_size": 1024,
    "min_scale": 0.1,
    "max_scale": 2.0,
    "filter_empty": True,
}
SQUARE: Values = {"augmentation": "square", "image_size": 1024, "filter_empty": False}
CONSTANT: Values = SCHEDULE | {"schedule": "constant"}
STEP: Values = SCHEDULE | {"steps": 10_000, "schedule": "step", "milestones": (9_000,)}

#: (recipe, stage): what the paper or its configuration files say of the stage, and of its loop.
PUBLISHED: dict[tuple[str, str], tuple[Values, Values]] = {
    ("base-novel", "teacher"): (JITTER | TEACHER, CONSTANT | {"steps": 100_000}),
    ("base-novel", "distill"): (
        JITTER | STUDENT | {"learning_rate": 1e-4},
        CONSTANT | {"steps": 30_000},
    ),
    ("base-novel", "tune"): (
        JITTER | TUNING | {"shortest_edge": 800, "longest_edge": 1333},
        STEP,
    ),
    ("cross-dataset", "teacher"): (SQUARE | TEACHER, CONSTANT | {"steps": 200_000}),
    ("cross-dataset", "distill"): (
        SQUARE | STUDENT | {"learning_rate": 1e-5},
        CONSTANT | {"steps": 30_000},
    ),
    ("cross-dataset", "tune"): (
        SQUARE | TUNING | {"shortest_edge": 640, "longest_edge": 2560},
        STEP,
    ),
}

#: What no stage of the paper has, and what it is in both recipes: how a run is kept and watched,
#: the seed (the authors drew theirs), and what a chosen value leaves without a meaning.
OWN_LOOP: Values = {
    "milestones": (),
    "accumulate": 1,
    "seed": 0,
    "keep_last": 2,
    "eval_every": 0,
    "log_every": 50,
    "max_minutes": 0.0,
    "workers": 4,
}
OWN: Values = {"seed": 0}
MUON: Values = {"muon_rate": 0.0}  # AdamW for all of it
TUNING_OWN: Values = {"consistency": 0.0, "mix_names": 0.0}  # terms of later papers
UNUSED: Values = {"min_scale": 0.1, "max_scale": 2.0}  # without jitter
TEACHERS_OWN: Values = {
    "architecture": "resnet50",
    "backbone": "",
}  # a student is its teacher's copy
SAVE_EVERY = {"teacher": 5_000, "distill": 5_000, "tune": 1_000}

#: Defaults of the stages and the loop that are not the base-novel setting's, as
#: docs/training.md lists them.
EXCEPTIONS = {
    "backbone", "rounds", "query_start", "steps", "schedule", "milestones", "precision",
}  # fmt: skip


def values(settings: object) -> Values:
    return dict(vars(settings))


@pytest.mark.parametrize(("recipe", "stage"), PUBLISHED)
def test_a_recipe_is_the_papers_in_every_value(recipe: str, stage: str) -> None:
    of_stage, of_loop = PUBLISHED[recipe, stage]
    settings, loop = load_recipe(recipe, stage)
    own = OWN | (UNUSED if recipe == "cross-dataset" else {})
    own |= TEACHERS_OWN if stage == "distill" else {}
    own |= MUON if stage != "tune" else TUNING_OWN
    assert values(settings) == own | of_stage
    assert values(loop) == OWN_LOOP | {"save_every": SAVE_EVERY[stage]} | of_loop


@pytest.mark.parametrize(("recipe", "stage"), PUBLISHED)
def test_a_recipe_states_what_the_paper_states(recipe: str, stage: str) -> None:
    table = tomllib.loads((SHIPPED / f"{recipe}.toml").read_text())[stage]
    stated_of_loop = table.pop("loop")
    of_stage, of_loop = PUBLISHED[recipe, stage]
    assert set(of_stage) <= set(table)
    assert set(of_loop) <= set(stated_of_loop)


def test_the_papers_recipes_have_the_papers_stages() -> None:
    for recipe in PAPER:
        tables = tomllib.loads((SHIPPED / f"{recipe}.toml").read_text())
        assert set(tables) == {stage for name, stage in PUBLISHED if name == recipe}


def defaults(kind: type[Any]) -> Values:
    return {
        field.name: None if field.default is MISSING else field.default for field in fields(kind)
    }


def test_defaults_are_the_base_novel_settings_but_for_those_that_are_listed() -> None:
    """What a recipe leaves out keeps the published value."""
    differing = set()
    for stage in ("teacher", "distill", "tune"):
        of_stage, of_loop = PUBLISHED["base-novel", stage]
        own = OWN | (TEACHERS_OWN if stage == "distill" else {})
        own |= MUON if stage != "tune" else TUNING_OWN
        for kind, expected in (
            (STAGES[stage], own | of_stage),
            (LoopSettings, OWN_LOOP | {"save_every": 500, "workers": 1} | of_loop),
        ):
            found = defaults(kind)
            assert set(found) == set(expected)
            differing |= {name for name, value in found.items() if value != expected[name]}
    assert differing == EXCEPTIONS


def test_the_loss_is_the_published_one() -> None:
    weights = {name: MASK2FORMER[name] for name in ("class_weight", "mask_weight", "dice_weight")}
    points = {"num_points": 12_544, "oversample_ratio": 3.0, "importance_ratio": 0.75}
    assert values(CriterionSettings()) == weights | {"no_object_weight": 0.1} | points


def test_the_proposer_is_the_published_one() -> None:
    """Mask2Former with a ResNet-50; one decoder layer more, for the queries' own read-out."""
    config = resnet50_mask2former_config()
    expected = {
        "num_queries": 100, "hidden_dim": 256, "feature_size": 256, "mask_feature_size": 256,
        "encoder_layers": 6, "encoder_feedforward_dim": 1024, "decoder_layers": 10,
        "dim_feedforward": 2048, "num_attention_heads": 8, "dropout": 0.0, "pre_norm": False,
        "enforce_input_projection": False, "common_stride": 4,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.num_labels == 1
    backbone = config.backbone_config
    assert list(backbone.depths) == [3, 4, 6, 3]
    assert list(backbone.hidden_sizes) == [256, 512, 1024, 2048]
    assert backbone.layer_type == "bottleneck"
    assert not backbone.downsample_in_bottleneck  # the stride stands in the 3x3 convolution


def test_the_exceptions_are_the_ones_that_the_docs_list() -> None:
    text = (DOCS / "training.md").read_text()
    table = text.split("but for these:\n\n")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == EXCEPTIONS


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_recipes_in_the_docs_load_and_clip(page: Path, tmp_path: Path) -> None:
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        tables = tomllib.loads(block)
        if not set(tables) <= set(STAGES):
            continue
        file = tmp_path / "docs.toml"
        file.write_text(block)
        for stage in tables:
            settings, loop = load_recipe(file, stage)
            assert loop.clip_norm == 0.01
            if stage == "teacher":  # frozen batch norms need a backbone that has been trained
                assert settings.backbone or not settings.freeze_batch_norm
