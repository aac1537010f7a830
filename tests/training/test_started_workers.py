"""Workers that are started and not forked, as on macOS and Windows: everything travels to them."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import golden_runs
import pytest
import streams
import torch

from masqclip.training import loading
from masqclip.training.stage import Stage
from tiny import SPRITES

LOOP = replace(golden_runs.LOOPS["teacher"], steps=1, workers=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    world, parts = tmp_path_factory.mktemp("started") / "world", tmp_path_factory.mktemp("parts")
    golden_runs.write_world(world)
    golden_runs.write_parts(parts, world)
    return world, parts


def flat(part: Any) -> list[torch.Tensor]:
    """All tensors in a micro-batch."""
    if isinstance(part, torch.Tensor):
        return [part]
    if isinstance(part, dict):
        return [tensor for value in part.values() for tensor in flat(value)]
    if isinstance(part, list | tuple):
        return [tensor for value in part for tensor in flat(value)]
    return flat(vars(part)) if hasattr(part, "__dict__") else []


def first(stage: Stage, workers: int) -> list[torch.Tensor]:
    (batch,) = loading.batches(stage, replace(LOOP, workers=workers), 0)
    return flat(batch)


@pytest.mark.parametrize("name", golden_runs.SETTINGS)
def test_every_stage_travels(name: str, folders: tuple[Path, Path]) -> None:
    stage = golden_runs.stage(name, *folders)
    assert ForkingPickler.dumps(loading._Parts(stage, 0, LOOP, 0, 1))


@pytest.mark.usefixtures("few_sentences")
@pytest.mark.parametrize("kind", ["pretrain", "teacher"])
def test_a_drawn_world_travels(kind: str) -> None:
    stage = streams.stage(kind, SPRITES)
    assert ForkingPickler.dumps(loading._Parts(stage, 0, LOOP, 0, 1))


def test_a_started_worker_makes_the_same_batches(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = first(golden_runs.stage("teacher", *folders), workers=0)
    monkeypatch.setattr(loading, "_START", "spawn")
    found = first(golden_runs.stage("teacher", *folders), workers=1)
    assert len(found) == len(expected) > 1
    assert all(map(torch.equal, found, expected))
