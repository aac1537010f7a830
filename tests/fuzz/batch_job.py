"""A batch job in this process, without Ray, for cases of damage: prepared, done, interrupted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from damage import (
    run,
    succeed,
    tree,
)
from PIL import Image

from masqclip import Segmenter
from masqclip.batch import job, worker

BATCH = ["batch", "photos", "-v", "car, tulip, stuff: sand", "-o", "out", "--shard-size", "2", "-q"]
KEPT = [*BATCH, "--save-embeddings"]
SHARD = Path("out/shards/00000001.parquet")
ENTRY = Path("out/_manifest/00000001.json")
MINI = Path(worker.__file__).parents[1] / "models" / "masqclip-mini"


@cache
def _segmenter(model: str) -> Segmenter:
    return Segmenter.from_pretrained(model, device="cpu")


def _round(folder: Any, settings: Any, shards: list[int], pools: Any) -> Iterator[int]:
    """`job._round` without Ray: one shard after another, here."""
    segmenter = _segmenter(settings.model)
    stages = [] if settings.kind == "embeddings" else [
        worker.Encoder(folder, settings, "cpu", 1, segmenter)
    ]  # fmt: skip
    if settings.vocabulary is not None:
        stages.append(worker.Namer(folder, settings, "cpu", 1, segmenter))
    for shard in shards:
        parts, failure = 0, None
        for row in worker.read_shard(
            pa.table({"shard": [shard]}), folder=folder, settings=settings
        ):
            for stage in stages:
                row = stage(row)
            failure = failure or row["failure"][0].as_py()
            parts += 1
        if failure:
            folder.give_up(shard, failure)
            yield 0
        else:
            yield folder.commit(shard, parts, settings).errors


@contextlib.contextmanager
def without_ray() -> Iterator[None]:
    """Let jobs run in this process."""
    pools = contextlib.nullcontext(None)
    with (
        mock.patch.object(job, "_round", _round),
        mock.patch.object(job, "connected", return_value=pools),
    ):
        yield


@contextlib.contextmanager
def prepared(scratch: Path) -> Iterator[None]:
    """A folder to stand in with seven pictures, one broken, and their job in ``out``.

    What is in it is removed at the end: cases in one folder, one after another, share `finished`.
    """
    here = Path.cwd()
    os.chdir(scratch)
    with without_ray():
        Path("photos").mkdir()
        for seed in range(6):
            blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
            image = Image.fromarray(blocks).resize((48, 32), Image.Resampling.NEAREST)
            image.save(f"photos/p{seed}.bmp")
        Path("photos/p6.bmp").write_bytes(b"BM")
        for photo in Path("photos").iterdir():
            os.utime(photo, (1e9, 1e9))  # a job notes it
        try:
            yield
        finally:
            os.chdir(here)
            shutil.rmtree(scratch)
            scratch.mkdir()


_FINISHED: dict[tuple[str, ...], dict[str, bytes]] = {}


def finished(words: list[str] = BATCH) -> dict[str, bytes]:
    """The job, done; its files. They are the same whenever it is done here."""
    key = (str(Path.cwd()), *words)
    if key not in _FINISHED:
        succeed(words)
        _FINISHED[key] = tree("out")
    for name, content in _FINISHED[key].items():
        path = Path("out", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return _FINISHED[key]


def interrupted(stop_after: int) -> None:
    """A job of which so many shards were done when its process was killed."""

    def some(folder: Any, settings: Any, shards: list[int], pools: Any) -> Iterator[int]:
        yield from _round(folder, settings, shards[:stop_after], pools)
        folder.store.write("_work/00000009/shards.00000", b"half a shard")
        raise KeyboardInterrupt

    with mock.patch.object(job, "_round", some):
        assert run(BATCH)[0] == 130


def killed_at(name: str) -> None:
    """Do the job, and end this process by SIGKILL as soon as a file is to take its name."""
    replace = os.replace

    def kill(source: str, target: str) -> None:
        if str(target).endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    with without_ray(), mock.patch("os.replace", kill):
        run(BATCH)


def same_again(damage: Callable[[], object], words: list[str] = BATCH, *options: str) -> None:
    """Damage a finished job; the same command mends it, and says what it mended."""
    before = finished(words)
    damage()
    code, said = run([*words, *options])
    assert code == 0, said
    assert tree("out") == before
    assert "is done again" in said
