"""Several processes that share a measurement: each takes every n-th picture.

``accelerate launch`` (or ``torchrun``) starts them and says so in the environment. Predictions go
to one folder, which all of them must see; tallies are gathered at the end.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from masqclip.errors import require

T = TypeVar("T")
# Processes wait for the slowest one; a picture may take minutes on a processor.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many."""

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Processes:
        """As the environment says; one process where it says nothing."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes reports."""
        return self.index == 0

    def device(self, name: str | None) -> str | None:
        """The device asked for; unless one is, or ``cuda`` is, each process takes a GPU."""
        import torch

        if self.count == 1 or name not in (None, "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"

    def gather(self, mine: T) -> list[T]:
        """What every process hands in, in their order, to all of them.

        Raises:
            MasqclipError: Accelerate is not installed (extra ``train``).
        """
        if self.count == 1:
            return [mine]
        accelerate: Any = require("accelerate", extra="train", purpose="sharing an evaluation")
        utils: Any = require("accelerate.utils", extra="train", purpose="sharing an evaluation")
        # Objects, not tensors, are exchanged, and rarely: gloo does it on every machine.
        accelerate.PartialState(cpu=True, timeout=_PATIENCE)
        atexit.register(leave_group)
        gathered: list[T] = utils.gather_object([mine])
        return gathered


def leave_group() -> None:
    """End this process's part in a group of processes, if it is in one.

    A process that exits without it may be aborted, its work all done, by threads still talking.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
