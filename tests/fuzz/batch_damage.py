"""`masqclip batch`, disturbed: each case ends in equal bytes or in one line.

    python tests/fuzz/batch_damage.py [PART OF A NAME]

The stages run in this process, without Ray, so they are quick; tests/batch has a job on Ray.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from unittest import mock

from batch_changes import CASES as CHANGES
from batch_job import BATCH, ENTRY, KEPT, SHARD, finished, interrupted, prepared, same_again
from damage import (
    Cases,
    cut,
    failing_writes,
    flip,
    main_of,
    refuse,
    run,
    small_disk,
    started,
    succeed,
    tree,
)

from masqclip.batch.shards import JobFolder
from masqclip.batch.storage import StorageError
from masqclip.data.locks import lock_folder

CASES = Cases(CHANGES)


# Killed


@CASES.add("killed after the first shard")
def _() -> None:
    interrupted(1)
    shutil.move("out", "first")
    before = finished()
    shutil.rmtree("out")
    shutil.move("first", "out")
    succeed(BATCH)
    assert tree("out") == before


@CASES.add("killed before its plan was whole")
def _() -> None:
    before = finished()
    for path in (*Path("out").glob("shards/*"), *Path("out").glob("_manifest/*")):
        path.unlink()
    Path("out/job.json").unlink()
    succeed(BATCH)
    assert tree("out") == before


@CASES.add("killed by SIGKILL at a commit", slow=True)
def _() -> None:
    before = finished()
    shutil.rmtree("out")
    for at in ("_manifest/00000000.json", "shards/00000002.parquet"):
        other = started(f"from batch_job import killed_at; killed_at({at!r})")
        assert other.wait(120) == -signal.SIGKILL
        assert not Path("out", at).exists()
    succeed(BATCH)
    assert tree("out") == before


@CASES.add("killed between a shard and its entry")
def _() -> None:
    before = finished()
    ENTRY.unlink()
    SHARD.write_bytes(b"older")
    succeed(BATCH)
    assert tree("out") == before


# Results damaged


@CASES.add("a shard deleted")
def _() -> None:
    same_again(SHARD.unlink)


@CASES.add("a shard cut short")
def _() -> None:
    same_again(lambda: cut(SHARD))


@CASES.add("a shard replaced by another")
def _() -> None:
    same_again(lambda: shutil.copy("out/shards/00000003.parquet", SHARD))


@CASES.add("a bit of a shard turned, found by --verify")
def _() -> None:
    same_again(lambda: flip(SHARD), BATCH, "--verify")


@CASES.add("a bit of the embeddings turned, found by --verify")
def _() -> None:
    same_again(lambda: flip("out/embeddings/00000000.parquet"), KEPT, "--verify")


@CASES.add("all shards deleted")
def _() -> None:
    same_again(lambda: shutil.rmtree("out/shards"))


@CASES.add("an entry of the manifest with a bit turned")
def _() -> None:
    same_again(lambda: flip(ENTRY, 0.3))


@CASES.add("an entry of the manifest cut short")
def _() -> None:
    same_again(lambda: cut(ENTRY))


@CASES.add("an entry of the manifest that is nested deeply")
def _() -> None:
    same_again(lambda: ENTRY.write_text("[" * 100_000))


@CASES.add("an entry of the manifest of another shard")
def _() -> None:
    same_again(lambda: shutil.copy("out/_manifest/00000000.json", ENTRY))


@CASES.add("a shard COCO file cut short")
def _() -> None:
    same_again(lambda: cut("out/shards/00000000.json"), [*BATCH, "--format", "coco"])


@CASES.add("an overlay deleted")
def _() -> None:
    def delete() -> None:
        next(Path("out/overlays").rglob("*.png")).unlink()

    same_again(delete, [*BATCH, "--overlay"])


@CASES.add("status of a damaged job says so")
def _() -> None:
    finished()
    SHARD.unlink()
    import io

    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        from masqclip.cli.main import main

        assert main(["batch", "-o", "out", "--status"]) == 0
    assert "3 of 4 shards" in told.getvalue()
    assert "damaged 1" in told.getvalue()


# The job's own files damaged


@CASES.add("job.json with a bit turned")
def _() -> None:
    finished()
    flip("out/job.json", 0.4)
    refuse(BATCH, "job.json")


@CASES.add("job.json cut short")
def _() -> None:
    finished()
    cut("out/job.json")
    refuse(BATCH, "job.json", "another folder")


@CASES.add("job.json empty, without the inputs repeated")
def _() -> None:
    finished()
    Path("out/job.json").write_bytes(b"")
    refuse(["batch", "-o", "out"], "job.json")


@CASES.add("job.json of a later version")
def _() -> None:
    finished()
    document = json.loads(Path("out/job.json").read_text())
    document["settings"]["magic"] = 1
    del document["digest"]
    Path("out/job.json").write_text(json.dumps(document))
    refuse(BATCH, "job.json", "magic")


@CASES.add("job.json of a later masqclip")
def _() -> None:
    finished()
    document = json.loads(Path("out/job.json").read_text())
    Path("out/job.json").write_text(json.dumps(document | {"version": 99}))
    refuse(BATCH, "job.json", "later masqclip", "99")


@CASES.add("job.json deleted, the results still there")
def _() -> None:
    finished()
    Path("out/job.json").unlink()
    refuse([*BATCH, "-t", "semantic"], "job.json is gone", "another folder")


@CASES.add("one bit of the plan turned, anywhere")
def _() -> None:
    interrupted(1)
    plan = Path("out/_plan/00000.parquet")
    whole = plan.read_bytes()
    for place in (0.01, 0.2, 0.35, 0.6, 0.8, 0.97):
        flip(plan, place, bit=3)
        refuse(BATCH, "_plan", "damaged", "another folder")
        plan.write_bytes(whole)
    succeed(BATCH)


@CASES.add("the plan deleted")
def _() -> None:
    interrupted(1)
    shutil.rmtree("out/_plan")
    refuse(BATCH, "_plan", "another folder")


@CASES.add("the plan with bits turned")
def _() -> None:
    interrupted(1)
    for place in (0.1, 0.3, 0.5, 0.99):
        flip("out/_plan/00000.parquet", place)
    refuse(BATCH, "_plan")


@CASES.add("the note of a shard set aside damaged")
def _() -> None:
    finished()
    Path("out/_failed").mkdir()
    Path("out/_failed/00000002.json").write_bytes(b"\xff")
    refuse(BATCH, "set aside")
    succeed([*BATCH, "--retry-failed"])


# Two at once, full, read-only


@CASES.add("two runs at once")
def _() -> None:
    finished()
    with lock_folder("out"):
        code = "from masqclip.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
        other = started(f"import sys; sys.argv[1:] = {BATCH!r}\n{code}")
        assert other.wait(60) == 2
        refuse(BATCH, f"process {os.getpid()}", "at work")


@CASES.add("a killed run's lock")
def _() -> None:
    before = finished()
    Path("out/.masqclip.lock").write_text("process 1 on somewhere")
    succeed(BATCH)
    assert tree("out") == before


@CASES.add("a full disk at a shard")
def _() -> None:
    before = finished()
    shutil.rmtree("out")
    fsync = os.fsync
    written: list[int] = []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with mock.patch("os.fsync", full):
        code, said = run(BATCH)
    assert code == 2, said
    assert "Traceback" not in said
    succeed(BATCH)  # no shard was set aside: it was not their fault
    assert tree("out") == before


@CASES.add("a full disk while parts are written")
def _() -> None:
    before = finished()
    shutil.rmtree("out")
    with mock.patch.object(JobFolder, "write_part", side_effect=StorageError("x: no room")):
        refuse(BATCH, "no room")
    succeed(BATCH)
    assert tree("out") == before


@CASES.add("a read-only disk")
def _() -> None:
    with failing_writes("", errno.EROFS):
        refuse(BATCH, "Read-only")
    succeed(BATCH)


@CASES.add("a full disk at the plan")
def _() -> None:
    with failing_writes("", errno.ENOSPC):
        refuse(BATCH, "No space left")
    succeed(BATCH)


@CASES.add("a disk that is too small", slow=True)
def _() -> None:
    with small_disk(Path("disk"), 0.03) as there:
        if there:
            words = [word if word != "out" else "disk/out" for word in BATCH]
            code, said = run(words)
            assert code == 2, said
            assert "Traceback" not in said


@CASES.add("a file where the folder should be")
def _() -> None:
    Path("out").write_text("a file")
    refuse(BATCH)


if __name__ == "__main__":
    sys.exit(main_of({f"batch: {case.name}": case for case in CASES}, lambda name: prepared))
