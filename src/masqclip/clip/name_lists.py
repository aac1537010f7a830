"""Reading lists of names as people write them: strings, sequences, mappings, files.

The rules of a text file, which also hold for a string of several lines: one name a line, synonyms
after commas, or, where the name itself is not to be read by CLIP, ``name = prompt; prompt``;
``stuff:`` before a region, ``#`` at the start of a line or after a blank begins a comment, blank
lines are skipped. ``stuff:`` works wherever a name is written.

JSON and TOML files hold a mapping from names to prompts (JSON also a list of names), which is read
as one given in Python.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from masqclip.clip.name_limits import (
    DEFAULT_LIMITS,
    MAX_NAME_CHARACTERS,
    MAX_TOML_BYTES,
    NameLimits,
    check_length,
    check_writable,
    closest,
    shown,
    take,
    too_many,
)
from masqclip.data.files import read_bounded
from masqclip.data.json_files import parse_json
from masqclip.errors import MasqclipError

STUFF_PREFIX = "stuff:"
FILE_SUFFIXES = (".txt", ".json", ".toml")
# Where `str.splitlines` ends a line.
_LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
# A dotted key is a table in a table in a table, and TOML's parser takes time as their square.
_TOML_DOTS = 50


@dataclass(frozen=True)
class NamedItem:
    """A name as written, with its synonyms (empty: the name itself) and its kind."""

    name: str
    prompts: tuple[str, ...] = ()
    thing: bool = True


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


def split_names(
    value: str | Iterable[str], *, what: str, limits: NameLimits = DEFAULT_LIMITS
) -> tuple[str, ...]:
    """Tidy names out of a comma-separated string or a sequence; nothing in, nothing out.

    Raises:
        MasqclipError: one of them is no name, or they are too many.
    """
    if isinstance(value, str):
        check_length(value, limits.text_bytes, what=what)
        value = value.split(",", limits.names) if value.strip() else ()
    if not isinstance(value, Iterable):
        raise MasqclipError(f"{what} are {shown(value)}: give names")
    names = take(value, limits.names, what=what)
    return tuple(tidy(n, what=f"one of {what}", longest=limits.name_characters) for n in names)


def nearest(name: str, known: Sequence[str], aliases: Mapping[str, str]) -> str:
    """The end of an error's sentence: the known name that was probably meant, or a few of them.

    Args:
        name: what was written.
        known: the names that would have been right.
        aliases: other words for some of them, each with the known name.
    """
    folded = {candidate.lower(): candidate for candidate in known}
    folded = {alias.lower(): candidate for alias, candidate in aliases.items()} | folded
    close = closest(name.lower(), folded, cutoff=0.55)
    if close is not None:
        return f": did you mean {shown(folded[close])}?"
    few = ", ".join(shown(candidate) for candidate in known[:5])
    return f", which holds {few}{' and more' if len(known) > 5 else ''}"


def read_items(
    value: object, *, builtins: Sequence[str], limits: NameLimits = DEFAULT_LIMITS
) -> list[object]:
    """Items of a vocabulary: `NamedItem` for what was a string, all else as it came.

    Args:
        value: see `Vocabulary.parse`.
        builtins: names of the built-in vocabularies, for the near misses among single words.
        limits: how much there may be.

    Raises:
        MasqclipError: the value, the file or one of its lines cannot be read, or holds too much.
    """
    if isinstance(value, Path):
        return _read_file(value, limits)
    if isinstance(value, str):
        check_length(value, limits.text_bytes, what="the vocabulary")
        return _read_string(value, builtins, limits)
    if isinstance(value, Mapping):
        return _read_mapping(value, limits)
    if isinstance(value, set | frozenset):
        raise MasqclipError("a set of names has no order: give the vocabulary as a list")
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [
            _one(item, f"name {i} of the vocabulary", limits) if isinstance(item, str) else item
            for i, item in enumerate(take(value, limits.names, what="the vocabulary"), start=1)
        ]
    raise MasqclipError(
        f"a vocabulary is a list of names, a string, a mapping or a file, not {shown(value)}"
    )


def _read_string(text: str, builtins: Sequence[str], limits: NameLimits) -> list[object]:
    if "\n" in text:
        text = text.removeprefix("\ufeff")
        return list(_read_lines(text, source="the vocabulary", limits=limits))
    text = text.strip()
    check_writable(text, what="the vocabulary")
    if _is_path(text):
        return _read_file(Path(os.path.expanduser(text)), limits)
    if "," in text:
        names = text.split(",", limits.names)
    elif text.endswith(".") or re.search(r"\w{3}\.\s", text):
        # The dots of "car. tire." part names; the one of "St. Bernard" does not.
        names = re.split(r"\.\s+", text.removesuffix("."), maxsplit=limits.names)
    else:
        _refuse_near_builtin(text, builtins)
        names = [text] if text else []
    if len(names) > limits.names:
        raise too_many("the vocabulary", limits.names)
    return [
        _one(name, f"name {i} of the vocabulary", limits) for i, name in enumerate(names, start=1)
    ]


def _read_mapping(value: Mapping[object, object], limits: NameLimits) -> list[object]:
    entries = take(value.items(), limits.names, what="the vocabulary")
    items: list[object] = []
    left = limits.prompts
    for name, prompts in entries:
        item = _mapped(name, prompts, limits)
        items.append(item)
        left -= len(item.prompts)
        if left < 0:
            raise too_many("the synonyms of the vocabulary", limits.prompts)
    return items


def _is_path(text: str) -> bool:
    if text.lower().endswith(FILE_SUFFIXES):
        return True
    # "and/or, car" is a list; "words/and, more" is a file only when it is there.
    written_as_path = "/" in text or os.sep in text
    return written_as_path and ("," not in text or os.path.isfile(text))


def _refuse_near_builtin(word: str, builtins: Sequence[str]) -> None:
    """Refuse what is all but the name of a built-in; plain words pass.

    Only words with a hyphen, an underscore or a digit count as misspelt, so that "sticker" stays
    a word although ``stickers`` is a built-in.
    """
    if len(word) > max(map(len, builtins), default=0) + 10:
        return
    slug = re.sub(r"[\s_]+", "-", word.lower())
    meant = [name for name in builtins if name == slug]
    meant = meant or [name for name in builtins if name.startswith(f"{slug}-")]
    if not meant and re.search(r"[-_0-9]", word):
        near = closest(slug, builtins, cutoff=0.8)
        meant = [] if near is None else [near]
    if meant:
        choice = " or ".join(repr(name) for name in meant)
        raise MasqclipError(
            f"there is no built-in vocabulary {word!r}: did you mean {choice}? "
            f"(As a name to look for, give it in a list: [{word!r}].)"
        )


def _one(text: object, what: str, limits: NameLimits) -> NamedItem:
    name = tidy(text, what=what, longest=limits.name_characters)
    if name.lower().startswith(STUFF_PREFIX):
        return NamedItem(tidy(name[len(STUFF_PREFIX) :], what=what), thing=False)
    return NamedItem(name)


def _mapped(name: object, prompts: object, limits: NameLimits) -> NamedItem:
    item = _one(name, "a name of the vocabulary", limits)
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


def _read_file(path: Path, limits: NameLimits) -> list[object]:
    name = shown(str(path), 500)
    if os.path.isdir(path):
        raise MasqclipError(f"the vocabulary {name} is a folder: give a text file in it")
    if not os.path.exists(path):
        raise MasqclipError(
            f"there is no vocabulary file {name}: check the path, or give names between commas"
        )
    raw = read_bounded(path, max_bytes=limits.text_bytes, what="the vocabulary file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise MasqclipError(
            f"the vocabulary file {name} is not UTF-8 text: give a text file with one name "
            "a line, saved as UTF-8"
        )
    kind = path.suffix.lower()
    if kind in (".json", ".toml"):
        return _read_data(text, kind[1:], source=name, limits=limits)
    return list(_read_lines(text, source=name, limits=limits))


def _read_data(text: str, kind: str, *, source: str, limits: NameLimits) -> list[object]:
    """Names of a JSON or TOML document."""
    # A mapping of names to lists has a bracket for each; millions of them are no vocabulary.
    if text.count("[") + text.count("{") > limits.names + 1:
        raise too_many(source, limits.names)
    document: object
    if kind == "json":
        document = parse_json(text, source=source)
    else:
        document = _parse_toml(text, source=source)
    if not document or not isinstance(document, dict | list):
        raise MasqclipError(
            f'{source} holds no names: write {{"name": ["prompt", "prompt"], ...}}'
            if kind == "json"
            else f'{source} holds no names: write lines such as name = ["prompt", "prompt"]'
        )
    return read_items(document, builtins=(), limits=limits)


def _parse_toml(text: str, *, source: str) -> object:
    check_length(text, MAX_TOML_BYTES, what=source)
    bare = re.sub(r"\"[^\"\n]*\"|'[^'\n]*'", "", text)
    try:
        if any(line.count(".") > _TOML_DOTS for line in bare.split("\n")):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise MasqclipError(f"{source}: no usable TOML: it is nested too deeply") from None
    except ValueError as error:
        raise MasqclipError(f"{source} is no valid TOML: {error}") from error


def _read_lines(text: str, *, source: str, limits: NameLimits) -> list[NamedItem]:
    ends = sum(text.count(end) for end in _LINE_ENDS) - text.count("\r\n")
    if ends > limits.lines:
        raise too_many(f"the lines of {source}", limits.lines)
    items: list[NamedItem] = []
    left = limits.prompts
    own: tuple[str, ...]
    for number, line in enumerate(text.splitlines(), start=1):
        written = (re.sub(r"(^|\s)#.*", "", line) if "#" in line else line).strip()
        if not written:
            continue
        where = f"a name in line {number} of {source}"
        if "=" in written:
            name, _, listed = written.partition("=")
            item = _one(name, where, limits)
            own, prompts = (), listed.split(";", left)
        else:
            name, *prompts = written.split(",", left)
            item = _one(name, where, limits)
            own = (item.name,)
        left -= len(own) + len(prompts)
        if left < 0:
            raise too_many(f"names and synonyms of {source}", limits.prompts)
        if len(items) == limits.names:
            raise too_many(f"names of {source}", limits.names)
        tidied = (tidy(p, what=where, longest=limits.name_characters) for p in prompts)
        items.append(NamedItem(item.name, (*own, *tidied), item.thing))
    if not items:
        raise MasqclipError(f"{source} holds no name: write one name a line")
    return items
