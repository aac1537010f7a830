"""Reading names as people give them: strings, sequences, mappings, files.

- A string is what it looks like: a JSON list or mapping, several lines as of a text file, the path
  of a file, the name of a built-in, or names between commas. In quotes it is none of these but a
  name: ``"./x"``.
- Sequences and mappings are read as documents are (`masqclip.clip.name_documents`), files by their
  kind (`masqclip.clip.name_files`), text by the rules of `masqclip.clip.name_text`.

``stuff:`` before a name marks a region wherever a name is written, ``thing:`` what is counted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from masqclip.clip.name_documents import read_document, written_document
from masqclip.clip.name_files import READ_SUFFIXES, read_file
from masqclip.clip.name_items import read_name, tidy
from masqclip.clip.name_limits import (
    DEFAULT_LIMITS,
    NameLimits,
    check_length,
    check_writable,
    closest,
    shown,
    take,
)
from masqclip.clip.name_text import has_groups, has_lines, read_text, split_list
from masqclip.clip.saved_vocabulary import SavedVocabulary
from masqclip.errors import MasqclipError

# Files that hold no names, but are none themselves.
_OTHER_SUFFIXES = (
    ".doc", ".docx", ".pdf", ".xls", ".xlsx", ".ods", ".odt", ".rtf", ".md", ".html", ".zip", ".gz",
    ".npy", ".npz", ".pkl", ".pt", ".pth", ".parquet", ".jsonl", ".ini", ".cfg", ".data", ".py",
    ".jpg", ".jpeg", ".png",
)  # fmt: skip
_SUFFIXES = (*READ_SUFFIXES, *_OTHER_SUFFIXES)
# ``/x``, ``./x``, ``..\\x``, ``~/x``, ``~ann/x``, ``s3://x``, ``C:\\x``, ``\\\\host\\x``.
_ANCHORED = re.compile(r"(?:\w+:/|\.{0,2}|~[\w.-]*|[A-Za-z]:)[/\\]|\.{1,2}$|~$")


def split_names(
    value: str | Iterable[str], *, what: str, limits: NameLimits = DEFAULT_LIMITS
) -> tuple[str, ...]:
    """Tidy names out of a string (as of a vocabulary's one line) or a sequence; of nothing, none.

    Raises:
        MasqclipError: one of them is no name, or they are too many.
    """
    if isinstance(value, str):
        check_length(value, limits.text_bytes, what=what)
        given: object = written_document(value.strip(), source=what, limits=limits)
        if given is None:
            given = split_list(value, what=what, limits=limits)
    else:
        given = value
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise MasqclipError(f"{what} are {shown(given)}: give names")
    names = take(given, limits.names, what=what)
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
    value: object,
    *,
    builtins: Sequence[str],
    limits: NameLimits = DEFAULT_LIMITS,
    files: bool,
) -> list[object] | SavedVocabulary:
    """Items of a vocabulary: `NamedItem` for what was a string, all else as it came; or what a
    vocabulary that masqclip saved is made of.

    Args:
        value: see `Vocabulary.parse`.
        builtins: names of the built-in vocabularies, for the near misses among single words.
        limits: how much there may be.
        files: whether a string may be the path of a file.

    Raises:
        MasqclipError: the value, the file or one of its lines cannot be read, or holds too much.
    """
    if isinstance(value, Path):
        return read_file(value, limits=limits)
    if isinstance(value, str):
        check_length(value, limits.text_bytes, what="the vocabulary")
        return _read_string(value.removeprefix("\ufeff"), builtins, limits, files=files)
    if isinstance(value, Mapping):
        return read_document(value, source="the vocabulary", limits=limits)
    if isinstance(value, set | frozenset):
        raise MasqclipError("a set of names has no order: give the vocabulary as a list")
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        listed = take(value, limits.names, what="the vocabulary")
        return read_document(listed, source="the vocabulary", limits=limits)
    raise MasqclipError(
        f"a vocabulary is a list of names, a string, a mapping or a file, not {shown(value)}"
    )


def _read_string(
    whole: str, builtins: Sequence[str], limits: NameLimits, *, files: bool
) -> list[object] | SavedVocabulary:
    text = whole.strip()
    document = written_document(text, source="the vocabulary", limits=limits)
    if document is not None:
        return read_document(document, source="the vocabulary", limits=limits)
    # Of a text that is but a comment nothing is left; "# a" alone is a name.
    if has_lines(whole if text.startswith("#") else text) or has_groups(text):
        return [*read_text(whole, source="the vocabulary", limits=limits)]
    check_writable(text, what="the vocabulary")
    if files and is_path(text):
        return read_file(Path(os.path.expanduser(text)), limits=limits)
    names = split_list(text, what="the vocabulary", limits=limits)
    if names == [text]:
        _refuse_near_builtin(text, builtins)
    return [
        read_name(name, what=f"name {i} of the vocabulary", limits=limits)
        for i, name in enumerate(names, start=1)
    ]


def is_path(text: str) -> bool:
    """Whether a string means a file, there or not.

    A name may have a slash, as "TCP/IP" has: without a suffix, a path is one that begins like one,
    has more slashes, or lies in a folder that is there.
    """
    if text.startswith('"'):
        return False
    if text.lower().endswith(_SUFFIXES):
        return True
    if not re.search(r"[/\\]", text) and not _ANCHORED.match(text):
        return False
    if os.path.isfile(text):
        return True
    # "and/or, car" is a list.
    parent = os.path.dirname(text)
    steps = 0 if len(text.split(maxsplit=1)) > 1 else text.count("/") + text.count("\\")
    written = steps > 1 or bool(_ANCHORED.match(text))
    return "," not in text and (written or (parent != "" and os.path.isdir(parent)))


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
