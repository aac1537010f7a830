"""A chain of masqclip's own commands that make a model, as plain data, gone on with where it was.

A plan is a TOML file: steps, each with a ``name``, the command line to ``run`` (in the plan's
folder), and a file that it ``makes`` when it is done. A step is done when its command ended well
and that file is there. This is noted in ``plan.json`` as a digest of the command, the file and all
steps before, so that a step runs again when its command changes, or what it was made from.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import masqclip
from masqclip.cli.console import err_console
from masqclip.data.digests import combine_digests, digest_file
from masqclip.data.files import read_bounded, write_atomically
from masqclip.data.json_files import read_json
from masqclip.data.locks import lock_folder
from masqclip.data.toml_files import parse_toml
from masqclip.errors import MasqclipError, require

_MAX_PLAN_BYTES = 1_000_000
_SHIPPED = Path(masqclip.__file__).parent / "recipes" / "plans"


@dataclass(frozen=True)
class PlanStep:
    """One command of a plan.

    Attributes:
        name: what it is about.
        run: the words after ``masqclip``.
        makes: a file, from the plan's folder, that is there when it is done.
    """

    name: str
    run: str
    makes: str


def find_plan(name: str) -> Path:
    """The file of a plan: a shipped one by its name, or one's own."""
    shipped = _SHIPPED / f"{name}.toml"
    return shipped if shipped.is_file() else Path(name)


def load_plan(path: Path) -> list[PlanStep]:
    """Read a plan.

    Raises:
        MasqclipError: it cannot be read, or a step lacks something or has too much.
    """
    content = read_bounded(path, max_bytes=_MAX_PLAN_BYTES, what="the plan")
    tables = parse_toml(content, source=f"the plan {path}")
    try:
        steps = [PlanStep(**step) for step in tables["step"]]
        texts = [text for step in steps for text in astuple(step)]
        if not all(isinstance(text, str) and text for text in texts):
            raise TypeError("a step's name, run or makes is no text")
        for step in steps:
            shlex.split(step.run)
    except (KeyError, TypeError, ValueError) as error:
        raise MasqclipError(
            f"{path} is not a plan ({error}); it needs [[step]] tables with name, run and makes"
        ) from error
    return steps


def run_plan(steps: Sequence[PlanStep], folder: Path, *, max_minutes: float = 0.0) -> bool:
    """Run what is not done yet, step by step.

    Args:
        steps: the plan.
        folder: where the commands run; made when missing.
        max_minutes: for each training command; one that does not end by then ends the plan.

    Returns:
        Whether all is done; otherwise a step was stopped, and the next call goes on with it.

    Raises:
        MasqclipError: a command failed, a package that one needs is not installed, or another
            process is at work in the folder.
    """
    _check_packages(steps)
    with lock_folder(folder):
        return _run_steps(steps, folder, max_minutes)


def _check_packages(steps: Sequence[PlanStep]) -> None:
    """See that the last step will find what it needs before the first one works for hours."""
    for verb in {tuple(shlex.split(step.run)[:2]) for step in steps}:
        if verb == ("data", "sprites"):
            require("resvg_py", extra="train", purpose="drawing sprites")
        elif verb[:1] == ("train",):
            require("accelerate", extra="train", purpose="training")
        elif verb[:1] == ("evaluate",):
            from masqclip.evaluation.instance import AveragePrecision

            AveragePrecision([1])


def _run_steps(steps: Sequence[PlanStep], folder: Path, max_minutes: float) -> bool:
    record = folder / "plan.json"
    done = read_json(record, what="the plan's record") if record.exists() else {}
    if not isinstance(done, dict):
        raise MasqclipError(f"{record} is no record of a plan: delete it, to see what is done anew")
    console = err_console()
    state = ""
    for number, step in enumerate(steps, start=1):
        heading = f"[{number}/{len(steps)}] {step.name}"
        before, state = state, _state(step, folder, state)
        if done.get(step.name) == state and (folder / step.makes).exists():
            console.print(f"{heading}: done", markup=False)
            continue
        words = shlex.split(step.run)
        if max_minutes and words[0] == "train":
            words += ["--max-minutes", f"{max_minutes:g}"]
        console.print(f"{heading}: masqclip {shlex.join(words)}", markup=False, soft_wrap=True)
        code = _run(words, folder)
        if code != 0:
            raise MasqclipError(
                f"the step {step.name!r} failed (exit code {code}); mend what it says above, and "
                "the same command goes on from here"
            )
        if not (folder / step.makes).exists():
            return False
        state = _state(step, folder, before)
        done[step.name] = state
        write_atomically(record, json.dumps(done, indent=1).encode())
    return True


def _state(step: PlanStep, folder: Path, before: str) -> str:
    """What a step was asked for, what it has made, and from what: the state of the step before."""
    made = folder / step.makes
    return combine_digests([before, step.run, digest_file(made) if made.is_file() else ""])


def _run(words: Sequence[str], folder: Path) -> int:
    """Run one command in a process of its own; a request to stop is passed on to it."""
    command = [sys.executable, "-m", "masqclip.cli.main", *words]
    with subprocess.Popen(command, cwd=folder) as process:
        # A terminal's Ctrl-C reaches the command by itself; a second signal would cut it short.
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
        }
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
