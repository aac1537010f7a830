"""A chain of masqclip's own commands that make a model, as plain data, gone on with where it was.

A plan is a TOML file: steps, each with a ``name``, the command line to ``run`` (in the plan's
folder), and a file that it ``makes`` when it is done. A step is done when its command ended well
and that file is there; this is noted in ``plan.json`` with the command, so that a changed command
runs again.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masqclip.cli.console import err_console
from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError


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


def load_plan(path: Path) -> list[PlanStep]:
    """Read a plan.

    Raises:
        MasqclipError: it cannot be read, or a step lacks something or has too much.
    """
    try:
        return [PlanStep(**step) for step in tomllib.loads(path.read_text())["step"]]
    except (OSError, UnicodeDecodeError) as error:
        raise MasqclipError(f"cannot read the plan {path}: {error}") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise MasqclipError(
            f"{path} is not a plan ({error}); it needs [[step]] tables with name, run and makes"
        ) from error


def run_plan(steps: Sequence[PlanStep], folder: Path, *, max_minutes: float = 0.0) -> bool:
    """Run what is not done yet, step by step.

    Args:
        steps: the plan.
        folder: where the commands run; made when missing.
        max_minutes: for each training command; one that does not end by then ends the plan.

    Returns:
        Whether all is done; otherwise a step was stopped, and the next call goes on with it.

    Raises:
        MasqclipError: a command failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "plan.json"
    done: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    console = err_console()
    for number, step in enumerate(steps, start=1):
        heading = f"[{number}/{len(steps)}] {step.name}"
        if done.get(step.name) == step.run and (folder / step.makes).exists():
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
        done[step.name] = step.run
        write_atomically(record, json.dumps(done, indent=1).encode())
    return True


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
