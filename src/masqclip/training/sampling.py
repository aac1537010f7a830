"""Which samples a step sees, and their random numbers: pure functions of seed and step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch


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
