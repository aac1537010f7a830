"""TOML of anybody's: every way in which it can be broken is one line that names it."""

from __future__ import annotations

import tomllib
from typing import Any

from masqclip.errors import MasqclipError


def parse_toml(text: bytes | str, *, source: str) -> dict[str, Any]:
    """The document in a TOML text.

    Args:
        text: UTF-8.
        source: what it is called in errors.

    Raises:
        MasqclipError: it is not TOML, or nested too deeply.
    """
    try:
        return tomllib.loads(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise MasqclipError(f"{source} is not TOML that can be used: nested too deeply") from None
    except ValueError as error:  # a UnicodeDecodeError is one, too
        raise MasqclipError(f"{source} is not TOML: {error}") from error
