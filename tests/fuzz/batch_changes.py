"""`masqclip batch`, when what it reads has changed since: weights, pictures, kept embeddings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from batch_job import BATCH, ENTRY, KEPT, MINI, finished, interrupted
from damage import Cases, copy, flip, refuse, succeed, tree

CASES = Cases()


@CASES.add("other weights under the same name")
def _() -> None:
    copy(MINI, "model")
    words = [*BATCH, "-m", "./model"]
    finished(words)
    flip("model/model.safetensors", 0.7)
    ENTRY.unlink()
    refuse(words, "other weights", "another folder")


@CASES.add("a picture changed that is not done")
def _() -> None:
    interrupted(1)
    picture = Path("photos/p4.bmp")
    picture.write_bytes(picture.read_bytes() + b"x")
    refuse(BATCH, "p4.bmp", "changed since the job was planned")


@CASES.add("a picture changed at the same size")
def _() -> None:
    interrupted(1)
    status = os.stat("photos/p4.bmp")
    flip("photos/p4.bmp", 0.9)
    os.utime("photos/p4.bmp", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    refuse(BATCH, "p4.bmp", "changed since the job was planned")


@CASES.add("a picture gone that is not done")
def _() -> None:
    interrupted(1)
    Path("photos/p4.bmp").unlink()
    refuse(BATCH, "p4.bmp", "gone since the job was planned")


@CASES.add("a picture changed, and accepted")
def _() -> None:
    interrupted(1)
    Path("photos/p4.bmp").unlink()
    Path("photos/p5.bmp").write_bytes(Path("photos/p3.bmp").read_bytes())
    succeed([*BATCH, "--accept-changes"])
    rows = pq.read_table("out/shards").to_pylist()
    assert [row["error"] is None for row in rows] == [True] * 4 + [False, True, False]


@CASES.add("a picture gone that is done")
def _() -> None:
    before = finished()
    Path("photos/p0.bmp").unlink()
    succeed(BATCH)
    assert tree("out") == before


@CASES.add("other names")
def _() -> None:
    finished()
    refuse(["batch", "photos", "-v", "car", "-o", "out", "--shard-size", "2"], "vocabulary")


@CASES.add("embeddings changed since they were kept")
def _() -> None:
    finished(KEPT)
    flip("out/embeddings/00000000.parquet")
    words = ["batch", "out", "-v", "bicycle", "-o", "more", "-q"]
    refuse(words, "set aside", "not those that were kept")


@CASES.add("embeddings deleted since they were kept")
def _() -> None:
    finished(KEPT)
    Path("out/embeddings/00000000.parquet").unlink()
    refuse(["batch", "out", "-v", "bicycle", "-o", "more", "-q"], "is missing", "repairs it")


@CASES.add("all embeddings deleted since they were kept")
def _() -> None:
    finished(KEPT)
    shutil.rmtree("out/embeddings")
    refuse(["batch", "out", "-v", "bicycle", "-o", "more", "-q"], "is missing", "repairs it")


@CASES.add("embeddings of a job that is not done")
def _() -> None:
    finished(KEPT)
    ENTRY.unlink()
    refuse(["batch", "out", "-v", "bicycle", "-o", "more", "-q"], "not done", "to its end")


@CASES.add("a strange file among the embeddings")
def _() -> None:
    finished(KEPT)
    shutil.copy("out/embeddings/00000000.parquet", "out/embeddings/99999999.parquet")
    succeed(["batch", "out", "-v", "bicycle", "-o", "more", "-q"])
    rows = sum(pq.read_metadata(p).num_rows for p in Path("more/shards").glob("*.parquet"))
    assert rows == 7
