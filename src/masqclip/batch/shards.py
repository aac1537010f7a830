"""A job's folder: what was asked, how it is cut into shards, and which of them are done.

    job.json                      what was asked, and the counts
    _plan/00000.parquet           where each picture is; a row group a shard, 1,000 shards a file
    shards/00000000.parquet       results of a shard (or .json, as COCO)
    embeddings/00000000.parquet   its encoded pictures, if they are kept
    overlays/00000000/            its pictures with their masks drawn on them, if asked for
    _manifest/00000000.json       written last: the shard is done
    _failed/00000000.json         the shard was given up, and why
    _work/                        parts of unfinished shards; swept away when a run starts

The plan is made once, so a shard is the same pictures in the same order in every run; whatever
of it is not in the manifest, or is not what the manifest says, is done again, and gives the same
bytes. Each of these files is told by a digest, so that damage is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from masqclip.batch.embeddings import EMBEDDINGS
from masqclip.batch.items import ITEMS, Item, items_table, table_items
from masqclip.batch.manifest import (
    MANIFEST,
    RESULTS,
    Entry,
    entry_name,
    find_damage,
    modified,
    numbered,
    read_entries,
)
from masqclip.batch.reading import FETCH_THREADS, find_change
from masqclip.batch.records import RECORDS, coco_document, write_parquet
from masqclip.batch.sealed import seal, unseal
from masqclip.batch.settings import JobSettings
from masqclip.batch.status import Status
from masqclip.batch.storage import WORK, Store
from masqclip.batch.tables import open_table
from masqclip.errors import MasqclipError

__all__ = ["JobFolder", "JobSettings", "Status"]

VERSION = 2  # of job.json and the plan; 1 had no digests
SHARDS_PER_FILE = 1000
_FAILED = "_failed"
_SHARDS_AHEAD = 64  # whose pictures are compared at a time
_ANEW = "put the file back, or name another folder to begin anew"
_MAX_JOB_BYTES = 64_000_000
PACE_SECONDS = 600.0  # how far back the pace is taken from
SCHEMAS = {"shards": RECORDS, "embeddings": EMBEDDINGS}


class JobFolder:
    """The folder of a job.

    Args:
        uri: a local path, or an address such as ``s3://bucket/folder``.
        accept_changes: read pictures as they are now, though they are not as they were planned.
    """

    def __init__(self, uri: str, *, accept_changes: bool = False) -> None:
        self.store = Store(uri)
        self.accept_changes = accept_changes

    # What was asked

    def plan(self, settings: JobSettings, items: Iterable[Item]) -> None:
        """Cut the items into shards and write the job down; `job.json` comes last.

        Raises:
            MasqclipError: there is nothing to do, or results of another job are in the way.
        """
        if any(self.store.files(folder) for folder in (MANIFEST, _FAILED)):
            raise MasqclipError(
                f"{self.store.uri}: results of a job whose job.json is gone: {_ANEW}"
            )
        self.store.delete("_plan")
        rest = iter(items)
        size = 1 if settings.kind == "embeddings" else settings.shard_size
        shards = images = 0
        plan: dict[str, str] = {}
        while block := list(islice(rest, size * SHARDS_PER_FILE)):
            tables = [items_table(block[at : at + size]) for at in range(0, len(block), size)]
            name = _plan_name(shards)
            with self.store.writing(name) as file:
                write_parquet(file, ITEMS, tables)
            plan[name] = self.store.digest(name)
            # Kept embeddings are listed by their shards, with the pictures in each.
            kept = settings.kind == "embeddings"
            images += sum(max(0, item.size) for item in block) if kept else len(block)
            shards += len(tables)
        if not shards:
            raise MasqclipError(f"{', '.join(settings.inputs)[:1000]}: no picture in it")
        document = {"version": VERSION, "shards": shards, "images": images, "plan": plan}
        self.store.write("job.json", seal(document | {"settings": settings.to_json()}))

    def is_planned(self) -> bool:
        """Whether there is a job here."""
        return self.store.exists("job.json")

    def read(self) -> tuple[JobSettings, int, int]:
        """The settings, the number of shards and the number of pictures.

        Raises:
            MasqclipError: there is no job here, or its file is damaged.
        """
        settings, document = self._read()
        return settings, document["shards"], document["images"]

    def _read(self) -> tuple[JobSettings, dict[str, Any]]:
        if not self.is_planned():
            raise MasqclipError(f"{self.store.uri}: there is no batch job in this folder")
        source = self.store.address("job.json")
        try:
            content = self.store.read("job.json", _MAX_JOB_BYTES)
            document = {"plan": {}} | unseal(content, source=source, version=VERSION)
            counts = [document.get(name) for name in ("shards", "images")]
            if not all(type(count) is int and count >= 0 for count in counts):
                raise MasqclipError(f"{source}: damaged (its counts are {counts})")
            if not isinstance(document["plan"], dict):
                raise MasqclipError(f"{source}: damaged (it does not name the plan's files)")
            settings = JobSettings.from_json(document.get("settings", {}))
        except MasqclipError as error:
            told = str(error) if str(error).startswith(source) else f"{source}: {error}"
            raise MasqclipError(f"{told}; {_ANEW}") from error
        return settings, document

    def check_plan(self) -> None:
        """Compare the plan's files with what was written.

        Raises:
            MasqclipError: one is missing or damaged.
        """
        _, document = self._read()
        if not document["plan"]:  # of a version that wrote no digests
            return
        for first in range(0, document["shards"], SHARDS_PER_FILE):
            name = _plan_name(first)
            source = self.store.address(name)
            try:
                right = self.store.digest(name) == document["plan"].get(name)
            except (MasqclipError, OSError) as error:
                raise MasqclipError(f"{error}: the plan of this job: {_ANEW}") from error
            if not right:
                raise MasqclipError(f"{source}: damaged, the plan of this job: {_ANEW}")

    def check(self, settings: JobSettings) -> None:
        """Refuse to go on with a job that was asked for something else.

        Raises:
            MasqclipError: with the names of the settings that differ.
        """
        there = self.read()[0].to_json()
        asked = settings.to_json()
        other = [f.name for f in fields(settings) if there.get(f.name) != asked[f.name]]
        if other == ["weights"]:
            raise MasqclipError(
                f"--out {self.store.uri} holds a job of other weights under the same name "
                f"({settings.model}): its results and new ones would be of two models; name "
                "another folder"
            )
        if other:
            raise MasqclipError(
                f"--out {self.store.uri} holds a job with another {', '.join(other)}: repeat its "
                "options to go on with it, or name another folder"
            )

    def check_pictures(self, missing: Iterable[int]) -> None:
        """Refuse to go on with pictures that are not those that were planned.

        Pictures of shards that are done may be gone, but not be others.

        Raises:
            MasqclipError: with the first that has changed.
        """
        listings: dict[str, Any] = {}
        waiting = set(missing)

        def change_in(shard: int, items: list[Item]) -> str | None:
            return find_change(items, done=shard not in waiting, listings=listings)

        rest = enumerate(self._all_items())
        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            while ahead := list(islice(rest, _SHARDS_AHEAD)):
                changes = pool.map(change_in, *zip(*ahead, strict=True))
                if change := next(filter(None, changes), None):
                    raise MasqclipError(
                        f"{change}: results of old and new pictures would be mixed; put it back, "
                        "name another folder for the results, or take the pictures as they are "
                        "now with --accept-changes"
                    )

    def _all_items(self) -> Iterator[list[Item]]:
        """The pictures of each shard in turn."""
        shards = self.read()[1]
        for first in range(0, shards, SHARDS_PER_FILE):
            with self._plan(first) as plan:
                for shard in range(first, min(shards, first + SHARDS_PER_FILE)):
                    yield table_items(plan.read_row_group(shard - first))

    def items(self, shard: int) -> list[Item]:
        """The pictures of a shard.

        Raises:
            MasqclipError: the plan is damaged.
        """
        with self._plan(shard) as plan:
            return table_items(plan.read_row_group(shard % SHARDS_PER_FILE))

    @contextmanager
    def _plan(self, shard: int) -> Iterator[pq.ParquetFile]:
        source = self.store.address(_plan_name(shard))
        try:
            with open_table(source, name=source) as plan:
                yield plan
        except (MasqclipError, TypeError) as error:
            raise MasqclipError(f"{error}: the plan of this job: {_ANEW}") from error

    # Parts, and putting them together

    def start(self) -> None:
        """Sweep away what an earlier run left unfinished."""
        self.store.delete(WORK)

    def write_part(self, kind: str, shard: int, part: int, table: pa.Table) -> None:
        """Keep a part of a shard's results (`SCHEMAS` says of which kinds) until it is whole."""
        with self.store.writing(_part(kind, shard, part), durable=False) as file:
            write_parquet(file, SCHEMAS[kind], [table.select(SCHEMAS[kind].names)])

    def _parts(self, kind: str, shard: int, parts: int) -> Iterator[pa.Table]:
        for part in range(parts):
            with self.store.open(_part(kind, shard, part)) as file:
                yield pq.read_table(file, schema=SCHEMAS[kind])

    def commit(self, shard: int, parts: int, settings: JobSettings) -> Entry:
        """Put a shard's parts together, each kind one file, and enter it in the manifest."""
        kinds = ["embeddings"] if settings.save_embeddings else []
        if settings.vocabulary is not None:
            kinds.append("shards")
        names: list[str] = []
        for kind in kinds:
            name = f"{kind}/{shard:08d}.parquet"
            if kind == "shards" and settings.format == "coco" and settings.reported:
                name = f"{kind}/{shard:08d}.json"
                rows = pa.concat_tables(self._parts(kind, shard, parts)).to_pylist()
                first = shard * settings.shard_size + 1
                self.store.write(name, coco_document(rows, settings.reported, first))
            else:
                with self.store.writing(name) as file:
                    write_parquet(file, SCHEMAS[kind], self._parts(kind, shard, parts))
            names.append(name)
        if settings.overlay:
            folder = f"overlays/{shard:08d}"
            overlays = [f"{folder}/{file}" for file in sorted(self.store.files(folder))]
            self.store.sync(overlays)
            names += overlays
        columns = [table.select(["error"]) for table in self._parts(kinds[-1], shard, parts)]
        errors = pa.concat_tables(columns).column("error")
        sizes = {name: self.store.size(name) for name in names}
        digests = {name: self.store.digest(name) for name in names}
        entry = Entry(shard, len(errors), len(errors) - errors.null_count, digests, sizes)
        self.store.write(entry_name(shard), entry.to_bytes())
        self.store.delete(f"{WORK}/{shard:08d}")
        return entry

    def give_up(self, shard: int, reason: str) -> None:
        """Set a shard aside."""
        self.store.write(f"{_FAILED}/{shard:08d}.json", seal({"reason": reason}))
        self.store.delete(f"{WORK}/{shard:08d}")

    # Attempts: counted on disk, because what fails may take its process with it

    def attempts(self, shard: int, part: int, stage: str) -> int:
        """How many times a stage has begun this part, in this run, and not ended."""
        names = self.store.files(f"{WORK}/{shard:08d}/attempts")
        return sum(name.startswith(f"{part:05d}.{stage}.") for name in names)

    def begin_attempt(self, shard: int, part: int, stage: str, number: int) -> None:
        """Note that a stage begins a part."""
        self.store.touch(f"{WORK}/{shard:08d}/attempts/{part:05d}.{stage}.{number}")

    def end_attempts(self, shard: int, part: int, stage: str) -> None:
        """Forget the attempts of a part that is done."""
        for name in self.store.files(f"{WORK}/{shard:08d}/attempts"):
            if name.startswith(f"{part:05d}.{stage}."):
                self.store.delete(f"{WORK}/{shard:08d}/attempts/{name}")

    # How far it is

    def entries(self) -> dict[int, Entry | str]:
        """What the manifest says of each shard in it; in place of a damaged entry, why."""
        return read_entries(self.store, numbered(self.store.files(MANIFEST)))

    def damage(self, entries: Mapping[int, Entry | str], *, verify: bool = False) -> dict[int, str]:
        """The finished shards whose files are not what the manifest says, and why.

        Args:
            entries: of the manifest.
            verify: compare digests too, not only sizes: all results are read.
        """
        return find_damage(self.store, entries, verify=verify)

    def repair(self, *, verify: bool = False) -> dict[int, str]:
        """Forget finished shards that are damaged, so that they are done again; returns why."""
        damage = self.damage(self.entries(), verify=verify)
        for shard in damage:
            self.store.delete(entry_name(shard))
            for folder in RESULTS:
                self.store.delete(f"{folder}/{shard:08d}")
        return damage

    def failed(self) -> dict[int, str]:
        """The shards that were given up, and why."""
        found = {}
        for shard, name in numbered(self.store.files(_FAILED)).items():
            source = self.store.address(f"{_FAILED}/{name}")
            try:
                document = unseal(self.store.read(f"{_FAILED}/{name}"), source=source)
                found[shard] = str(document.get("reason", "it does not say why"))
            except MasqclipError:
                found[shard] = "why is not known: its note is damaged"
        return found

    def retry(self) -> None:
        """Let the shards that were given up be tried again."""
        self.store.delete(_FAILED)

    def missing(self) -> list[int]:
        """The shards that are neither done nor given up, in order."""
        settled = numbered(self.store.files(MANIFEST)).keys() | self.failed().keys()
        return [shard for shard in range(self.read()[1]) if shard not in settled]

    def status(self, *, verify: bool = False) -> Status:
        """How far the job is.

        Args:
            verify: see `damage`.
        """
        _, shards, images = self.read()
        files = self.store.files(MANIFEST)
        names = {n: name for n, name in numbered(files).items() if n < shards}
        entries = read_entries(self.store, names)
        damaged = self.damage(entries, verify=verify)
        done = {n: e for n, e in entries.items() if n not in damaged and isinstance(e, Entry)}
        images_done = sum(entry.images for entry in done.values())
        failed = self.failed()
        times = sorted((modified(files[names[n]]), entry.images) for n, entry in done.items())
        recent = [entry for entry in times if entry[0] >= times[-1][0] - PACE_SECONDS]
        left = None
        if len(recent) > 1 and (span := recent[-1][0] - recent[0][0]) > 0:
            # The first commit's pictures were worked on before the span began.
            left = (images - images_done) * span / sum(count for _, count in recent[1:])
        return Status(
            shards=shards,
            images=images,
            done=len(done),
            images_done=images_done,
            errors=sum(entry.errors for entry in done.values()),
            failed=failed,
            damaged=damaged,
            seconds_left=0.0 if len(done) + len(failed) == shards else left,
        )


def _plan_name(shard: int) -> str:
    return f"_plan/{shard // SHARDS_PER_FILE:05d}.parquet"


def _part(kind: str, shard: int, part: int) -> str:
    return f"{WORK}/{shard:08d}/{kind}.{part:05d}"
