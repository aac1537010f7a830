"""What a job keeps in its files: plan, parts, entries, times; read as written, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from masqclip.batch.addresses import open_filesystem
from masqclip.batch.items import Item, Listed, items_table, table_items
from masqclip.batch.manifest import Entry, entry_name, find_damage, modified, numbered
from masqclip.batch.parts import TRIES, Part, attempt, reason_of
from masqclip.batch.reading import find_change, read_items
from masqclip.batch.sealed import seal
from masqclip.batch.settings import JobSettings
from masqclip.batch.shards import JobFolder
from masqclip.batch.storage import StorageError, Store
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError

WORDS = Vocabulary.parse("cat, stuff: sky", distractors="dog")


def settings(**changes: Any) -> JobSettings:
    given = {"inputs": ("photos",), "kind": "files", "model": "m", "vocabulary": WORDS}
    return JobSettings(**(given | changes))


# Items


def test_an_item_is_the_same_file_by_its_size_and_version() -> None:
    """What nobody knows is no difference; a digest is compared elsewhere."""
    item = Item("a", "/a", bytes=5, version="v")
    item.check(5, "v")
    item.check(5, "")
    with pytest.raises(MasqclipError, match="5 bytes then, 6 now"):
        item.check(6, "v")
    with pytest.raises(MasqclipError, match="written again since"):
        item.check(5, "w")
    Item("a", "/a").check(6, "w")
    replace(item, version="").check(5, "w")
    Item("a", "/a", bytes=0).check(0, "w")
    with pytest.raises(MasqclipError, match="0 bytes then, 6 now"):
        Item("a", "/a", bytes=0).check(6, "")
    kept = replace(item, version="sha256:abc")
    kept.check(5, "w")
    assert (kept.digest, item.digest) == ("abc", None)


def test_items_survive_their_table() -> None:
    items = [
        Item("a", "/a"), Item("b", "/b.tar", 512, 7, 9000, "v"), Item("c", "/c", error="gone"),
        Item("d", "/\udc80", 0, 0, 0, ""),
    ]  # fmt: skip
    assert table_items(items_table(items)) == items
    earlier = items_table(items[:2]).select(["key", "file", "start", "size"])
    assert table_items(earlier) == [Item("a", "/a"), Item("b", "/b.tar", 512, 7)]


def test_what_a_file_system_says_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    found = Listed.of_local(str(tmp_path / "a"))
    assert found == Listed(3, str((tmp_path / "a").stat().st_mtime_ns))
    assert Listed.of_local(str(tmp_path / "b")) == Listed.of_local("a\0b") == Listed(-1, "")
    assert Listed.of_entry({"size": 0, "ETag": "x", "mtime": 5}) == Listed(0, "x")
    assert Listed.of_entry({"size": None, "mtime": 0}) == Listed(-1, "0")
    then = datetime(2026, 1, 2, tzinfo=UTC)
    assert Listed.of_entry({"created": then}) == Listed(-1, then.isoformat())
    assert Listed.of_entry({}) == Listed(-1, "")


# Reading, and what has changed


def test_a_file_may_be_as_large_as_is_read_and_no_larger(tmp_path: Path) -> None:
    items = []
    for name, size in (("a", 8), ("b", 9), ("c", 0)):
        (tmp_path / name).write_bytes(b"x" * size)
        items.append(Item(name, str(tmp_path / name), bytes=size))
    items.append(Item("d", str(tmp_path / "d")))
    items.append(Item("e", str(tmp_path / "a"), error="never there"))
    found = dict(read_items("files", items, None, 8, True))
    assert list(found) == ["a", "b", "c", "d", "e"]
    assert (found["a"], found["c"]) == (b"x" * 8, b"")
    assert "9 bytes, more than the limit of 8" in str(found["b"])
    assert str(found["d"]).startswith("d: no such file")
    assert str(found["e"]) == "never there"


def test_the_bytes_of_a_member_are_those_from_its_start_on(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"0123456789")

    def read(start: int, size: int) -> Any:
        (found,) = read_items("tar", [Item("m", str(path), start, size)], None, 100, True)
        return found[1]

    assert (read(0, 3), read(3, 4), read(9, 1), read(0, 10)) == (
        b"012",
        b"3456",
        b"9",
        b"0123456789",
    )
    assert "cut short: 1 of 2 bytes" in str(read(9, 2))


def test_a_file_that_was_written_again_is_read_only_where_that_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcd")
    item = Item("a", str(tmp_path / "a"), bytes=3, version="1")
    (checked,) = read_items("files", [item], None, 100, True)
    assert "3 bytes then, 4 now" in str(checked[1])
    (accepted,) = read_items("files", [item], None, 100, False)
    assert accepted[1] == b"abcd"


def test_files_of_shards_that_are_done_may_be_gone_but_not_be_others(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    listed = Listed.of_local(str(tmp_path / "a"))
    same = Item("a", str(tmp_path / "a"), bytes=3, version=listed.version)
    gone = Item("b", str(tmp_path / "b"), bytes=3)

    def change(*items: Item, done: bool) -> str | None:
        return find_change(items, done=done, listings={})

    for done in (False, True):
        assert change(same, done=done) is None
        assert "4 bytes then" in str(change(replace(same, bytes=4), done=done))
        assert "written again" in str(change(same, replace(same, file=f"{tmp_path}/./a",
                                                           version="1"), done=done))  # fmt: skip
        # Where nobody knows, or listing found no picture, there is nothing to compare.
        assert change(replace(gone, bytes=-1), replace(gone, error="bad"), done=done) is None
    assert change(gone, done=False) == "b: gone since the job was planned"
    assert change(gone, done=True) is None
    assert "4 bytes then" in str(change(gone, replace(same, bytes=4), done=True))


@pytest.mark.parametrize("known", [-1, 9])
def test_a_remote_file_may_be_as_large_as_is_read_and_no_larger(known: int) -> None:
    """Also where nobody said before how large it is."""
    store = Store("memory://limits")
    store.write("a", b"x" * 9)
    item = Item("a", "memory://limits/a", bytes=known)
    (fits,) = read_items("files", [item], None, 9, True)
    assert fits[1] == b"x" * 9
    (refused,) = read_items("files", [item], None, 8, True)
    assert "9 bytes, more than the limit of 8" in str(refused[1])


def test_a_local_name_may_look_like_a_chain_of_addresses(tmp_path: Path) -> None:
    path = tmp_path / "a::b"
    path.mkdir()
    (path / "c.png").write_bytes(b"x")
    filesystem, found = open_filesystem(str(path))
    assert found == str(path)
    assert [Path(name).name for name in filesystem.ls(found, detail=False)] == ["c.png"]


# Parts


@pytest.mark.parametrize(
    "part",
    [
        Part(3, 1, False, pa.table({"a": [1, 2]})),
        Part(0, 0, True),
        Part(1 << 40, 2, True, failure="why"),
        Part(3, 1, True, pa.table({"a": pa.array([], pa.int64())})),
    ],
)
def test_a_part_survives_its_row(part: Part) -> None:
    assert Part.from_row(part.to_row()) == part


def test_a_part_is_tried_three_times_and_no_more(tmp_path: Path) -> None:
    folder, calls = JobFolder(str(tmp_path)), []
    done = Part(0, 0, last=False)

    def fails(times: int, error: Exception) -> Part:
        def work() -> Part:
            calls.append(1)
            if len(calls) <= times:
                raise error
            return done

        calls.clear()
        folder.start()
        return attempt(folder, "name", 0, 0, work)

    assert TRIES == 3
    assert fails(2, ValueError("x")) is done
    assert folder.attempts(0, 0, "name") == 0
    end = fails(3, ValueError("x\n y"))
    assert end == Part(0, 0, last=True, failure="name: ValueError: x y, 3 times (part 0)")
    assert len(calls) == 3
    assert folder.attempts(0, 0, "name") == 3
    with pytest.raises(StorageError):  # no fault of this part
        fails(3, StorageError("full"))
    assert fails(2, StorageError("full")) is done


def test_a_reason_is_one_line_of_three_hundred_letters() -> None:
    assert reason_of("read", ValueError("a \n\t b")) == "read: ValueError: a b"
    assert reason_of("read", ValueError("x" * 400)) == "read: ValueError: " + "x" * 300


# The manifest

ENTRY = Entry(5, 4, 1, {"shards/a": "d"}, {"shards/a": 3})


def test_an_entry_survives_its_file() -> None:
    assert Entry.from_bytes(ENTRY.to_bytes(), shard=5, source="e") == ENTRY
    empty = replace(ENTRY, images=0, errors=0, files={}, sizes={})
    assert Entry.from_bytes(empty.to_bytes(), shard=5, source="e") == empty


@pytest.mark.parametrize(
    "change",
    [
        {"shard": 6}, {"images": -1}, {"errors": -1}, {"errors": True}, {"images": 1.0},
        {"files": {"a": 5}}, {"files": []}, {"sizes": {"a": "5"}}, {"sizes": None}, {"more": 1},
    ],
)  # fmt: skip
def test_any_other_entry_is_damaged(change: dict[str, Any]) -> None:
    document = json.loads(ENTRY.to_bytes())
    body = {key: document[key] for key in ("shard", "files", "sizes", "images", "errors")}
    assert Entry.from_bytes(seal(body), shard=5, source="e") == ENTRY
    with pytest.raises(MasqclipError, match="damaged"):
        Entry.from_bytes(seal(body | change), shard=5, source="e")


def test_entries_are_numbered_by_eight_digits_or_more() -> None:
    assert entry_name(7) == "_manifest/00000007.json"
    ours = ["00000007.json", "123456789.json"]
    others = ["7.json", "0000007.json", "000000007.json", "00000007.json.part", "x00000008.json",
              "1234567890123.json"]  # fmt: skip
    assert numbered([*ours, *others]) == {7: ours[0], 123456789: ours[1]}


def test_results_are_what_their_entries_say_or_damaged(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("shards/a", b"abc")
    right = replace(ENTRY, files={"shards/a": store.digest("shards/a")})

    def damage(entry: Entry | str, *, verify: bool = True) -> str | None:
        return find_damage(store, {5: entry}, verify=verify).get(5)

    assert damage(right) is None
    assert damage("torn") == "torn"
    assert damage(replace(right, sizes={})) is None  # an earlier version wrote no sizes
    assert damage(replace(right, sizes={"shards/a": 4})) == "shards/a has 3 bytes instead of 4"
    assert damage(replace(right, files=right.files | {"shards/b": "d"})) == "shards/b is missing"
    assert damage(ENTRY) == "shards/a has other bytes than were written"
    assert damage(ENTRY, verify=False) is None


@pytest.mark.parametrize("name", ["mtime", "created", "LastModified", "last_modified", "updated"])
def test_file_systems_tell_times_in_their_own_ways(name: str) -> None:
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for value in (then, then.isoformat(), then.timestamp()):
        assert modified({name: value}) == then.timestamp()
    assert modified({name: None}) == modified({}) == 0.0
    assert modified({"updated": 9, name: 5}) == 5


# Settings


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": "photos"}, {"inputs": [1]}, {"kind": "files "}, {"kind": ["files"]},
        {"model": None}, {"column": 5}, {"dtype": 5}, {"size": 5}, {"task": "all"},
        {"min_score": "0.5"},
        {"min_score": True}, {"format": "json"}, {"overlay": 1}, {"save_embeddings": None},
        {"shard_size": 0}, {"shard_size": 1.5}, {"shard_size": True}, {"memory": 0},
        {"memory": True}, {"max_file": -1}, {"schemes": [None]}, {"weights": 5}, {"other": 1},
        {"vocabulary": []}, {"vocabulary": {}},
    ],
)  # fmt: skip
def test_settings_that_no_job_can_have_are_refused(change: dict[str, Any]) -> None:
    document = settings().to_json()
    assert JobSettings.from_json(document) == settings()
    with pytest.raises(MasqclipError, match="setting"):
        JobSettings.from_json(document | change)


@pytest.mark.parametrize(
    "change",
    [
        {"shard_size": 1}, {"memory": 0.001}, {"max_file": 1}, {"min_score": 0}, {"min_score": 1.0},
        {"schemes": ("gs", "abfs")}, {"weights": "d"}, {"vocabulary": None}, {"kind": "embeddings"},
    ],
)  # fmt: skip
def test_settings_that_a_job_can_have_survive_their_file(change: dict[str, Any]) -> None:
    made = settings(**change)
    assert JobSettings.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_a_file_limit_is_told_in_millions_of_bytes() -> None:
    assert settings().max_bytes == 256_000_000
    assert settings(max_file=0.5).max_bytes == 500_000
    for change in ({"shard_size": 0}, {"min_score": 1.5}, {"min_score": -0.1}, {"task": "all"}):
        with pytest.raises(MasqclipError):
            settings(**change)
