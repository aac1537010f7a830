"""Failures that are one picture's own, and failures that are nobody's picture."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from masqclip.batch import locks, parts, worker
from masqclip.batch.inputs import list_items
from masqclip.batch.locks import NOTE, lock_job
from masqclip.batch.manifest import Entry
from masqclip.batch.parts import Part
from masqclip.batch.sealed import seal, unseal
from masqclip.batch.shards import JobFolder, JobSettings
from masqclip.batch.storage import StorageError, Store
from masqclip.batch.tars import tar_members
from masqclip.batch.worker import Encoder, Namer, load_segmenter, read_shard
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.digests import digest_model
from masqclip.errors import MasqclipError
from masqclip.hub import model_folders
from masqclip.segmenter import Segmenter

WORDS = Vocabulary.parse("car, stuff: sand")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu", dtype="float32")


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """A job of three pictures, the second the largest."""
    (tmp_path / "photos").mkdir()
    for n, side in enumerate((40, 72, 40)):
        Image.new("RGB", (side, side), "navy").save(tmp_path / "photos" / f"{n}.png")
    kind, items = list_items([str(tmp_path / "photos")])
    made = JobFolder(str(tmp_path / "out"))
    made.plan(JobSettings(("photos",), kind, "masqclip-mini", WORDS), items)
    return made


def read(folder: JobFolder) -> pa.Table:
    (row,) = read_shard(pa.table({"shard": [0]}), folder=folder, settings=folder.read()[0])
    return row


def written(folder: JobFolder) -> list[str | None]:
    folder.commit(0, 1, folder.read()[0])
    with folder.store.open("shards/00000000.parquet") as file:
        errors: list[str | None] = pq.read_table(file)["error"].to_pylist()
    return errors


# Pictures


def test_whatever_a_picture_raises_is_its_row(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, errors = worker.read_image, iter([RecursionError("deep"), MemoryError(), None])

    def broken(content: bytes, **options: Any) -> Any:
        if (error := next(errors)) is not None:
            raise error
        return real(content, **options)

    monkeypatch.setattr(worker, "read_image", broken)
    part = Part.from_row(read(folder))
    assert part.table is not None
    assert [bool(error) for error in part.table["error"].to_pylist()] == [True, True, False]


@pytest.mark.parametrize("stage", ["encode", "name"])
def test_a_picture_too_large_for_memory_is_its_row(
    stage: str, folder: JobFolder, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = folder.read()[0]
    encoder = Encoder(folder, settings, "cpu", 1, segmenter)
    namer = Namer(folder, settings, "cpu", 1, segmenter)
    encode, call = segmenter.encode, Segmenter.__call__

    def small_encode(images: Any, **given: Any) -> Any:
        if any(getattr(image, "pixels", image).shape[0] > 50 for image in images):
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return encode(images, **given)

    def small_call(self: Segmenter, encoded: Any, *given: Any, **more: Any) -> Any:
        if encoded.image.height > 50:
            raise MemoryError
        return call(self, encoded, *given, **more)

    if stage == "encode":
        monkeypatch.setattr(segmenter, "encode", small_encode)
    else:
        monkeypatch.setattr(Segmenter, "__call__", small_call)
    done = Part.from_row(namer(encoder(read(folder))))
    assert done.failure is None
    first, second, third = written(folder)
    assert (first, third) == (None, None)
    assert "too large for this machine's memory" in str(second)


def test_an_input_without_a_picture_is_no_job(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    kind, items = list_items([str(tmp_path / "empty.tar")])
    folder = JobFolder(str(tmp_path / "out"))
    with pytest.raises(MasqclipError, match="no picture in it"):
        folder.plan(JobSettings(("empty.tar",), kind, "m", WORDS), items)
    assert not folder.is_planned()


def test_a_tar_of_zeros_without_end_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masqclip.batch.tars._MAX_ZEROS", 1 << 20)
    with open(tmp_path / "a.tar", "w+b") as file:
        file.truncate(1 << 40)  # a hole: no bytes on the disk
        (member,) = tar_members(file)
    assert "nothing but zeros" in str(member.problem)


# Machines


def test_memory_that_suffices_for_nothing_is_no_pictures_fault(
    folder: JobFolder, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **more: Any) -> Any:
        raise RuntimeError("CUDA out of memory: tried to allocate")

    monkeypatch.setattr(segmenter, "encode", full)
    encoder = Encoder(folder, folder.read()[0], "cpu", 1, segmenter)
    assert "3 times" in str(Part.from_row(encoder(read(folder))).failure)


def test_a_disk_that_is_full_ends_the_job_and_sets_no_shard_aside(folder: JobFolder) -> None:
    calls = []

    def work() -> Part:
        calls.append(1)
        raise StorageError("no room")

    with pytest.raises(StorageError, match="no room"):
        parts.attempt(folder, "name", 0, 0, work)
    assert len(calls) == parts.TRIES
    assert folder.failed() == {}


def test_a_machine_with_other_weights_says_so() -> None:
    weights = digest_model(*model_folders("masqclip-mini"))
    given: Any = {"inputs": ("x",), "kind": "files", "model": "masqclip-mini", "vocabulary": WORDS}
    assert load_segmenter(JobSettings(**given, weights=weights), "cpu")
    with pytest.raises(MasqclipError, match="other files on this machine"):
        load_segmenter(JobSettings(**given, weights="0" * 32), "cpu")


# The job's own files


def test_each_bit_of_an_entry_is_told_by_its_digest() -> None:
    entry = Entry(3, 8, 1, {"shards/00000003.parquet": "ab" * 32}, {"shards/00000003.parquet": 9})
    content = entry.to_bytes()
    assert Entry.from_bytes(content, shard=3, source="x") == entry
    for at in range(0, len(content), 3):
        spoilt = content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
        try:
            found = Entry.from_bytes(spoilt, shard=3, source="x")
        except MasqclipError:
            continue
        assert found == entry  # between the words


def test_a_later_masqclip_is_named() -> None:
    with pytest.raises(MasqclipError, match=r"x: written by a later masqclip \(version 9\)"):
        unseal(seal({"version": 9}), source="x")


def test_a_lock_that_was_taken_over_is_told_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.02)
    store = Store(f"memory://{tmp_path.name}/out")
    told: list[str] = []

    def stand_still() -> None:
        try:
            with lock_job(store):
                store.write(NOTE, b'{"token": "other", "holder": "another", "time": 1e12}')
                threading.Event().wait(0.5)
        except MasqclipError as error:
            told.append(str(error))

    stand_still()
    assert "took this folder over" in told[0]
    assert b"other" in store.read(NOTE)
