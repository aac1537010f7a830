"""Reading lists of names as people write them: strings, sequences, mappings, files.

The rules of a text file, which also hold for a string of several lines: one name a line, synonyms
after commas, or, where the name itself is not to be read by CLIP, ``name = prompt; prompt``;
``stuff:`` before a region, ``#`` at the start of a line or after a blank begins a comment, blank
lines are skipped. ``stuff:`` works wherever a name is written.

JSON and TOML files hold a mapping from names to prompts (JSON also a list of names), which is read
as one given in Python.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from masqclip.errors import MasqclipError

STUFF_PREFIX = "stuff:"
FILE_SUFFIXES = (".txt", ".json", ".toml")
# Ten thousand names take less than a megabyte; what is far larger is some other file.
MAX_FILE_BYTES = 16_000_000


@dataclass(frozen=True)
class NamedItem:
    """A name as written, with its synonyms (empty: the name itself) and its kind."""

    name: str
    prompts: tuple[str, ...] = ()
    thing: bool = True


def tidy(name: object, *, what: str) -> str:
    """The name without blanks at its ends and with single ones inside.

    Raises:
        MasqclipError: it is no string, or nothing is left.
    """
    if not isinstance(name, str):
        raise MasqclipError(f"{what} is {name!r:.60}, not a string: give words")
    tidied = " ".join(name.split())
    if not tidied:
        raise MasqclipError(f"{what} is empty: remove it, or a stray comma beside it")
    return tidied


def split_names(value: str | Iterable[str], *, what: str) -> tuple[str, ...]:
    """Tidy names out of a comma-separated string or a sequence; nothing in, nothing out."""
    if isinstance(value, str):
        value = value.split(",") if value.strip() else ()
    return tuple(tidy(name, what=f"one of {what}") for name in value)


def nearest(name: str, known: Sequence[str], aliases: Mapping[str, str]) -> str:
    """The end of an error's sentence: the known name that was probably meant, or a few of them.

    Args:
        name: what was written.
        known: the names that would have been right.
        aliases: other words for some of them, each with the known name.
    """
    folded = {alias.lower(): candidate for alias, candidate in aliases.items()}
    folded |= {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.55)
    if close:
        return f": did you mean {folded[close[0]]!r}?"
    shown = ", ".join(repr(candidate) for candidate in known[:5])
    return f", which holds {shown}{' and more' if len(known) > 5 else ''}"


def read_items(value: object, *, builtins: Sequence[str]) -> list[object]:
    """Items of a vocabulary: `NamedItem` for what was a string, all else as it came.

    Args:
        value: see `Vocabulary.parse`.
        builtins: names of the built-in vocabularies, for the near misses among single words.

    Raises:
        MasqclipError: the value, the file or one of its lines cannot be read.
    """
    if isinstance(value, Path):
        return _read_file(value)
    if isinstance(value, str):
        return _read_string(value, builtins)
    if isinstance(value, Mapping):
        return [_mapped(name, prompts) for name, prompts in value.items()]
    if isinstance(value, set | frozenset):
        raise MasqclipError("a set of names has no order: give the vocabulary as a list")
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [
            _one(item, f"name {i} of the vocabulary") if isinstance(item, str) else item
            for i, item in enumerate(value, start=1)
        ]
    raise MasqclipError(
        f"a vocabulary is a list of names, a string, a mapping or a file, not {value!r:.60}"
    )


def _read_string(text: str, builtins: Sequence[str]) -> list[object]:
    if "\n" in text:
        return list(_read_lines(text.removeprefix("\ufeff"), source="the vocabulary"))
    text = text.strip()
    if _is_path(text):
        return _read_file(Path(os.path.expanduser(text)))
    if "," in text:
        names = text.split(",")
    elif text.endswith(".") or re.search(r"\w{3}\.\s", text):
        # The dots of "car. tire." part names; the one of "St. Bernard" does not.
        names = re.split(r"\.\s+", text.removesuffix("."))
    else:
        _refuse_near_builtin(text, builtins)
        names = [text] if text else []
    return [_one(name, f"name {i} of the vocabulary") for i, name in enumerate(names, start=1)]


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
    slug = re.sub(r"[\s_]+", "-", word.lower())
    meant = [name for name in builtins if name == slug]
    meant = meant or [name for name in builtins if name.startswith(f"{slug}-")]
    if not meant and re.search(r"[-_0-9]", word):
        meant = difflib.get_close_matches(slug, builtins, n=1, cutoff=0.8)
    if meant:
        choice = " or ".join(repr(name) for name in meant)
        raise MasqclipError(
            f"there is no built-in vocabulary {word!r}: did you mean {choice}? "
            f"(As a name to look for, give it in a list: [{word!r}].)"
        )


def _one(text: object, what: str) -> NamedItem:
    name = tidy(text, what=what)
    if name.lower().startswith(STUFF_PREFIX):
        return NamedItem(tidy(name[len(STUFF_PREFIX) :], what=what), thing=False)
    return NamedItem(name)


def _mapped(name: object, prompts: object) -> NamedItem:
    item = _one(name, "a name of the vocabulary")
    if prompts is None:
        return item
    if isinstance(prompts, str):
        prompts = prompts.split(",") if prompts.strip() else ()
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping):
        raise MasqclipError(f"the synonyms of {item.name!r} are {prompts!r:.60}: give a list")
    return NamedItem(item.name, tuple(prompts), item.thing)


def _read_file(path: Path) -> list[object]:
    if os.path.isdir(path):
        raise MasqclipError(f"the vocabulary {str(path)!r} is a folder: give a text file in it")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise MasqclipError(
            f"there is no vocabulary file {str(path)!r}: check the path, or give names between "
            "commas"
        ) from None
    except OSError as error:
        raise MasqclipError(
            f"the vocabulary file {str(path)!r} cannot be read: {error.strerror}"
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise MasqclipError(
            f"the vocabulary file {str(path)!r} is larger than {MAX_FILE_BYTES // 10**6} MB: "
            "give a text file with one name a line"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise MasqclipError(
            f"the vocabulary file {str(path)!r} is not UTF-8 text: give a text file with one name "
            "a line, saved as UTF-8"
        )
    kind = path.suffix.lower()
    if kind in (".json", ".toml"):
        return _read_data(text, kind[1:], source=repr(str(path)))
    return list(_read_lines(text, source=repr(str(path))))


def _read_data(text: str, kind: str, *, source: str) -> list[object]:
    """Names of a JSON or TOML document."""
    try:
        document: object = json.loads(text) if kind == "json" else tomllib.loads(text)
    except ValueError as error:
        raise MasqclipError(f"{source} is no valid {kind.upper()}: {error}") from error
    if not document or not isinstance(document, dict | list):
        raise MasqclipError(
            f'{source} holds no names: write {{"name": ["prompt", "prompt"], ...}}'
            if kind == "json"
            else f'{source} holds no names: write lines such as name = ["prompt", "prompt"]'
        )
    return read_items(document, builtins=())


def _read_lines(text: str, *, source: str) -> list[NamedItem]:
    items = []
    for number, line in enumerate(text.splitlines(), start=1):
        written = re.sub(r"(^|\s)#.*", "", line).strip()
        if not written:
            continue
        where = f"a name in line {number} of {source}"
        if "=" in written:
            name, _, listed = written.partition("=")
            item = _one(name, where)
            prompts = listed.split(";")
        else:
            name, *synonyms = written.split(",")
            item = _one(name, where)
            prompts = [item.name, *synonyms]
        tidied = tuple(tidy(prompt, what=where) for prompt in prompts)
        items.append(NamedItem(item.name, tidied, item.thing))
    if not items:
        raise MasqclipError(f"{source} holds no name: write one name a line")
    return items
