"""Kept embeddings as the input of another job: what the manifest of their own job lists."""

from __future__ import annotations

from typing import Any

from masqclip.batch.items import DIGEST, Item
from masqclip.batch.manifest import MANIFEST, Entry
from masqclip.batch.shards import JobFolder
from masqclip.errors import MasqclipError

EMBEDDINGS = "embeddings"


def is_kept(source: str, filesystem: Any, path: str) -> bool:
    """Whether a folder is that of a job that saves embeddings, though they may be gone."""
    if not filesystem.exists(f"{path}/job.json"):
        return False
    if filesystem.isdir(f"{path}/{EMBEDDINGS}"):
        return True
    return filesystem.isdir(f"{path}/{MANIFEST}") and JobFolder(source).read()[0].save_embeddings


def kept_items(source: str) -> list[Item]:
    """An item for each shard of a job that kept its embeddings; its `size` is in pictures.

    A shard that the job set aside is an item with an error: its pictures are missing here as well.

    Raises:
        MasqclipError: the job is not at its end, or its files are damaged.
    """
    folder = JobFolder(source)
    _, shards, _ = folder.read()
    entries, failed = folder.entries(), folder.failed()
    if damage := folder.damage(entries):
        raise MasqclipError(
            f"{source}: {next(iter(damage.values()))}: run the job of this folder again, which "
            "repairs it"
        )
    items = []
    for shard in range(shards):
        key = f"{shard:08d}.parquet"
        name, entry = f"{EMBEDDINGS}/{key}", entries.get(shard)
        if isinstance(entry, Entry):
            if name not in entry.files:
                raise MasqclipError(f"{source}: this job was not asked to save embeddings")
            items.append(
                Item(key, folder.store.address(name), size=entry.images,
                     bytes=entry.sizes.get(name, -1), version=DIGEST + entry.files[name])
            )  # fmt: skip
        elif shard in failed:
            error = f"{key}: no embeddings: its shard was set aside in {source}"
            items.append(Item(key, folder.store.address(name), error=error))
        else:
            raise MasqclipError(
                f"{source}: {shards - len(entries) - len(failed)} shards of this job are not "
                "done: run it to its end first"
            )
    return items
