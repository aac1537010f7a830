"""The built-in vocabularies as the page lists them, with a service and without one."""

from __future__ import annotations

from typing import TypedDict

from masqclip.clip.vocabulary import builtin_vocabularies, load_builtin


class ListedVocabulary(TypedDict):
    """A built-in vocabulary; ``synonyms`` has every name, in its order, and all that is read for
    it."""

    name: str
    description: str
    things: list[str]
    stuff: list[str]
    synonyms: dict[str, list[str]]


def listed_vocabularies() -> list[ListedVocabulary]:
    """All of them."""
    found: list[ListedVocabulary] = []
    for name, description in builtin_vocabularies().items():
        categories = load_builtin(name).categories
        found.append(
            {
                "name": name,
                "description": description,
                "things": [category.name for category in categories if category.thing],
                "stuff": [category.name for category in categories if not category.thing],
                "synonyms": {category.name: list(category.prompts) for category in categories},
            }
        )
    return found
