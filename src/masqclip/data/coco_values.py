"""Ids, sizes, flags and names as annotation tools write them, read as what they mean.

Each function takes an entry of a file and the key that it looks at. What can mean only one thing is
read as that: a number in quotes, a flag that is null. Everything else is refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError

#: An id as in a file: a number, or a word.
Key = int | str

HEADINGS = "categories that only head the others, left out"
BACKGROUNDS = "categories that are the background and in no annotation, left out"

# What other programs take: hotcoco and JavaScript's tools know no larger ids.
_LARGEST_ID = 1 << 53
_MAX_DIGITS = 16
_FLAGS = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}


def read_key(entry: Mapping[str, Any], name: str) -> Key:
    """An id: a whole number, also one in quotes, or a word.

    Raises:
        MasqclipError: it is missing, or neither.
    """
    value = entry.get(name)
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value:
        number = _whole(value)
        return value if number is None else number
    raise MasqclipError(
        f"its {name!r} is {value!r:.60}; give a whole number or a word"
        if name in entry
        else f"it has no {name!r}; add it"
    )


def _whole(text: str) -> int | None:
    """The whole number that a text is, written as numbers are."""
    plain = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if plain and str(int(text)) == text else None


def numbering(keys: Iterable[Key]) -> dict[Key, int]:
    """Whole numbers for ids: their own, or, where one is none, their places in order from 1 on."""
    keys = list(keys)
    if all(isinstance(key, int) and 0 <= key < _LARGEST_ID for key in keys):
        return {key: int(key) for key in keys}
    ordered = sorted(keys, key=lambda key: (isinstance(key, str), key))
    return {key: number for number, key in enumerate(ordered, start=1)}


def read_file_name(entry: Mapping[str, Any]) -> str:
    """A name that a file can have.

    Raises:
        MasqclipError: it is missing, or none.
    """
    name = entry.get("file_name")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise MasqclipError(f"its 'file_name' is {name!r:.60}; give the name of a file")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise MasqclipError(
            f"its 'file_name' is {name!r:.60}; give characters that exist"
        ) from error
    return name


def read_side(entry: Mapping[str, Any], name: str) -> int:
    """A height or width in pixels; 0 where the file does not say it.

    Raises:
        MasqclipError: it is no number of pixels.
    """
    value = entry.get(name)
    if isinstance(value, str):
        value = _whole(value.strip())
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    elif value is None:
        return 0
    if type(value) is not int or value < 0:
        raise MasqclipError(
            f"its {name!r} is {entry[name]!r:.60}; give a number of pixels, or leave it out"
        )
    return value


def read_flag(entry: Mapping[str, Any], name: str) -> bool:
    """Yes or no: a boolean, 0 or 1, also in quotes; what is missing or null is no.

    Raises:
        MasqclipError: it is anything else.
    """
    value = entry.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    known = value.lower() if isinstance(value, str) else value
    if not isinstance(known, int | float | str) or known not in _FLAGS:
        raise MasqclipError(f"its {name!r} is {value!r:.60}; give 0 or 1")
    return _FLAGS[known]


def read_area(value: object, pixels: int) -> float | None:
    """An area that a mask in a picture of so many pixels can have (0 = unknown), or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        area = float(value)
    except (ValueError, OverflowError):
        return None
    return area if 0 < area <= (pixels or math.inf) and math.isfinite(area) else None


def no_classes(
    categories: Mapping[Key, Mapping[str, Any]], annotations: Iterable[Mapping[str, Any]]
) -> list[tuple[str, Key]]:
    """Categories that tools put before the others and no annotation has: they would compete.

    Roboflow's exports begin with the project's name, of supercategory "none" and over all others;
    others have one for the background.

    Args:
        categories: entries by their ids.
        annotations: of the file.

    Returns:
        What each is, and its id.
    """
    tops = [key for key, entry in categories.items() if entry.get("supercategory") == "none"]
    names = [categories[key]["name"] for key in tops]
    below = (entry for key, entry in categories.items() if key not in tops)
    heads = len(tops) == 1 < len(categories) and all(
        entry.get("supercategory") in (None, *names) for entry in below
    )
    found = {
        key: BACKGROUNDS
        for key, entry in categories.items()
        if reading(entry["name"]).strip("_ ") in ("background", "ignore")
    }
    found |= dict.fromkeys(tops if heads else (), HEADINGS)
    used = {str(entry.get("category_id")) for entry in annotations} if found else set()
    return [(what, key) for key, what in found.items() if str(key) not in used]
