"""One name as written: tidied, looked at, with its synonyms and its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from masqclip.clip.name_limits import (
    MAX_NAME_CHARACTERS,
    NameLimits,
    check_writable,
    shown,
    take,
    too_many,
)
from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError

# Before a name: what kind it is. True = a countable thing.
_PREFIXES = {"stuff:": False, "thing:": True}

#: Always the last row of the text embeddings (paper, section 3.3), so no category may be called so.
BACKGROUND = "background"
# What tools write into their lists of classes for it, and for what is no class at all.
_MARKERS = ("__background__", "_background_", "__ignore__", "???")


@dataclass(frozen=True)
class NamedItem:
    """A name as written, with its synonyms (empty: the name itself), whether it is a thing (None:
    unsaid), and what it is a kind of, the widest first."""

    name: str
    prompts: tuple[str, ...] = ()
    thing: bool | None = None
    above: tuple[str, ...] = ()


def tidy(name: object, *, what: str, longest: int = MAX_NAME_CHARACTERS) -> str:
    """The name without blanks at its ends and with single ones inside.

    Args:
        name: as it was given.
        what: what it is called in errors.
        longest: the characters that it may have.

    Raises:
        MasqclipError: it is no string, is too long, holds characters that are no part of words, or
            nothing is left.
    """
    if not isinstance(name, str):
        raise MasqclipError(f"{what} is {shown(name)}, not a string: give words")
    if len(name) > longest and len(name := name.strip()) > longest:
        raise MasqclipError(
            f"{what} has {len(name):,} characters and may have {longest:,}: shorten it, or part "
            "names with commas or lines"
        )
    if not name.isprintable():  # which nearly all are
        check_writable(name, what=what)
    tidied = " ".join(name.split())
    if not tidied:
        raise MasqclipError(f"{what} is empty: remove it, or a stray comma beside it")
    return tidied


def read_name(text: object, *, what: str, limits: NameLimits) -> NamedItem:
    """A name with or without ``stuff:`` or ``thing:`` before it.

    Raises:
        MasqclipError: as `tidy` says.
    """
    name = tidy(text, what=what, longest=limits.name_characters)
    for prefix, thing in _PREFIXES.items():
        if name[: len(prefix)].lower() == prefix:
            return NamedItem(tidy(name[len(prefix) :], what=what), thing=thing)
    return NamedItem(name)


def is_marker(name: str) -> bool:
    """Whether a line of a list of classes is none of them (labelme's ``__ignore__``)."""
    return name.lower() in _MARKERS


def read_labels(
    labels: Sequence[object], source: str, limits: NameLimits, *, things: Sequence[bool | None] = ()
) -> list[NamedItem]:
    """The classes of a list that another tool wrote.

    Such lists name the background, which is always part of a vocabulary and so is left out here.

    Args:
        labels: as the tool wrote them.
        source: what holds them, for errors.
        limits: how many there may be.
        things: of each label whether it is a countable thing, where that is known; what stands
            before the label goes before.

    Raises:
        MasqclipError: a label is no name, no label but the background is there, or too many are.
    """
    taken = take(labels, limits.names, what=f"names of {source}")
    items: list[NamedItem] = []
    for position, label in enumerate(taken):
        item = read_name(label, what=f"name {position + 1} of {source}", limits=limits)
        if reading(item.name) != BACKGROUND and not is_marker(item.name):
            told = things[position] if things else None
            items.append(NamedItem(item.name, thing=told if item.thing is None else item.thing))
    if not items:
        raise MasqclipError(f"{source} holds no name but the background: name what to look for")
    return items


def read_mapping(value: Mapping[object, object], *, limits: NameLimits) -> list[NamedItem]:
    """The entries of a mapping from names to their synonyms.

    Raises:
        MasqclipError: an entry cannot be read, or they are too many.
    """
    items: list[NamedItem] = []
    left = limits.prompts
    for name, prompts in take(value.items(), limits.names, what="the vocabulary"):
        item = _mapped(name, prompts, limits)
        items.append(item)
        left -= len(item.prompts)
        if left < 0:
            raise too_many("the synonyms of the vocabulary", limits.prompts)
    return items


def _mapped(name: object, prompts: object, limits: NameLimits) -> NamedItem:
    item = read_name(name, what="a name of the vocabulary", limits=limits)
    if prompts is None:
        return item
    what = f"the synonyms of {shown(item.name)}"
    if isinstance(prompts, str):
        prompts = prompts.split(",", limits.prompts) if prompts.strip() else ()
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping):
        raise MasqclipError(f"{what} are {shown(prompts)}: give a list")
    taken = take(prompts, limits.prompts, what=what)
    one = f"a synonym of {shown(item.name)}"
    tidied = (tidy(p, what=one, longest=limits.name_characters) for p in taken)
    return NamedItem(item.name, tuple(tidied), item.thing)
