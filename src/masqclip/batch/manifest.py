"""The manifest: what each finished shard holds, and whether its files are still that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from masqclip.batch.reading import FETCH_THREADS
from masqclip.batch.sealed import seal, unseal
from masqclip.batch.storage import Store
from masqclip.errors import MasqclipError

MANIFEST = "_manifest"
#: Folders with the files of shards.
RESULTS = ("shards", "embeddings", "overlays")
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Entry:
    """What is known of a finished shard.

    Attributes:
        shard: its number.
        images: pictures in it, bad ones included.
        errors: pictures that could not be read.
        files: SHA-256 of each of its files, by name.
        sizes: their bytes; empty in a manifest of an earlier version.
    """

    shard: int
    images: int
    errors: int
    files: Mapping[str, str]
    sizes: Mapping[str, int]

    def to_bytes(self) -> bytes:
        """As it is written."""
        document = {"shard": self.shard, "files": dict(self.files), "sizes": dict(self.sizes)}
        return seal(document | {"images": self.images, "errors": self.errors})

    @classmethod
    def from_bytes(cls, content: bytes, *, shard: int, source: str) -> Entry:
        """The entry that `to_bytes` gave.

        Raises:
            MasqclipError: it is damaged, or another shard's.
        """
        document = {"sizes": {}} | unseal(content, source=source)
        numbers = [document.get(name) for name in ("shard", "images", "errors")]
        files, sizes = document.get("files"), document["sizes"]
        right = (
            document.keys() == {"shard", "files", "sizes", "images", "errors"}
            and all(type(number) is int and number >= 0 for number in numbers)
            and numbers[0] == shard
            and _maps(files, str)
            and _maps(sizes, int)
        )
        if not right:
            raise MasqclipError(f"{source}: damaged (it is not the entry of shard {shard})")
        return cls(**document)


def _maps(value: Any, kind: type) -> bool:
    return isinstance(value, dict) and all(type(entry) is kind for entry in value.values())


def entry_name(shard: int) -> str:
    """The file of a shard's entry."""
    return f"{MANIFEST}/{shard:08d}.json"


def numbered(names: Iterable[str]) -> dict[int, str]:
    """Files of `entry_name`'s kind, by their shards; other files in such a folder are not ours."""
    matches = filter(None, (re.fullmatch(r"(\d{8,12})\.json", name) for name in names))
    found = ((int(match[1]), match[0]) for match in matches)
    return {shard: name for shard, name in found if name == f"{shard:08d}.json"}


def in_threads(store: Store, work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """`work` of each item, in order; many at a time where the store is far away."""
    if store.is_local:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        yield from pool.map(work, items)


def read_entries(store: Store, names: Mapping[int, str]) -> dict[int, Entry | str]:
    """The entries of shards; in place of one that is damaged, why."""

    def read(shard: int) -> Entry | str:
        name = f"{MANIFEST}/{names[shard]}"
        try:
            content = store.read(name, 100_000_000)
            return Entry.from_bytes(content, shard=shard, source=name)
        except (MasqclipError, OSError) as error:
            return str(error)

    return dict(zip(names, in_threads(store, read, names), strict=True))


def find_damage(
    store: Store, entries: Mapping[int, Entry | str], *, verify: bool = False
) -> dict[int, str]:
    """The shards whose results are not what their entries say, and why.

    Args:
        store: of the job.
        entries: as `read_entries` gives them.
        verify: compare the bytes of the files too, by their SHA-256, not only their sizes.
    """
    folders = {name.partition("/")[0] for e in entries.values() if isinstance(e, Entry)
               for name in e.files}  # fmt: skip
    sizes = {name: size for folder in folders for name, size in store.sizes(folder).items()}

    def check(entry: Entry | str) -> str | None:
        if isinstance(entry, str):
            return entry
        for name, digest in entry.files.items():
            size = sizes.get(name)
            if size is None:
                return f"{name} is missing"
            if size != entry.sizes.get(name, size):
                return f"{name} has {size:,} bytes instead of {entry.sizes[name]:,}"
            if verify and store.digest(name) != digest:
                return f"{name} has other bytes than were written"
        return None

    found = zip(entries, in_threads(store, check, entries.values()), strict=True)
    return {shard: reason for shard, reason in found if reason is not None}


def modified(entry: Mapping[str, Any]) -> float:
    """When a file was last written, in seconds; file systems call it differently."""
    for name in ("mtime", "created", "LastModified", "last_modified", "updated"):
        if (value := entry.get(name)) is not None:
            if isinstance(value, datetime):
                return value.timestamp()
            if isinstance(value, str):
                return datetime.fromisoformat(value).timestamp()
            return float(value)
    return 0.0
