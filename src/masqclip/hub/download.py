"""A repository of the Hub to a folder: settings first, the type checked, then one kind of weights.

Without a folder of one's own the files go where the Hub's libraries keep theirs, in their layout,
so that what one of them has downloaded serves all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError
from masqclip.hub.kinds import check_kind
from masqclip.hub.licences import check_accepted
from masqclip.hub.local import ORIGIN, WEIGHTS, cached, repository_folder, shard_names
from masqclip.hub.registry import NamedModel, find_named
from masqclip.hub.repository import PATIENCE, RemoteFile, Repository, look_up
from masqclip.hub.transfer import fetch, missing_bytes

#: Hears what is about to be done, in a line.
Tell = Callable[[str], object]


class _Target:
    """Where the files of a repository go: a folder, or the Hub's cache."""

    def __init__(self, repository: Repository, folder: Path | None) -> None:
        self._repository = repository
        self._home = repository_folder(repository.name)
        self._given = folder
        self.folder = folder or self._home / "snapshots" / repository.revision

    def path(self, file: RemoteFile) -> Path:
        """Where the bytes of a file go; in the cache the digest is their name."""
        return self.folder / file.name if self._given else self._home / "blobs" / file.digest

    def name(self, file: RemoteFile) -> None:
        """Give the file its own name."""
        link = self.folder / file.name
        if self._given is not None or link.exists():
            return
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was quicker
            link.unlink(missing_ok=True)
            try:
                link.symlink_to(os.path.relpath(self.path(file), link.parent))
            except FileExistsError:
                raise
            except OSError:  # Windows lets few people make links of this kind, and all of that
                os.link(self.path(file), link)

    def finish(self) -> None:
        """All is there: say which revision, or where it came from."""
        if self._given is None:
            write_atomically(self._home / "refs" / "main", self._repository.revision.encode())
            return
        told = {"repository": self._repository.name, "revision": self._repository.revision}
        write_atomically(self.folder / ORIGIN, json.dumps(told, indent=1).encode())


@dataclass(frozen=True)
class Pending:
    """A repository whose settings are here, and whose weights are still to be fetched.

    Attributes:
        found: the repository.
        target: where it goes.
        files: its weights.
        what: what it is, for the errors.
    """

    found: Repository
    target: _Target
    files: tuple[RemoteFile, ...]
    what: str

    @property
    def bytes(self) -> int:
        """How many are still to come."""
        return sum(missing_bytes(file, self.target.path(file)) for file in self.files)

    def fetch(self) -> Path:
        """Fetch the weights, or what is missing of them; the folder."""
        _fetch_all(self.found, self.files, self.target, what=self.what)
        self.target.finish()
        return self.target.folder


def download(
    repository: str,
    *,
    what: str,
    to: Path | None = None,
    weights: bool = True,
    tell: Tell | None = None,
    patience: float = PATIENCE,
) -> Path:
    """Fetch a repository, or what is still missing of it.

    Args:
        repository: the Hub's owner/name.
        what: what it is to be: ``"CLIP"``, ``"proposer"``, ``"model"`` or `ANY`.
        to: a folder of one's own; None = the Hub's cache.
        weights: its weights as well.
        tell: hears how much is fetched, and where to.
        patience: seconds until the Hub counts as out of reach.

    Returns:
        The folder.

    Raises:
        MasqclipError: it cannot be had, is not what it should be, its licence was not agreed to, or
            there is no room for it.
        OSError: it cannot be written.
    """
    pending = prepare(repository, what=what, to=to, weights=weights, patience=patience)
    (folder,) = fetch_together(repository, [pending], tell=tell)
    return folder


def prepare(
    repository: str,
    *,
    what: str,
    to: Path | None = None,
    weights: bool = True,
    patience: float = PATIENCE,
) -> Pending:
    """Fetch the settings of a repository and see whether they are of the right type.

    Arguments and errors as in `download`.
    """
    named = find_named(repository)
    if named is not None and weights and cached(repository) is None:
        check_licence(named)
    found = look_up(repository, what=what, patience=patience)
    small = found.small_files()
    if not small:
        raise MasqclipError(f"the Hub's {repository!r} is no model: it has no config.json")
    main = found.weights() if weights else None
    if weights and main is None:
        raise MasqclipError(_no_weights(found))
    target = _Target(found, to)
    needed = sum(missing_bytes(file, target.path(file)) for file in small)
    check_room(needed, target.folder, name=repository)
    _fetch_all(found, small, target, what=what)
    if main is None:
        return Pending(found, target, (), what)
    check_kind(target.folder, what=what, name=repository)
    return Pending(found, target, _weight_files(found, main, target.folder), what)


def fetch_together(
    name: str, pending: Sequence[Pending], *, tell: Tell | None = None
) -> list[Path]:
    """Fetch the weights of several repositories, if there is room for all.

    Args:
        name: what they are together.
        pending: of `prepare`.
        tell: hears how much is fetched, and where to.

    Returns:
        Their folders.
    """
    needed = sum(one.bytes for one in pending)
    places = [one.target.folder for one in pending]
    check_room(needed, places[0], name=name)
    if tell is not None and needed:
        tell(f"fetching {name}: {shown_size(needed)} to {os.path.commonpath(places)}")
    return [one.fetch() for one in pending]


def check_licence(named: NamedModel, *, asked: str | None = None) -> None:
    """Refuse a restricted model whose licence was not agreed to.

    Args:
        named: the model.
        asked: the name that was asked for, where that is a preset's.

    Raises:
        MasqclipError: the line says how to agree.
    """
    if named.restricted:
        check_accepted(
            named.repository,
            licence=named.licence,
            page=named.page,
            command=f"masqclip download {asked or named.name}",
        )


def shown_size(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def check_room(needed: int, folder: Path, *, name: str) -> None:
    """Refuse what does not fit on the disk.

    Raises:
        MasqclipError: the folder's disk has less room than that many bytes.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise MasqclipError(
            f"{name} needs {shown_size(needed)} and the disk of {place} has {shown_size(free)}: "
            "free some space, or name another place (--to DIR, or the variable HF_HOME)"
        )


def _fetch_all(
    found: Repository, files: Iterable[RemoteFile], target: _Target, *, what: str
) -> None:
    for file in files:
        fetch(found, file, target.path(file), what=what)
        target.name(file)


def _weight_files(found: Repository, main: str, folder: Path) -> tuple[RemoteFile, ...]:
    """The file of weights, or the shards that its index names, each of which must be there."""
    if not main.endswith(".index.json"):
        return (found.files[main],)
    names = shard_names(folder / main)
    for name in names:
        if name not in found.files:
            raise MasqclipError(f"the Hub's {found.name!r} is not whole: it has no file {name!r}")
    return tuple(found.files[name] for name in names)


def _no_weights(found: Repository) -> str:
    kinds = ", ".join(name for names in WEIGHTS.values() for name in names)
    return f"the Hub's {found.name!r} holds no weights that can be read safely (one of {kinds})"
