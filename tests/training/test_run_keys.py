"""What a run, or stored proposals, may go on with: nothing else than what they follow from."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from test_settings_matter import LOOP_OTHERS, OTHERS

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.errors import MasqclipError
from masqclip.training.checkpoints import Checkpoints
from masqclip.training.proposal_cache import ProposalCache
from masqclip.training.settings import LoopSettings, TuneSettings
from masqclip.training.stage import Stage
from masqclip.training.tune import TuneStage, join

SQUARE = TuneSettings(
    augmentation="square", image_size=64, shortest_edge=64, masks="both", weight_decay=0.5
)
#: Another value of each setting of tuning, and what stored proposals do not follow from.
TUNE_OTHERS = OTHERS["tune"] | OTHERS["tune, as pictures are"] | {"masks": "proposals"}
NOT_OF_PROPOSALS = {
    "learns", "batch_size", "learning_rate", "weight_decay", "background_weight", "loss_weight",
    "seed",
}  # fmt: skip
LOOP = LoopSettings(6, schedule="step", milestones=(3,), workers=0)


@pytest.fixture
def stage(tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path) -> TuneStage:
    model, tokenizer = join(tiny_clip, tiny_proposer, SQUARE)
    return TuneStage(model, tokenizer, CocoPanoptic(tiny_scenes, keep=is_base), SQUARE)


def refused(folder: Path, stage: TuneStage) -> bool:
    try:
        ProposalCache(folder, stage)
    except MasqclipError as error:
        return "another proposer, dataset or setting" in str(error)
    return False


def test_stored_proposals_fit_the_settings_that_they_follow_from(
    stage: TuneStage, tmp_path: Path
) -> None:
    ProposalCache(tmp_path, stage)
    assert set(TUNE_OTHERS) == {field.name for field in fields(TuneSettings)}
    assert not refused(tmp_path, stage)
    for name, value in TUNE_OTHERS.items():
        stage.settings = replace(SQUARE, **{name: value})
        assert refused(tmp_path, stage) == (name not in NOT_OF_PROPOSALS), name


def test_stored_proposals_fit_the_model_and_the_data_that_they_follow_from(
    stage: TuneStage, tmp_path: Path
) -> None:
    ProposalCache(tmp_path, stage)
    config, vision = stage.model.config, stage.model.clip.config.vision_config
    for owner, name, value in (
        (config, "clip_input", "aspect"),
        (config, "shortest_edge", 96),
        (config, "longest_edge", 96),
        (vision, "image_size", 96),
        (vision, "patch_size", 4),
    ):
        before = getattr(owner, name)
        setattr(owner, name, value)
        assert refused(tmp_path, stage), name
        setattr(owner, name, before)
    stage.inputs["--data"] = "other"
    assert refused(tmp_path, stage)
    del stage.inputs
    assert not refused(tmp_path, stage)
    with torch.no_grad():
        next(stage.model.proposer.parameters()).flatten()[0] += 1
    assert refused(tmp_path, stage)


def test_a_checkpoint_fits_the_settings_that_decide_what_is_computed(stage: TuneStage) -> None:
    """All of the stage's, and of the loop's those that change a run."""

    def checkpoints(loop: LoopSettings) -> Checkpoints:
        return Checkpoints(Path("run"), cast(Stage, stage), loop, cast(Any, None))

    state = {
        "stage": "tune", "settings": checkpoints(LOOP)._settings(), "step": 1, "seconds": 1.0,
        "model": {}, "optimizer": {},
    }  # fmt: skip
    checkpoints(LOOP)._check(Path("step"), state)
    # Its seed is for what draws by itself, which other stages may have.
    decides = {name for name, (_, differs) in LOOP_OTHERS.items() if differs} | {"seed"}
    for name, (value, _) in LOOP_OTHERS.items():
        changed = checkpoints(replace(LOOP, **{name: value}))
        if name in decides:
            with pytest.raises(MasqclipError, match=f"step was trained with {name} = .*, now"):
                changed._check(Path("step"), state)
        else:
            changed._check(Path("step"), state)
    for name, value in TUNE_OTHERS.items():
        stage.settings = replace(SQUARE, **{name: value})
        with pytest.raises(MasqclipError, match=f"step was trained with {name} = "):
            checkpoints(LOOP)._check(Path("step"), state)
