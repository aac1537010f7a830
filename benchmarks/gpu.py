"""Half an hour of one GPU: the second world is trained, and what the GPU does is measured.

    python benchmarks/gpu.py --minutes 25 --out DIR
    python benchmarks/gpu.py --device cpu --tiny --out DIR      # tries everything, in a minute

Four parts, in order of worth; each has a share of the minutes, and what it leaves goes to the rest:

- ``world``: a plan of masqclip's commands makes and evaluates a model (`gpu_world.py`);
- ``speed``: the forward pass at full size beside the published formulation (`gpu_parts.py`);
- ``tuning`` and ``proposer``: steps of training at full size, their speed and memory.

Every piece is in DIR/results.json as soon as it is measured, and a later call with the same --out
goes on: with what a call that was killed has left, or, on another machine, with what was brought
home from the last one (--carry). DIR stays within 8 files under 16 MB each.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cyclopts

from gpu_home import CARRIED, MODEL, REPORTS, beyond_limits, volumes
from gpu_record import FILE_NAME, Record
from gpu_report import write_tables
from gpu_worker import measure_part
from gpu_world import World
from masqclip.cli.output_files import check_folder
from masqclip.data.files import remove_scratch, write_atomically
from masqclip.data.locks import lock_folder
from masqclip.devices import choose_device
from masqclip.errors import MasqclipError
from masqclip.training.signals import stop_signals

ROOT = Path(__file__).resolve().parents[1]
WORLD_PLAN = ROOT / "src" / "masqclip" / "recipes" / "plans" / "world.toml"
TINY_PLAN = ROOT / "benchmarks" / "gpu_tiny.toml"
TINY_SPRITES = ROOT / "tests" / "data" / "sprites"

#: The parts, and their shares of the time.
SHARES = {"world": 0.5, "speed": 0.25, "tuning": 0.1, "proposer": 0.15}

Part = Callable[[float, Sequence[int]], bool]


def run_parts(parts: dict[str, Part], seconds: float, stopped: Sequence[int]) -> list[str]:
    """Run parts, each to its end or to its deadline, and again while there is time.

    Args:
        parts: what to run until a deadline; each says whether it has nothing left to do.
        seconds: for all of them.
        stopped: not empty any more once a signal asks to stop.

    Returns:
        The parts that have something left to do.
    """
    end = time.monotonic() + seconds
    left = list(parts)
    while left:
        waiting = list(left)
        for name in list(left):
            now = time.monotonic()
            share = SHARES[name] / sum(SHARES[one] for one in waiting)
            waiting.remove(name)
            if stopped or end - now < 1.0:
                return left
            if parts[name](now + share * (end - now), stopped):
                left.remove(name)
    return left


def main(
    *,
    out: Path,
    work: Path | None = None,
    minutes: float = 25.0,
    parts: str = ",".join(SHARES),
    device: str = "cuda",
    tiny: bool = False,
    plan: Path | None = None,
    sprites: Path | None = None,
    carry: Path | None = None,
    retry_failed: bool = False,
) -> None:
    """Measure what is not measured yet, and write DIR/results.json and DIR/results.md.

    Args:
        out: what is brought home: results, reports, the model, what to go on from.
        work: where the plan runs, which stays behind; ``OUT-work`` unless given.
        minutes: for this call.
        parts: which, between commas.
        device: cuda, cuda:1 or cpu.
        tiny: with tiny models, to try the program itself.
        plan: of the world; the second world's unless given.
        sprites: a sprite cache that is built already; the plan's step that builds it is left out.
        carry: an --out that was brought home from another machine, to go on from.
        retry_failed: measure again what ended in an error, but for want of memory.
    """
    try:
        _run(out, work or out.with_name(f"{out.name}-work"), minutes, _chosen(parts), device,
             tiny, plan, sprites, carry, retry_failed)  # fmt: skip
    except MasqclipError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _run(
    out: Path,
    work: Path,
    minutes: float,
    chosen: list[str],
    device: str,
    tiny: bool,
    plan: Path | None,
    sprites: Path | None,
    carry: Path | None,
    retry_failed: bool,
) -> None:
    if not minutes > 0:
        raise MasqclipError(f"--minutes {minutes:g}: give more than 0")
    kind = _take_device(device)
    check_folder(out)
    check_folder(work, "--work")
    with stop_signals() as stopped, lock_folder(work):
        out.mkdir(parents=True, exist_ok=True)
        remove_scratch(out)  # of a call that was killed
        if carry is not None:
            _take_over(carry, out)
        record = Record(out, {"tiny": tiny, "device": kind}, retry_failed=retry_failed)
        running: dict[str, Part] = {}
        if "world" in chosen:
            default = TINY_PLAN if tiny else WORLD_PLAN
            world = World(
                plan or default,
                sprites=sprites or (TINY_SPRITES if tiny else None),
                work=work,
                out=out,
                record=record,
                every=1.0 if tiny else 60.0,
            )
            running["world"] = world.run
        for name in [name for name in chosen if name != "world"]:
            running[name] = _measuring(name, record, kind, tiny)
        left = chosen
        try:
            left = run_parts(running, 60 * minutes, stopped)
        finally:
            notes = [f"Not done yet: {', '.join(left)}"] if left else []
            write_tables(record, out, notes)
            print((out / "results.md").read_text())
            for line in [*notes, *filter(None, [beyond_limits(out)])]:
                print(line, flush=True)


def _chosen(parts: str) -> list[str]:
    """The parts that are named, in their own order.

    Raises:
        MasqclipError: there is none of a name.
    """
    named = [name.strip() for name in parts.split(",")]
    for name in named:
        if name not in SHARES:
            raise MasqclipError(f"--parts {name!r}: there are {', '.join(SHARES)}")
    return [name for name in SHARES if name in named]


def _take_device(device: str) -> str:
    """See that a device is there, and let the processes started from here see no other GPU.

    Raises:
        MasqclipError: it is not there, or no device for this program.
    """
    where = choose_device(device)
    if where.type not in ("cpu", "cuda"):
        raise MasqclipError(f"device {device}: this program measures cuda or cpu")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if where.type == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif where.index is not None:
        names = seen.split(",") if seen else []
        os.environ["CUDA_VISIBLE_DEVICES"] = (
            names[where.index] if where.index < len(names) else str(where.index)
        )
    return where.type


def _take_over(carry: Path, out: Path) -> None:
    """Copy what was brought home from another machine, unless there are results already.

    Raises:
        MasqclipError: it is not there.
    """
    if not (carry / FILE_NAME).is_file():
        raise MasqclipError(f"--carry {carry}: there is no {FILE_NAME} in it")
    if (out / FILE_NAME).exists() or carry.resolve() == out.resolve():
        return
    paths = [path for name in (MODEL, REPORTS, CARRIED) for path in volumes(carry, name)]
    for path in [*paths, carry / FILE_NAME]:  # the results last: they say that all is there
        write_atomically(out / path.name, path.read_bytes())


def _measuring(name: str, record: Record, device: str, tiny: bool) -> Part:
    def run(deadline: float, stopped: Sequence[int]) -> bool:
        return measure_part(
            name, record, device=device, tiny=tiny, deadline=deadline, stopped=stopped
        )

    return run


if __name__ == "__main__":
    cyclopts.run(main)
