"""Golden losses: twenty steps of every stage give what was recorded, step for step.

`tests/data/golden_losses.tsv` was written once by `golden_runs.py` and read by people; a change
that moves it is wrong, or stands in the changelog with its reason.
"""

from __future__ import annotations

import math
from pathlib import Path

import golden_runs
import pytest

RECORDED = golden_runs.read_table()
#: How far losses may lie apart, relatively. Sums are added in the processor's own order: without
#: vector instructions (PyTorch's and oneDNN's lowest settings) instead of AVX2, twenty steps of
#: `pretrain` and `distill` differ by 6e-7. Jitter makes pictures of whole numbers larger or
#: smaller, and there one value in 10,000 is rounded to its neighbour: that moves losses of `tune`
#: by 6e-5 and of `teacher`, whose sampled points then change places, by 1e-3. Threads: 4e-7.
TOLERANCE = {"pretrain": 1e-4, "teacher": 1e-2, "distill": 1e-4, "tune": 1e-3}
#: Learning rates follow from the settings alone.
RATES = 1e-6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    world, parts = tmp_path_factory.mktemp("golden") / "world", tmp_path_factory.mktemp("parts")
    golden_runs.write_world(world)
    golden_runs.write_parts(parts, world)
    return world, parts


@pytest.mark.parametrize("name", golden_runs.LOOPS)
def test_a_stage_loses_as_recorded(name: str, folders: tuple[Path, Path]) -> None:
    found = golden_runs.run(golden_runs.stages(*folders)[name]())
    recorded = RECORDED[name]
    assert len(found) == len(recorded) == golden_runs.STEPS
    for step, (row, expected) in enumerate(zip(found, recorded, strict=True)):
        for figure, value in expected.items():
            near = RATES if figure.startswith("rate") else TOLERANCE[name]
            assert row.pop(figure) == pytest.approx(value, rel=near, abs=1e-9), (step, figure)
        assert not row, f"figures that are not recorded: {row}"


def test_the_recorded_rates_are_those_of_the_schedules() -> None:
    """The rates by the formulas, so that a table written anew cannot record a wrong schedule."""
    for name, loop in golden_runs.LOOPS.items():
        full = {"pretrain": 2e-3, "teacher": 3e-4, "distill": 2e-3, "tune": 5e-3}[name]
        for step, row in enumerate(RECORDED[name]):
            warm = min(1.0, (step + 1) / loop.warmup_steps) if loop.warmup_steps else 1.0
            after = max(0, step - loop.warmup_steps)
            span = golden_runs.STEPS - loop.warmup_steps
            factor = {
                "constant": 1.0,
                "cosine": (1 + math.cos(math.pi * after / span)) / 2,
                "step": 0.1 ** len([at for at in loop.milestones if step >= at]),
            }[loop.schedule]
            rates = [value / (full * warm * factor) for key, value in row.items() if "rate" in key]
            slow = [0.1] if name in ("teacher", "distill") else []
            assert sorted(set(rates)) == pytest.approx([*slow, 1.0], rel=1e-5)
