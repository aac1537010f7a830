"""From embeddings to class log-probabilities with NumPy, in the steps of the published method.

The same numbers, but for rounding, as `masqclip.clip.classifier`, `masqclip.proposals.base`,
`masqclip.levels` and `masqclip.segments.nearest_names`, which say where each comes from.

Shapes: Q masks, E embedding size, K classes, R text rows: K classes, distractors, "background".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.hierarchy import groups_at
from masqclip.clip.name_encoder import unit_rows
from masqclip.clip.vocabulary import Vocabulary
from masqclip.word_levels import places_below, words_at

Floats = NDArray[np.float32]


def class_log_probs(
    mask_embeddings: Floats,
    text_embeddings: Floats,
    *,
    num_classes: int,
    logit_scale: float,
    prune: float = 0.0,
    sigmoid_bias: float | None = None,
) -> Floats:
    """[Q,K] log-probabilities; see `masqclip.clip.classifier.class_log_probs`.

    Args:
        mask_embeddings: [Q,E], not normalised.
        text_embeddings: [R,E], or [R,S,E] of S prompts a row.
        num_classes: K.
        logit_scale, prune, sigmoid_bias: as there.
    """
    unit = unit_rows(mask_embeddings)
    scale = np.float32(logit_scale)
    if text_embeddings.ndim == 2:
        logits: Floats = np.matmul(scale * unit, text_embeddings.T)
    else:
        fits = unit @ text_embeddings.reshape(-1, text_embeddings.shape[-1]).T
        logits = scale * fits.reshape(len(unit), *text_embeddings.shape[:2]).max(axis=-1)
    if sigmoid_bias is None:
        log_probs = _log_softmax(logits)
    else:
        log_probs = -np.logaddexp(np.float32(0), -(logits + np.float32(sigmoid_bias)))
    if prune > 0 and len(log_probs):
        there = np.exp(log_probs.max(axis=0)) >= prune
        there[num_classes:] = True
        if sigmoid_bias is None:
            log_probs = _log_softmax(np.where(there, logits, np.float32(-np.inf)))
        else:
            log_probs = np.where(there, log_probs, np.float32(-np.inf))
    return log_probs[:, :num_classes]


def object_log_scores(object_logits: Floats) -> Floats:
    """The log-probability that a proposal is an object: [Q,2] -> [Q]."""
    return _log_softmax(object_logits)[:, 0]


def tempered(log_scores: Floats, log_probs: Floats, trust: float) -> Floats:
    """Log object scores [Q] that doubt less where a class is sure; as in `proposals.base`."""
    nothing = -np.expm1(log_scores)
    sure = np.exp(log_probs.max(axis=-1)) if log_probs.shape[-1] else np.zeros_like(nothing)
    return np.log1p(-nothing * (1 - np.float32(trust) * sure))


def geometric_mean(log_probs: Floats, others: Floats, weights: Floats) -> Floats:
    """Two classifiers' answers [Q,K] as one, `weights` [K] that of the others."""
    mixed = (1 - weights) * log_probs + weights * others
    return mixed - _log_sum(mixed) + _log_sum(log_probs)


def nearest_names(log_probs: Floats, log_scores: Floats, num_names: int) -> Floats:
    """[Q,K]: of each proposal its log object score [Q] under the name that comes nearest, and -inf
    under all others; `log_probs` are of names and distractors, [Q,K + D]."""
    scores = np.full_like(log_probs, -np.inf)
    places = np.arange(len(log_probs))
    scores[places, log_probs.argmax(axis=1)] = log_scores
    return scores[:, :num_names]


def at_level(words: Vocabulary, log_probs: Floats, level: int) -> tuple[Vocabulary, Floats]:
    """The names of a level of the hierarchy, and [Q,G]; as `masqclip.levels.at_level`."""
    together = [_any_of(log_probs, places) for _, places in groups_at(words.paths, level)]
    return words_at(words, level), np.stack(together, axis=1)


def with_children(words: Vocabulary, log_probs: Floats) -> Floats:
    """[Q,K] with every category's probability joined by those below it."""
    joined = log_probs.copy()
    for place, children in places_below(words).items():
        joined[:, place] = _any_of(log_probs, [place, *children])
    return joined


def _any_of(log_probs: Floats, places: Sequence[int]) -> Floats:
    return np.minimum(_log_sum(log_probs[:, list(places)])[:, 0], 0)


def _log_softmax(logits: Floats) -> Floats:
    return logits - _log_sum(logits)


def _log_sum(logits: Floats) -> Floats:
    """[Q,1]: the logarithm of the sum of exponentials of [Q,K]."""
    highest = logits.max(axis=-1, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, np.float32(0))
    with np.errstate(divide="ignore"):  # nothing is likely: -inf
        return np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)) + highest
