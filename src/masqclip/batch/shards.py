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
of it is not in the manifest is done again, and gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from masqclip.batch.embeddings import EMBEDDINGS
from masqclip.batch.inputs import ITEMS, Item, Kind
from masqclip.batch.records import RECORDS, coco_document, write_parquet
from masqclip.batch.storage import WORK, Store
from masqclip.clip.vocabulary import Category, Vocabulary
from masqclip.errors import MasqclipError
from masqclip.result import Task

SHARDS_PER_FILE = 1000
PACE_SECONDS = 600.0  # how far back the pace is taken from
SCHEMAS = {"shards": RECORDS, "embeddings": EMBEDDINGS}


@dataclass(frozen=True)
class JobSettings:
    """What a job was asked for: all that its bytes depend on.

    Attributes:
        inputs: as given.
        kind: of the inputs.
        column: of Parquet inputs.
        model: a name or folder.
        dtype: of the computation; None = the device's own.
        vocabulary: what to look for; None = embeddings only.
        task: instance, semantic or panoptic.
        min_score: what scores less is left out; None = the default.
        format: of the shards, parquet or coco.
        overlay: draw the masks.
        save_embeddings: keep the encoded pictures.
        shard_size: pictures a shard.
        memory: gigabytes that a batch may take; it decides how many pictures go together.
    """

    inputs: tuple[str, ...]
    kind: Kind
    model: str
    vocabulary: Vocabulary | None
    column: str | None = None
    dtype: str | None = None
    task: Task = "panoptic"
    min_score: float | None = None
    format: str = "parquet"
    overlay: bool = False
    save_embeddings: bool = False
    shard_size: int = 256
    memory: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return json.loads(json.dumps(asdict(self)))  # tuples become lists, as they would on disk

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> JobSettings:
        """The settings that `to_json` gave."""
        words = document["vocabulary"]
        if words is not None:
            words = Vocabulary(
                categories=tuple(
                    Category(entry["name"], tuple(entry["prompts"]), entry["thing"])
                    for entry in words["categories"]
                ),
                distractors=tuple(words["distractors"]),
                templates=tuple(words["templates"]),
            )
        return cls(**(document | {"inputs": tuple(document["inputs"]), "vocabulary": words}))


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        shards, images: of the whole job.
        done: shards that are done.
        images_done: pictures in them, bad ones included.
        errors: pictures that could not be read.
        failed: shards that were given up, and why.
        seconds_left: at the pace of the last minutes of work; None before there is one.
    """

    shards: int
    images: int
    done: int
    images_done: int
    errors: int
    failed: dict[int, str]
    seconds_left: float | None

    @property
    def left(self) -> int:
        """Shards that wait to be done."""
        return self.shards - self.done - len(self.failed)


class JobFolder:
    """The folder of a job.

    Args:
        uri: a local path, or an address such as ``s3://bucket/folder``.
    """

    def __init__(self, uri: str) -> None:
        self.store = Store(uri)

    # What was asked

    def plan(self, settings: JobSettings, items: Iterable[Item]) -> None:
        """Cut the items into shards and write the job down; `job.json` comes last."""
        rest = iter(items)
        size = 1 if settings.kind == "embeddings" else settings.shard_size
        shards = images = 0
        while block := list(islice(rest, size * SHARDS_PER_FILE)):
            rows = [vars(item) for item in block]
            tables = [
                pa.Table.from_pylist(rows[at : at + size], schema=ITEMS)
                for at in range(0, len(rows), size)
            ]
            with self.store.writing(f"_plan/{shards // SHARDS_PER_FILE:05d}.parquet") as file:
                write_parquet(file, ITEMS, tables)
            shards, images = shards + len(tables), images + len(rows)
        if settings.kind == "embeddings":
            images = sum(_num_rows(self.items(shard)[0].file) for shard in range(shards))
        document = {"shards": shards, "images": images, "settings": settings.to_json()}
        self.store.write("job.json", _json(document))

    def is_planned(self) -> bool:
        """Whether there is a job here."""
        return self.store.exists("job.json")

    def read(self) -> tuple[JobSettings, int, int]:
        """The settings, the number of shards and the number of pictures.

        Raises:
            MasqclipError: there is no job here.
        """
        if not self.is_planned():
            raise MasqclipError(f"{self.store.uri}: there is no batch job in this folder")
        document = json.loads(self.store.read("job.json"))
        return (
            JobSettings.from_json(document["settings"]),
            document["shards"],
            document["images"],
        )

    def check(self, settings: JobSettings) -> None:
        """Refuse to go on with a job that was asked for something else.

        Raises:
            MasqclipError: with the names of the settings that differ.
        """
        there = self.read()[0].to_json()
        asked = settings.to_json()
        other = [f.name for f in fields(settings) if there.get(f.name) != asked[f.name]]
        if other:
            raise MasqclipError(
                f"--out {self.store.uri} holds a job with another {', '.join(other)}: repeat its "
                "options to go on with it, or name another folder"
            )

    def items(self, shard: int) -> list[Item]:
        """The pictures of a shard."""
        with self.store.open(f"_plan/{shard // SHARDS_PER_FILE:05d}.parquet") as file:
            rows = pq.ParquetFile(file).read_row_group(shard % SHARDS_PER_FILE)
        return [Item(**row) for row in rows.to_pylist()]

    # Parts, and putting them together

    def start(self) -> None:
        """Sweep away what an earlier run left unfinished."""
        self.store.delete(WORK)

    def write_part(self, kind: str, shard: int, part: int, table: pa.Table) -> None:
        """Keep a part of a shard's results (`SCHEMAS` says of which kinds) until it is whole."""
        with self.store.writing(_part(kind, shard, part)) as file:
            write_parquet(file, SCHEMAS[kind], [table.select(SCHEMAS[kind].names)])

    def _parts(self, kind: str, shard: int, parts: int) -> Iterator[pa.Table]:
        for part in range(parts):
            with self.store.open(_part(kind, shard, part)) as file:
                yield pq.read_table(file, schema=SCHEMAS[kind])

    def commit(self, shard: int, parts: int, settings: JobSettings) -> dict[str, Any]:
        """Put a shard's parts together, each kind one file, and enter it in the manifest."""
        kinds = ["embeddings"] if settings.save_embeddings else []
        if settings.vocabulary is not None:
            kinds.append("shards")
        entry: dict[str, Any] = {"shard": shard, "files": {}}
        for kind in kinds:
            name = f"{kind}/{shard:08d}.parquet"
            if kind == "shards" and settings.format == "coco" and settings.vocabulary:
                name = f"{kind}/{shard:08d}.json"
                rows = pa.concat_tables(self._parts(kind, shard, parts)).to_pylist()
                first = shard * settings.shard_size + 1
                self.store.write(name, coco_document(rows, settings.vocabulary, first))
            else:
                with self.store.writing(name) as file:
                    write_parquet(file, SCHEMAS[kind], self._parts(kind, shard, parts))
            with self.store.open(name) as file:
                entry["files"][name] = hashlib.file_digest(file, "sha256").hexdigest()
        columns = [table.select(["error"]) for table in self._parts(kinds[-1], shard, parts)]
        errors = pa.concat_tables(columns).column("error")
        entry |= {"images": len(errors), "errors": len(errors) - errors.null_count}
        self.store.write(f"_manifest/{shard:08d}.json", _json(entry))
        self.store.delete(f"{WORK}/{shard:08d}")
        return entry

    def give_up(self, shard: int, reason: str) -> None:
        """Set a shard aside."""
        self.store.write(f"_failed/{shard:08d}.json", _json({"shard": shard, "reason": reason}))
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

    def done(self) -> set[int]:
        """The shards in the manifest."""
        return {int(name.partition(".")[0]) for name in self.store.files("_manifest")}

    def failed(self) -> dict[int, str]:
        """The shards that were given up, and why."""
        entries = [json.loads(self.store.read(f"_failed/{n}")) for n in self.store.files("_failed")]
        return {entry["shard"]: entry["reason"] for entry in entries}

    def retry(self) -> None:
        """Let the shards that were given up be tried again."""
        self.store.delete("_failed")

    def missing(self) -> list[int]:
        """The shards that are neither done nor given up, in order."""
        settled = self.done() | self.failed().keys()
        return [shard for shard in range(self.read()[1]) if shard not in settled]

    def status(self) -> Status:
        """How far the job is."""
        _, shards, images = self.read()
        files = self.store.files("_manifest")
        entries = {name: json.loads(self.store.read(f"_manifest/{name}")) for name in files}
        images_done = sum(entry["images"] for entry in entries.values())
        failed = self.failed()
        times = sorted((_modified(files[name]), entries[name]["images"]) for name in files)
        recent = [entry for entry in times if entry[0] >= times[-1][0] - PACE_SECONDS]
        left = None
        if len(recent) > 1 and (span := recent[-1][0] - recent[0][0]) > 0:
            # The first commit's pictures were worked on before the span began.
            left = (images - images_done) * span / sum(count for _, count in recent[1:])
        return Status(
            shards=shards,
            images=images,
            done=len(entries),
            images_done=images_done,
            errors=sum(entry["errors"] for entry in entries.values()),
            failed=failed,
            seconds_left=0.0 if len(entries) + len(failed) == shards else left,
        )


def _part(kind: str, shard: int, part: int) -> str:
    return f"{WORK}/{shard:08d}/{kind}.{part:05d}"


def _num_rows(address: str) -> int:
    folder, _, name = address.rpartition("/")
    with Store(folder).open(name) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()


def _modified(entry: dict[str, Any]) -> float:
    """When a file was last written, in seconds; file systems call it differently."""
    for name in ("mtime", "created", "LastModified", "last_modified", "updated"):
        if (value := entry.get(name)) is not None:
            if isinstance(value, datetime):
                return value.timestamp()
            if isinstance(value, str):
                return datetime.fromisoformat(value).timestamp()
            return float(value)
    return 0.0
