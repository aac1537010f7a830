"""Several processes, and several micro-batches, give the losses of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from baseline_runs import ingredients, run
from parallel_runs import LOOP, PRETRAIN, run_all, teacher, tune

from drawings import drawings, write_cache
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.errors import MasqclipError
from masqclip.training.loop import train
from masqclip.training.pretrain import PretrainStage
from tiny import SPRITES

Data = tuple[Path, Path, Path, Path, Path]


@pytest.fixture(scope="module")
def data(
    tiny_scenes: Path,
    tiny_clip: Path,
    tiny_proposer: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Data:
    """Scenes, windows, a CLIP, a proposer, and drawings of the second world."""
    windows = tmp_path_factory.mktemp("windows")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=32, max_things=2))
    write_stickers(windows, world, images=12, seed=2, captions_only=True)
    cache = write_cache(tmp_path_factory.mktemp("cache"), drawings())
    return tiny_scenes, windows, tiny_clip, tiny_proposer, cache


@pytest.fixture(scope="module")
def alone(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process."""
    out = tmp_path_factory.mktemp("alone")
    run_all(*data, out)
    return out


def logged(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    speed = ("images_per_second", "waiting")
    return [{k: v for k, v in line.items() if k not in speed} for line in lines]


def assert_same_losses(folder: Path, other: Path) -> None:
    ours, theirs = logged(folder), logged(other)
    assert len(ours) == len(theirs) == LOOP.steps
    for one, two in zip(ours, theirs, strict=True):
        assert one == pytest.approx(two, rel=0, abs=1e-4), folder


def test_two_processes_give_the_losses_of_one(data: Data, alone: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("parallel_runs.py")
    # The launcher that starts processes; the runs themselves ask for the CPU, and so for gloo.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), *map(str, data), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    stages = ["pretrain", "teacher", "streamed-pretrain", "streamed-teacher", "tune"]
    stages += ["maskclip", "openseg", "lseg", "xpm/captions", "xpm/teacher", "xpm"]
    for stage in stages:
        assert_same_losses(tmp_path / stage, alone / stage)
    whole = float((alone / "gradient-0.txt").read_text())
    for process in (0, 1):  # gradients are summed, not averaged
        found = float((tmp_path / f"gradient-{process}.txt").read_text())
        assert found == pytest.approx(whole, rel=1e-3)


def test_micro_batches_give_the_losses_of_whole_ones(
    data: Data, alone: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    scenes, _, clip, proposer, _ = data
    train(tune(scenes, clip, proposer), replace(LOOP, accumulate=2), tmp_path / "tune")
    assert_same_losses(tmp_path / "tune", alone / "tune")
    given, halves = ingredients(scenes, clip, proposer), replace(LOOP, accumulate=2)
    run("maskclip", given, tmp_path / "maskclip", halves)
    assert_same_losses(tmp_path / "maskclip", alone / "maskclip")
    # A batch norm that trains sees its own micro-batch; frozen, as published, it is no obstacle.
    for name, parts in (("whole", 1), ("parts", 4)):
        frozen = teacher(scenes, backbone=tiny_backbone)
        train(frozen, replace(LOOP, accumulate=parts), tmp_path / name)
    assert_same_losses(tmp_path / "parts", tmp_path / "whole")


def test_what_cannot_be_split_is_refused(data: Data, tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="cannot split it"):
        train(PretrainStage([data[1]], PRETRAIN), replace(LOOP, accumulate=2), tmp_path)
    with pytest.raises(MasqclipError, match="a batch of 4 cannot be split into 3"):
        train(teacher(data[0]), replace(LOOP, accumulate=3), tmp_path)
