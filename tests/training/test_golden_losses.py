"""Golden losses: twenty steps of every stage give what was recorded, step for step.

The files of `golden/` were written by `golden_runs.py` and read by people; a change that moves them
is wrong, or stands in the changelog with its reason.
"""

from __future__ import annotations

import math
from pathlib import Path

import golden_runs
import pytest

from masqclip.training.systems import BASELINES

#: How far losses may lie apart, relatively. Sums are added in the processor's own order: without
#: vector instructions (PyTorch's and oneDNN's lowest settings) instead of AVX2, twenty steps of
#: `pretrain` and `distill` differ by 7e-7, and those of baselines by 1e-6 (OpenSeg) to 2e-5 (XPM's
#: teacher). Jitter makes pictures of whole numbers larger or smaller, and there one value in 10,000
#: is rounded to its neighbour: that moves losses of `tune` by 6e-5 and of `teacher`, whose sampled
#: points then change places, by 1e-3. Threads: 6e-7.
TOLERANCE = dict.fromkeys(golden_runs.SETTINGS, 1e-3) | {"teacher": 1e-2}
TOLERANCE |= dict.fromkeys(("pretrain", "distill", "openseg", "xpm-captions"), 1e-4)
#: Learning rates follow from the settings alone.
RATES = 1e-6

Folders = tuple[Path, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    world, parts = tmp_path_factory.mktemp("golden") / "world", tmp_path_factory.mktemp("parts")
    golden_runs.write_world(world)
    golden_runs.write_parts(parts, world)
    return world, parts


@pytest.mark.parametrize("name", golden_runs.SETTINGS)
def test_a_stage_loses_as_recorded(name: str, folders: Folders) -> None:
    found = golden_runs.run(golden_runs.stage(name, *folders))
    recorded = golden_runs.read_record(name)
    assert len(found) == len(recorded) == golden_runs.STEPS
    for step, (row, expected) in enumerate(zip(found, recorded, strict=True)):
        for figure, value in expected.items():
            near = RATES if figure.startswith("rate") else TOLERANCE[name]
            assert row.pop(figure) == pytest.approx(value, rel=near, abs=1e-9), (step, figure)
        assert not row, f"figures that are not recorded: {row}"


@pytest.mark.parametrize("name", golden_runs.SETTINGS)
def test_what_differs_is_noticed(name: str, folders: Folders) -> None:
    """Three steps of another seed are far from the record: no tolerance is wide enough for them."""
    other = golden_runs.run(golden_runs.stage(name, *folders, seed=1), steps=3)
    losses = zip(other, golden_runs.read_record(name), strict=False)
    apart = max(abs(row["loss"] / recorded["loss"] - 1) for row, recorded in losses)
    assert apart > 2 * TOLERANCE[name]


def test_every_stage_has_a_record() -> None:
    baselines = {stage for stages in BASELINES.values() for stage in stages}
    stages = {"pretrain", "teacher", "distill", "tune"} | baselines
    assert {path.stem for path in golden_runs.RECORD.iterdir()} == stages
    assert set(golden_runs.SETTINGS) == set(golden_runs.LOOPS) == stages


#: Of each stage's rate, that of the parameters that learn more slowly: the backbone's.
SLOW = {"teacher": 0.1, "distill": 0.1, "lseg": 0.1}


@pytest.mark.parametrize("name", golden_runs.SETTINGS)
def test_the_recorded_rates_are_those_of_the_schedules(name: str) -> None:
    """The rates by the formulas, so that a record written anew cannot hold a wrong schedule."""
    loop, full = golden_runs.LOOPS[name], golden_runs.SETTINGS[name].learning_rate
    for step, row in enumerate(golden_runs.read_record(name)):
        warm = min(1.0, (step + 1) / loop.warmup_steps) if loop.warmup_steps else 1.0
        after = max(0, step - loop.warmup_steps)
        span = golden_runs.STEPS - loop.warmup_steps
        factor = {
            "constant": 1.0,
            "cosine": (1 + math.cos(math.pi * after / span)) / 2,
            "step": 0.1 ** len([at for at in loop.milestones if step >= at]),
        }[loop.schedule]
        rates = [value / (full * warm * factor) for key, value in row.items() if "rate" in key]
        slow = [SLOW[name]] if name in SLOW else []
        assert sorted(set(rates)) == pytest.approx([*slow, 1.0], rel=1e-5)
