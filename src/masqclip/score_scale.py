"""What a vocabulary says of scores: the least one of each name, and what they mean.

A model's scores order what it found; a score of 0.8 need not be right eight times in ten. A
vocabulary that was calibrated (`masqclip.evaluation.calibration`) has three numbers a, b and c, and
its score of what the model gives s is sigmoid(a ln s - b ln(1 - s) + c): beta calibration (Kull et
al., AISTATS 2017), of which dividing log-odds by a temperature is the case a = b, c = 0. It orders
nothing anew. Thresholds are of these scores; decoders work with the model's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masqclip.clip.vocabulary import Vocabulary

#: The a, b and c of beta calibration.
Calibration = tuple[float, float, float]
_STEPS = 60  # of halving


def calibrated(score: float, calibration: Calibration | None) -> float:
    """A model's score as the vocabulary means it; 0 and 1 stay."""
    if calibration is None or not 0 < score < 1:
        return score
    a, b, c = calibration
    odds = a * math.log(score) - b * math.log1p(-score) + c
    return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))


def of_model(score: float, calibration: Calibration | None) -> float:
    """The model's own score that `calibrated` makes this one of."""
    if calibration is None or not 0 < score < 1:
        return score
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if calibrated(middle, calibration) < score:
            low = middle
        else:
            high = middle
    return high


def least_scores(words: Vocabulary, min_score: float) -> tuple[float, ...]:
    """The model's own score below which each category is left out.

    Args:
        words: its categories may say a least score of their own.
        min_score: for all others.
    """
    asked = [min_score if one.min_score is None else one.min_score for one in words.categories]
    known = {score: of_model(score, words.calibration) for score in set(asked)}
    return tuple(known[score] for score in asked)


def lowest_score(words: Vocabulary, min_score: float) -> float:
    """The model's own score below which nothing is reported."""
    return min(least_scores(words, min_score))
