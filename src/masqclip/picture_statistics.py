"""By what a picture unlike those of training is known, measured and fitted (`own_world`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masqclip.clip.masked_vision import ImageTokens
from masqclip.own_world import OwnWorld


def own_statistics(world: OwnWorld | None, tokens: ImageTokens) -> NDArray[np.float32] | None:
    """[2 C]: what a model's test of pictures looks at; None where there is no test, or where the
    picture's tokens are not there."""
    if world is None or world.pictures is None or world.pictures.block >= len(tokens.values):
        return None
    found: NDArray[np.float32] = patch_statistics(tokens, world.pictures.block)[0].cpu().numpy()
    return found


def patch_statistics(tokens: ImageTokens, block: int) -> Tensor:
    """[B,2 C] float32: mean and deviation of a block's values over each picture's patches."""
    values = tokens.values[block].float()  # [B, N, 1 + P, C / N]
    patches = values.transpose(1, 2).flatten(2)[:, 1:]
    return torch.cat([patches.mean(dim=1), patches.std(dim=1)], dim=1)


def fit_pictures(
    own: Sequence[Tensor], others: Sequence[Tensor], *, shrinkage: float = 0.1
) -> tuple[Tensor, float]:
    """Fisher's discriminant between pictures at home and others.

    Args:
        own, others: [2 C] of each (`patch_statistics`).
        shrinkage: of the covariance towards a multiple of the identity.

    Returns:
        The weights [2 C], and the middle between the two means.
    """
    mine, theirs = torch.stack(list(own)).double(), torch.stack(list(others)).double()
    scale = mine.std(dim=0) + 1e-6
    covariance = (torch.cov((mine / scale).T) + torch.cov((theirs / scale).T)) / 2
    size = len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.trace() / size * torch.eye(
        size, dtype=covariance.dtype
    )
    gap = (theirs.mean(dim=0) - mine.mean(dim=0)) / scale
    weights = torch.linalg.solve(covariance, gap) / scale
    weights = weights / weights.norm()
    middle = float((mine.mean(dim=0) + theirs.mean(dim=0)) @ weights / 2)
    return weights.float(), middle
