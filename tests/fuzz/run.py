"""Hostile inputs through the command line, as many as one likes.

    python tests/fuzz/run.py pictures --number 1000 --seed 1

Each input is given to the command that a user would give it to, in a process of its own whose
processor time, memory, files and connections are watched. What must hold: exit code 0, 1 or 2, no
traceback, less than ten seconds and 1.5 GB, nothing written outside the output folder, no host
asked, nothing run.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cyclopts

from masqclip.data.images import read_image  # noqa: F401 (fails early where the package is absent)

MAX_SECONDS = 10.0
MAX_BYTES = 1_500_000_000
_PICTURE = str(Path(__file__).parents[2] / "examples" / "beach.png")
# What a watched interpreter runs first: it notes what a hostile input must not cause.
WATCH = """
import os, sys
log = os.environ.get("MASQCLIP_FUZZ_LOG")
home = os.environ.get("MASQCLIP_FUZZ_HOME", "")
def note(event, args):
    said = None
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        said = repr(args[-1] if event == "socket.connect" else args)
    elif event in ("os.system", "os.exec", "os.posix_spawn"):
        said = repr(args[0])
    elif event == "subprocess.Popen" and "masqclip.data.image_reader" not in repr(args[1]):
        said = repr(args[1])
    elif event == "open" and isinstance(args[0], str) and isinstance(args[1], str):
        writes = set(args[1]) & set("wax+")
        if writes and not args[0].startswith((home, "/dev/null")):
            said = repr(args[:2])
    if said:
        with open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a") as file:
            file.write(f"{event} {said}\\n")
if log:
    sys.addaudithook(note)
"""

Writer = Callable[[Path], list[str]]
Target = Literal["pictures", "bombs", "checkpoints", "folders", "vocabularies", "annotations"]


@dataclass
class Outcome:
    """What came of one run."""

    name: str
    code: int
    seconds: float
    megabytes: float
    said: str
    noted: str

    @property
    def fault(self) -> str:
        """What must not be, or nothing."""
        if self.code not in (0, 1, 2):
            return f"exit code {self.code}"
        if "Traceback" in self.said or "weights_only=False" in self.said:
            return "a traceback, or torch's advice"
        if self.seconds > MAX_SECONDS:
            return f"{self.seconds:.1f} s"
        if self.megabytes * 1e6 > MAX_BYTES:
            return f"{self.megabytes:.0f} MB"
        return self.noted


def run(name: str, words: list[str], home: Path, watch: Path, threads: int) -> Outcome:
    """Run `masqclip` with these words on so many threads, watched."""
    log = home / "noted.txt"
    paths = [str(watch), *(path for path in sys.path if path)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths), "MASQCLIP_FUZZ_LOG": str(log),
        "MASQCLIP_FUZZ_HOME": str(home), "OMP_NUM_THREADS": str(threads), "TMPDIR": str(home),
        "HOME": str(home), "NO_COLOR": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "masqclip.cli.main", *words]
    started = time.perf_counter()
    with (home / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=environment, cwd=home, start_new_session=True
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return Outcome(
        name,
        process.returncode,
        # That the machine is busy otherwise is not the input's fault.
        min(seconds, usage.ru_utime + usage.ru_stime + 1),
        usage.ru_maxrss / 1000,
        (home / "said.txt").read_text("utf-8", "replace"),
        log.read_text() if log.exists() else "",
    )


def inputs(target: Target, seed: int, number: int) -> Iterator[tuple[str, Writer]]:
    """A name for each run, and what writes its input below a folder and gives the words."""
    out = ["--out", "out"]
    if target in ("pictures", "bombs"):
        import picture_files

        make = picture_files.cases if target == "pictures" else picture_files.bombs
        together = 10 if target == "pictures" else 1
        batch: list[tuple[str, bytes]] = []
        for entry in make(seed, number):
            batch.append(entry)
            if len(batch) == together:
                yield batch[0][0], _pictures(batch, out)
                batch = []
        if batch:
            yield batch[0][0], _pictures(batch, out)
    elif target == "checkpoints":
        import checkpoints

        for name, write in checkpoints.cases(seed, number):
            yield name, lambda home, write=write: ["convert", str(write(home)), "converted"]
    elif target == "folders":
        import folders

        for name, write in folders.cases(seed, number):
            yield name, lambda home, write=write: [
                "segment", _PICTURE, "-v", "car", "--model", str(write(home)), *out,
            ]  # fmt: skip
    elif target == "vocabularies":
        import vocabularies

        for name, value in vocabularies.cases(seed, number):
            yield name, lambda home, value=value: [
                "segment", _PICTURE, "-v", _vocabulary(home, value), *out,
            ]  # fmt: skip
    else:
        import annotations as documents

        for name, content in documents.cases(seed, number):
            yield name, _annotated(content)


def _pictures(batch: list[tuple[str, bytes]], out: list[str]) -> Writer:
    def write(home: Path) -> list[str]:
        for name, data in batch:
            (home / name).write_bytes(data)
        return ["segment", *(str(home / name) for name, _ in batch), "-v", "car, sky", *out]

    return write


def _vocabulary(home: Path, value: object) -> str:
    file = home / "names.json"
    if isinstance(value, bytes):
        file = home / "names.txt"
        file.write_bytes(value)
    elif (
        isinstance(value, str)
        and "\0" not in value
        and len(value.encode("utf-8", "replace")) < 90_000
    ):
        return value.encode("utf-8", "replace").decode()
    else:
        file.write_text(json.dumps(value, default=repr), "utf-8", "surrogatepass")
    return str(file)


def _annotated(content: bytes) -> Writer:
    def write(home: Path) -> list[str]:
        (home / "annotations.json").write_bytes(content)
        return [
            "train", "tune", "--data", "annotations.json", "--images", str(home), "--dry-run",
            "--model", "masqclip-mini", "--out", "out", "--device", "cpu",
        ]  # fmt: skip

    return write


def main(
    target: Target, /, *, number: int = 200, seed: int = 0, jobs: int = 2, keep: Path | None = None
) -> int:
    """Run hostile inputs.

    Args:
        target: what is hostile.
        number: how many inputs; damaged pictures go ten to a run.
        seed: of the inputs.
        jobs: runs at a time.
        keep: a folder for the inputs of runs that fail.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    faults, codes, slowest, largest = 0, Counter[int](), 0.0, 0.0
    with (
        tempfile.TemporaryDirectory() as scratch,
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
    ):
        watch = Path(scratch) / "watch"
        watch.mkdir()
        (watch / "sitecustomize.py").write_text(WATCH)

        def one(index: int, name: str, write: Writer) -> Outcome:
            home = Path(scratch) / f"{index:05d}"
            home.mkdir()
            outcome = run(name, write(home), home, watch, threads)
            if outcome.fault and keep is not None:
                shutil.copytree(home, keep / home.name, dirs_exist_ok=True)
            shutil.rmtree(home, ignore_errors=True)
            return outcome

        usual = one(0, "an ordinary picture", lambda home: ["segment", _PICTURE, "-v", "car"])
        print(f"an ordinary picture: {usual.seconds:.1f} s, {usual.megabytes:.0f} MB", flush=True)
        waiting: set[concurrent.futures.Future[Outcome]] = set()
        for index, (name, write) in enumerate(inputs(target, seed, number), start=1):
            waiting.add(pool.submit(one, index, name, write))
            while len(waiting) >= 2 * jobs:
                done, waiting = concurrent.futures.wait(
                    waiting, return_when=concurrent.futures.FIRST_COMPLETED
                )
                faults += _tell(done)
                for outcome in (future.result() for future in done):
                    codes[outcome.code] += 1
                    slowest = max(slowest, outcome.seconds)
                    largest = max(largest, outcome.megabytes)
        done, _ = concurrent.futures.wait(waiting)
        faults += _tell(done)
        for outcome in (future.result() for future in done):
            codes[outcome.code] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
    print(
        f"{target}: {number} inputs in {sum(codes.values())} runs, exit codes {dict(codes)}, "
        f"at most {slowest:.1f} s and {largest:.0f} MB, {faults} faults"
    )
    return 1 if faults else 0


def _tell(done: set[concurrent.futures.Future[Outcome]]) -> int:
    faults = 0
    for outcome in (future.result() for future in done):
        if outcome.fault:
            faults += 1
            print(f"{outcome.name}: {outcome.fault}\n{outcome.said[-2000:]}", flush=True)
    return faults


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(cyclopts.run(main))
