"""A job's folder: the plan, the manifest, setting shards aside, and the same bytes again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from masqclip.batch.inputs import Item
from masqclip.batch.records import RECORDS, error_record
from masqclip.batch.shards import JobFolder, JobSettings
from masqclip.cli.main import main
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError

WORDS = Vocabulary.parse("cat, stuff: sky", distractors="dog")


def settings(**changes: Any) -> JobSettings:
    given = {"inputs": ("photos",), "kind": "files", "model": "m", "vocabulary": WORDS}
    return JobSettings(**({**given, "shard_size": 4} | changes))


def items(number: int) -> list[Item]:
    return [Item(f"{n:03d}.png", f"/photos/{n:03d}.png") for n in range(number)]


def records(first: int, last: int) -> pa.Table:
    segment = {
        "id": 1, "name": "cat", "class_id": 0, "score": 0.5, "thing": True, "area": 2,
        "bbox": [0.0, 0.0, 2.0, 1.0], "segmentation": {"size": [1, 2], "counts": "02"},
    }  # fmt: skip
    rows = [
        error_record(f"{n:03d}.png", "broken")
        if n % 3 == 2
        else {"key": f"{n:03d}.png", "height": 1, "width": 2, "notes": [], "segments": [segment]}
        for n in range(first, last)
    ]
    return pa.Table.from_pylist(rows, schema=RECORDS)


def planned(uri: str, number: int = 10, **changes: Any) -> JobFolder:
    folder = JobFolder(uri)
    folder.plan(settings(**changes), items(number))
    return folder


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out"


def test_shards_are_the_items_cut_in_order(uri: str) -> None:
    folder = planned(uri)
    found, shards, images = folder.read()
    assert (shards, images) == (3, 10)
    assert found == settings()
    assert [item for shard in range(3) for item in folder.items(shard)] == items(10)
    assert [len(folder.items(shard)) for shard in range(3)] == [4, 4, 2]


def test_a_plan_spans_several_files(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masqclip.batch.shards.SHARDS_PER_FILE", 2)
    folder = planned(uri, 23)
    assert folder.read()[1] == 6
    assert folder.items(5) == items(23)[20:]


def test_settings_survive_their_file(uri: str) -> None:
    other = settings(vocabulary=None, save_embeddings=True, min_score=0.25, inputs=("a", "b"))
    folder = JobFolder(uri)
    folder.plan(other, items(3))
    assert folder.read()[0] == other
    folder.check(other)
    with pytest.raises(MasqclipError, match="another vocabulary, save_embeddings: repeat"):
        folder.check(settings(min_score=0.25, inputs=("a", "b")))


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": ("photos", "more")}, {"inputs": ()}, {"kind": "tar"}, {"model": "n"},
        {"vocabulary": None}, {"vocabulary": Vocabulary.parse("cat, sky", distractors="dog")},
        {"vocabulary": Vocabulary.parse("cat, stuff: sky")}, {"column": "image"},
        {"dtype": "bfloat16"}, {"size": "64"},
        {"task": "semantic"}, {"min_score": 0.5}, {"min_score": 0.0}, {"level": 0},
        {"format": "coco"}, {"overlay": True}, {"save_embeddings": True}, {"shard_size": 5},
        {"memory": 2.0}, {"max_file": 1.0}, {"schemes": ("gs",)},
        {"vocabulary": Vocabulary.parse("everything")},
    ],
    ids=lambda change: "-".join(change),
)  # fmt: skip
def test_a_job_of_any_other_setting_is_another_job(tmp_path: Path, change: dict[str, Any]) -> None:
    """Results of the two would stand in one folder; either may be the one that is there."""
    one, other = settings(), settings(**change)
    (name,) = change
    for number, (there, asked) in enumerate([(one, other), (other, one)]):
        folder = JobFolder(str(tmp_path / str(number)))
        folder.plan(there, items(3))
        assert folder.read()[0] == there
        folder.check(there)
        with pytest.raises(MasqclipError, match=f"holds a job with another {name}: repeat"):
            folder.check(asked)


def test_a_job_of_other_weights_is_told_as_that(tmp_path: Path) -> None:
    folder = planned(str(tmp_path), weights="a")
    folder.check(settings(weights="a"))
    for other in ("b", None):
        with pytest.raises(MasqclipError, match="a job of other weights under the same name"):
            folder.check(settings(weights=other))
    with pytest.raises(MasqclipError, match="with another shard_size, weights: repeat"):
        folder.check(settings(weights="b", shard_size=5))


def test_every_setting_of_a_job_is_tried() -> None:
    """A new setting is to be added above: it makes a job another one too."""
    (tried,) = [mark.args[1] for mark in test_a_job_of_any_other_setting_is_another_job.pytestmark]
    names = {name for change in tried for name in change} | {"weights"}
    assert names == {field.name for field in fields(JobSettings)}


def test_a_whole_shard_is_committed_and_the_same_again(uri: str) -> None:
    found = []
    for name in ("one", "two"):
        folder = planned(f"{uri}-{name}")
        # Parts may be written in any order; a part written twice is one part.
        for part in ([0, 1], [1, 0, 0])[name == "two"]:
            folder.write_part("shards", 0, part, records(2 * part, 2 * part + 2))
        assert folder.missing() == [0, 1, 2]
        entry = folder.commit(0, 2, folder.read()[0])
        assert (entry.images, entry.errors) == (4, 1)
        assert folder.missing() == [1, 2]
        content = folder.store.read("shards/00000000.parquet")
        assert entry.sizes == {"shards/00000000.parquet": len(content)}
        assert entry.files == {"shards/00000000.parquet": hashlib.sha256(content).hexdigest()}
        found.append((content, folder.store.read("_manifest/00000000.json")))
        assert not folder.store.exists("_work/00000000")
    assert found[0] == found[1]
    table = pq.read_table(pa.BufferReader(found[0][0]))
    assert table.to_pylist() == records(0, 4).to_pylist()


def test_coco_shards(uri: str) -> None:
    folder = planned(uri, format="coco")
    folder.write_part("shards", 1, 0, records(4, 8))
    folder.commit(1, 1, folder.read()[0])
    document = json.loads(folder.store.read("shards/00000001.json"))
    assert [image["id"] for image in document["images"]] == [5, 6, 7, 8]
    assert document["images"][1] == {"id": 6, "file_name": "005.png", "error": "broken"}
    assert [entry["image_id"] for entry in document["annotations"]] == [5, 7, 8]
    assert [entry["category_id"] for entry in document["annotations"]] == [1, 1, 1]
    assert [(c["name"], c["isthing"]) for c in document["categories"]] == [("cat", 1), ("sky", 0)]


def test_ids_are_unique_in_all_shards(uri: str) -> None:
    folder = planned(uri, format="coco")
    ids: dict[str, list[int]] = {"images": [], "annotations": []}
    for shard, (first, last) in enumerate([(0, 4), (4, 8), (8, 10)]):
        folder.write_part("shards", shard, 0, records(first, last))
        folder.commit(shard, 1, folder.read()[0])
        document = json.loads(folder.store.read(f"shards/{shard:08d}.json"))
        for kind, found in ids.items():
            found += [entry["id"] for entry in document[kind]]
    assert [len(found) for found in ids.values()] == [10, 7]
    assert all(len(set(found)) == len(found) for found in ids.values())


def test_pictures_of_kept_embeddings_keep_their_numbers(tmp_path: Path) -> None:
    """A shard of a job on embeddings is one of theirs, however many pictures one may ask for."""
    from masqclip.cli.batch import _settings
    from masqclip.data.folders import LeftOut

    for name, size in (("a", 4), ("b", 9)):
        planned(str(tmp_path / name), model="masqclip-mini", vocabulary=None, shard_size=size,
                save_embeddings=True)  # fmt: skip
    asked: dict[str, Any] = {
        "vocabulary": WORDS, "column": None, "dtype": None, "size": None, "task": "panoptic",
        "min_score": None, "format": "coco", "overlay": False, "save_embeddings": False,
        "shard_size": 2, "memory": 1.0, "max_file": 256.0, "schemes": (),
    }  # fmt: skip
    there = settings(kind="embeddings", model="masqclip-mini")
    for names, size in ((("a",), 4), (("a", "b"), 9)):
        inputs = tuple(str(tmp_path / name) for name in names)
        found, _ = _settings(inputs, there, LeftOut(), model=None, **asked)
        assert found.shard_size == size


def test_a_job_that_read_no_picture_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = planned(str(tmp_path), 1)
    rows = [error_record("0.png", "0.png: no such file")]
    folder.write_part("shards", 0, 0, pa.Table.from_pylist(rows, schema=RECORDS))
    folder.commit(0, 1, folder.read()[0])
    assert main(["batch", "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "none of the 1 pictures could be read" in error
    assert error.count("\n") == 1


def test_status_and_shards_set_aside(uri: str) -> None:
    folder = planned(uri)
    assert folder.status().seconds_left is None
    for shard, last in ((0, 4), (2, 2)):
        folder.write_part("shards", shard, 0, records(0, last))
        folder.commit(shard, 1, folder.read()[0])
    folder.give_up(1, "its worker died")
    status = folder.status()
    assert (status.done, status.left, status.images_done, status.errors) == (2, 0, 6, 1)
    assert status.failed == {1: "its worker died"}
    assert folder.missing() == []
    folder.retry()
    assert folder.missing() == [1]
    assert folder.status().left == 1


def test_the_time_left_is_at_the_pace_of_the_last_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planned(str(tmp_path), 16)
    for shard in range(3):
        folder.write_part("shards", shard, 0, records(0, 4))
        folder.commit(shard, 1, folder.read()[0])
    times = iter([1000.0, 9000.0, 9020.0])  # the first is of a run long before
    monkeypatch.setattr("masqclip.batch.shards.modified", lambda entry: next(times))
    assert folder.status().seconds_left == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("times", "left"),
    [
        ([1000.0, 1000.5, 1001.0], 0.5),  # four pictures are left, of eight a second
        ([1000.0, 1000.0, 1000.0], None),  # no time has passed that could be told
        ([1000.0, 1600.0, 1600.0], 300.0),  # ten minutes back, and no further
        ([1000.0, 1600.5, 1601.0], 0.5),
        ([1000.0, 2000.0, 3000.0], None),  # one commit has no pace
    ],
)
def test_the_pace_is_that_of_ten_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: list[float], left: float | None
) -> None:
    folder = planned(str(tmp_path), 16)
    for shard in range(3):
        folder.write_part("shards", shard, 0, records(0, 4))
        folder.commit(shard, 1, folder.read()[0])
    told = iter(times)
    monkeypatch.setattr("masqclip.batch.shards.modified", lambda entry: next(told))
    assert folder.status().seconds_left == (None if left is None else pytest.approx(left))


def test_attempts_are_counted_until_they_end(uri: str) -> None:
    folder = planned(uri)
    for number in range(2):
        folder.begin_attempt(0, 3, "encode", number)
    assert folder.attempts(0, 3, "encode") == 2
    assert folder.attempts(0, 3, "name") == folder.attempts(0, 2, "encode") == 0
    folder.end_attempts(0, 3, "encode")
    assert folder.attempts(0, 3, "encode") == 0
    folder.begin_attempt(0, 3, "encode", 0)
    folder.start()
    assert folder.attempts(0, 3, "encode") == 0


def test_a_file_appears_whole_or_not_at_all(uri: str) -> None:
    store = JobFolder(uri).store
    store.write("shards/x", b"old")

    def torn() -> None:
        with store.writing("shards/x") as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torn()
    assert store.read("shards/x") == b"old"
    assert list(store.files("shards")) == ["x"]


def test_a_folder_without_a_job(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="no batch job"):
        JobFolder(str(tmp_path)).read()
