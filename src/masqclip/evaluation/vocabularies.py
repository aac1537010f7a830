"""Which words a dataset's classes are asked for by: one category a class, in its order."""

from __future__ import annotations

from dataclasses import replace

from masqclip.clip.vocabulary import EVERYTHING, Vocabulary, class_categories
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError


def dataset_vocabulary(truth: GroundTruth, *, readable: bool = False) -> Vocabulary:
    """The published words of a dataset's classes.

    Args:
        truth: the dataset.
        readable: part the words that Pascal Context runs together; the published figures did not.

    Raises:
        MasqclipError: a class cannot be called what it is called.
    """
    try:
        return Vocabulary(class_categories(truth.classes, readable=readable))
    except MasqclipError as error:
        raise MasqclipError(f"the categories of {truth.name}: {error}") from error


def match_vocabulary(truth: GroundTruth, words: Vocabulary) -> Vocabulary:
    """Someone's own words for the classes of a dataset.

    Args:
        truth: the dataset. What is a thing is its matter.
        words: a category of the same name to CLIP for every class, in any order; its other
            categories compete and are never counted, as distractors are.

    Raises:
        MasqclipError: a class has no category, or there are no names but ``everything``.
    """
    if words.unnamed:
        raise MasqclipError(
            f"{EVERYTHING!r} is no list of names: name every class of {truth.name} as it does"
        )
    published = dataset_vocabulary(truth)
    given = {category.reading: category for category in words.categories}
    asked = {category.reading for category in published.categories}
    lacking = [c.name for c in published.categories if c.reading not in given]
    if lacking:
        raise MasqclipError(
            f"the vocabulary lacks {len(lacking)} classes of {truth.name}, the first of them "
            f"{lacking[0]!r}: name every class as the dataset does"
        )
    others = tuple(category.competing for key, category in given.items() if key not in asked)
    return Vocabulary(
        tuple(
            replace(given[category.reading], name=category.name, thing=category.thing)
            for category in published.categories
        ),
        distractors=(*others, *words.distractors),
        templates=words.templates,
        parents=words.parents,
    )
