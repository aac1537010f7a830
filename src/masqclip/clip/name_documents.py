"""Names in documents: lists and mappings, as JSON, YAML, TOML or Python holds them.

A mapping is one from names to their prompts, unless it is a document of another tool:

- its classes stand under one of `KEYS`: ``names`` of Ultralytics' data.yaml, ``categories`` of
  COCO, ``id2label`` of a Hugging Face configuration, and the like;
- its keys are numbers and its values names, or its values are numbers and its keys names. The
  classes are then in the order of their numbers.

Of a list, entries that are mappings (COCO, CVAT, Label Studio) are called by their ``name``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice

from masqclip.clip.name_items import read_labels, read_mapping, read_name
from masqclip.clip.name_limits import NameLimits, shown, take, too_many
from masqclip.clip.saved_vocabulary import MARK, SavedVocabulary, from_json, is_saved
from masqclip.data.json_files import parse_json
from masqclip.data.yaml_files import parse_yaml
from masqclip.errors import MasqclipError

#: Under one of these a document of another tool keeps its classes.
KEYS = ("names", "categories", "classes", "labels", "class_names", "id2label", "label2id")
# What an entry of such a list is called by, the first that it has.
_NAME_KEYS = ("name", "label", "title", "value")
# A list or a mapping, by its first two marks: whatever else begins with a bracket may be a word.
_DOCUMENT = re.compile(r"\[\s*[\"'{\[]|\{\s*\"")
_FLOW_CHARACTERS = 100_000
_SAVED_BRACKETS = 8  # names may hold some, and distractors have them
_NUMBER = re.compile(r"\s*-?\d{1,9}\s*")


def read_document(
    value: object, *, source: str, limits: NameLimits
) -> list[object] | SavedVocabulary:
    """Items of a vocabulary in a list or a mapping: `NamedItem`, and what is no name as it came; of
    a vocabulary that masqclip saved, that.

    Args:
        value: the document.
        source: what holds it, for errors.
        limits: how much there may be.

    Raises:
        MasqclipError: an entry cannot be read, or there is too much.
    """
    if isinstance(value, Mapping):
        if is_saved(value):
            return from_json(value, source=source, limits=limits)
        for key in KEYS:
            inside = value.get(key)
            if isinstance(inside, list | Mapping):
                if not inside:
                    raise MasqclipError(f"{source}: its {key!r} are empty: name what to look for")
                return _read_classes(inside, source=source, limits=limits)
            if key in value and isinstance(inside, str) and len(value) == 1:
                raise MasqclipError(
                    f"{source}: its {key!r} are {shown(inside)}, one string: give a list of names"
                )
        numbered = _numbered(value, source=source, limits=limits) if value else None
        if numbered is not None:
            return [*read_labels(numbered, source, limits)]
        return [*read_mapping(value, limits=limits)]
    assert isinstance(value, Sequence)
    if value and all(isinstance(entry, Mapping) for entry in islice(value, limits.names)):
        return _read_classes(value, source=source, limits=limits)
    return [
        read_name(item, what=f"name {i} of {source}", limits=limits)
        if isinstance(item, str)
        else item
        for i, item in enumerate(take(value, limits.names, what=source), start=1)
    ]


def too_many_brackets(text: str, limits: NameLimits) -> bool:
    """Whether a text holds more lists and mappings than a vocabulary has.

    A mapping of names to lists has a bracket for each; millions of them are no vocabulary, and
    would take memory. What masqclip saved has up to four for a category.
    """
    most = _SAVED_BRACKETS * limits.names + 10 if MARK in text else limits.names + 1
    return text.count("[") + text.count("{") > most


def written_document(
    text: str, *, source: str, limits: NameLimits
) -> list[object] | dict[str, object] | None:
    """The list or mapping that a text writes out in JSON, or ``[car, dog]``; None for others.

    Args:
        text: without blanks around it.
        source: what it is called in errors.
        limits: how much it may hold.

    Raises:
        MasqclipError: it begins like a document and is none, or holds too much.
    """
    if not text.startswith(("[", "{")):
        return None
    if not too_many_brackets(text, limits):
        try:
            document: object = parse_json(text, source=source)
        except MasqclipError as error:
            if text[0] == "[" and text[-1] == "]" and len(text) <= _FLOW_CHARACTERS:
                document = parse_yaml(text, source=source)
            elif _DOCUMENT.match(text):
                raise MasqclipError(f'{error}; write ["car", "dog"]') from error
            else:
                return None
        if isinstance(document, list | dict):
            return document
    raise too_many(source, limits.names)


def _read_classes(
    value: Sequence[object] | Mapping[object, object], *, source: str, limits: NameLimits
) -> list[object]:
    """The classes of another tool's document: numbered names, or a list of names or entries."""
    if isinstance(value, Mapping):
        numbered = _numbered(value, source=source, limits=limits, texts=True)
        if numbered is None:
            raise MasqclipError(
                f"{source}: its classes are {shown(value)}: number each, or give a list of names"
            )
        return [*read_labels(numbered, source, limits)]
    entries = take(value, limits.names, what=f"names of {source}")
    named = [entry for entry in entries if isinstance(entry, Mapping)]
    if named and len(named) == len(entries):
        order = _order([entry.get("id") for entry in named])
        kinds = {0: False, "0": False, 1: True, "1": True}
        told = [named[i].get("isthing") for i in order]
        things = [kinds.get(kind) if isinstance(kind, int | str) else None for kind in told]
        names = [_entry_name(named[i], source) for i in order]
        return [*read_labels(names, source, limits, things=things)]
    return [*read_labels(entries, source, limits)]


def _numbered(
    value: Mapping[object, object], *, source: str, limits: NameLimits, texts: bool = False
) -> list[object] | None:
    """The names of a mapping between numbers and names, by number; None where it is no such.

    `texts`: the numbers that names are mapped to may be written as strings.
    """
    if not all(map(_is_number, islice(value, limits.names + 1))):
        counts = islice(value.values(), limits.names + 1)
        if not all(map(_is_number if texts else _is_integer, counts)):
            return None
        entries = take(value.items(), limits.names, what=f"names of {source}")
        return [entries[i][0] for i in _order([number for _, number in entries])]
    entries = take(value.items(), limits.names, what=f"names of {source}")
    if not all(isinstance(name, str | Mapping) for _, name in entries):
        return None  # digits that have prompts
    order = _order([number for number, _ in entries])
    names = [entries[i][1] for i in order]
    return [_entry_name(name, source) if isinstance(name, Mapping) else name for name in names]


def _order(numbers: Sequence[object]) -> list[int]:
    """Places of entries in the order of their numbers; as they stand where these are none."""
    places = list(range(len(numbers)))
    if all(map(_is_number, numbers)):
        places.sort(key=lambda i: int(str(numbers[i])))
    return places


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, str) and bool(_NUMBER.fullmatch(value)))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9


def _entry_name(entry: Mapping[object, object], source: str) -> object:
    for key in _NAME_KEYS:
        if key in entry:
            return entry[key]
    raise MasqclipError(f"{source}: an entry has no name: {shown(dict(entry))}")
