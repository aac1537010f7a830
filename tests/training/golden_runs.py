"""Twenty steps of every stage on a small world that never changes; see `test_golden_losses.py`.

The world, the models and the settings are made of whole numbers and of torch's seeded generators,
not of what the package draws or ships: what moves the losses is training itself.

    python tests/training/golden_runs.py                     how far this machine is from the record
    python tests/training/golden_runs.py --write             write down every stage anew
    python tests/training/golden_runs.py --write lseg tune   these alone

The record's lines change only with a reason, which stands in the changelog.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import baseline_runs
import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, ResNetBackbone

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.training.distill import DistillStage
from masqclip.training.loop import Trainer
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import (
    DistillSettings,
    FrameSettings,
    LoopSettings,
    PretrainSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.small_clip import small_config
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join

RECORD = Path(__file__).parent / "golden"
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
SETTINGS: Mapping[str, PretrainSettings | FrameSettings] = {
    "pretrain": PRETRAIN,
    "teacher": TEACHER,
    "distill": DISTILL,
    "tune": TUNE,
    **baseline_runs.SETTINGS,
}
#: Each way of letting the rate change; the first stage's norm is free, the others' is held.
LOOPS = {
    "pretrain": LoopSettings(STEPS, warmup_steps=5, schedule="cosine", clip_norm=0, workers=0),
    "teacher": LoopSettings(STEPS, schedule="constant", clip_norm=1.0, workers=0),
    "distill": LoopSettings(
        STEPS, warmup_steps=3, schedule="step", milestones=(10, 15), workers=0, accumulate=2
    ),
    "tune": LoopSettings(STEPS, schedule="step", milestones=(18,), clip_norm=0.5, workers=0),
} | {
    name: LoopSettings(STEPS, warmup_steps=2, schedule="cosine", clip_norm=1.0, workers=0)
    for name in baseline_runs.STAGES
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
    CLIPModel(small_config(PRETRAIN, stage.tokenizer)).save_pretrained(folder / "clip")
    stage.tokenizer.save_pretrained(folder / "clip")
    config = miniature_mask2former_config(
        num_queries=10, width=32, backbone_widths=(8, 8, 16, 16), backbone_depths=(1, 1, 1, 1),
        encoder_layers=1, decoder_layers=2,
    )  # fmt: skip
    torch.manual_seed(2)
    Mask2FormerProposer(config).save_pretrained(folder / "proposer")
    torch.manual_seed(3)
    ResNetBackbone(config.backbone_config).save_pretrained(folder / "backbone")


def stage(name: str, world: Path, parts: Path, *, seed: int = 0) -> Stage:
    """A stage at its start, by its name in `SETTINGS`.

    Args:
        name: of the stage.
        world: see `write_world`.
        parts: see `write_parts`.
        seed: another than the record's, which is 0.
    """
    base = CocoPanoptic(world, keep=is_base)
    if name in baseline_runs.STAGES:
        words = Vocabulary.parse(NAMES)
        given = baseline_runs.ingredients(world, parts / "clip", parts / "proposer", names=words)
        with tempfile.TemporaryDirectory() as out:
            return baseline_runs.stage(name, given, Path(out), seed=seed)
    if name == "pretrain":
        return PretrainStage([world], replace(PRETRAIN, seed=seed))
    if name == "teacher":
        config = Mask2FormerProposer.from_pretrained(parts / "proposer").config
        start = replace(TEACHER, backbone=str(parts / "backbone"), seed=seed)
        return TeacherStage(base, config, start)
    if name == "distill":
        return DistillStage(base, parts / "proposer", replace(DISTILL, seed=seed))
    settings = replace(TUNE, seed=seed)
    model, tokenizer = join(parts / "clip", parts / "proposer", settings)
    return TuneStage(model, tokenizer, base, settings)


def run(stage: Stage, steps: int = STEPS) -> list[dict[str, float]]:
    """The losses of each of the first steps, and the learning rate of each group of parameters."""
    trainer = Trainer(stage, LOOPS[stage.name], device="cpu")
    rows = []
    for step, parts in zip(range(steps), trainer.batches(0), strict=False):
        losses = trainer.step(step, parts)
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        rows.append(losses | {f"rate {i}": rate for i, rate in enumerate(rates)})
    return rows


def read_record(name: str) -> list[dict[str, float]]:
    """The recorded steps of a stage."""
    names, *lines = (RECORD / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    figures = names.split("\t")[1:]
    return [dict(zip(figures, map(float, line.split("\t")[1:]), strict=True)) for line in lines]


def write_record(name: str, rows: list[dict[str, float]]) -> None:
    """Write down what a stage gave, a step a line."""
    lines = ["\t".join(["step", *rows[0]])]
    lines += [
        "\t".join([str(step), *(f"{value:.7g}" for value in row.values())])
        for step, row in enumerate(rows)
    ]
    RECORD.mkdir(exist_ok=True)
    (RECORD / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def distance(found: list[dict[str, float]], recorded: list[dict[str, float]]) -> float:
    """How far losses lie apart at most, relatively; without end where others are missing."""
    if any(row.keys() != expected.keys() for row, expected in zip(found, recorded, strict=False)):
        return float("inf")
    apart = (
        abs(row[key] - value) / max(abs(value), 1e-9)
        for row, expected in zip(found, recorded, strict=False)
        for key, value in expected.items()
        if not key.startswith("rate") and row[key] != value
    )
    return max(apart, default=0.0)


def main() -> None:
    """Compare with the record, or write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stages", nargs="*", default=list(SETTINGS), help="all unless given")
    parser.add_argument("--write", action="store_true", help="write down what they give")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        world, parts = Path(scratch) / "world", Path(scratch) / "parts"
        write_world(world)
        write_parts(parts, world)
        for name in options.stages:
            rows = run(stage(name, world, parts, seed=options.seed))
            if options.write:
                write_record(name, rows)
            print(f"{name}\t{distance(rows, read_record(name)):.1e}", flush=True)


if __name__ == "__main__":
    main()
