"""What a vocabulary says of scores: the least one of each name, and what they mean.

A model's scores order what it found; a score of 0.8 need not be right eight times in ten. A
vocabulary that was calibrated (`masqclip.evaluation.calibration`) has a temperature T, and its
scores are the model's with their log-odds divided by it: sigmoid(logit(s) / T). Thresholds are of
these scores; decoders work with the model's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masqclip.clip.vocabulary import Vocabulary


def calibrated(score: float, temperature: float) -> float:
    """A model's score as the vocabulary means it; 0 and 1 stay."""
    if temperature == 1 or not 0 < score < 1:
        return score
    return 1 / (1 + math.exp(-_logit(score) / temperature))


def of_model(score: float, temperature: float) -> float:
    """The model's own score that `calibrated` makes this one of."""
    return calibrated(score, 1 / temperature)


def least_scores(words: Vocabulary, min_score: float) -> tuple[float, ...]:
    """The model's own score below which each category is left out.

    Args:
        words: its categories may say a least score of their own.
        min_score: for all others.
    """
    return tuple(
        of_model(min_score if one.min_score is None else one.min_score, words.temperature)
        for one in words.categories
    )


def lowest_score(words: Vocabulary, min_score: float) -> float:
    """The model's own score below which nothing is reported."""
    return min(least_scores(words, min_score))


def _logit(score: float) -> float:
    return math.log(score) - math.log1p(-score)
