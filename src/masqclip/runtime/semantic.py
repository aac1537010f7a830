"""Semantic decoding with NumPy: one class a pixel, by the rule of `masqclip.decoding.semantic`.

Shapes: Q proposals, K classes, H x W output pixels, T tiles of P pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from masqclip.runtime.decoding import sound_proposals
from masqclip.runtime.masks import Floats, ResizedMasks, sigmoid

_ROWS, _COLUMNS = 16, 32  # of a tile: small enough to hold few masks' borders
_LEADERS = 8
_TINY = float(np.finfo(np.float32).tiny)
# Sums in another order may differ in the last bits; a bound must not fall short of a score.
_SLACK = np.float32(1 + 1e-5)


def decode_semantic(
    masks: ResizedMasks, log_probs: Floats, *, min_score: float = 0.0
) -> tuple[NDArray[np.int32], Floats]:
    """Give every pixel the class of the highest score.

    Returns:
        The class of each pixel [H,W], -1 where none reaches `min_score`, and its score [H,W].
    """
    height, width = masks.output_size
    classes = np.full((height, width), -1, np.int32)
    scores = np.zeros((height, width), np.float32)
    sound = sound_proposals(masks, log_probs)
    if not sound.any():
        return classes, scores
    masks, votes = masks.select(np.flatnonzero(sound)), np.exp(log_probs[sound])
    least = max(min_score, _TINY)  # where nobody votes, the first class has won nothing
    favourites = np.unique(votes.argmax(axis=1))
    for start in range(0, height, _ROWS):
        stop = min(start + _ROWS, height)
        mask_probs = sigmoid(masks.rows(start, stop))
        for left in range(0, width, _COLUMNS):
            tile = mask_probs[:, :, left : left + _COLUMNS]
            best, winner = _contest(tile.reshape(len(tile), -1), votes, favourites)
            place = (slice(start, stop), slice(left, left + _COLUMNS))
            scores[place] = best.reshape(tile.shape[1:])
            classes[place] = np.where(best < least, -1, winner).reshape(tile.shape[1:])
    return classes, scores


def _contest(
    mask_probs: Floats, votes: Floats, favourites: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    """The best score and its class at every pixel of a tile: both [P].

    Few classes can win in a tile: no score of class k exceeds ``sum_q votes[q,k] * max(mask_q)``
    there. The scores of a few leaders come first, then those of classes whose bound reaches the
    lowest pixel's best. The result is that of the arg-max over all classes.

    Args:
        mask_probs: [Q,P].
        votes: [Q,K].
        favourites: the classes that are some proposal's best.
    """
    bounds = (mask_probs.max(axis=1) @ votes) * _SLACK
    order = np.argsort(-bounds[favourites], kind="stable")[:_LEADERS]
    leaders = np.sort(favourites[order])  # of equal scores the first class wins
    best, winner = _best_of(leaders, mask_probs, votes)
    bounds[leaders] = -1
    rivals = np.flatnonzero(bounds >= best.min())
    rivals = rivals[np.argsort(-bounds[rivals], kind="stable")]
    number = _LEADERS
    while len(rivals) and bounds[rivals[0]] >= best.min():
        some, rivals = np.sort(rivals[:number]), rivals[number:]
        challenge, challenger = _best_of(some, mask_probs, votes)
        wins = (challenge > best) | ((challenge == best) & (challenger < winner))
        best, winner = np.where(wins, challenge, best), np.where(wins, challenger, winner)
        number *= 2
    return best, winner


def _best_of(
    classes: NDArray[np.int64], mask_probs: Floats, votes: Floats
) -> tuple[Floats, NDArray[np.int64]]:
    scores = votes[:, classes].T @ mask_probs
    place = scores.argmax(axis=0)
    return np.take_along_axis(scores, place[None], axis=0)[0], classes[place]
