"""The small JSON files of a job, with a digest of their own: damage that is still JSON is found."""

from __future__ import annotations

import json
from typing import Any

from masqclip.data.digests import digest_bytes
from masqclip.data.json_files import parse_json
from masqclip.errors import MasqclipError

_SEAL = "digest"


def seal(document: dict[str, Any]) -> bytes:
    """A document as a file that `unseal` reads."""
    return (json.dumps(document | {_SEAL: _digest(document)}, indent=1) + "\n").encode()


def unseal(content: bytes, *, source: str, version: int = 1) -> dict[str, Any]:
    """The document in a file.

    Args:
        content: of the file.
        source: what it is called in errors.
        version: the newest that is understood.

    Raises:
        MasqclipError: it is damaged, or of a later masqclip. Files of before there were digests
            are taken as they are.
    """
    document = parse_json(content, source=source)
    if not isinstance(document, dict):
        raise MasqclipError(f"{source}: damaged (no JSON object)")
    found = document.get("version", 1)
    if isinstance(found, int) and found > version:
        raise MasqclipError(f"{source}: written by a later masqclip (version {found}): update it")
    if _SEAL in document and document.pop(_SEAL) != _digest(document):
        raise MasqclipError(f"{source}: damaged (its digest is another)")
    return document


def _digest(document: dict[str, Any]) -> str:
    return digest_bytes(json.dumps(document, sort_keys=True).encode())
