"""What tuning names: proposals, annotated masks or both, fresh or stored, in frames of any size."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from masqclip.clip.masked_vision import MaskQueries
from masqclip.clip.queries_file import load_queries
from masqclip.data.coco import CocoPanoptic, Sample, is_base
from masqclip.errors import MasqclipError
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.training.annotated import dataset_vocabulary
from masqclip.training.naming import NOTHING, tuning_loss
from masqclip.training.proposal_cache import ProposalCache
from masqclip.training.settings import TuneSettings
from masqclip.training.stage import batch_losses
from masqclip.training.tune import QUERIES_FILE, TuneStage, join

SMALL = TuneSettings(
    batch_size=3, augmentation="none", assign_size=64, shortest_edge=64, dice_cost_threshold=0.9
)


class Parts:
    """Makes stages on the tiny scenes, each with a copy of the model."""

    def __init__(self, clip: Path, proposer: Path, scenes: Path) -> None:
        self.model, self.tokenizer = join(clip, proposer, SMALL)
        self.scenes = scenes

    def stage(self, **changes: Any) -> TuneStage:
        settings = replace(SMALL, **changes)
        model = deepcopy(self.model)
        model.config.clip_input = settings.clip_input
        dataset = CocoPanoptic(self.scenes, keep=is_base)
        return TuneStage(model, self.tokenizer, dataset, settings)


@pytest.fixture(scope="module")
def parts(tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path) -> Parts:
    return Parts(tiny_clip, tiny_proposer, tiny_scenes)


def targets(stage: TuneStage, batch: dict[str, Any]) -> list[Tensor]:
    prepared, _ = stage.prepare(batch)
    return [group["targets"] for group in prepared["groups"]]


def test_annotated_masks_need_no_proposer(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = parts.stage(masks="ground-truth")

    def refuse(*_: object) -> None:
        raise AssertionError("the proposer ran")

    monkeypatch.setattr(stage.model, "propose", refuse)
    batch = stage.batch(0)
    (found,) = targets(stage, batch)
    labels = batch["groups"][0]["labels"]
    assert [row[row != NOTHING].tolist() for row in found] == [each.tolist() for each in labels]
    assert batch_losses(stage, batch)["matched"] == 1


def test_both_is_proposals_and_annotated_masks(parts: Parts) -> None:
    proposals, truth, both = (
        parts.stage(masks=masks) for masks in ("proposals", "ground-truth", "both")
    )
    batch = proposals.batch(1)
    expected = torch.cat([*targets(proposals, batch), *targets(truth, batch)], dim=1)
    assert torch.equal(targets(both, batch)[0], expected)


def test_a_picture_without_annotation_trains(parts: Parts) -> None:
    stage = parts.stage(masks="ground-truth")
    stage.dataset.categories.kept = set()  # nothing is annotated any more
    losses = batch_losses(stage, stage.batch(0))
    losses["loss"].backward()
    assert losses["loss"] == 0
    gradients = [p.grad for p in stage.module.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_places_without_a_mask_do_not_count() -> None:
    logits = torch.randn(4, 5)
    some = torch.tensor([1, NOTHING, 4, NOTHING])
    torch.testing.assert_close(
        tuning_loss(logits, some), tuning_loss(logits[[0, 2]], torch.tensor([1, 4]))
    )


def test_a_result_does_not_depend_on_its_batch(parts: Parts) -> None:
    stage = parts.stage(masks="both", flip=False, shortest_edge=64)
    small = [stage.dataset[0], cut(stage.dataset[1], 40), cut(stage.dataset[2], 64)]
    groups = [stage.group([stage.frame(sample)], [sample]) for sample in small]
    joint, totals = stage.prepare({"groups": groups, "skipped": []})
    assert len({tuple(group["pixels"].shape) for group in joint["groups"]}) == 2
    together = stage.losses(joint, totals)["loss"]
    alone = [
        stage.losses(stage.prepare({"groups": [group], "skipped": []})[0], totals)["loss"]
        for group in groups
    ]
    torch.testing.assert_close(together, sum(alone))


def cut(sample: Sample, height: int) -> Sample:
    return replace(sample, image=sample.image[:height], masks=sample.masks[:, :height])


@pytest.mark.parametrize("augmentation", ["jitter", "square"])
def test_published_frames_are_squares(parts: Parts, augmentation: str) -> None:
    stage = parts.stage(augmentation=augmentation, image_size=96)
    (group,) = stage.batch(2)["groups"]
    assert group["pixels"].shape == (3, 3, 96, 96)
    assert group["inside"].all()  # the gray beneath a jittered picture is part of it
    assert batch_losses(stage, stage.batch(2))["loss"].isfinite()


# Stored proposals


def test_stored_proposals_change_nothing(parts: Parts, tmp_path: Path) -> None:
    fresh, stored = parts.stage(masks="both"), parts.stage(masks="both")
    stored.cache = ProposalCache(tmp_path, stored)
    stored.cache.fill(stored)
    stored.model.proposer = None  # it is not needed any more
    for step in range(3):
        batch = stored.batch(step)
        torch.testing.assert_close(
            batch_losses(stored, batch), batch_losses(fresh, fresh.batch(step))
        )


def test_storing_goes_on_where_it_was(parts: Parts, tmp_path: Path) -> None:
    stage = parts.stage()
    cache = ProposalCache(tmp_path, stage)

    def stop(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(stage, report=stop)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(times) == 5
    again = ProposalCache(tmp_path, parts.stage(learning_rate=1.0, batch_size=1))
    again.fill(stage)
    assert len(list(tmp_path.rglob("*.npz"))) == 12
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_stored_proposals_fit_their_own_run_only(parts: Parts, tmp_path: Path) -> None:
    ProposalCache(tmp_path, parts.stage())
    other = parts.stage()
    other.model.proposer = Mask2FormerProposer(other.model.proposer.config)
    for stage in (parts.stage(dice_cost_threshold=0.3), parts.stage(clip_input="aspect"), other):
        with pytest.raises(MasqclipError, match="another proposer, dataset or setting"):
            ProposalCache(tmp_path, stage)
    with pytest.raises(MasqclipError, match="jitter"):
        ProposalCache(tmp_path, parts.stage(augmentation="jitter"))
    with pytest.raises(MasqclipError, match="ground-truth"):
        ProposalCache(tmp_path, parts.stage(masks="ground-truth"))


# What goes in and what comes out


def test_a_broken_picture_is_skipped_and_named(parts: Parts, tmp_path: Path) -> None:
    shutil.copytree(parts.scenes, tmp_path / "scenes")
    victim = sorted((tmp_path / "scenes/images").iterdir())[4]
    victim.write_bytes(b"broken")
    stage = parts.stage()
    stage.dataset = CocoPanoptic(tmp_path / "scenes", keep=is_base)
    for step in range(4):
        batch_losses(stage, stage.batch(step))
    assert stage.remarks.startswith("1 of 12 pictures were skipped")
    assert victim.name in stage.remarks


def test_the_queries_alone_make_the_model_again(parts: Parts, tmp_path: Path) -> None:
    stage = parts.stage()
    with torch.no_grad():
        for parameter in stage.module.parameters():
            parameter.add_(1.0)
    stage.save(tmp_path)
    again = MaskQueries(stage.model.tower)
    load_queries(tmp_path / QUERIES_FILE, again, stage.model.tower)
    for name, value in stage.module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_cocos_own_names_are_read_as_the_paper_reads_them(parts: Parts) -> None:
    dataset = parts.stage().dataset
    first, second = sorted(dataset.categories.kept)[:2]
    dataset.categories.names |= {first: "tree-merged", second: "zebra"}
    words = dataset_vocabulary(dataset)
    assert words.categories[0].prompts == ("branch", "tree", "bush", "leaves")
    assert words.categories[1].prompts == ("zebra",)


@pytest.mark.parametrize(
    ("name", "value"), [("learns", "kv"), ("masks", "truth"), ("augmentation", "crop")]
)
def test_a_setting_that_is_no_choice_is_refused(name: str, value: str) -> None:
    with pytest.raises(MasqclipError, match=f"{name} is '{value}'"):
        replace(SMALL, **{name: value})


def test_clip_can_see_a_frame_in_its_own_aspect(parts: Parts) -> None:
    stage = parts.stage(clip_input="aspect")
    wide, square = torch.rand(1, 3, 32, 128) * 255, torch.rand(1, 3, 64, 64) * 255
    assert stage.model.clip_size(wide) == (32, 128)  # 4 x 16 patches: as many as 8 x 8
    assert stage.model.clip_size(square) == (64, 64)
    logits = torch.full((1, 2, 8, 32), -1.0)
    logits[:, 0, :, :16] = 1.0
    visible = stage.model.visible_patches(logits).view(2, 4, 16)
    assert visible[0, :, :8].all()
    assert not visible[0, :, 9:].any()
    embeddings = stage.model.embed_masks(stage.model.encode_image(wide), logits)
    assert embeddings.isfinite().all()
    stretched = parts.stage()
    same = (s.model.encode_image(square).keys[0] for s in (stage, stretched))
    torch.testing.assert_close(*same)
