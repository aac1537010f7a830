"""`masqclip train`: dry runs, stopping, and the whole chain from data to model, very small."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from forked import MASQCLIP, Forked
from masqclip.cli import plan
from masqclip.cli.main import main
from masqclip.data.stickers.source import parse_sticker_address
from masqclip.errors import MasqclipError
from masqclip.training.recipes import load_recipe

SPRITES = Path(__file__).parent.parent / "data" / "sprites"
TAKES = ("--data", "--clip", "--proposer", "--teacher", "--start", "--model", "--root")
SMALL = "--set save_every=2 --set workers=0 --set precision=no"
SCENES = f"data stickers --sprites {SPRITES} --size 64 --images 12"
TEACHER = f"train teacher --data scenes --set image_size=64 --set batch_size=2 {SMALL}"
CLIP = (
    "--set image_size=64 --set vision_width=32 --set vision_layers=1 --set vision_heads=2 --set "
    "text_width=32 --set text_layers=1 --set embedding_size=32 --set merges=60 --set batch_size=4"
)
PLAN = f"""
[[step]]
name = "scenes"
run = "{SCENES} --seed 1 --out scenes"
makes = "scenes/annotations/panoptic.json"
[[step]]
name = "clip"
run = "train pretrain --data scenes {CLIP} --set steps=2 {SMALL} --out clip"
makes = "clip/model.safetensors"
[[step]]
name = "teacher"
run = "{TEACHER} --set steps=2 --out teacher"
makes = "teacher/model.safetensors"
[[step]]
name = "student"
run = "{TEACHER.replace("teacher", "distill --teacher teacher")} --set steps=2 --out student"
makes = "student/model.safetensors"
[[step]]
name = "tuning"
run = "train tune --data scenes --clip clip --proposer student --set steps=2 \
--set shortest_edge=64 --set batch_size=2 {SMALL} --out mini"
makes = "mini/model.safetensors"
[[step]]
name = "evaluation"
run = "evaluate --dataset stickers --root scenes --limit 2 --model mini --out evaluation"
makes = "evaluation/report.json"
"""


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the commands of a plan here; the list fills with their verbs."""
    ran: list[str] = []

    def run(words: Sequence[str], folder: Path) -> int:
        ran.append(" ".join(words[:2]))
        monkeypatch.chdir(folder)
        return main(words)

    monkeypatch.setattr(plan, "_run", run)
    return ran


def test_from_data_to_a_model_that_is_measured(
    tmp_path: Path, in_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    command = ["train", "miniature", "--plan", str(tmp_path / "plan.toml")]
    command += ["--out", str(tmp_path / "out")]
    # One step a call: each stage stops for time once and is gone on with.
    calls = 0
    while "all steps are done" not in capsys.readouterr().out:
        calls += 1
        assert calls < 12
        assert main([*command, "--max-minutes", "1e-9"]) == 0
    assert calls == 1 + 4
    assert (tmp_path / "out" / "evaluation" / "report.json").exists()
    in_process.clear()
    assert main(command) == 0
    assert in_process == []


def test_a_command_that_fails_ends_the_plan(tmp_path: Path) -> None:
    steps = [plan.PlanStep("nothing", "info --nonsense", "x"), plan.PlanStep("no", "info", "x")]
    with pytest.raises(MasqclipError, match=r"'nothing' failed \(exit code 2\)"):
        plan.run_plan(steps, tmp_path)


@pytest.mark.parametrize("name", ["miniature", "world"])
def test_a_shipped_plan_has_steps_that_could_run(name: str) -> None:
    steps = plan.load_plan(plan.find_plan(name))
    assert steps[-1].run.startswith("evaluate")
    made = {step.makes.split("/")[0] for step in steps}
    for step in steps:
        words = shlex.split(step.run)
        data = [word for word in words if word.startswith("stickers:")]
        seeds = [parse_sticker_address(address).seed for address in data]
        assert len(set(seeds)) == len(seeds)
        assert not {1000, 1001, 1002} & set(seeds)  # what is measured on
        named = words[words.index("--recipe") + 1] if "--recipe" in words else "miniature"
        if words[0] == "train":
            load_recipe(named, words[1], [w for o, w in pairwise(words) if o == "--set"])
        taken = {w for o, w in pairwise(words) if o in TAKES}
        assert {w for w in taken if not w.startswith("stickers:")} <= made


def test_a_wrong_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[[step]]\nname = "x"\nrun = "info"\n')
    with pytest.raises(MasqclipError, match="makes"):
        plan.load_plan(tmp_path / "plan.toml")


def test_a_dry_run_says_what_a_run_would_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SCENES.split(), "--seed", "1", "--out", "scenes"]) == 0
    capsys.readouterr()
    assert main([*TEACHER.split(), "--set", "steps=5", "--out", "run", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "[teacher.loop]\nsteps = 5" in printed
    assert "1,991,234 train, 0 are frozen" in printed
    assert "12 pictures" in printed
    assert "measured now" in printed
    assert not (tmp_path / "run").exists()


def test_sigterm_saves_and_exits_with_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SCENES.split(), "--seed", "1", "--out", "scenes"]) == 0
    words = [*TEACHER.split(), "--set", "steps=100000", "--out", "run"]
    process = Forked(MASQCLIP, *words, out=tmp_path / "log.txt")
    deadline = time.monotonic() + 300
    while not Path("run/progress.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 0
    assert json.loads(Path("run/progress.json").read_text())["step"] > 0
