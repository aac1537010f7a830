"""A vocabulary's hierarchy applied to what was named (`masqclip.clip.hierarchy`).

Shapes: Q proposals, K categories, G names of a level.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from masqclip.clip.category import Category
from masqclip.clip.hierarchy import groups_at
from masqclip.clip.vocabulary import Vocabulary


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


def words_at(words: Vocabulary, level: int) -> Vocabulary:
    """The names of a level, to report by: distractors have had their say.

    A name's kind and least score are its own where it is a category; else it is a thing if
    anything below it is one, and its least score is the lowest of those below.

    Raises:
        MasqclipError: the level is no whole number of 0 or more.
    """
    groups = groups_at(words.paths, level)
    known = {category.name: category for category in words.categories}
    categories = []
    assumed = {*words.assumed}
    for name, places in groups:
        below = [words.categories[place] for place in places]
        scores = [category.min_score for category in below]
        least = None if None in scores else min(score for score in scores if score is not None)
        thing = any(category.thing for category in below)
        own = known.get(name)
        if own is None:
            # Another name may be read as this one is: it stands for what those below are read as.
            read = tuple(prompt for category in below for prompt in category.prompts)
            own = Category(name, read, thing, min_score=least)
            if not thing and any(category.name in assumed for category in below):
                assumed.add(name)
        categories.append(own)
    return replace(
        words,
        categories=tuple(categories),
        distractors=(),
        assumed=tuple(one.name for one in categories if one.name in assumed),
    )


def with_children(words: Vocabulary, log_probs: Tensor) -> Tensor:
    """[Q,K] with every category's probability joined by those below it: a dog is an animal."""
    if not words.parents:
        return log_probs
    joined = log_probs.clone()
    places = {name: place for place, name in enumerate(words.names)}
    below: dict[int, list[int]] = {}
    for child, path in enumerate(words.paths):
        for name in path[:-1]:
            if name in places:
                below.setdefault(places[name], []).append(child)
    for place, children in below.items():
        joined[:, place] = _any_of(log_probs[:, [place, *children]])
    return joined


def _any_of(log_probs: Tensor) -> Tensor:
    """[Q]: log-probability of any of the names [Q,K]; names that do not compete with one another
    (``scores`` of `MasQClipConfig`) may have more than one in all."""
    return log_probs.logsumexp(dim=1).clamp(max=0)
