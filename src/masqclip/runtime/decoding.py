"""The three published ways from proposals to a result, with NumPy.

The same rules as `masqclip.decoding`, which says where each comes from; the results are the same
but where two numbers differ by rounding alone.

Shapes: Q proposals, K classes, H x W output pixels, N results, U different masks among them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masqclip.decoding.winner import PanopticSegment, keep_winners
from masqclip.runtime.masks import Floats, ResizedMasks, row_chunks, sigmoid


@dataclass(frozen=True)
class Instances:
    """Instances in falling order of score; instance ``n`` has the mask ``mask_index[n]``."""

    unique_masks: NDArray[np.bool_]  # [U, H, W]; [U, 0, 0] where they are not kept
    unique_queries: NDArray[np.int64]  # [U], the proposals that they are of
    mask_index: NDArray[np.int64]  # [N]
    scores: Floats  # [N]
    class_ids: NDArray[np.int64]  # [N]


def sound_proposals(masks: ResizedMasks, log_probs: Floats) -> NDArray[np.bool_]:
    """Which proposals hold numbers, in their masks and their classes [Q,K]: [Q]."""
    return masks.sound() & ~np.isnan(log_probs).any(axis=1)


def decode_instance(
    masks: ResizedMasks,
    log_probs: Floats,
    *,
    top_k: int = 100,
    min_score: float = 0.0,
    stuff_ids: Collection[int] = frozenset(),
    keep_masks: bool = True,
) -> Instances:
    """Pick the best (proposal, class) pairs; see `masqclip.decoding.instance.decode_instance`."""
    classes = log_probs.shape[1]
    sound = sound_proposals(masks, log_probs)[:, None]
    whole = np.where(sound, np.exp(log_probs), np.float32(0)).ravel()
    pairs = np.argsort(-whole, kind="stable")[:top_k]
    probs = whole[pairs]
    possible = probs >= min_score
    possible &= ~np.isin(pairs % classes, list(stuff_ids))
    probs, pairs = probs[possible], pairs[possible]

    queries, index = np.unique(pairs // classes, return_inverse=True)
    kept, inside = _binarise(masks.select(queries), keep=keep_masks)
    scores = probs * inside[index]
    order = np.argsort(-scores, kind="stable")
    order = order[(scores[order] >= min_score) & (scores[order] > 0)]
    used, index = np.unique(index[order], return_inverse=True)
    return Instances(
        unique_masks=kept if len(used) == len(kept) else kept[used],
        unique_queries=queries[used],
        mask_index=index,
        scores=scores[order],
        class_ids=pairs[order] % classes,
    )


def instance_mask(masks: ResizedMasks, proposal: int) -> NDArray[np.bool_]:
    """The mask [H,W] of one proposal."""
    return _binarise(masks.select(np.array([proposal])), keep=True)[0][0]


def _binarise(masks: ResizedMasks, *, keep: bool) -> tuple[NDArray[np.bool_], Floats]:
    """Masks [Q,H,W] and the mean mask probability [Q] inside each, 0 if it is empty."""
    queries, height, width = masks.shape
    kept = np.empty((queries, *((height, width) if keep else (0, 0))), bool)
    area, inside = np.zeros(queries), np.zeros(queries)
    for start, stop in row_chunks(height, queries * width):
        logits = masks.rows(start, stop)
        band = logits > 0
        if keep:
            kept[:, start:stop] = band
        area += band.sum(axis=(1, 2))
        inside += np.where(band, sigmoid(logits), 0).sum(axis=(1, 2))
    return kept, (inside / area.clip(1)).astype(np.float32)


def decode_panoptic(
    masks: ResizedMasks,
    log_probs: Floats,
    *,
    stuff_ids: Collection[int],
    object_threshold: float = 0.3,
    overlap_threshold: float = 0.3,
) -> tuple[NDArray[np.int32], list[PanopticSegment]]:
    """Divide the picture among the proposals; see `masqclip.decoding.panoptic.decode_panoptic`.

    Returns:
        The map [H,W] of segments' ids, 0 where nobody is, and the segments.
    """
    probs, class_ids = np.exp(log_probs.max(axis=1)), log_probs.argmax(axis=1)
    competes = (probs > object_threshold) & sound_proposals(masks, log_probs)
    probs, class_ids = probs[competes], class_ids[competes]
    if not len(probs):
        return np.zeros(masks.output_size, np.int32), []
    owner, won, area, solid = _contest(masks.select(np.flatnonzero(competes)), probs)
    segments, ids = keep_winners(
        class_ids.tolist(),
        probs.tolist(),
        won.tolist(),
        area.tolist(),
        solid.tolist(),
        stuff_ids=stuff_ids,
        overlap_threshold=overlap_threshold,
    )
    return np.array(ids, np.int32)[owner], segments


def _contest(
    masks: ResizedMasks, probs: Floats
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Let the proposals compete for the pixels, band by band.

    Returns:
        The winner of each pixel [H,W] where its own mask is, else Q; and the pixels that each
        proposal has won, that its mask has, and that are both, [Q].
    """
    queries, height, width = masks.shape
    owner = np.empty((height, width), np.int32)
    won, area, solid = np.zeros((3, queries), np.int64)
    for start, stop in row_chunks(height, queries * width):
        mask_probs = sigmoid(masks.rows(start, stop))
        inside = mask_probs >= 0.5
        winner = (probs[:, None, None] * mask_probs).argmax(axis=0)
        own = np.take_along_axis(inside, winner[None], axis=0)[0]
        band = np.where(own, winner, queries)
        owner[start:stop] = band
        won += np.bincount(winner.ravel(), minlength=queries)
        area += inside.sum(axis=(1, 2))
        solid += np.bincount(band.ravel(), minlength=queries + 1)[:queries]
    return owner, won, area, solid
