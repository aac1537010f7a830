"""`gpu.py`'s first part: a plan of masqclip's commands, in a process beside, its results kept.

The plan's own records make it go on where it was (`masqclip train miniature`). While it runs, what
is worth bringing home is copied again and again, so that a kill at any moment loses a minute.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_home
import masqclip
from gpu_record import Record
from gpu_worker import end_with_parent
from masqclip.cli.plan import PlanStep, load_plan
from masqclip.data.json_files import read_json
from masqclip.data.locks import lock_folder
from masqclip.errors import MasqclipError

_GRACE = 20.0  # seconds to end a step of training and write its checkpoint
_MOST_VOLUMES = 3  # of what is carried; results, reports and the model are four files more
_TROUBLE = "world/plan"
_LEFT_OUT = "world/left out"


class World:
    """A plan in a folder.

    Args:
        plan: a TOML file of steps.
        sprites: an already built sprite cache; the plan's own step that builds it is left out.
        work: where the plan runs; it does not come home.
        out: what comes home.
        record: gets an entry for every step.
        every: seconds between copies.

    Raises:
        MasqclipError: the plan cannot be read, or there is no sprite cache.
    """

    def __init__(
        self,
        plan: Path,
        *,
        sprites: Path | None,
        work: Path,
        out: Path,
        record: Record,
        every: float,
    ) -> None:
        self.folder, self.out, self.record, self.every = work / "plan", out, record, every
        self.work, self.sprites = work, sprites
        steps = load_plan(plan)
        if sprites is not None:
            if not (sprites / "index.json").is_file():
                raise MasqclipError(f"--sprites {sprites}: there is no index.json in it")
            steps = [s for s in steps if shlex.split(s.run)[:2] != ["data", "sprites"]]
        self.steps = steps
        text = "\n".join(map(_as_toml, steps))
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._text = text
        self._seen: object = None
        self._since = 0.0

    def is_done(self) -> bool:
        """Whether every step of this plan has its entry."""
        return all(self._entry(step).get("plan") == self.digest for step in self.steps)

    def run(self, deadline: float, stopped: Sequence[int]) -> bool:
        """Go on with the plan.

        Args:
            deadline: of `time.monotonic`.
            stopped: not empty any more once a signal asks to stop.

        Returns:
            Whether there is nothing left to do in this call: it is done, or cannot go on.
        """
        if self.is_done():
            return True
        _wait_for_folder(self.folder, deadline)
        self._prepare()
        self._since = time.monotonic()
        asked, code = self._watch(deadline, stopped)
        self._refresh(last=True)
        if self.is_done():
            self.record.forget(_TROUBLE)
            return True
        if code == 0 or asked:
            return False
        lines = (self.folder / "plan.log").read_text(errors="replace").strip().splitlines()
        told = lines[-1][:300] if lines else f"exit code {code}"
        self.record.finish(_TROUBLE, {"error": told, "seconds": time.monotonic() - self._since})
        print(f"world: {told}", flush=True)
        return True

    def _prepare(self) -> None:
        """Have the folder, the sprites, and what another machine has done already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        link = self.folder / "sprites"
        if self.sprites is not None and not link.exists():
            link.unlink(missing_ok=True)  # one that leads nowhere any more
            link.symlink_to(self.sprites.resolve(), target_is_directory=True)
        (self.work / "plan.toml").write_text(self._text)
        if (self.folder / "plan.json").exists():
            return
        if count := gpu_home.restore(self.out, self.folder):
            print(f"world: {count} files were carried here, and it goes on from them", flush=True)

    def _watch(self, deadline: float, stopped: Sequence[int]) -> tuple[bool, int]:
        """Run the plan until it ends or is told to. Returns whether it was, and its exit code."""
        now = time.monotonic()
        grace = min(_GRACE, 0.25 * max(0.0, deadline - now))
        asked = 0.0
        process = self._start((deadline - now) / 60)
        refreshed = time.monotonic()
        try:
            while process.poll() is None:
                now = time.monotonic()
                if not asked and (stopped or now >= deadline - grace):
                    process.terminate()  # which it passes on to its step
                    asked = now
                if asked and now - asked > _GRACE:
                    os.killpg(process.pid, signal.SIGKILL)
                if now - refreshed > self.every:
                    self._refresh()
                    refreshed = time.monotonic()
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return bool(asked), process.returncode

    def _start(self, minutes: float) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "masqclip.cli.main", "train", "miniature"]
        command += ["--plan", str((self.work / "plan.toml").resolve())]
        command += ["--out", str(self.folder.resolve()), "--max-minutes", f"{max(minutes, 0.01):g}"]
        # The plan's commands run in other folders, where a relative path leads nowhere.
        packages = str(Path(masqclip.__file__).resolve().parents[1])
        kept = os.environ.get("PYTHONPATH")
        paths = os.pathsep.join([packages, *([kept] if kept else [])])
        with (self.folder / "plan.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
                start_new_session=True,  # a terminal's Ctrl-C is ours to pass on
                # Killed, this process leaves one that saves a checkpoint and ends.
                preexec_fn=lambda: end_with_parent(signal.SIGTERM),
            )

    def _refresh(self, *, last: bool = False) -> None:
        """Note the steps that are done, and copy what has changed."""
        try:
            self._note_steps()
            paths = gpu_home.carried_paths(self.folder, self.steps)
            seen = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
            if seen == self._seen and not last:
                return
            self._copy(paths)
            self._seen = seen
        except (FileNotFoundError, MasqclipError) as error:
            # A checkpoint has made room for the next one meanwhile: the next copy has that.
            if last:
                print(f"world: not everything could be copied ({error})", flush=True)

    def _copy(self, paths: Sequence[Path]) -> None:
        left_out = []
        archive = gpu_home.pack(gpu_home.reports(self.folder, self.steps), squeeze=True)
        if not gpu_home.write_volumes(self.out, gpu_home.REPORTS, archive, most=1):
            left_out.append(f"{gpu_home.REPORTS} is left out: it is too large")
        model = self._final_model()
        if model is not None:
            whole = gpu_home.pack(gpu_home.half_model(model))
            if not gpu_home.write_volumes(self.out, gpu_home.MODEL, whole, most=2):
                left_out.append(f"{gpu_home.MODEL} is left out: {len(whole) / 1e6:.0f} MB")
        if self.is_done():  # nobody has to go on from it
            for path in gpu_home.volumes(self.out, gpu_home.CARRIED):
                path.unlink()
        else:
            taken = len(gpu_home.volumes(self.out, gpu_home.MODEL))
            most = _MOST_VOLUMES - max(0, taken - 1)
            line = gpu_home.carry(self.folder, paths, self.out, self.work, most=most)
            left_out += [line] if line else []
        before = self.record.entries.get(_LEFT_OUT, {}).get("lines", [])
        if left_out != before:
            self.record.finish(_LEFT_OUT, {"lines": left_out, "seconds": 0.0})

    def _final_model(self) -> Path | None:
        """The result of the plan's last training, once it is there."""
        trained = [step for step in self.steps if shlex.split(step.run)[0] == "train"]
        weights = self.folder / trained[-1].makes if trained else None
        return weights.parent if weights is not None and weights.exists() else None

    def _note_steps(self) -> None:
        """An entry for every step that has been done."""
        path = self.folder / "plan.json"
        done = read_json(path, what="the plan's record") if path.exists() else {}
        for step in self.steps:
            entry, made = self._entry(step), self.folder / step.makes
            if step.name not in done or not made.exists() or entry.get("plan") == self.digest:
                continue
            now = time.monotonic()
            found = _figures(made)
            found.setdefault("seconds", entry.get("seconds", now - self._since))
            self.record.finish(f"world/{step.name}", {"plan": self.digest, **found})
            print(f"world/{step.name}: done, {found['seconds']:.1f} s", flush=True)
            self._since = now

    def _entry(self, step: PlanStep) -> dict[str, Any]:
        return self.record.entries.get(f"world/{step.name}", {})


def _as_toml(step: PlanStep) -> str:
    """A step as TOML, whose basic strings are JSON's."""
    fields = {"name": step.name, "run": step.run, "makes": step.makes}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["[[step]]", *lines, ""])


def _figures(made: Path) -> dict[str, Any]:
    """What is worth telling of a step's result: an evaluation's figures, a training's time."""
    progress = made.parent / "progress.json"
    if made.name == "report.json":
        report = read_json(made, what="the report")
        return {"figures": report.get("figures", {}), "pictures": report.get("pictures")}
    if made.name == "model.safetensors" and progress.exists():
        told = read_json(progress, what="the run's progress")
        return {"seconds": told["seconds"], "steps": told["steps"]}
    return {}


def _wait_for_folder(folder: Path, deadline: float) -> None:
    """Wait for the plan of a call that was killed: it is writing its last checkpoint."""
    last = min(deadline, time.monotonic() + 60)
    while True:
        try:
            with lock_folder(folder):
                return
        except MasqclipError:
            if time.monotonic() > last:
                raise
            time.sleep(0.2)
