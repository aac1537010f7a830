"""Which samples a step sees, and their random numbers: pure functions of seed and step.

A picture that cannot be read does not end a run: the next one takes its place (`read_samples`), and
`SkippedPictures` names them at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch

from masqclip.data.coco import Sample, Samples
from masqclip.errors import MasqclipError

#: A dataset with a larger share of unreadable pictures than this is broken, and training stops.
MAX_SKIPPED = 0.1


def step_indices(size: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The sample numbers of a step.

    Epochs follow one another without a gap, each in an order drawn from (seed, epoch), so every
    sample is seen equally often and a resumed run sees just what an undisturbed one would.

    Args:
        size: number of samples.
        batch_size: samples a step.
        seed: of the orders.
        step: counted from 0.
    """
    places = range(step * batch_size, (step + 1) * batch_size)
    return [_order(size, seed, place // size)[place % size] for place in places]


def batch_rows(dataset: Samples, batch_size: int, seed: int, step: int) -> list[int]:
    """The rows of a step: of scenes without end each once, else as `step_indices` has them."""
    if dataset.endless:
        return list(range(step * batch_size, (step + 1) * batch_size))
    return step_indices(len(dataset), batch_size, seed, step)


def picture_seed(seed: int, step: int, place: int, purpose: str) -> int:
    """The seed of one picture's random numbers, whoever draws them and whatever else is drawn.

    Args:
        seed: of the run.
        step: counted from 0.
        place: of the picture in the step's whole batch.
        purpose: what the numbers are for; each purpose has its own.
    """
    entropy = (seed, step, place, *purpose.encode())
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@lru_cache(maxsize=8)
def _order(size: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed((seed * 7_919 + epoch) & 0x7FFFFFFFFFFFFFFF)
    return tuple(torch.randperm(size, generator=generator).tolist())


def read_samples(
    dataset: Samples, rows: Sequence[int]
) -> tuple[list[tuple[int, Sample]], list[str]]:
    """The samples of these rows; one that cannot be read is replaced by the next that can.

    Returns:
        As many samples as rows, each with its own row, and for each that was skipped one line that
        names it.

    Raises:
        MasqclipError: more than a tenth of the dataset in a row cannot be read.
    """
    samples, skipped = [], []
    for first in rows:
        for ahead in range(int(MAX_SKIPPED * len(dataset)) + 1):
            try:
                row = (first + ahead) % len(dataset)
                samples.append((row, dataset[row]))
                break
            except MasqclipError as error:
                skipped.append(str(error))
        else:
            raise MasqclipError(_too_many(skipped, len(dataset)))
    return samples, skipped


class SkippedPictures:
    """The pictures that training left out, each counted once.

    Args:
        total: pictures in the dataset.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.reasons: dict[str, None] = {}  # in the order in which they were met

    def note(self, reasons: Iterable[str]) -> None:
        """Add what a batch skipped.

        Raises:
            MasqclipError: more than a tenth of the dataset cannot be read.
        """
        self.reasons.update(dict.fromkeys(reasons))
        if len(self.reasons) > MAX_SKIPPED * self.total:
            raise MasqclipError(_too_many(list(self.reasons), self.total))

    def summary(self) -> str:
        """What to say at the end of a run; empty when every picture could be read."""
        if not self.reasons:
            return ""
        lines = "".join(f"\n  {reason}" for reason in self.reasons)
        return f"{len(self.reasons)} of {self.total} pictures were skipped:{lines}"


def _too_many(reasons: Sequence[str], total: int) -> str:
    return (
        f"more than a tenth of the {total} pictures cannot be read, the first because of this: "
        f"{reasons[0]}"
    )
