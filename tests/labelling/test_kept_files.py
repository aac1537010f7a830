"""The journal of finished pictures and the list of written files: kept over any end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from masqclip.errors import MasqclipError
from masqclip.labelling.folder import _evenly
from masqclip.labelling.journal import FILE_NAME, Journal, read_picture
from masqclip.labelling.written import FILE_NAME as NAMES
from masqclip.labelling.written import WrittenFiles

ABOUT = {"words": ("cat",), "task": "panoptic"}
RESULT = {"segments": [1, 2]}


def begun(folder: Path, **changes: Any) -> Journal:
    return Journal(folder, {**ABOUT, **changes}, lambda: "w")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"abc")
    return tmp_path / "a.png"


def test_a_finished_picture_is_found_again_by_its_bytes(tmp_path: Path, picture: Path) -> None:
    file, content = read_picture(picture)
    assert (content, file.bytes) == (b"abc", 3)
    journal = begun(tmp_path / "out")
    assert journal.find("a.png", picture) is None
    added = journal.add("a.png", file, RESULT)
    for found in (journal, begun(tmp_path / "out")):
        assert len(found) == 1
        assert found.find("a.png", picture) == added
        assert (added.digest, added.result) == (file.digest, RESULT)
        assert found.find("b.png", picture) is None
    picture.write_bytes(b"abd")
    assert begun(tmp_path / "out").find("a.png", picture) is None


def test_a_line_that_was_cut_short_is_cut_off(tmp_path: Path, picture: Path) -> None:
    file, _ = read_picture(picture)
    begun(tmp_path / "out").add("a.png", file, RESULT)
    path = tmp_path / "out" / FILE_NAME
    whole = path.read_bytes()
    begun(tmp_path / "out").add("b.png", file, RESULT)
    path.write_bytes(path.read_bytes()[:-1])  # the end of its line alone is lacking
    journal = begun(tmp_path / "out")
    assert path.read_bytes() == whole
    assert journal.find("a.png", picture) is not None
    assert journal.find("b.png", picture) is None


@pytest.mark.parametrize(("number", "remedy"), [(1, "the folder, to start"), (2, "that line, and")])
def test_a_line_that_was_changed_is_told(
    tmp_path: Path, picture: Path, number: int, remedy: str
) -> None:
    begun(tmp_path / "out").add("a.png", read_picture(picture)[0], RESULT)
    path = tmp_path / "out" / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b"a", b"b", 1)
    path.write_bytes(b"".join(lines))
    with pytest.raises(MasqclipError, match=f"line {number} is damaged.*delete {remedy}"):
        begun(tmp_path / "out")


def test_a_journal_is_of_one_job_and_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    begun(folder)
    begun(folder)
    with pytest.raises(MasqclipError, match="labels made with another task; name"):
        begun(folder, task="semantic")
    with pytest.raises(MasqclipError, match="labels made with another words, more; name"):
        begun(folder, words=("cat", "dog"), more=1)
    for weights in (None, lambda: "v"):
        with pytest.raises(MasqclipError, match="weights have changed"):
            Journal(folder, ABOUT, weights)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(MasqclipError, match="not empty"):
        begun(tmp_path / "full")


def written(folder: Path, *names: str) -> WrittenFiles:
    files = WrittenFiles(folder)
    files.claim(names)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return files


def test_files_that_are_not_kept_are_removed_with_their_empty_folders(tmp_path: Path) -> None:
    """Of any run, and none that was never claimed."""
    (tmp_path / "theirs").touch()
    written(tmp_path, "a/b/one", "a/two", "three")
    files = written(tmp_path, "four")
    files.keep(["a/two", "four"])
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.name != NAMES)
    assert left == ["a", "a/two", "four", "theirs"]
    WrittenFiles(tmp_path).keep([])
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAMES, "theirs"]
    assert (tmp_path / NAMES).read_bytes() == b""


def test_a_name_that_was_cut_short_is_forgotten(tmp_path: Path) -> None:
    written(tmp_path, "one", "two")
    path = tmp_path / NAMES
    path.write_bytes(path.read_bytes() + b'"thr')
    files = WrittenFiles(tmp_path)
    assert path.read_bytes() == b'"one"\n"two"\n'  # so that the next one has a line of its own
    files.claim(["one", "four"])
    assert path.read_bytes() == b'"one"\n"two"\n"four"\n'
    WrittenFiles(tmp_path).keep(["four"])
    assert path.read_bytes() == b'"four"\n'


@pytest.mark.parametrize("line", [b'"/etc/passwd"', b'"../x"', b'"a/../../x"', b"5", b"{", b"null"])
def test_a_name_that_leads_out_of_the_folder_is_damage(tmp_path: Path, line: bytes) -> None:
    (tmp_path / NAMES).write_bytes(line + b"\n")
    with pytest.raises(MasqclipError, match="damaged; delete it"):
        WrittenFiles(tmp_path)


def test_nothing_is_written_where_nothing_was_claimed(tmp_path: Path) -> None:
    WrittenFiles(tmp_path).keep([])
    WrittenFiles(tmp_path).claim([])
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_a_sheet_are_spread_over_all() -> None:
    names = [str(n) for n in range(10)]
    assert _evenly(names, 24) == set(names)
    assert _evenly(names, 4) == {"0", "3", "6", "9"}  # the first and the last among them
    assert _evenly(names[:1], 24) == {"0"}
    assert _evenly([], 24) == set()
