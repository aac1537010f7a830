"""The words of captions: names of a list where one is given, else what is no function word."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from masqclip.clip.vocabulary import Vocabulary

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
#: Closed classes of English, and what captions say of the picture itself.
_CLOSED_CLASSES = """
a an the this that these those some any each every all both no not of on in at by to from with
without under over above below behind beside between into onto near next off out up down for and or
but as if while there here it its is are was were be been being has have had do does who which what
where we you they he she his her their our i my your see seen one two three four five six seven
eight nine ten several many few photo picture image background nothing
"""
_IRREGULAR_PLURALS = """
people-person men-man women-woman children-child feet-foot teeth-tooth geese-goose mice-mouse
knives-knife leaves-leaf loaves-loaf shelves-shelf scarves-scarf wolves-wolf halves-half
"""
_IN_ES = (
    *("ches", "shes", "xes", "sses"),
    *("buses", "ruses", "ctuses", "opuses", "tatoes", "matoes"),
)
_FUNCTION_WORDS = frozenset(_CLOSED_CLASSES.split())
_IRREGULAR = dict(pair.split("-") for pair in _IRREGULAR_PLURALS.split())
_LONGEST = 6  # words of a name


class ObjectWords:
    """Which object words a caption has.

    A caption is read word for word from the left; the longest name that begins at a word is taken.
    A plural counts as its singular.

    Args:
        names: the names known, in order, each with all that it is called.
    """

    def __init__(self, names: Sequence[Sequence[str]]) -> None:
        self._places: Mapping[tuple[str, ...], int] = {
            _split(name): place
            for place in reversed(range(len(names)))
            for name in names[place]
            if _split(name)
        }

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> ObjectWords:
        """Of a vocabulary's names and synonyms."""
        return cls([(entry.name, *entry.prompts) for entry in vocabulary.categories])

    def find(self, captions: Sequence[str]) -> list[int]:
        """The places of the names that captions have, each once, in order."""
        found: set[int] = set()
        for caption in captions:
            words, start = _split(caption), 0
            while start < len(words):
                for length in range(min(_LONGEST, len(words) - start), 0, -1):
                    place = self._places.get(words[start : start + length])
                    if place is not None:
                        found.add(place)
                        start += length - 1
                        break
                start += 1
        return sorted(found)


def content_words(captions: Sequence[str]) -> list[str]:
    """The words of captions that are no function words, each once, in order."""
    words = [word for caption in captions for word in _WORD.findall(caption.lower())]
    return list(dict.fromkeys(word for word in words if word not in _FUNCTION_WORDS))


def _split(text: str) -> tuple[str, ...]:
    return tuple(_singular(word) for word in _WORD.findall(text.lower()))


def _singular(word: str) -> str:
    """A rough lemma, the same for names and captions: what differs only so is one word."""
    word = word.removesuffix("'s")
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(_IN_ES):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
