"""The stages of a job, as Ray Data calls them: read a shard, encode its parts, name their masks.

Between the stages goes a *part* of a shard, one row: what it is, and its pictures as a table in
Arrow's own bytes. A stage never raises: a bad picture is a row with its error, and a part that
fails three times, by an exception or by taking its process with it, says so to whoever waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from masqclip.batch import embeddings as encoded_tables
from masqclip.batch.addresses import open_file
from masqclip.batch.inputs import read_items
from masqclip.batch.parts import TRIES, Part, attempt, reason_of
from masqclip.batch.records import RECORDS, error_record, result_record
from masqclip.batch.shards import JobFolder, JobSettings
from masqclip.batch.storage import digest_of
from masqclip.batch.tables import damage_told
from masqclip.data.digests import digest_model
from masqclip.data.images import LoadedImage, read_image
from masqclip.errors import MasqclipError, is_out_of_memory
from masqclip.hub import model_folders

PART_IMAGES = 32
PART_BYTES = 64 << 20  # of pixels; together they bound what a stage holds at a time
FLOATS_PER_PIXEL = 600  # of a frame, at the proposer's widest: measured, with a margin

PICTURES = pa.schema(
    [
        ("key", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("error", pa.string()),
        ("notes", pa.list_(pa.string())),
        ("pixels", pa.large_binary()),  # [H,W,3] uint8 RGB
    ]
)


# Reading


def read_shard(row: pa.Table, *, folder: JobFolder, settings: JobSettings) -> Iterator[pa.Table]:
    """Stage 1: the number of a shard in, its parts out, decoded (or encoded long ago)."""
    shard = row["shard"][0].as_py()
    make_tables = _kept_tables if settings.kind == "embeddings" else _decoded_tables
    sent, reason = 0, "read ended its process"
    for number in range(folder.attempts(shard, 0, "read"), TRIES):
        folder.begin_attempt(shard, 0, "read", number)
        try:
            for n, (table, last) in enumerate(_mark_last(make_tables(folder, shard, settings))):
                if n >= sent:
                    yield Part(shard, n, last, table).to_row()
                    sent += 1
        except Exception as error:
            reason = reason_of("read", error)
        else:
            folder.end_attempts(shard, 0, "read")
            return
    yield Part(shard, sent, last=True, failure=f"{reason}, {TRIES} times").to_row()


def _mark_last(tables: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, bool]]:
    """Each table, and whether it is the last one."""
    waiting = next(tables)
    for table in tables:
        yield waiting, False
        waiting = table
    yield waiting, True


def _decoded_tables(folder: JobFolder, shard: int, settings: JobSettings) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    size = 0
    items = folder.items(shard)
    for key, content in read_items(
        settings.kind, items, settings.column, settings.max_bytes, not folder.accept_changes
    ):
        row = _picture_row(key, content)
        rows.append(row)
        size += len(row.get("pixels") or b"")
        if len(rows) == PART_IMAGES or size >= PART_BYTES:
            yield pa.Table.from_pylist(rows, schema=PICTURES)
            rows, size = [], 0
    if rows:
        yield pa.Table.from_pylist(rows, schema=PICTURES)


def _picture_row(key: str, content: bytes | MasqclipError) -> dict[str, Any]:
    try:
        if isinstance(content, MasqclipError):
            raise content
        image = read_image(content, name=key)
    except MasqclipError as error:
        return error_record(key, str(error))
    except Exception as error:  # whatever a picture is, it is a row
        return error_record(key, f"{key}: {reason_of('cannot be read', error)}")
    return {
        "key": key,
        "height": image.height,
        "width": image.width,
        "notes": list(image.notes),
        "pixels": image.pixels.tobytes(),
    }


def _kept_tables(folder: JobFolder, shard: int, settings: JobSettings) -> Iterator[pa.Table]:
    (item,) = folder.items(shard)
    if item.error is not None:
        raise MasqclipError(item.error)
    with open_file(item.file, name=item.key) as file, damage_told(item.key):
        if item.digest and digest_of(file) != item.digest:
            raise MasqclipError(f"{item.key}: these embeddings are not those that were kept")
        file.seek(0)
        table = pq.ParquetFile(file)
        for group in range(table.num_row_groups):
            yield table.read_row_group(group)


class Stage:
    """What encoding and naming share: a model, and a part in and out, tried again if it fails.

    Args:
        folder: of the job.
        settings: of the job.
        device: where the model runs; None = the best there is.
        threads: of the processor.
        segmenter: the job's model, where this process has it already; else it is loaded.
    """

    title: ClassVar[str]

    def __init__(
        self,
        folder: JobFolder,
        settings: JobSettings,
        device: str | None,
        threads: int,
        segmenter: Any = None,
    ) -> None:
        self.folder, self.settings, self.threads = folder, settings, threads
        use_threads(threads)
        self.segmenter = segmenter or load_segmenter(settings, device)

    def __call__(self, row: pa.Table) -> pa.Table:
        """Do one part; one that is given up or written already passes."""
        part = Part.from_row(row)
        table = part.table
        if table is None:
            return row
        use_threads(self.threads)
        return attempt(
            self.folder, self.title, part.shard, part.part, lambda: self._work(part, table)
        ).to_row()

    def _too_large(self, key: str, error: Exception) -> MasqclipError:
        """The error of a picture that memory did not suffice for, if it is the picture's fault.

        Raises:
            MemoryError: memory does not even suffice for a small picture: nothing can be done.
        """
        try:
            self.segmenter.encode([np.zeros((32, 32, 3), np.uint8)])
        except (MemoryError, RuntimeError):
            raise MemoryError(str(error)) from error
        return MasqclipError(f"{key}: too large for this machine's memory; make it smaller first")

    def _work(self, part: Part, table: pa.Table) -> Part:
        """The part as the next stage takes it, from its table."""
        raise NotImplementedError


# The image side


class Encoder(Stage):
    """Stage 2: pictures in, embeddings out, and kept if that is asked for. An actor."""

    title = "encode"

    def _work(self, part: Part, table: pa.Table) -> Part:
        readable = [i for i in range(len(table)) if table["pixels"][i].is_valid]
        rows: dict[int, dict[str, Any]] = {}
        for batch in self._batches(table, readable):
            for i, encoded in zip(batch, self._encode_batch(table, batch), strict=True):
                key = table["key"][i].as_py()
                if isinstance(encoded, MasqclipError):
                    rows[i] = error_record(key, str(encoded))
                    continue
                rows[i] = encoded_tables.encoded_row(key, encoded, pixels=self.settings.overlay)
        for i in set(range(len(table))) - rows.keys():
            rows[i] = error_record(table["key"][i].as_py(), table["error"][i].as_py())
        schema = (
            encoded_tables.EMBEDDINGS_AND_PIXELS
            if self.settings.overlay
            else encoded_tables.EMBEDDINGS
        )
        encoded_table = pa.Table.from_pylist([rows[i] for i in range(len(table))], schema=schema)
        if self.settings.save_embeddings:
            self.folder.write_part("embeddings", part.shard, part.part, encoded_table)
        kept = None if self.settings.vocabulary is None else encoded_table
        return replace(part, table=kept)

    def _least(self) -> float:
        """The object score below which masks cannot matter."""
        from masqclip.assembly import least_object_score

        settings = self.settings
        # Embeddings are kept for any question, and so of every proposal.
        if settings.save_embeddings:
            return 0.0
        trust = self.segmenter.model.refinements.trust
        return least_object_score(
            settings.task, settings.min_score, settings.vocabulary, trust=trust
        )

    def _batches(self, table: pa.Table, readable: list[int]) -> Iterator[list[int]]:
        """Rows that go through the model together: as many of one frame as memory allows."""
        from masqclip.data.frames import resized_size

        config = self.segmenter.model.config
        groups: dict[tuple[int, int], list[int]] = {}
        for i in readable:
            size = resized_size(table["height"][i].as_py(), table["width"][i].as_py(), config)
            height, width = (side + -side % config.size_divisor for side in size)
            groups.setdefault((height, width), []).append(i)
        for frame, members in groups.items():
            number = batch_size(config, frame, self.settings.memory)
            for at in range(0, len(members), number):
                yield members[at : at + number]

    def _encode_batch(self, table: pa.Table, batch: Sequence[int]) -> list[Any]:
        images = [_loaded(table, i) for i in batch]
        try:
            return self.segmenter.encode(images, min_object_score=self._least())
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                return [self._too_large(images[0].source, error)]
        half = len(batch) // 2
        return self._encode_batch(table, batch[:half]) + self._encode_batch(table, batch[half:])


def batch_size(config: Any, frame: tuple[int, int], gigabytes: float) -> int:
    """How many frames may go through a model together, by its sizes alone: the same everywhere.

    Args:
        config: a `MasQClipConfig`.
        frame: (H, W) of the padded frames.
        gigabytes: what they may take; the model's own weights are not counted.
    """
    vision = config.clip_config["vision_config"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    # Keys and values of all blocks are kept for the masks to read.
    tokens = 2 * vision["num_hidden_layers"] * patches * vision["hidden_size"]
    floats = tokens + FLOATS_PER_PIXEL * frame[0] * frame[1]
    return max(1, int(gigabytes * 1e9 / (4 * floats)))


def _loaded(table: pa.Table, index: int) -> LoadedImage:
    height, width = table["height"][index].as_py(), table["width"][index].as_py()
    pixels = np.frombuffer(table["pixels"][index].as_buffer(), np.uint8)
    notes = tuple(table["notes"][index].as_py())
    return LoadedImage(pixels.reshape(height, width, 3), notes, table["key"][index].as_py())


# The words' side


class Namer(Stage):
    """Stage 3: embeddings in, named masks written. An actor; it sees no pixel but to draw on."""

    title = "name"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # A name that the model cannot read is found before the first picture, not in every shard.
        self.segmenter.text.embed_vocabulary(self.settings.vocabulary)

    def _work(self, part: Part, table: pa.Table) -> Part:
        settings = self.settings
        assert settings.vocabulary is not None
        rows = []
        for i in range(len(table)):
            key, error = table["key"][i].as_py(), table["error"][i].as_py()
            if error is not None:
                rows.append(error_record(key, error))
                continue
            encoded = encoded_tables.encoded_image(table, i, self.segmenter.device)
            try:
                result = self.segmenter(
                    encoded,
                    settings.vocabulary,
                    settings.task,
                    min_score=settings.min_score,
                    level=settings.level,
                )
            except (MemoryError, RuntimeError) as problem:
                if not is_out_of_memory(problem):
                    raise
                rows.append(error_record(key, str(self._too_large(key, problem))))
                continue
            rows.append(result_record(key, result))
            if settings.overlay:
                self._draw(part, i, result)
        records = pa.Table.from_pylist(rows, schema=RECORDS)
        self.folder.write_part("shards", part.shard, part.part, records)
        return replace(part, table=None)

    def _draw(self, part: Part, index: int, result: Any) -> None:
        from masqclip.data.label_maps import png_bytes

        name = f"overlays/{part.shard:08d}/{part.part:05d}-{index:05d}.png"
        self.folder.store.write(name, png_bytes(result.plot()), durable=False)


class EncoderAndNamer:
    """Stages 2 and 3 in one process, with one model: where both would share a core anyway.

    Args as those of `Stage`.
    """

    def __init__(
        self, folder: JobFolder, settings: JobSettings, device: str | None, threads: int
    ) -> None:
        self._encode = Encoder(folder, settings, device, threads)
        self._name = Namer(folder, settings, device, threads, self._encode.segmenter)

    def __call__(self, row: pa.Table) -> pa.Table:
        """Encode one part, and name its masks."""
        return self._name(self._encode(row))


def load_segmenter(settings: JobSettings, device: str | None) -> Any:
    """The job's model, in this process."""
    from masqclip.devices import choose_device, choose_dtype
    from masqclip.segmenter import Segmenter

    if settings.weights not in (None, digest_model(*model_folders(settings.model))):
        raise MasqclipError(
            f"the model {settings.model!r} has other files on this machine than where the job was "
            "planned: copy them, or name another folder for --out"
        )
    chosen = choose_device(device)
    return Segmenter.from_pretrained(
        settings.model,
        device=chosen,
        dtype=choose_dtype(settings.dtype, chosen),
        size=settings.size,
    )


def use_threads(number: int) -> None:
    """Let PyTorch use so many threads of the processor, from the thread that calls this.

    An actor's calls may come in other threads than the one that made it, and there the first
    matrix product would be computed in another order of additions than the next.
    """
    import torch

    torch.set_num_threads(number)
