"""The names of a level of a vocabulary's hierarchy (`masqclip.clip.hierarchy`). Free of torch."""

from __future__ import annotations

from dataclasses import replace

from masqclip.clip.category import Category
from masqclip.clip.hierarchy import groups_at
from masqclip.clip.vocabulary import Vocabulary


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


def places_below(words: Vocabulary) -> dict[int, list[int]]:
    """For each category that others are kinds of, its place and theirs."""
    if not words.parents:
        return {}
    places = {name: place for place, name in enumerate(words.names)}
    below: dict[int, list[int]] = {}
    for child, path in enumerate(words.paths):
        for name in path[:-1]:
            if name in places:
                below.setdefault(places[name], []).append(child)
    return below
