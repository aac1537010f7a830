"""A part of a shard on its way through the stages, and how often a stage tries one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from masqclip.batch.shards import JobFolder
from masqclip.batch.storage import StorageError

TRIES = 3

#: A part between two stages.
PART = pa.schema(
    [
        ("shard", pa.int64()),
        ("part", pa.int32()),
        ("last", pa.bool_()),  # of its shard
        ("failure", pa.string()),  # why the shard is to be given up; null while all is well
        ("payload", pa.large_binary()),  # a table as an Arrow stream; null when it is written
    ]
)


@dataclass(frozen=True)
class Part:
    """A row of `PART`, its payload as a table."""

    shard: int
    part: int
    last: bool
    table: pa.Table | None = None
    failure: str | None = None

    @classmethod
    def from_row(cls, row: pa.Table) -> Part:
        """The part in a table of one row; its payload is not copied."""
        payload = row["payload"][0].as_buffer()
        return cls(
            shard=row["shard"][0].as_py(),
            part=row["part"][0].as_py(),
            last=row["last"][0].as_py(),
            failure=row["failure"][0].as_py(),
            table=None if payload is None else pa.ipc.open_stream(payload).read_all(),
        )

    def to_row(self) -> pa.Table:
        """As Ray Data carries it on."""
        payload = pa.nulls(1, pa.large_binary())
        if self.table is not None:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, self.table.schema) as writer:
                writer.write_table(self.table)
            content = sink.getvalue()
            ends = pa.py_buffer(np.array([0, len(content)], np.int64))
            payload = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, content])
        columns = [[self.shard], [self.part], [self.last], [self.failure], payload]
        return pa.table(columns, schema=PART)


def attempt(folder: JobFolder, stage: str, shard: int, part: int, work: Callable[[], Part]) -> Part:
    """Do a stage's work on a part, again if it fails; after `TRIES` times, say that it failed.

    Raises:
        StorageError: results cannot be written.
    """
    reason = f"{stage} ended its process"
    unwritten: StorageError | None = None
    for number in range(folder.attempts(shard, part, stage), TRIES):
        folder.begin_attempt(shard, part, stage, number)
        try:
            done = work()
        except StorageError as error:
            unwritten = error
        except Exception as error:
            unwritten = None
            reason = reason_of(stage, error)
        else:
            folder.end_attempts(shard, part, stage)
            return done
    if unwritten is not None:  # no fault of this shard: the job ends, and goes on when told to
        raise unwritten
    return Part(shard, part, last=True, failure=f"{reason}, {TRIES} times (part {part})")


def reason_of(stage: str, error: Exception) -> str:
    """An error in one line."""
    name = type(error).__name__
    return f"{stage}: {name}: {' '.join(str(error).split())[:300]}"
