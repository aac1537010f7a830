"""Weights and inputs that two programs make alike, each by itself: by the name of a tensor.

numpy's old generator is frozen, number for number, in every version.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def made(name: str, shape: Sequence[int]) -> Tensor:
    """A tensor of float32 numbers of the scales that trained models have.

    Args:
        name: by which its numbers are drawn.
        shape: of it.
    """
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    numbers = torch.from_numpy(draw.standard_normal(math.prod(shape)).astype(np.float32))
    numbers = numbers.reshape(tuple(shape))
    if "scale" in name or "logit_bias" in name:
        return torch.full(tuple(shape), 2.0)
    if len(shape) == 1 and name.endswith("weight"):  # of a norm
        return 1 + 0.1 * numbers
    if len(shape) < 2:
        return 0.1 * numbers
    if "embedding" in name or "pos_embed" in name or "cls_token" in name:
        return 0.5 * numbers
    return numbers / math.sqrt(math.prod(shape[1:]))


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict of tensors of those names and shapes."""
    return {name: made(name, shape) for name, shape in shapes.items()}


def picture(size: tuple[int, int], count: int = 2) -> Tensor:
    """[count,3,H,W]: pictures of noise, normalised."""
    draw = np.random.RandomState(size[0] * 1000 + size[1])
    pixels = draw.standard_normal((count, 3, *size)).astype(np.float32)
    return torch.from_numpy(pixels)


def tokens(vocabulary: int, length: int, lengths: Sequence[int]) -> Tensor:
    """[N,length] tokens of texts: a start, so many words, an end, and zeros."""
    found = torch.zeros(len(lengths), length, dtype=torch.int64)
    draw = np.random.RandomState(vocabulary)
    for row, words in zip(found, lengths, strict=True):
        ids = draw.randint(1, vocabulary - 2, words)
        row[: words + 2] = torch.tensor([vocabulary - 2, *ids.tolist(), vocabulary - 1])
    return found
