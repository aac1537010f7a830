"""How much a vocabulary may hold, and looking at what is given before anything is done with it.

Names may come from anybody, so work on them is bounded before it begins: within these limits
reading any text, list or mapping takes less than two seconds and 200 MB. A caller that serves many
lowers them.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from masqclip.errors import MasqclipError

_FEW = 8  # names in a note

MAX_TEXT_BYTES = 8_000_000
"""Bytes of a file, or characters of a string, that names are read from."""

MAX_TOML_BYTES = 500_000
"""Bytes of a TOML file: its parser takes a hundred times longer than that of JSON."""

MAX_YAML_BYTES = 500_000
"""Characters of a YAML file, likewise."""

MAX_LINES = 200_000
"""Lines of a text, blank ones and comments included."""

MAX_NAMES = 100_000
"""Names of a vocabulary; as many distractors."""

MAX_PROMPTS = 200_000
"""Names and synonyms that are embedded."""

MAX_NAME_CHARACTERS = 1_000
"""Characters of a name, a synonym or a template. A CLIP reads some 75 words."""

MAX_TEMPLATES = 1_000
"""Templates of a vocabulary."""

MAX_STRINGS = 2_000_000
"""Prompts in all their templates."""

# A name is compared with others, for a hint at what was meant, only within these.
_COMPARED_CHARACTERS = 60
_COMPARED_NAMES = 10_000
_COMPARED_CLOSELY = 100

# What no text of a name needs and some format cannot hold: lone surrogates (no UTF-8), controls
# but for blanks (no XML or YAML), noncharacters. Marks of direction and joiners are parts of words.
_UNWRITABLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")

T = TypeVar("T")


@dataclass(frozen=True)
class NameLimits:
    """The limits of one call; the defaults are generous.

    Attributes:
        text_bytes: bytes of a file, or characters of a string.
        lines: of a text.
        names: of a vocabulary; as many distractors.
        prompts: names and synonyms that are embedded.
        name_characters: of a name or synonym, at most `MAX_NAME_CHARACTERS`.
        strings: prompts in all their templates.
    """

    text_bytes: int = MAX_TEXT_BYTES
    lines: int = MAX_LINES
    names: int = MAX_NAMES
    prompts: int = MAX_PROMPTS
    name_characters: int = MAX_NAME_CHARACTERS
    strings: int = MAX_STRINGS


DEFAULT_LIMITS = NameLimits()


def take(pieces: Iterable[T], limit: int, *, what: str) -> list[T]:
    """The pieces, however many are offered, if they are not too many.

    Args:
        pieces: read no further than one beyond the limit.
        limit: the most there may be.
        what: what holds them and what they are, for the error: ``"the vocabulary holds names"``.

    Raises:
        MasqclipError: there are more.
    """
    taken = list(islice(pieces, limit + 1))
    if len(taken) > limit:
        raise too_many(what, limit)
    return taken


def too_many(what: str, limit: int) -> MasqclipError:
    """The error for more of something than there may be."""
    return MasqclipError(f"{what}: more than the limit of {limit:,}; give fewer at a time")


def check_length(text: str, limit: int, *, what: str) -> None:
    """Refuse a text that is too long to be read.

    Raises:
        MasqclipError: it has more characters than `limit`.
    """
    if len(text) > limit:
        raise MasqclipError(
            f"{what} has {len(text):,} characters, more than the limit of {limit:,}; give less at "
            "a time"
        )


def check_writable(text: str, *, what: str) -> None:
    """Refuse characters that UTF-8, JSON, XML or a terminal cannot hold.

    Raises:
        MasqclipError: there is a lone surrogate, a control character or a noncharacter.
    """
    if found := _UNWRITABLE.search(text):
        raise MasqclipError(
            f"{what} holds the character U+{ord(found[0]):04X}, which is no part of a word: "
            "remove it"
        )


def shown(value: object, longest: int = 80) -> str:
    """A value as an error shows it: of bounded length, on one line, whatever it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = longest
    try:
        text = short.repr(value)
    except Exception:  # an integer of too many digits, an object that cannot be shown
        text = f"something of type {type(value).__name__}"
    return " ".join(text.split())[:longest]


def one_line(name: str) -> str:
    """A name within a line of others: of bounded length, its line ends escaped."""
    return shown(name)[1:-1]


def few_names(names: Sequence[str]) -> str:
    """Some names in a line, and how many more there are."""
    few = ", ".join(map(one_line, names[:_FEW]))
    return f"{few} and {len(names) - _FEW} more" if len(names) > _FEW else few


def closest(word: str, candidates: Iterable[str], *, cutoff: float) -> str | None:
    """The candidate that looks most like a word, if any does; long ones are not looked at.

    Args:
        word: what was written.
        candidates: the first `_COMPARED_NAMES` are compared.
        cutoff: the least likeness, 0..1, as `difflib` measures it.
    """
    if len(word) > _COMPARED_CHARACTERS:
        return None
    best, least = None, cutoff
    matcher = difflib.SequenceMatcher(b=word)
    closely = 0
    for candidate in islice(candidates, _COMPARED_NAMES):
        if len(candidate) > _COMPARED_CHARACTERS:
            continue
        matcher.set_seq1(candidate)
        # Bounds from above, each dearer than the one before.
        if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
            continue
        closely += 1
        likeness = matcher.ratio()
        if likeness > least or (best is None and likeness == least):
            best, least = candidate, likeness
        if closely == _COMPARED_CLOSELY:
            break
    return best
