"""Whether the tests would notice: small changes to a room, one at a time, with its tests run.

    python benchmarks/mutants.py decoding                  every change to a room
    python benchmarks/mutants.py all --sample 200 --seed 3   200 changes drawn from all rooms
    python benchmarks/mutants.py --changes survivors.tsv   changes that a table lists

A change that a test notices is killed; one that no test notices survives, and is either
equivalent (nothing can tell it from what stands there) or a rule that no test states. Prints each
survivor, and last how many were killed; ``--out`` writes the survivors as a table that
``--changes`` reads again: file, line, what stands there, what was put in its place.

First all tests are run once, to learn which files of tests run which lines (kept in
``build/mutants``; ``--learn`` learns it again, of all files or of new ones). A change is then met
with those files, its own room's and quick ones first, until one fails or ``--budget`` seconds are
over. Everything happens in copies of the tree; the tree itself is not touched.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from rich.console import Console
from rich.progress import Progress

from mutations import Mutation, applied, mutations

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "src/masqclip"
LEARNED = REPOSITORY / "build" / "mutants" / "coverage.json"
#: Seconds for the collection of tests, which every run pays for.
STARTING = 60.0
#: What tests import and take seconds for.
IMPORTED = (
    "torch", "transformers.models.clip.modeling_clip", "fastapi", "httpx", "pydantic", "uvicorn",
    "transformers.models.mask2former.modeling_mask2former", "hypothesis.extra.numpy", "cyclopts",
    "scipy.optimize", "pyarrow.dataset", "pyarrow.parquet", "fsspec", "PIL.Image", "yaml",
)  # fmt: skip
#: How a table writes the end of a line within a change.
_BREAK = "\\n"
#: What copies of the tree go without.
LEFT_OUT = (".git", ".venv", "build", "dist", "runs", "out", ".*_cache", ".hypothesis")


@dataclass(frozen=True)
class Coverage:
    """Which tests run what.

    Attributes:
        seconds: of each file of tests.
        lines: for each file of the package, for each line, the files of tests that run it.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]

    def tests(self, mutation: Mutation) -> list[str]:
        """The files of tests to meet a change with, in their order."""
        lines = self.lines.get(mutation.file, {})
        if mutation.in_function:
            found = set(lines.get(str(mutation.line), []))
        else:  # run on import: whatever uses the module may notice
            found = {file for files in lines.values() for file in files}
        room = f"tests/{mutation.file.split('/')[0].removesuffix('.py')}"
        # What no test runs in its own process may be noticed by any, as a recipe's values are.
        found = found or set(self.seconds)
        near = ("/test_" + Path(mutation.file).stem, room)
        return sorted(
            found,
            key=lambda file: ([part not in file for part in near], self.seconds.get(file, 0.0)),
        )

    def chosen(self, mutation: Mutation, budget: float) -> tuple[list[str], float]:
        """Those of `tests` that fit so many seconds, the first in any case; their seconds."""
        total, chosen = 0.0, list[str]()
        for file in self.tests(mutation):
            seconds = self.seconds.get(file, 0.0)
            if not chosen or total + seconds <= budget:
                chosen.append(file)
                total += seconds
        return chosen, total


def learn(workers: int, files: Sequence[str] = ()) -> Coverage:
    """Run all tests once, or those of some files, with coverage, and keep what was learned.

    What is known of other files stays. A test that fails tells what it runs all the same.
    """
    with TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "pytest", "-q", "-n", str(workers), "-p", "coverage_by_file",
            "--dist", "worksteal", *files,
        ]  # fmt: skip
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join([f"{REPOSITORY}/benchmarks", f"{REPOSITORY}/src"]),
            "MASQCLIP_COVERAGE": scratch,
        }
        subprocess.run(command, cwd=REPOSITORY, env=env, check=False)
        parts = [json.loads(part.read_text()) for part in Path(scratch).glob("*.json")]
    known = known_coverage() if files else Coverage({}, {})
    renewed = {file for part in parts for file in part["seconds"]}
    seconds = {file: value for file, value in known.seconds.items() if file not in renewed}
    lines: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file, by_line in known.lines.items():
        for line, tests in by_line.items():
            lines[file][line] |= set(tests) - renewed
    for part in parts:
        for file, value in part["seconds"].items():
            seconds[file] = seconds.get(file, 0.0) + value
        for file, by_line in part["lines"].items():
            for line, tests in by_line.items():
                lines[file][line] |= set(tests)
    learned = Coverage(
        seconds,
        {
            file: {line: sorted(tests) for line, tests in by_line.items()}
            for file, by_line in lines.items()
        },
    )
    LEARNED.parent.mkdir(parents=True, exist_ok=True)
    LEARNED.write_text(json.dumps(vars(learned)))
    return learned


def known_coverage() -> Coverage:
    """What an earlier run learned."""
    return Coverage(**json.loads(LEARNED.read_text()))


def listed(table: Path) -> list[Mutation]:
    """The changes of a table, each at the place nearest to the line that it names.

    Raises:
        SystemExit: the package has no such text any more.
    """
    found = []
    for row in table.read_text().splitlines()[1:]:
        name, number, old, new = (*row.split("\t"), "")[:4]
        old, line, path = old.replace(_BREAK, "\n"), int(number), REPOSITORY / PACKAGE / name
        source = path.read_bytes() if path.exists() else b""
        starts = [match.start() for match in re.finditer(re.escape(old.encode()), source)]
        if not starts:
            print(f"{name}:{line}: nothing reads {old!r} any more", file=sys.stderr)
            continue
        at = min(starts, key=lambda start: abs(source[:start].count(b"\n") + 1 - line))
        line = source[:at].count(b"\n") + 1
        nested = source[source.rfind(b"\n", 0, at) + 1 : at + 1].startswith(b"        ")
        found.append(Mutation(name, line, at, at + len(old.encode()), old, new, nested))
    return found


def drawn(rooms: Sequence[str], sample: int, seed: int) -> list[Mutation]:
    """All changes to some rooms, or so many of them drawn by chance.

    Raises:
        SystemExit: there is no such room.
    """
    root = REPOSITORY / PACKAGE
    files: list[Path] = []
    for room in rooms:
        place = root if room == "all" else root / room
        if not place.exists():
            raise SystemExit(f"{room}: no room or file of {PACKAGE}")
        files += sorted(place.rglob("*.py")) if place.is_dir() else [place]
    found = [change for file in files for change in mutations(root, str(file.relative_to(root)))]
    chosen = random.Random(seed).sample(found, min(sample or len(found), len(found)))
    return sorted(chosen, key=lambda change: (change.file, change.start, change.new))


def tried(
    changes: Sequence[Mutation], coverage: Coverage, workers: int, budget: float
) -> Iterator[tuple[Mutation, str]]:
    """Each change and what became of it: ``killed``, ``survived`` or ``untested``."""
    context = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"
    with TemporaryDirectory() as scratch:
        copies = context.SimpleQueue()
        for number in range(workers):
            copy, left_out = Path(scratch) / str(number), shutil.ignore_patterns(*LEFT_OUT)
            shutil.copytree(REPOSITORY, copy, ignore=left_out, symlinks=True)
            copies.put(copy)
        with ProcessPoolExecutor(workers, context, _begin, (copies,)) as pool:
            verdicts = [
                pool.submit(_verdict, change, *coverage.chosen(change, budget))
                for change in changes
            ]
            try:
                for change, verdict in zip(changes, verdicts, strict=True):
                    yield change, verdict.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _begin(copies: SimpleQueue[Path]) -> None:
    """Make a process ready to try changes: in a copy of its own, with slow imports behind it."""
    copy = copies.get()
    os.chdir(copy)
    sys.path.insert(0, str(copy / "src"))
    os.environ["PYTHONPATH"] = str(copy / "src")
    for name in IMPORTED:
        with suppress(ImportError):
            importlib.import_module(name)
    assert not any(name.startswith("masqclip") for name in sys.modules)


def _verdict(mutation: Mutation, tests: Sequence[str], seconds: float) -> str:
    """Meet a change with tests, in a child of this process."""
    if not tests:
        return "untested"
    path = Path(PACKAGE) / mutation.file
    before = path.read_bytes()
    try:
        path.write_bytes(applied(before, mutation))
        _forget_bytecode(path)
        child = os.fork()
        if child == 0:
            _run(tests)
        ends = time.monotonic() + STARTING + 6 * seconds
        ended, status = 0, 1
        while not ended and time.monotonic() < ends:  # what hangs is noticed
            time.sleep(0.02)
            ended, status = os.waitpid(child, os.WNOHANG)
        with suppress(ProcessLookupError):  # it, and all that it started
            os.killpg(child, signal.SIGKILL)
        if not ended:
            os.waitpid(child, 0)
            return "killed"
        return "survived" if status == 0 else "killed"
    finally:
        path.write_bytes(before)
        _forget_bytecode(path)


def _run(tests: Sequence[str]) -> NoReturn:
    """Run tests in this process, a child, and end it."""
    status = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))
    finally:
        os._exit(status)


def _forget_bytecode(path: Path) -> None:
    """A change within one second and of the same length would else go unseen by Python."""
    for file in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        file.unlink()


def main() -> None:
    """Read the command line, and try."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", help="rooms or files of src/masqclip, or 'all'")
    parser.add_argument("--sample", type=int, default=0, help="so many changes, by chance; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--changes", type=Path, help="a table of changes, as --out writes it")
    parser.add_argument("--out", type=Path, help="write the survivors as a table")
    parser.add_argument("--workers", type=int, default=2, help="changes tried at a time")
    parser.add_argument("--budget", type=float, default=120, help="seconds of tests for a change")
    parser.add_argument(
        "--learn", nargs="*", metavar="FILE", help="learn what these tests run first; none = all"
    )
    given = parser.parse_args()
    if not given.rooms and not given.changes and given.learn is None:
        parser.error("name rooms, or a table of --changes")
    changes = (
        listed(given.changes) if given.changes else drawn(given.rooms, given.sample, given.seed)
    )
    if given.learn is not None or not LEARNED.exists():
        learn(given.workers, given.learn or ())
    if not changes:
        return
    coverage = known_coverage()
    survivors, console = list[Mutation](), Console(stderr=True)
    begun = time.monotonic()
    with Progress(console=console) as progress:
        for change, verdict in progress.track(
            tried(changes, coverage, given.workers, given.budget), total=len(changes)
        ):
            if verdict != "killed":
                survivors.append(change)
                text = f"{change.file}:{change.line}: {change.old!r} -> {change.new!r} {verdict}"
                print(text, flush=True)
    if given.out:
        rows = [("file", "line", "as it is", "changed to")]
        rows += [
            (change.file, str(change.line), change.old.replace("\n", _BREAK), change.new)
            for change in survivors
        ]
        given.out.write_text("".join("\t".join(row) + "\n" for row in rows))
    killed, number = len(changes) - len(survivors), max(1, len(changes))
    minutes = (time.monotonic() - begun) / 60
    print(f"{killed} of {len(changes)} killed ({killed / number:.0%}), {minutes:.0f} min")


if __name__ == "__main__":
    main()
