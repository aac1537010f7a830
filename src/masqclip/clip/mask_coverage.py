"""Given masks on CLIP's patches: how much each patch counts to a mask that was drawn, not proposed.

A proposal's patches are seen or hidden (`patches.patch_visibility`, the published rule). That
is too coarse for a mask that is exact: a column of one pixel would count for nothing, or for as
much as a mask sixteen times as wide. Here a patch counts by how much of a mask lies in and beside
it, so that every mask with a pixel sees something and masks in different places see different
things.

- Each covered pixel is shared among the centres of the nearest patches by bilinear weights,
  integrated over the pixel's area: no pixel is too small, none too large.
- What a patch gets is measured by what it would get of a mask that covers the whole frame, so there
  the untuned model is CLIP itself.
- A mask that fills no patch is measured by the patch that it fills best, lest the class token
  drown it.

Shapes: N masks, H W the picture, P patches in R rows and C columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from masqclip.errors import MasqclipError
from masqclip.picture import Masks, misfit

_BAND = 1 << 21  # pixels that are worked on at once


def patch_weights(
    masks: Masks,
    *,
    size: tuple[int, int],
    resized: tuple[int, int],
    frame: tuple[int, int],
    grid: tuple[int, int],
    device: torch.device | str = "cpu",
) -> Tensor:
    """How much CLIP's patches count to each mask.

    Masks are read one by one and in bands, so however large they are, little memory is needed.

    Args:
        masks: N of them.
        size: (H, W) of the picture that they lie on.
        resized: its size inside the padded frame, top left.
        frame: of the padded frame that CLIP sees.
        grid: (R, C) of the patches.
        device: where to work.

    Returns:
        [N,P] float32, patches row by row: 0 where nothing of a mask is near, about 1 in its midst.

    Raises:
        MasqclipError: the masks are of another size, or hold anything but 0 and 1.
    """
    sides = zip(size, resized, frame, grid, strict=True)
    down, across = (_side_weights(*side, device) for side in sides)
    with torch.autocast(down.device.type, enabled=False):  # shares are sums of small numbers
        weights = [
            _mask_weights(mask, number, size, down, across)
            for number, mask in enumerate(_one_by_one(masks, size), start=1)
        ]
    if not weights:
        return torch.zeros(0, grid[0] * grid[1], dtype=torch.float32, device=device)
    return torch.stack(weights)


def _side_weights(length: int, resized: int, frame: int, patches: int, device: Any) -> Tensor:
    """[2,patches,length]: how much of each patch a pixel fills, and by how much it is near to it.

    Both are shares of one side. Positions are in patches, measured from the frame's start.
    """
    edges = torch.arange(length + 1, dtype=torch.float64) * resized * patches / (length * frame)
    centres = torch.arange(patches, dtype=torch.float64)[:, None] + 0.5
    ends = torch.tensor([0.0, patches], dtype=torch.float64)
    filled = (edges - centres).clamp(-0.5, 0.5).diff(dim=1)
    near = _tent_below(edges - centres).diff(dim=1) / _tent_below(ends - centres).diff(dim=1)
    return torch.stack([filled, near]).float().to(device)


def _tent_below(x: Tensor) -> Tensor:
    """The integral of the bilinear kernel, max(0, 1 - |x|), up to `x`; zero in its middle."""
    x = x.clamp(-1, 1)
    return x - x * x.abs() / 2


def _mask_weights(
    mask: Any, number: int, size: tuple[int, int], down: Tensor, across: Tensor
) -> Tensor:
    """[P] of one mask."""
    given = _as_tensor(mask, number)
    if tuple(given.shape) != size:
        raise misfit(f"mask {number} of shape {tuple(given.shape)} does", size)
    shares = down.new_zeros(2, down.shape[1], across.shape[1])
    step = max(1, _BAND // size[1])
    for start in range(0, size[0], step):
        band = given[start : start + step].to(down.device)
        if band.dtype != torch.bool and not bool(((band == 0) | (band == 1)).all()):
            wrong = band[(band != 0) & (band != 1)][0].item()
            raise MasqclipError(
                f"mask {number} holds {wrong:g}: give bool, or 0 and 1 (of probabilities masks > "
                "0.5, of logits masks > 0)"
            )
        rows = down[:, :, start : start + step]
        shares += rows @ (band.float() @ across.transpose(1, 2))
    filled, near = shares.flatten(1)
    fullest = filled.max()
    return near / fullest if fullest > 0 else near


def _one_by_one(masks: object, size: tuple[int, int]) -> Iterable[Any]:
    """The masks of an array or a list, none of which is copied yet."""
    if isinstance(masks, np.ndarray) or _is_dense(masks):
        if masks.ndim != 3 or tuple(masks.shape[1:]) != size:
            raise misfit(f"masks of shape {tuple(masks.shape)} do", size)
        return masks
    if isinstance(masks, Sequence) and not isinstance(masks, (str, bytes)):
        return masks
    raise MasqclipError(
        f"masks are of type {type(masks).__name__}: give an array [N, height, width] of bool"
    )


def _is_dense(mask: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor whose numbers can be read."""
    if not isinstance(mask, Tensor) or mask.is_nested or mask.is_quantized or mask.is_meta:
        return False
    return mask.layout == torch.strided and not mask.is_complex()


def _as_tensor(mask: Any, number: int) -> Tensor:
    """A mask as a tensor of its own; arrays that torch does not take are copied."""
    if isinstance(mask, Tensor):
        if _is_dense(mask):
            return mask.detach()
    else:
        try:
            array = np.array(mask, order="C")
        except ValueError:  # rows of several lengths
            array = np.array(None)
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            array = array.astype(np.float64)
        if array.dtype.kind in "buif":
            return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    kind = getattr(mask, "dtype", type(mask).__name__)
    raise MasqclipError(f"mask {number} is of type {kind}: give bool, or 0 and 1")
