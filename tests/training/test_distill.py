"""Distillation: which of a teacher's masks count, and that rounds train, resume and hand on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from masqclip.data.coco import CocoInstances, CocoPanoptic, is_base
from masqclip.data.open_coco import open_coco
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.transforms import normalise
from masqclip.errors import MasqclipError
from masqclip.proposals.base import Proposals
from masqclip.training.distill import (
    DistillStage,
    dice,
    distill_rounds,
    load_teacher,
    select_masks,
)
from masqclip.training.loop import train
from masqclip.training.pseudo_labels import pseudo_labels
from masqclip.training.settings import DistillSettings, LoopSettings
from masqclip.training.stage import batch_losses
from masqclip.training.teacher import TeacherStage
from tiny import SPRITES

GOLDEN = Path(__file__).parent.parent / "data" / "mask_distill.safetensors"
# A random teacher is sure of nothing and its masks lie across everything: here they may.
SMALL = DistillSettings(
    image_size=64,
    min_scale=1.0,
    max_scale=1.0,
    batch_size=2,
    num_points=64,
    freeze_batch_norm=False,
    score_threshold=0.005,
    dice_threshold=0.6,
)


@pytest.mark.parametrize("case", range(5))
def test_the_published_choice(case: int) -> None:
    """The same masks in the same order as the authors' code (see the file's own settings)."""
    with safe_open(GOLDEN, "pt") as file:
        settings = {name: float(value) for name, value in file.metadata().items()}

        def read(name: str) -> Tensor:
            return file.get_tensor(f"{case}.{name}")

        kept = select_masks(
            read("gt_masks").bool(),
            read("teacher_masks").bool(),
            read("teacher_scores"),
            **settings,
        )
        assert kept.tolist() == read("kept").tolist()


def strips(*spans: tuple[int, int]) -> Tensor:
    masks = torch.zeros(len(spans), 4, 100, dtype=torch.bool)
    for mask, (first, last) in zip(masks, spans, strict=True):
        mask[:, first:last] = True
    return masks


def test_a_mask_that_lost_suppresses_nobody() -> None:
    #        the third overlaps the second only, which loses against the first
    masks = strips((20, 40), (38, 58), (56, 76), (0, 10), (80, 90))
    scores = torch.tensor([0.95, 0.9, 0.85, 0.99, 0.8])
    assert dice(masks, masks)[0, 1] == pytest.approx(0.1)
    kept = select_masks(strips((0, 8)), masks, scores)
    assert kept.tolist() == [0, 2]  # the fourth is annotated, the fifth's score is not above 0.8


def test_scores_and_overlaps_of_just_the_thresholds_do_not_pass() -> None:
    """Both bounds are exclusive: a score must be above its own, an overlap below its own."""
    half = strips((0, 20)), strips((10, 30))  # a Dice overlap of just a half
    assert dice(*half).item() == 0.5

    def kept(annotated: Tensor, masks: Tensor, *scores: float, bound: float = 0.5) -> list[int]:
        return select_masks(annotated, masks, torch.tensor(scores), 0.75, bound).tolist()

    assert kept(strips(), half[0], 0.75) == []
    assert kept(strips(), half[0], 0.7501) == [0]
    assert kept(half[0], half[1], 0.9) == []
    assert kept(half[0], half[1], 0.9, bound=0.5001) == [0]
    both = torch.cat(half)
    assert kept(strips(), both, 0.8, 0.9) == [1]
    assert kept(strips(), both, 0.8, 0.9, bound=0.5001) == [1, 0]  # best first
    assert kept(strips(), both, 0.9, 0.9) == [0]  # of equal scores the first


def test_nothing_annotated_and_nothing_found() -> None:
    nothing = strips()
    assert select_masks(nothing, strips((0, 9)), torch.tensor([0.9])).tolist() == [0]
    assert select_masks(nothing, nothing, torch.zeros(0)).tolist() == []


def test_without_new_masks_it_is_the_teachers_stage(tiny_scenes: Path, tiny_proposer: Path) -> None:
    dataset = CocoPanoptic(tiny_scenes, keep=is_base)
    settings = DistillSettings(**(vars(SMALL) | {"score_threshold": 1.0}))
    student = DistillStage(dataset, tiny_proposer, settings)
    teacher = TeacherStage(dataset, student.teacher.config, SMALL)
    teacher.module.load_state_dict(student.teacher.state_dict())
    assert batch_losses(student, student.batch(3))["found"] == 0
    torch.testing.assert_close(
        batch_losses(student, student.batch(3))["loss"],
        batch_losses(teacher, teacher.batch(3))["loss"],
    )


def test_the_student_learns_from_masks_that_nobody_annotated(
    tiny_scenes: Path, tiny_proposer: Path, tmp_path: Path
) -> None:
    stage = DistillStage(CocoInstances(tiny_scenes, keep=is_base), tiny_proposer, SMALL)
    before = {name: value.clone() for name, value in stage.teacher.state_dict().items()}
    assert batch_losses(stage, stage.batch(0))["found"] > 0
    assert train(stage, LoopSettings(steps=2, workers=0, log_every=1), tmp_path, device="cpu")
    after = stage.teacher.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    student = load_teacher(tmp_path).state_dict()
    assert not all(torch.equal(student[name], value) for name, value in before.items())


def test_rounds_that_were_stopped_end_with_the_same_weights(
    tiny_scenes: Path, tiny_proposer: Path, tmp_path: Path
) -> None:
    dataset = CocoPanoptic(tiny_scenes, keep=is_base)
    settings = DistillSettings(**(vars(SMALL) | {"rounds": 2}))

    def run(out: Path, minutes: float) -> bool:
        loop = LoopSettings(steps=2, workers=0, save_every=1, max_minutes=minutes)
        return distill_rounds(
            dataset, tiny_proposer, settings, out,
            lambda stage, folder: train(stage, loop, folder, device="cpu"),
        )  # fmt: skip

    assert run(tmp_path / "straight", 0.0)
    calls = 1
    while not run(tmp_path / "stopped", 1e-9):  # one step a call
        calls += 1
        assert calls < 9
    assert calls > 2
    one, other = (load_teacher(tmp_path / name) for name in ("straight", "stopped"))
    first = load_teacher(tmp_path / "straight/round-1").state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert not all(torch.equal(value, first[name]) for name, value in one.state_dict().items())


def test_pseudo_labels_are_coco_and_overlap_nothing(
    tiny_scenes: Path, tiny_proposer: Path, tmp_path: Path
) -> None:
    dataset = CocoInstances(tiny_scenes, keep=is_base)
    done: list[int] = []
    document = pseudo_labels(load_teacher(tiny_proposer), dataset, SMALL, report=done.append)
    assert done == list(range(1, 13))
    assert document["annotations"]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(document))
    found = open_coco(path, images=tiny_scenes / "images")
    assert isinstance(found, CocoInstances)
    for i in range(len(dataset)):
        new, old = torch.from_numpy(found[i].masks), torch.from_numpy(dataset[i].masks)
        assert (dice(new, old) < SMALL.dice_threshold).all()
        assert (dice(new, new) - torch.eye(len(new)) < SMALL.dice_threshold).all()


@pytest.mark.parametrize(
    ("augmentation", "frame", "picture"),
    [
        ("jitter", (96, 96), (72, 96)),  # gray beneath the picture, as in training
        ("square", (96, 96), (96, 96)),
        ("none", (64, 64), (48, 64)),  # zeros beneath it
    ],
)
def test_a_preview_shows_the_teacher_what_training_shows_it(
    tmp_path: Path, augmentation: str, frame: tuple[int, int], picture: tuple[int, int]
) -> None:
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=64))
    write_stickers(tmp_path, world, images=1, seed=1)
    scene = next((tmp_path / "images").iterdir())
    with Image.open(scene) as image:
        image.crop((0, 0, 64, 48)).save(scene)
    document = json.loads((tmp_path / "annotations/instances.json").read_text())
    document["images"][0]["height"] = 48
    document["annotations"] = []
    (tmp_path / "annotations/instances.json").write_text(json.dumps(document))
    dataset = CocoInstances(tmp_path)
    height, width = picture
    seen: list[Tensor] = []

    class Teacher(torch.nn.Module):
        def forward(self, pixels: Tensor, pixel_mask: Tensor | None = None) -> Proposals:
            seen.append(pixels)
            logits = torch.full((1, 1, frame[0] // 4, frame[1] // 4), -9.0)
            logits[..., : height // 4, : width // 8] = 9.0  # the left half of the picture
            return Proposals(logits, torch.tensor([[[9.0, -9.0]]]))

    settings = replace(SMALL, augmentation=augmentation, image_size=96, score_threshold=0.5)
    labels = pseudo_labels(Teacher(), dataset, settings)  # type: ignore[arg-type]
    assert [tuple(pixels.shape) for pixels in seen] == [(1, 3, *frame)]
    padding = seen[0][..., height:, :]
    gray = normalise(torch.full((3, 1, 1), 128)) if augmentation == "jitter" else torch.zeros(1)
    torch.testing.assert_close(padding, gray.expand_as(padding).float())
    assert [entry["bbox"] for entry in labels["annotations"]] == [[0, 0, 32, 48]]


def test_a_folder_without_a_proposer_is_named(tiny_scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=str(tmp_path)):
        DistillStage(CocoPanoptic(tiny_scenes), tmp_path, SMALL)
    with pytest.raises(MasqclipError, match="rounds"):
        DistillSettings(rounds=0)
