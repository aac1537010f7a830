"""Every value of our own recipes and of pretraining's defaults, a second time.

No paper says them: they were chosen on other seeds than are reported, and figures in the model card
and in docs stand on them. Who changes one measures anew, and says so here and in the changelog.
"""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from masqclip.training.recipes import SHIPPED, load_recipe
from masqclip.training.settings import LoopSettings, PretrainSettings

COSINE: dict[str, Any] = {"schedule": "cosine", "log_every": 10}
SMALL_MASK2FORMER: dict[str, Any] = {
    "freeze_batch_norm": False, "image_size": 128, "filter_empty": False, "min_scale": 1.0,
    "max_scale": 1.0, "batch_size": 16, "backbone_multiplier": 1.0, "num_points": 1024,
}  # fmt: skip
ON_A_GPU: dict[str, Any] = COSINE | {"precision": "bf16", "workers": 10, "save_every": 250}
FRAMES_AS_THEY_ARE: dict[str, Any] = {
    "freeze_batch_norm": False, "augmentation": "none", "flip": False, "filter_empty": False,
    "batch_size": 32, "backbone_multiplier": 1.0, "num_points": 1024,
}  # fmt: skip
#: (recipe, stage): what it says of the stage, and of its loop.
STATED: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {
    ("miniature", "pretrain"): (
        {
            "image_size": 128, "batch_size": 64, "extra_captions": 512, "learning_rate": 5e-4,
            "weight_decay": 0.1,
        },
        COSINE | {"steps": 5600, "warmup_steps": 100, "clip_norm": 1.0, "save_every": 100},
    ),
    ("miniature", "teacher"): (
        SMALL_MASK2FORMER | {"architecture": "miniature", "learning_rate": 1e-3},
        COSINE | {"steps": 5000, "warmup_steps": 200, "clip_norm": 0.1, "save_every": 200},
    ),
    ("miniature", "distill"): (
        SMALL_MASK2FORMER | {"learning_rate": 3e-4},
        COSINE | {"steps": 1500, "warmup_steps": 50, "clip_norm": 0.1, "save_every": 200},
    ),
    ("miniature", "tune"): (
        {
            "augmentation": "none", "filter_empty": False, "batch_size": 16, "learning_rate": 3e-4,
            "assign_size": 128, "shortest_edge": 128, "longest_edge": 512,
        },
        COSINE | {"steps": 300, "warmup_steps": 20, "clip_norm": 1.0, "save_every": 100},
    ),
    ("world", "pretrain"): (
        {
            "image_size": 128, "batch_size": 2048, "extra_captions": 256, "drop_patches": 0.5,
            "learning_rate": 1e-3, "second_moment": 0.98, "muon_rate": 4e-3, "weight_decay": 0.1,
        },
        ON_A_GPU | {"steps": 2500, "warmup_steps": 50, "clip_norm": 1.0},
    ),
    ("world", "teacher"): (
        FRAMES_AS_THEY_ARE | {"architecture": "miniature", "learning_rate": 1e-3},
        ON_A_GPU | {"steps": 3000, "warmup_steps": 200, "clip_norm": 0.1},
    ),
    ("world", "distill"): (
        FRAMES_AS_THEY_ARE | {"learning_rate": 3e-4},
        ON_A_GPU | {"steps": 1000, "warmup_steps": 50, "clip_norm": 0.1},
    ),
    ("world", "tune"): (
        {
            "augmentation": "none", "flip": False, "filter_empty": False, "batch_size": 32,
            "learning_rate": 3e-4, "assign_size": 128, "shortest_edge": 256, "longest_edge": 512,
        },
        COSINE | {
            "steps": 500, "warmup_steps": 20, "clip_norm": 1.0, "save_every": 100, "workers": 10,
        },
    ),
    ("own-data", "tune"): (
        {
            "augmentation": "none", "filter_empty": True, "masks": "both", "batch_size": 4,
            "learning_rate": 1e-4,
        },
        COSINE | {"steps": 500, "warmup_steps": 20, "clip_norm": 1.0, "save_every": 50},
    ),
}  # fmt: skip


def test_the_recipes_that_are_no_papers_are_these() -> None:
    shipped = {
        (file.stem, stage)
        for file in SHIPPED.glob("*.toml")
        for stage in tomllib.loads(file.read_text())
    }
    papers = {"base-novel", "cross-dataset", "baselines"}
    assert {recipe for recipe, _ in shipped - STATED.keys()} == papers
    assert STATED.keys() <= shipped


@pytest.mark.parametrize(("recipe", "stage"), STATED)
def test_a_recipe_of_our_own_says_what_was_measured(recipe: str, stage: str) -> None:
    """What it leaves out is the default."""
    of_stage, of_loop = STATED[recipe, stage]
    settings, loop = load_recipe(recipe, stage)
    assert settings == type(settings)(**of_stage)
    assert loop == LoopSettings(**of_loop)
    table = tomllib.loads((SHIPPED / f"{recipe}.toml").read_text())[stage]
    assert table.pop("loop") == of_loop
    assert table == of_stage


def test_pretraining_by_default() -> None:
    assert vars(PretrainSettings()) == {
        "family": "clip", "contrast": "", "image_size": 112, "patch_size": 8,
        "vision_width": 192, "vision_layers": 6,
        "vision_heads": 3, "text_width": 128, "text_layers": 3, "text_heads": 2,
        "embedding_size": 192, "merges": 1000, "batch_size": 128, "extra_captions": 0,
        "learning_rate": 1e-3, "weight_decay": 0.1, "seed": 0, "drop_patches": 0.0,
        "mosaics": 0.0,
        "compile": False, "second_moment": 0.999, "muon_rate": 0.0,
        "muon_steps": 5,
    }  # fmt: skip
