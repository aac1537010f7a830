"""The batches of a run, made ahead by worker processes, whose mistakes end it in one line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from masqclip.errors import MasqclipError, is_out_of_memory
from masqclip.training.settings import LoopSettings
from masqclip.training.signals import leave_signals_to_parent
from masqclip.training.stage import Share, Stage

#: How workers are started. On Linux they are forked, whatever a Python's own choice: what has been
#: read of annotations they share with this process. Elsewhere forking is unsafe or unknown, and
#: everything travels to them.
_START = "fork" if sys.platform == "linux" else None


def batches(
    stage: Stage,
    settings: LoopSettings,
    first: int,
    *,
    process: int = 0,
    processes: int = 1,
    pinned: bool = False,
) -> Generator[list[Any], None, None]:
    """For each step from `first` on, one process's micro-batches.

    Args:
        stage: makes them.
        settings: how many steps, micro-batches and workers.
        first: step.
        process: which one this is.
        processes: how many there are.
        pinned: have them in memory that a GPU copies from.

    Raises:
        MasqclipError: a batch cannot be made. All workers end with it.
    """
    loader = DataLoader(
        _Parts(stage, first, settings, process, processes),
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
        pin_memory=pinned,
        worker_init_fn=_begin,
        multiprocessing_context=_START if settings.workers else None,
    )
    parts = iter(loader)
    try:
        for _ in range(first, settings.steps):
            taken = [next(parts) for _ in range(settings.accumulate)]
            for part in taken:
                if isinstance(part, MasqclipError):
                    raise part
            yield taken
    finally:
        # Workers end with this, and the process waits for them; an error would keep it.
        del parts


@contextmanager
def ended_workers_told() -> Iterator[None]:
    """Tell in one line that a worker was ended from outside.

    torch raises it from a signal's handler, wherever the process is just then.

    Raises:
        MasqclipError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        # The others end when nothing holds the loader any more, and its frames do.
        traceback.clear_frames(error.__traceback__)
        raise MasqclipError(
            "a worker that reads pictures was ended, as a rule for want of memory: the same "
            "command goes on from the last checkpoint; set fewer workers"
        ) from error


class _Parts(Dataset[Any]):
    """A process's micro-batches of all steps, one after another, for a DataLoader to prepare."""

    def __init__(
        self, stage: Stage, first: int, settings: LoopSettings, process: int, processes: int
    ) -> None:
        self.stage, self.first, self.settings = stage, first, settings
        self.process, self.processes = process, processes

    def __len__(self) -> int:
        return (self.settings.steps - self.first) * self.settings.accumulate

    def __getitem__(self, index: int) -> Any:
        step, number = divmod(index, self.settings.accumulate)
        share = Share(
            number * self.processes + self.process, self.settings.accumulate * self.processes
        )
        try:
            return self.stage.batch(self.first + step, share)
        except Exception as error:
            # Handed over, not raised: a DataLoader makes a page of a worker's error.
            return _told(error)


def _begin(worker: int) -> None:
    leave_signals_to_parent(worker)
    # The threads that hand tensors over would print that the parent has hung up.
    sys.excepthook = lambda *_: None


def _told(error: Exception) -> MasqclipError:
    """An error of a worker as one line, which says where it came from; tracebacks do not travel."""
    if isinstance(error, MasqclipError):
        return error
    if is_out_of_memory(error):
        return MasqclipError("out of memory while pictures were read: set fewer workers")
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{Path(last.filename).name}, line {last.lineno}"
    said = " ".join(str(error).split())
    return MasqclipError(
        f"a batch cannot be made: {type(error).__name__}: {said:.300} ({where}); --set workers=0 "
        "with --debug shows all of it"
    )
