"""How far a job is, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        shards, images: of the whole job.
        done: shards that are done.
        images_done: pictures in them, bad ones included.
        errors: pictures that could not be read.
        failed: shards that were given up, and why.
        damaged: shards that were done and whose files are not what was written, and why.
        seconds_left: at the pace of the last minutes of work; None before there is one.
    """

    shards: int
    images: int
    done: int
    images_done: int
    errors: int
    failed: dict[int, str]
    damaged: dict[int, str]
    seconds_left: float | None

    @property
    def left(self) -> int:
        """Shards that wait to be done."""
        return self.shards - self.done - len(self.failed)
