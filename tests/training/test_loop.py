"""The loop: resuming is exact, stopping is safe, and mistakes are told."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import textwrap
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from forked import Forked
from masqclip.errors import MasqclipError
from masqclip.training.dry_run import forecast
from masqclip.training.loop import Progress, train
from masqclip.training.sampling import step_indices
from masqclip.training.settings import LoopSettings
from masqclip.training.stage import WHOLE, Counts, Share, Stage


@dataclass(frozen=True)
class LineSettings:
    batch_size: int = 8


class Line(Stage):
    """Fits a line to noisy points; the loss itself draws random numbers, as dropout does."""

    name = "line"
    settings = LineSettings()

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": 0.05, "weight_decay": 0.01}]

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, generator=generator)[list(share.of(8))]
        return {"x": x, "y": x @ torch.tensor([[1.0], [2.0], [3.0]])}

    def losses(self, batch: dict[str, Tensor], totals: Counts) -> dict[str, Tensor]:
        x = batch["x"] + 0.01 * torch.rand_like(batch["x"])
        return {"loss": (self.module(x) - batch["y"]).square().sum() / 8}

    def save(self, folder: Path) -> None:
        torch.save(self.module.state_dict(), folder / "line.pt")


SETTINGS = LoopSettings(steps=40, save_every=5, log_every=1, workers=0, schedule="cosine")


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_learns_and_saves(tmp_path: Path) -> None:
    assert train(Line(), SETTINGS, tmp_path)
    found = losses(tmp_path)
    assert len(found) == 40
    assert found[-1] < 0.5 * found[0]
    assert (tmp_path / "line.pt").exists()


def test_the_seed_is_that_of_the_global_generator(tmp_path: Path) -> None:
    """What a loss draws by itself follows from the loop's seed and the step."""
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train(Line(), replace(SETTINGS, seed=seed), tmp_path / name)
    assert losses(tmp_path / "first") == losses(tmp_path / "again")
    assert losses(tmp_path / "first")[0] != losses(tmp_path / "other")[0]


def test_workers_change_nothing(tmp_path: Path) -> None:
    train(Line(), SETTINGS, tmp_path / "none")
    train(Line(), replace(SETTINGS, workers=1), tmp_path / "one")
    assert losses(tmp_path / "none") == losses(tmp_path / "one")


class Failing(Line):
    """A stage whose fourth batch goes wrong, in whichever process makes it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Tensor]:
        if step == 3 and self.how == "error":
            raise KeyError("first\nsecond")
        if step == 3 and self.how == "memory":
            raise MemoryError
        if step == 3 and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step, share)


@pytest.mark.parametrize(
    ("how", "workers", "said"),
    [
        ("error", 2, r"a batch cannot be made: KeyError: .*\(test_loop.py, line \d+\)"),
        ("error", 0, r"a batch cannot be made: KeyError"),
        ("memory", 2, "out of memory .*fewer workers"),
        ("kill", 2, "a worker that reads pictures was ended.*fewer workers"),
    ],
)
def test_a_failing_worker_ends_the_run_in_one_line(
    tmp_path: Path, how: str, workers: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    others = set(multiprocessing.active_children())  # of fixtures that outlive a test
    with pytest.raises(MasqclipError, match=said) as caught:
        train(Failing(how), replace(SETTINGS, workers=workers), tmp_path)
    assert "\n" not in str(caught.value)
    assert not set(multiprocessing.active_children()) - others
    assert "Traceback" not in capfd.readouterr().err


def test_stopping_for_time_and_going_on_is_exact(tmp_path: Path) -> None:
    train(Line(), SETTINGS, tmp_path / "straight")
    hasty = replace(SETTINGS, max_minutes=1e-9)
    rounds = 0
    while not train(Line(), hasty, tmp_path / "stops"):
        rounds += 1
        assert rounds < 50
    assert rounds == 39  # one step a call
    assert losses(tmp_path / "stops") == losses(tmp_path / "straight")


SCRIPT = textwrap.dedent("""
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from test_loop import Line, SETTINGS
    from masqclip.training.loop import train
    class Slow(Line):
        def losses(self, batch, totals):
            time.sleep(0.05)
            return super().losses(batch, totals)
    sys.exit(0 if train(Slow(), SETTINGS, sys.argv[2]) else 7)
""")


def steps_done(folder: Path) -> int:
    path = folder / "progress.json"
    return int(json.loads(path.read_text())["step"]) if path.exists() else 0


def begin(folder: Path, *, step: int = 5) -> Forked:
    """Start the slow run and wait until the checkpoint of a step stands."""
    out = folder.with_suffix(".txt")
    process = Forked(SCRIPT, str(Path(__file__).parent), str(folder), out=out)
    deadline = time.monotonic() + 120
    while steps_done(folder) < step:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    process = begin(tmp_path / "killed", step=20)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 20 <= len(losses(tmp_path / "killed")) < 40
    assert train(Line(), SETTINGS, tmp_path / "killed")
    train(Line(), SETTINGS, tmp_path / "straight")
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")


def test_sigterm_saves_and_returns(tmp_path: Path) -> None:
    process = begin(tmp_path / "run")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 7  # what the script exits with when train() returned False
    assert len(losses(tmp_path / "run")) == steps_done(tmp_path / "run")


def test_a_checkpoint_fits_its_own_run_only(tmp_path: Path) -> None:
    train(Line(), replace(SETTINGS, max_minutes=1e-9), tmp_path)
    with pytest.raises(MasqclipError, match="schedule"):
        train(Line(), replace(SETTINGS, schedule="constant"), tmp_path)
    other = Line()
    other.name = "other"
    with pytest.raises(MasqclipError, match="stage"):
        train(other, SETTINGS, tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"not a checkpoint")
    with pytest.raises(MasqclipError, match="cannot be read"):
        train(Line(), SETTINGS, tmp_path)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    class Broken(Line):
        def losses(self, batch: dict[str, Tensor], totals: Counts) -> dict[str, Tensor]:
            return {"loss": super().losses(batch, totals)["loss"] * float("nan")}

    with pytest.raises(MasqclipError, match="step 1"):
        train(Broken(), SETTINGS, tmp_path)


def test_epochs_see_every_sample_once() -> None:
    seen = [i for step in range(10) for i in step_indices(20, 4, 3, step)]
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]
    assert step_indices(20, 4, 3, 7) == seen[28:32]


def test_schedules() -> None:
    cosine = LoopSettings(steps=100, warmup_steps=10, schedule="cosine")
    assert cosine.learning_rate_factor(0) == pytest.approx(0.1)
    assert cosine.learning_rate_factor(9) == 1.0
    assert cosine.learning_rate_factor(99) < 0.01
    step = LoopSettings(steps=100, schedule="step", milestones=(60, 90))
    factors = [step.learning_rate_factor(s) for s in (0, 59, 60, 89, 90)]
    assert factors == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01])


class Judged(Line):
    """Evaluates, best at step 20, and draws."""

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        assert not self.module.training
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / f"sheet-{step:08d}.png")
        return {"goodness": -abs(step - 20.0), "badness": 1.0}


def test_the_newest_checkpoints_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    stage = Judged()
    assert train(stage, replace(SETTINGS, keep_last=2, eval_every=10), tmp_path)
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"step-00000035.pt", "step-00000040.pt", "best.pt"}
    about = json.loads((tmp_path / "best" / "best.json").read_text())
    assert about == {"step": 20, "figure": "goodness", "value": 0.0}
    best = torch.load(tmp_path / "best" / "line.pt", weights_only=True)
    last = torch.load(tmp_path / "line.pt", weights_only=True)
    assert not torch.equal(best["weight"], last["weight"])
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "evaluation/goodness" in line] == [10, 20, 30, 40]
    assert len(list((tmp_path / "evaluation").iterdir())) == 4


def test_a_run_says_what_it_is_and_how_it_went(tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(Line(), SETTINGS, tmp_path, report=seen.append)
    assert [now.step for now in seen] == list(range(1, 41))
    assert seen[-1].seconds_left == 0
    assert seen[0].memory > 0
    assert seen[0].images_per_second > 0
    tables = tomllib.loads((tmp_path / "recipe.toml").read_text())["line"]
    assert tables["batch_size"] == 8
    assert LoopSettings(**tables["loop"] | {"milestones": ()}) == SETTINGS
    with Image.open(tmp_path / "curves.png") as curves:
        assert curves.width > 400
    assert list((tmp_path / "tensorboard").iterdir())


def test_lower_precision_trains_too(tmp_path: Path) -> None:
    train(Line(), SETTINGS, tmp_path / "full")
    train(Line(), replace(SETTINGS, precision="bf16"), tmp_path / "half")
    full, half = losses(tmp_path / "full"), losses(tmp_path / "half")
    assert full != half
    assert half == pytest.approx(full, rel=0.05, abs=0.05)


def test_a_forecast_counts_and_writes_nothing(tmp_path: Path) -> None:
    found = forecast(Line(), SETTINGS)
    assert (found.trainable, found.frozen, found.processes) == (4, 0, 1)
    assert found.seconds == pytest.approx(40 * found.seconds_per_step)
    assert "[line.loop]\nsteps = 40" in found.recipe
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"schedule": "stepp"}, {"precision": "half"}, {"steps": 0}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(MasqclipError, match=next(iter(wrong))):
        replace(SETTINGS, **wrong)
