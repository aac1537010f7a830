"""JSON of anybody's: every way in which it can be broken is one line that names the file.

The standard parser answers nesting of some thousand levels with `RecursionError`, takes a key that
stands twice without a word, and lets in numbers that are none. Here all of these are refused.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from masqclip.data.files import read_bounded
from masqclip.errors import MasqclipError

#: Descriptions, settings and lists of names; annotations of a dataset are larger (`coco.py`).
MAX_JSON_BYTES = 16_000_000


def read_json(path: str | Path, *, what: str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The document in a JSON file.

    Args:
        path: the file.
        what: what it should be, for the errors: ``"the journal"``.
        max_bytes: the largest file that is read.

    Raises:
        MasqclipError: the file cannot be read, is too large, or is no JSON.
    """
    content = read_bounded(path, max_bytes=max_bytes, what=what)
    return parse_json(content, source=f"{what} {str(path)!r}")


def parse_json(text: bytes | str, *, source: str, unique: bool = True) -> Any:
    """The document in a JSON text.

    Args:
        text: UTF-8, with or without a byte order mark.
        source: what it is called in errors.
        unique: refuse a key that stands twice in an object; this takes half as long again.

    Raises:
        MasqclipError: it is no JSON, is nested too deeply, or holds NaN or Infinity.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(
            text,
            object_pairs_hook=_unique if unique else None,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise MasqclipError(f"{source}: no usable JSON: it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise MasqclipError(f"{source}: not UTF-8 text: save it as UTF-8") from error
    except ValueError as error:
        reason = "a number of thousands of digits" if "int_max_str" in str(error) else error
        raise MasqclipError(f"{source}: no valid JSON ({reason})") from error


def null_for_nan(value: Any) -> Any:
    """The same document with null for NaN, which JSON has not."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [null_for_nan(item) for item in value]
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:60]!r} stands twice in one object")
            seen.add(key)
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
