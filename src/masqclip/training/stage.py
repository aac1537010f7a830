"""What one stage of training is made of, for the loop to run on any number of processes.

The batch of a step is one and the same however many processes there are and however many
micro-batches each makes of its share: a `Share` says which pictures a part holds. Two rules keep
the parts' losses equal to those of the whole batch:

- **Everything a stage returns is additive.** A mean over masks is written as the sum over the
  part's own masks, divided by the number of masks of the whole batch. `prepare` counts, the loop
  sums the counts over all parts, `losses` divides by these totals.
- **Random numbers belong to a picture**, not to a batch: they are drawn from (seed, step, place in
  the batch), see `sampling.picture_seed`.

What couples pictures beyond sums (contrastive negatives) is gathered with its gradient, see
`distributed.py`, and cannot be split into micro-batches (`accumulates`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masqclip.errors import MasqclipError

Counts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Share:
    """One of `count` equal parts of a step's batch, numbered from 0."""

    index: int = 0
    count: int = 1

    def of(self, batch_size: int) -> range:
        """The places in the batch that are this part's.

        Raises:
            MasqclipError: the batch cannot be divided so.
        """
        if batch_size % self.count:
            raise MasqclipError(
                f"a batch of {batch_size} cannot be split into {self.count} equal parts (processes "
                "times accumulate); give a batch_size that is a multiple of it"
            )
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)


#: All of a batch: one process, no accumulation.
WHOLE = Share()


class Stage(ABC):
    """A stage of training: what trains, what a batch is, what is minimised.

    Attributes:
        name: stands in checkpoints, which only fit their own stage.
        settings: a dataclass with at least ``batch_size``; it is written beside the checkpoints.
        module: what trains, and what a checkpoint holds.
        accumulates: whether a batch may be split into micro-batches.
        notes: what was left out of the annotations or read in another way, a line each.
    """

    name: str
    settings: Any
    module: nn.Module
    accumulates = True
    notes: tuple[str, ...] = ()

    @property
    def network(self) -> nn.Module:
        """Everything that runs, trained or frozen."""
        return self.module

    @property
    def data(self) -> dict[str, int]:
        """What it trains on, counted: ``{"pictures": 16000}``."""
        return {}

    @property
    def inputs(self) -> Mapping[str, str]:
        """What it trains on and starts from: each option's name, and a digest of the content."""
        return {}

    @property
    def remarks(self) -> str:
        """What to say at the end of a run, such as which pictures were skipped; mostly nothing."""
        return ""

    def to(self, device: torch.device) -> None:
        """Move everything that the losses need."""
        self.network.to(device)

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's groups, each with its ``lr`` and ``weight_decay``."""

    @abstractmethod
    def batch(self, step: int, share: Share = WHOLE) -> Any:
        """A part of the batch of a step, on the CPU: a pure function of seed, step and share."""

    def prepare(self, batch: Any) -> tuple[Any, Counts]:
        """What needs no gradient, on the device: the batch with its targets, and its counts.

        The counts are summed over all parts of the batch and come back as `totals` of `losses`.
        """
        return batch, {}

    @abstractmethod
    def losses(self, batch: Any, totals: Counts) -> dict[str, Tensor]:
        """This part's share of ``loss``, which is minimised, and of what else is worth watching.

        Args:
            batch: as `prepare` returned it.
            totals: the counts of the whole batch.
        """

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Figures on held-out data; none without such data.

        The first one decides which weights are the best so far (more is better). Pictures go to
        `folder`, named by `step`. Training goes on afterwards: modes are put back.
        """
        return {}

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained result as a folder that `from_pretrained` reads."""


def batch_losses(stage: Stage, batch: Any) -> dict[str, Tensor]:
    """The losses of a whole batch, outside of a training run."""
    with torch.no_grad():
        prepared, counts = stage.prepare(batch)
    return stage.losses(prepared, counts)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of a nested batch to the device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
