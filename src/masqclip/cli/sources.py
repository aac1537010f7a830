"""What the words of a command line stand for: files, addresses, and standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.data.folders import LeftOut
    from masqclip.data.images import LoadedImage

#: The word that stands for standard input, and the file that `main` makes of it: to the parser of
#: the command line, a lone hyphen is an option.
STANDARD_INPUT, STANDARD_INPUT_FILE = "-", "/dev/stdin"


@dataclass(frozen=True)
class Address:
    """A picture on the web; it is fetched when its turn comes."""

    url: str

    def __str__(self) -> str:
        """As it was given."""
        return self.url

    @property
    def stem(self) -> str:
        """What its results are called after."""
        from masqclip.data.web_pictures import web_stem

        return web_stem(self.url)


@dataclass(frozen=True, eq=False)
class StandardInput:
    """A picture's file that was piped in."""

    content: bytes = field(repr=False)
    stem = "stdin"

    def __str__(self) -> str:
        """As it was given."""
        return STANDARD_INPUT


PictureSource = Path | Address | StandardInput


def find_sources(
    words: Sequence[str], *, recursive: bool, out: Path, left_out: LeftOut
) -> tuple[list[PictureSource], dict[str, MasqclipError]]:
    """The pictures that words stand for, each once, and the words that stand for none.

    Args:
        words: files, folders, globs, http(s) addresses, and ``-``.
        recursive: whether folders are searched with their sub-folders.
        out: where results go, which are no pictures unless they are named outright.
        left_out: takes what is passed over.

    Raises:
        MasqclipError: there is nothing but earlier results.
    """
    from masqclip.data.images import find_images
    from masqclip.data.web_pictures import is_web_address

    found: dict[str, PictureSource] = {}
    missing: dict[str, MasqclipError] = {}
    results = os.path.abspath(out) + os.sep
    for word in words:
        if is_web_address(word):
            found.setdefault(word, Address(word))
            continue
        try:
            if word in (STANDARD_INPUT, STANDARD_INPUT_FILE):
                if STANDARD_INPUT not in found:
                    found[STANDARD_INPUT] = _standard_input()
                continue
            paths = find_images([word], recursive=recursive, left_out=left_out)
        except MasqclipError as error:
            missing[_shown(word)] = hint_at_commas(word, error)
            continue
        # A second run over a folder must not take the first one's overlays for pictures.
        meant = (os.path.abspath(word) + os.sep).startswith(results)
        for path in paths:
            full = os.path.abspath(path)
            if meant or not full.startswith(results):
                found.setdefault(full, path)
    if not found and not missing:
        raise MasqclipError(f"{words[0]}: holds nothing but earlier results of --out {out}")
    return list(found.values()), missing


def read_source(source: PictureSource, *, max_pixels_here: int | None = None) -> LoadedImage:
    """The picture itself; see `read_image`.

    Raises:
        MasqclipError: it cannot be fetched or read.
    """
    from masqclip.data.images import read_image

    if isinstance(source, Path):
        return read_image(source, max_pixels_here=max_pixels_here)
    if isinstance(source, Address):
        from masqclip.data.web_pictures import fetch_picture

        content = fetch_picture(source.url)
    else:
        content = source.content
    return read_image(content, name=str(source), max_pixels_here=max_pixels_here)


def _shown(word: str) -> str:
    return STANDARD_INPUT if word == STANDARD_INPUT_FILE else word


def _standard_input() -> StandardInput:
    from masqclip.data.images import MAX_FILE_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise MasqclipError(
            f"{STANDARD_INPUT}: nothing is piped in: give a file, or pipe one in: "
            "cat photo.jpg | masqclip segment - ..."
        )
    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise MasqclipError(
            f"{STANDARD_INPUT}: larger than the limit of {MAX_FILE_BYTES / 1e6:g} MB"
        )
    return StandardInput(content)


def hint_at_commas(word: str, error: MasqclipError) -> MasqclipError:
    """An error about a word that may be a name, which the shell took apart from the others."""
    if "." in word or "/" in word or os.sep in word or "*" in word:
        return error
    return MasqclipError(f"{error} (if it is a name: -v 'cat, {word}', between commas)")
