"""Every stage on a dozen scenes: it learns, batches follow from the step, results load again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.training.loop import train
from masqclip.training.naming import assign_labels, tuning_loss
from masqclip.training.pretrain import PretrainStage, learn_tokenizer
from masqclip.training.settings import (
    LoopSettings,
    PretrainSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.stage import Stage, batch_losses
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join
from masqclip.training.windows import window_features
from tiny import tiny_proposer_config

SPRITES = Path(__file__).parent.parent / "data" / "sprites"
SMALL_CLIP = PretrainSettings(
    image_size=64, vision_width=32, vision_layers=2, vision_heads=2, text_width=32, text_layers=1,
    text_heads=2, embedding_size=32, merges=60, batch_size=8,
)  # fmt: skip
SMALL_TEACHER = TeacherSettings(
    image_size=64, min_scale=1.0, max_scale=1.0, batch_size=4, learning_rate=1e-3, num_points=64,
    freeze_batch_norm=False,
)  # fmt: skip


def loop(steps: int) -> LoopSettings:
    return LoopSettings(steps=steps, clip_norm=1.0, workers=0, log_every=1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=64))
    write_stickers(folder, world, images=12, seed=1)
    return folder


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=32, max_things=2))
    write_stickers(folder, world, images=12, seed=2, captions_only=True)
    return folder


@pytest.fixture(scope="module")
def clip_folder(scenes: Path, windows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    stage = PretrainStage([windows, scenes], SMALL_CLIP)
    before = mean_loss(stage)
    assert train(stage, loop(12), folder)
    assert mean_loss(stage) < before
    return folder


@pytest.fixture(scope="module")
def teacher_folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    stage = TeacherStage(
        CocoPanoptic(scenes, keep=is_base), miniature_mask2former_config(), SMALL_TEACHER
    )
    before = mean_loss(stage)
    assert train(stage, loop(6), folder)
    stage.module.train()
    assert mean_loss(stage) < before
    return folder


@torch.no_grad()
def mean_loss(stage: Stage) -> float:
    torch.manual_seed(0)
    return sum(float(batch_losses(stage, stage.batch(step))["loss"]) for step in range(3)) / 3


def assert_same(a: object, b: object) -> None:
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor)
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert isinstance(b, dict)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert isinstance(b, list)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)


def test_pretraining_learns_and_its_clip_loads(clip_folder: Path) -> None:
    from transformers import CLIPModel

    clip = CLIPModel.from_pretrained(clip_folder)
    assert clip.config.vision_config.image_size == 64


def test_pretraining_goes_on_from_a_clip(clip_folder: Path, windows: Path) -> None:
    first = PretrainStage([windows], SMALL_CLIP, start=clip_folder)
    fresh = PretrainStage([windows], SMALL_CLIP)
    assert mean_loss(first) < mean_loss(fresh)
    with pytest.raises(MasqclipError, match="64 pixels in patches of 8"):
        PretrainStage([windows], replace(SMALL_CLIP, image_size=128), start=clip_folder)


def test_a_full_window_is_clips_own_forward_pass(clip_folder: Path) -> None:
    from transformers import CLIPModel

    clip = CLIPModel.from_pretrained(clip_folder).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours = window_features(clip, pixels, torch.tensor([0, 0]))
        theirs = clip.visual_projection(clip.vision_model(pixels).pooler_output)
    torch.testing.assert_close(ours, theirs)


def test_any_text_has_tokens() -> None:
    tokenizer = learn_tokenizer(["a cat on grass", "two cats on snow"] * 3, merges=50)
    assert len(tokenizer("a cat")["input_ids"]) <= 6
    ids = tokenizer("Zürich 日本 \U0001f9e9")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in ids[1:-1]


def test_batches_are_functions_of_the_step(
    scenes: Path, windows: Path, clip_folder: Path, teacher_folder: Path
) -> None:
    dataset = CocoPanoptic(scenes, keep=is_base)
    tune = TuneSettings(batch_size=2, augmentation="none", shortest_edge=64)
    model, tokenizer = join(clip_folder, teacher_folder, tune)
    for make in (
        lambda: PretrainStage([windows, scenes], SMALL_CLIP),
        lambda: TeacherStage(dataset, miniature_mask2former_config(), SMALL_TEACHER),
        lambda: TuneStage(model, tokenizer, dataset, tune),
    ):
        assert_same(make().batch(5), make().batch(5))


def test_novel_things_are_never_targets(scenes: Path) -> None:
    dataset = CocoPanoptic(scenes, keep=is_base)
    novel = {i for i, c in dataset.categories.by_id.items() if c["split"] == "novel"}
    everything = CocoPanoptic(scenes)
    seen = {int(c) for i in range(len(everything)) for c in everything[i].category_ids}
    kept = {int(c) for i in range(len(dataset)) for c in dataset[i].category_ids}
    assert seen & novel
    assert not kept & novel


def test_the_teacher_trains_on_a_picture_without_annotation(scenes: Path) -> None:
    nothing = CocoPanoptic(scenes, keep=lambda category: False)
    settings = replace(SMALL_TEACHER, filter_empty=False)
    stage = TeacherStage(nothing, miniature_mask2former_config(), settings)
    stage.module.train()
    loss = batch_losses(stage, stage.batch(0))["loss"]
    loss.backward()
    assert loss.isfinite()


def test_frozen_batch_norms_need_a_backbone_that_they_come_with(
    scenes: Path, tiny_backbone: Path
) -> None:
    """Published, and the default; from random weights it would train a net without norms."""
    dataset, settings = CocoPanoptic(scenes), replace(SMALL_TEACHER, freeze_batch_norm=True)
    with pytest.raises(MasqclipError, match="freeze_batch_norm=false"):
        TeacherStage(dataset, tiny_proposer_config(), settings)
    named = replace(settings, backbone=str(tiny_backbone))
    assert TeacherStage(dataset, tiny_proposer_config(), named).module.freeze_batch_norm
    assert TeacherSettings().freeze_batch_norm


def test_the_teacher_loads_again(teacher_folder: Path) -> None:
    proposer = Mask2FormerProposer.from_pretrained(teacher_folder).eval()
    with torch.no_grad():
        found = proposer(torch.randn(1, 3, 64, 64))
    assert found.mask_logits.shape[-2:] == (16, 16)
    assert found.object_logits.shape[-1] == 2


def test_tuning_learns_only_the_queries(
    scenes: Path, clip_folder: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    settings = TuneSettings(
        batch_size=4, learning_rate=3e-3, augmentation="none", assign_size=64, shortest_edge=64
    )
    model, tokenizer = join(clip_folder, teacher_folder, settings)
    frozen = {name: p.clone() for name, p in model.named_parameters() if "queries." not in name}
    stage = TuneStage(model, tokenizer, CocoPanoptic(scenes, keep=is_base), settings)
    before = mean_loss(stage)
    assert train(stage, loop(12), tmp_path)
    assert mean_loss(stage) < before
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name
    again = MasQClipModel.from_pretrained(tmp_path)
    assert_same(dict(again.state_dict()), dict(model.state_dict()))


def test_a_proposal_takes_the_name_of_the_annotation_it_covers() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :32], masks[1, 48:, 48:] = True, True
    logits = torch.full((4, 16, 16), -5.0)
    logits[0, :8] = 5  # the first annotation
    logits[1, 12:, 12:] = 5  # the second
    logits[2, :, :] = 5  # everything: half of it is the first one's, Dice 2/3
    logits[3, 9:11, :3] = 5  # nothing annotated
    labels = torch.tensor([7, 3])
    assert assign_labels(logits, masks, labels, background=9).tolist() == [7, 3, 7, 9]
    strict = assign_labels(logits, masks, labels, background=9, threshold=0.2)
    assert strict.tolist() == [7, 3, 9, 9]
    none = assign_labels(logits, masks[:0], labels[:0], background=9)
    assert none.tolist() == [9] * 4


def test_background_counts_little() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    targets = torch.tensor([[0, 2]])
    each = -logits.log_softmax(-1)[0].gather(1, targets[0][:, None]).flatten()
    expected = (each[0] + 0.1 * each[1]) / 1.1
    torch.testing.assert_close(tuning_loss(logits, targets), expected)


def test_joining_names_the_folder_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=str(tmp_path)):
        join(tmp_path, tmp_path, TuneSettings())
