"""Which samples a step sees: endless epochs, each a new order, as a pure function of the step."""

from __future__ import annotations

from functools import lru_cache

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


@lru_cache(maxsize=8)
def _order(size: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed((seed * 7_919 + epoch) & 0x7FFFFFFFFFFFFFFF)
    return tuple(torch.randperm(size, generator=generator).tolist())
