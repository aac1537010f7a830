"""A vocabulary's hierarchy applied to what was named (`masqclip.clip.hierarchy`).

Shapes: Q proposals, K categories, G names of a level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from masqclip.clip.hierarchy import groups_at
from masqclip.clip.vocabulary import Vocabulary
from masqclip.word_levels import places_below, words_at


def at_level(words: Vocabulary, log_probs: Tensor, level: int) -> tuple[Vocabulary, Tensor]:
    """The names of a level (`words_at`), and what is below each counted together.

    Args:
        words: K categories with parents.
        log_probs: [Q,K].
        level: 0 = the widest names; a category that lies less deep stands for itself.

    Returns:
        G names, and [Q,G].
    """
    groups = groups_at(words.paths, level)
    together = [_any_of(log_probs[:, places]) for _, places in groups]
    return words_at(words, level), torch.stack(together, dim=1)


def with_children(words: Vocabulary, log_probs: Tensor) -> Tensor:
    """[Q,K] with every category's probability joined by those below it: a dog is an animal."""
    below = places_below(words)
    if not below:
        return log_probs
    joined = log_probs.clone()
    for place, children in below.items():
        joined[:, place] = _any_of(log_probs[:, [place, *children]])
    return joined


def _any_of(log_probs: Tensor) -> Tensor:
    """[Q]: log-probability of any of the names [Q,K]; names that do not compete with one another
    (``scores`` of `MasQClipConfig`) may have more than one in all."""
    return log_probs.logsumexp(dim=1).clamp(max=0)
