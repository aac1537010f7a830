"""Listing and reading what a batch job is given: folders, globs, lists, Parquet, tars."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from masqclip.batch.inputs import list_items, read_items
from masqclip.data.folders import LeftOut
from masqclip.errors import MasqclipError


def png(grey: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 3), grey).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them deeper, and what is none."""
    for n, name in enumerate(["b.png", "a.PNG", "deep/c.jpg", ".hidden.png"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(n))
    (tmp_path / "photos" / "notes.md").write_text("no picture")
    return tmp_path / "photos"


def keys(*inputs: str, column: str | None = None) -> list[str]:
    return [item.key for item in list_items(inputs, column)[1]]


def test_a_folder_with_its_sub_folders(folder: Path) -> None:
    assert keys(str(folder)) == [f"{folder}/{n}" for n in ("a.PNG", "b.png", "deep/c.jpg")]
    kind, items = list_items([str(folder)])
    assert kind == "files"
    read = dict(read_items(kind, list(items)))
    assert read[f"{folder}/b.png"] == png(0)


def test_names_with_an_underscore_are_pictures_and_results_of_a_job_are_none(folder: Path) -> None:
    for name in ("_MG_0001.png", "_raw/_DSC1.png", "out/overlays/0/x.png", "out/_plan/0.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png())
    (folder / "out" / "job.json").write_text("{}")
    (folder / "deep" / "up").symlink_to(folder)
    names = ("_MG_0001.png", "_raw/_DSC1.png", "a.PNG", "b.png", "deep/c.jpg")
    assert keys(str(folder)) == [f"{folder}/{name}" for name in names]
    left_out = LeftOut()
    list_items([str(folder)], left_out=left_out)
    assert any("results of a batch job: 3 " in line for line in left_out.lines())


def test_what_is_passed_over_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "e.DNG").touch()
    pq.write_table(pa.table({"path": ["x"]}), folder / "t.parquet")
    left_out = LeftOut()
    list_items([str(folder)], left_out=left_out)
    assert left_out.lines() == [
        "left out, in a format that is not read (convert to JPEG or PNG first): 1 "
        f"({folder}/e.DNG)",
        "left out, parquet files beside other inputs (give them to a job of their own): 1 "
        f"({folder}/t.parquet)",
        f"left out, hidden (the name begins with a dot): 1 ({folder}/.hidden.png)",
        f"left out, no picture by its suffix: 1 ({folder}/notes.md)",
    ]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("x.png", "x.cr2", "x.json"):
            tar.addfile(tarfile.TarInfo(name))
    left_out = LeftOut()
    assert len(list(list_items([str(tmp_path / "a.tar")], left_out=left_out)[1])) == 1
    assert [line.rpartition(": ")[2] for line in left_out.lines()] == [
        f"1 ({tmp_path}/a.tar/x.cr2)", f"1 ({tmp_path}/a.tar/x.json)"
    ]  # fmt: skip


def test_what_a_table_store_keeps_for_itself_is_no_table(tmp_path: Path) -> None:
    for name in ("_delta_log/1.checkpoint.parquet", "a.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"path": ["x.png"]}), tmp_path / name)
    left_out = LeftOut()
    assert len(list(list_items([str(tmp_path)], left_out=left_out)[1])) == 1
    assert "_delta_log/1.checkpoint.parquet" in left_out.lines(pictures_only=True)[0]


def test_relative_names_stay_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert keys("photos") == ["photos/a.PNG", "photos/b.png", "photos/deep/c.jpg"]
    assert keys("photos/*") == ["photos/a.PNG", "photos/b.png"]
    monkeypatch.chdir(folder)  # addresses are absolute
    kind, items = list_items(["deep"])
    monkeypatch.chdir("/")
    assert dict(read_items(kind, list(items))) == {"deep/c.jpg": png(2)}


def test_a_picture_named_twice_is_listed_once(folder: Path) -> None:
    assert len(keys(str(folder), f"{folder}/*.png", f"{folder}/b.png")) == 3


def test_other_file_systems() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {"/pictures/x.png": png(1), "/pictures/y.png": png(2), "/list.txt": b"pictures/x.png\n"}
    )
    try:
        kind, items = list_items(["memory://pictures"])
        assert dict(read_items(kind, list(items))) == {
            "memory://pictures/x.png": png(1),
            "memory://pictures/y.png": png(2),
        }
        kind, items = list_items(["memory://list.txt"])
        assert dict(read_items(kind, list(items))) == {"pictures/x.png": png(1)}
    finally:
        memory.rm("/", recursive=True)


def test_tar_files_of_other_file_systems() -> None:
    """A picture is read by its place in the file, and no more of it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for n, name in enumerate(["x.png", "y.png"]):
            info = tarfile.TarInfo(name)
            info.size = len(png(n))
            tar.addfile(info, io.BytesIO(png(n)))
    memory = fsspec.filesystem("memory")
    memory.pipe({"/packed.tar": packed.getvalue()})
    try:
        kind, items = list_items(["memory://packed.tar"])
        found = dict(read_items(kind, list(items)))
        assert found == {f"memory://packed.tar/{name}.png": png(n) for n, name in enumerate("xy")}
    finally:
        memory.rm("/", recursive=True)


def test_a_picture_of_its_own_name_is_told_by_its_version(folder: Path) -> None:
    """As in its folder: what changes it later is noticed."""
    _, alone = list_items([f"{folder}/b.png"])
    _, among = list_items([str(folder)])
    (one,) = alone
    (other,) = (item for item in among if item.file == one.file)
    assert one.version == other.version != ""
    assert one.bytes == other.bytes == len(png(0))


def test_a_list_of_paths(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# mine\nphotos/b.png\n\n{folder}/a.PNG\ngone.png\n")
    kind, items = list_items([str(tmp_path / "list.txt")])
    read = dict(read_items(kind, list(items)))
    assert read.pop("photos/b.png") == png(0)
    assert read.pop(f"{folder}/a.PNG") == png(1)
    error = read.pop("gone.png")
    assert isinstance(error, MasqclipError)
    assert "gone.png: no such file" in str(error)


@pytest.mark.parametrize("shape", ["bytes", "struct"])
def test_parquet_with_bytes(tmp_path: Path, shape: str) -> None:
    contents = [png(n) for n in range(5)]
    column = contents if shape == "bytes" else [{"bytes": c, "path": "x"} for c in contents]
    pq.write_table(pa.table({"image": column, "label": range(5)}), tmp_path / "a.parquet",
                   row_group_size=2)  # fmt: skip
    kind, items = list_items([str(tmp_path)])
    assert kind == "parquet"
    found = list(read_items(kind, list(items)))
    assert [content for _, content in found] == contents
    assert found[3][0] == f"{tmp_path}/a.parquet#3"


def test_parquet_with_paths(folder: Path, tmp_path: Path) -> None:
    table = pa.table({"where": ["photos/b.png", str(folder / "a.PNG")], "n": [1, 2]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(MasqclipError, match=r"--column \(where, n\)"):
        list_items([str(tmp_path / "t.parquet")])
    kind, items = list_items([str(tmp_path / "t.parquet")], "where")
    assert [content for _, content in read_items(kind, list(items), "where")] == [png(0), png(1)]


def test_tar_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00.tar", "w") as tar:
        for n, name in enumerate(["x.png", "x.json", "y.png"]):
            info = tarfile.TarInfo(name)
            info.size = len(png(n))
            tar.addfile(info, io.BytesIO(png(n)))
    kind, items = list_items([f"{tmp_path}/*.tar"])
    assert kind == "tar"
    assert dict(read_items(kind, list(items))) == {
        f"{tmp_path}/00.tar/x.png": png(0),
        f"{tmp_path}/00.tar/y.png": png(2),
    }


def test_mistakes_are_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"path": ["x"]}), tmp_path / "t.parquet")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 1000)
    for inputs, message in [
        ([str(tmp_path / "nowhere")], "no such file or folder"),
        ([str(tmp_path / "empty")], "no picture"),
        ([str(folder), str(tmp_path / "t.parquet")], "one kind of input"),
        ([str(tmp_path / "bad.tar")], "not a plain tar"),
        (["nonsense://x"], "nonsense"),
    ]:
        with pytest.raises(MasqclipError, match=message):
            keys(*inputs)


def test_a_folder_in_place_of_a_picture_is_an_error_of_its_own(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "dir.png")
    (tmp_path / "list.txt").write_text("dir.png\n")
    kind, items = list_items([str(tmp_path / "list.txt")])
    ((_, error),) = read_items(kind, list(items))
    assert isinstance(error, MasqclipError)
