"""Twenty steps of every stage on a small world that never changes; see `test_golden_losses.py`.

The world, the models and the settings are made of whole numbers and of torch's seeded generators,
not of what the package draws or ships: what moves the losses is training itself.

    python tests/training/golden_runs.py          write the table anew

Its lines change only with a reason, which stands in the changelog.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, ResNetBackbone

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.training.distill import DistillStage
from masqclip.training.loop import Trainer
from masqclip.training.pretrain import PretrainStage, clip_config
from masqclip.training.settings import (
    DistillSettings,
    LoopSettings,
    PretrainSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

TABLE = Path(__file__).parent.parent / "data" / "golden_losses.tsv"
STEPS = 20

COLOURS = {"ball": (220, 40, 50), "crate": (40, 180, 60), "kite": (50, 70, 230)}
GROUNDS = {"sand": (210, 190, 120), "grass": (90, 150, 70)}
NAMES = [*COLOURS, *GROUNDS]

PRETRAIN = PretrainSettings(
    image_size=64, vision_width=32, vision_layers=2, vision_heads=2, text_width=32, text_layers=1,
    text_heads=2, embedding_size=32, merges=40, batch_size=4, extra_captions=3, learning_rate=2e-3,
)  # fmt: skip
TEACHER = TeacherSettings(
    image_size=64, min_scale=0.5, max_scale=1.5, batch_size=2, num_points=1024, learning_rate=3e-4,
)  # fmt: skip
DISTILL = DistillSettings(
    image_size=64, augmentation="square", batch_size=2, num_points=256, learning_rate=2e-3,
    score_threshold=0.15, dice_threshold=0.5, weight_decay=0.5,
)  # fmt: skip
TUNE = TuneSettings(
    image_size=64, min_scale=0.5, max_scale=1.5, batch_size=2, learning_rate=5e-3, masks="both",
    dice_cost_threshold=0.9, assign_size=48, shortest_edge=64, longest_edge=128, weight_decay=0.5,
)  # fmt: skip
#: Each way of letting the rate change; the first stage's norm is free, the others' is held.
LOOPS = {
    "pretrain": LoopSettings(STEPS, warmup_steps=5, schedule="cosine", clip_norm=0, workers=0),
    "teacher": LoopSettings(STEPS, schedule="constant", clip_norm=1.0, workers=0),
    "distill": LoopSettings(
        STEPS, warmup_steps=3, schedule="step", milestones=(10, 15), workers=0, accumulate=2
    ),
    "tune": LoopSettings(STEPS, schedule="step", milestones=(18,), clip_norm=0.5, workers=0),
}  # fmt: skip


def write_world(folder: Path, pictures: int = 10, *, empty: bool = False) -> None:
    """Pictures of three kinds of things on two grounds, with crowds, void and things of no class.

    Every number follows from the picture's own; all pictures have 48 x 64 pixels. If `empty`,
    nothing is annotated in the last.
    """
    for name in ("images", "panoptic", "annotations"):
        (folder / name).mkdir(parents=True)
    height, width = 48, 64
    y, x = np.mgrid[:height, :width]
    images, annotations, captions = [], [], []
    for number in range(pictures):
        ground = number % 2
        colour = np.array(list(GROUNDS.values())[ground])
        picture = colour + ((3 * x + 5 * y + 7 * number) % 23)[..., None] - 11
        ids = np.full((height, width), 1)
        segments = [{"id": 1, "category_id": 4 + ground, "iscrowd": 0}]
        for part in range(2 + number % 2):
            kind = (number + 2 * part) % 3
            top, left = (11 * number + 17 * part) % 30, (19 * number + 23 * part) % 44
            size = 10 + (number + part) % 9
            shape = (
                (y - top - size // 2) ** 2 + (x - left - size // 2) ** 2 <= (size // 2) ** 2,
                (y >= top) & (y < top + size) & (x >= left) & (x < left + size),
                (y >= top) & (y < top + size) & (abs(x - left - size // 2) <= (y - top) // 2),
            )[kind]
            picture[shape] = list(COLOURS.values())[kind] + ((x + y) % 5)[shape][:, None]
            ids[shape] = part + 2
            crowd = int(number % 5 == 4 and part == 1)
            segments.append({"id": part + 2, "category_id": kind + 1, "iscrowd": crowd})
        ids[:3] = 0  # void
        there = [segment for segment in segments if (ids == segment["id"]).any()]
        if empty and number == pictures - 1:
            there = [segment | {"category_id": 3} for segment in there]  # a novel category
        file = f"{number:02d}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / file)
        coded = np.stack([ids, np.zeros_like(ids), np.zeros_like(ids)], -1).astype(np.uint8)
        Image.fromarray(coded).save(folder / "panoptic" / file)
        images.append({"id": number, "file_name": file, "height": height, "width": width})
        annotations.append({"image_id": number, "file_name": file, "segments_info": there})
        said = [NAMES[int(segment["category_id"]) - 1] for segment in there]
        captions += [
            {"id": 2 * number, "image_id": number, "caption": f"a {said[1]} on {said[0]}"},
            {"id": 2 * number + 1, "image_id": number, "caption": " and ".join(said)},
        ]
    categories = [
        {"id": i + 1, "name": name, "isthing": int(i < 3), "split": "novel" if i == 2 else "base"}
        for i, name in enumerate(NAMES)
    ]
    panoptic = {"images": images, "annotations": annotations, "categories": categories}
    about = {"panoptic": panoptic, "captions": {"images": images, "annotations": captions}}
    for name, content in about.items():
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))


def write_parts(folder: Path, world: Path) -> None:
    """A CLIP, a proposer and a backbone with random weights."""
    stage = PretrainStage([world], PRETRAIN)
    torch.manual_seed(1)
    CLIPModel(clip_config(PRETRAIN, stage.tokenizer)).save_pretrained(folder / "clip")
    stage.tokenizer.save_pretrained(folder / "clip")
    config = miniature_mask2former_config(
        num_queries=10, width=32, backbone_widths=(8, 8, 16, 16), backbone_depths=(1, 1, 1, 1),
        encoder_layers=1, decoder_layers=2,
    )  # fmt: skip
    torch.manual_seed(2)
    Mask2FormerProposer(config).save_pretrained(folder / "proposer")
    torch.manual_seed(3)
    ResNetBackbone(config.backbone_config).save_pretrained(folder / "backbone")


def stages(world: Path, parts: Path) -> dict[str, Callable[[], Stage]]:
    """Each stage, at its start."""
    base = CocoPanoptic(world, keep=is_base)
    config = Mask2FormerProposer.from_pretrained(parts / "proposer").config
    teacher = TEACHER.__class__(**vars(TEACHER) | {"backbone": str(parts / "backbone")})

    def tune() -> Stage:
        model, tokenizer = join(parts / "clip", parts / "proposer", TUNE)
        return TuneStage(model, tokenizer, base, TUNE)

    return {
        "pretrain": lambda: PretrainStage([world], PRETRAIN),
        "teacher": lambda: TeacherStage(base, config, teacher),
        "distill": lambda: DistillStage(base, parts / "proposer", DISTILL),
        "tune": tune,
    }


def run(stage: Stage) -> list[dict[str, float]]:
    """Each step's losses, and the learning rate of each group of parameters."""
    trainer = Trainer(stage, LOOPS[stage.name], device="cpu")
    rows = []
    for step, parts in zip(range(STEPS), trainer.batches(0), strict=False):
        losses = trainer.step(step, parts)
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        rows.append(losses | {f"rate {i}": rate for i, rate in enumerate(rates)})
    return rows


def read_table() -> dict[str, list[dict[str, float]]]:
    """The recorded steps of each stage."""
    found: dict[str, list[dict[str, float]]] = {}
    for line in TABLE.read_text().splitlines():
        stage, _, *figures = line.split("\t")
        pairs = (figure.split("=") for figure in figures)
        found.setdefault(stage, []).append({name: float(value) for name, value in pairs})
    return found


def write_table(path: Path = TABLE) -> None:
    """Run every stage and write down what it gave."""
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        world, parts = Path(scratch) / "world", Path(scratch) / "parts"
        write_world(world)
        write_parts(parts, world)
        for name, make in stages(world, parts).items():
            for step, row in enumerate(run(make())):
                figures = (f"{key}={value:.7g}" for key, value in row.items())
                lines.append("\t".join([name, str(step), *figures]))
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_table()
