"""Licences that forbid some uses: agreed to once, before anything is fetched, and remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from masqclip.data.files import write_atomically
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError


def _file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "masqclip" / "licences.json"


def accepted() -> set[str]:
    """The repositories whose licences were agreed to on this machine, by this user."""
    file = _file()
    if not file.is_file():
        return set()
    try:
        document = read_json(file, what="the list of licences")
    except MasqclipError:
        return set()  # asked again
    return {str(name) for name in document} if isinstance(document, list) else set()


def accept(names: Iterable[str]) -> None:
    """Remember that the licences of repositories were agreed to.

    Raises:
        OSError: that cannot be written down.
    """
    agreed = accepted() | {*names}
    write_atomically(_file(), json.dumps(sorted(agreed), indent=1).encode())


def check_accepted(name: str, *, licence: str, page: str, command: str) -> None:
    """Refuse to fetch what was not agreed to.

    Args:
        name: the repository, or what else is fetched.
        licence: its licence.
        page: where that stands.
        command: what to run in order to agree, without ``--accept-licence``.

    Raises:
        MasqclipError: it was not.
    """
    if name not in accepted():
        raise MasqclipError(
            f"{name} is under {licence}, which forbids some uses (read {page}): nothing was "
            f"fetched; to agree, run '{command} --accept-licence' once"
        )
