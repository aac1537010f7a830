"""`masqclip label` on folders that change: linked, replaced, grown and shrunk ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from straw import Straw
from straw_folder import LEDGER, NAMES, picture, run, straw, tree

__all__ = ["straw"]  # a fixture


def test_linked_folders_are_labelled_and_what_is_left_out_is_said(
    straw: Straw, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("elsewhere/_MG_1.png", 1)
    Path("photos/linked").symlink_to(Path("elsewhere").resolve())
    Path("photos/round").symlink_to(Path("photos").resolve())
    Path("photos/raw.DNG").touch()
    Path("photos/notes.txt").touch()
    assert run("-o", "out") == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "left out" in line] == [
        "masqclip: note: left out, in a format that is not read (convert to JPEG or PNG first): 1 "
        "(photos/raw.DNG)",
        "masqclip: note: left out, no picture by its suffix: 1 (photos/notes.txt)",
    ]
    document = json.loads(Path("out/annotations.json").read_text())
    files = [image["file_name"] for image in document["images"]]
    assert files == ["linked/_MG_1.png", *NAMES]
    assert run("-o", "out", "--quiet") == 0
    assert "raw.DNG" in capsys.readouterr().err


def test_links_instead_of_copies(straw: Straw) -> None:
    for _ in range(2):
        assert run("-o", "out", "--images", "link", kind="yolo") == 0
        link = Path("out/images/train/p0.png")
        assert link.is_symlink()
        assert link.resolve() == Path("photos/p0.png").resolve()


def test_links_to_nothing_and_to_themselves_are_pictures_that_cannot_be_read(
    straw: Straw, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/dead.png").symlink_to("gone.png")
    Path("photos/self.png").symlink_to("self.png")
    assert run("-o", "out") == 0
    assert list(json.loads(Path("out/failed.json").read_text())) == ["dead.png", "self.png"]
    assert "warning: photos/self.png: cannot be read" in capsys.readouterr().err


# Replaced pictures


def replace_with_another(path: Path, way: str) -> None:
    """Another picture of the same size and date under the same name."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    other = bytes(content[:-1]) + bytes([content[-1] ^ 0xFF])
    if way == "in place":
        path.write_bytes(other)
    else:
        path.with_name("new").write_bytes(other)
        path.with_name("new").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("way", ["in place", "by another file"])
def test_a_picture_replaced_by_one_of_its_size_and_date_is_labelled_again(
    straw: Straw, way: str
) -> None:
    picture("photos/p0.bmp")
    assert run("-o", "out", kind="yolo") == 0
    straw.batches.clear()
    replace_with_another(Path("photos/p0.bmp"), way)
    assert run("-o", "out", kind="yolo") == 0
    assert straw.batches == [["p0.bmp"]]
    (copy,) = Path("out/images").rglob("*.bmp")
    assert copy.read_bytes() == Path("photos/p0.bmp").read_bytes()


def test_pictures_that_only_moved_are_told_by_their_bytes(straw: Straw) -> None:
    assert run("-o", "out") == 0
    straw.batches.clear()
    shutil.copytree("photos", "copied")
    shutil.rmtree("photos")
    Path("copied").rename("photos")
    assert run("-o", "out") == 0
    assert straw.batches == []


def test_a_journal_without_inodes_is_told_by_digests(straw: Straw) -> None:
    assert run("-o", "out") == 0
    straw.batches.clear()
    from masqclip.labelling import journal

    file = Path("out", journal.FILE_NAME)
    header, *lines = file.read_bytes().splitlines()
    old = []
    for line in lines:
        record = json.loads(line)
        for key in ("inode", "ctime_ns", "check"):
            del record[key]
        body = json.dumps({**record, "mtime_ns": 5}).encode()
        old.append(body[:-1] + journal._check_of(body))
    file.write_bytes(b"".join(line + b"\n" for line in [header, *old]))
    assert run("-o", "out") == 0
    assert straw.batches == []


# Datasets that hold what one run would write


@pytest.mark.parametrize("kind", ["yolo", "panoptic"])
def test_a_folder_that_shrinks_and_grows_leaves_the_files_of_one_run(
    straw: Straw, kind: str
) -> None:
    picture("photos/a/x.jpg", 20)
    assert run("-o", "out", kind=kind) == 0
    shutil.rmtree("photos/a")
    Path("photos/p6.png").unlink()
    Path("photos/p1.png").write_text("no picture any more")
    picture("photos/a-x.jpg", 21)  # its name in the dataset was another's
    picture("photos/p0.jpg", 22)  # comes before p0.png, and takes its name over
    assert run("-o", "out", kind=kind) == 0
    assert run("-o", "one", kind=kind) == 0
    journals = {".masqclip-labels.jsonl"}  # in which what is gone is kept
    out, one = tree("out"), tree("one")
    assert {name: out[name] for name in out.keys() - journals} == {
        name: one[name] for name in one.keys() - journals
    }
    folders = [{p.relative_to(top) for p in Path(top).rglob("*")} for top in ("out", "one")]
    assert folders[0] == folders[1]


def test_a_copy_of_another_picture_of_the_same_size_and_date_is_replaced(straw: Straw) -> None:
    for n, name in enumerate(("b.bmp", "sub/c.bmp")):
        os.utime(picture(f"photos/{name}", 30 + n), ns=(10**18, 10**18))
    assert run("-o", "out", "--split", "0", kind="yolo") == 0
    first, second = (Path(f"photos/{name}") for name in ("b.bmp", "sub/c.bmp"))
    first.rename("kept")
    second.rename(first)  # other bytes, the same size and date, under the same name
    assert run("-o", "out", "--split", "0", kind="yolo") == 0
    assert Path("out/images/train/b.bmp").read_bytes() == first.read_bytes()
    assert not Path("out/images/train/sub-c.bmp").exists()


def test_what_people_put_into_the_dataset_stays(straw: Straw) -> None:
    assert run("-o", "out", kind="yolo") == 0
    Path("out/labels/train.cache").write_text("a trainer's")
    Path("out/labels/train/mine.txt").write_text("0 0.1 0.1 0.2 0.2 0.3 0.3")
    for name in NAMES[1:]:
        Path("photos", name).unlink()
    assert run("-o", "out", kind="yolo") == 0
    left = {name for name in tree("out") if name.startswith(("images", "labels"))}
    assert left == {
        "images/train/p0.png", "labels/train/p0.txt", "labels/train/mine.txt", "labels/train.cache"
    }  # fmt: skip


def test_what_a_killed_run_wrote_is_removed_as_well(straw: Straw) -> None:
    words = ["label", "photos", "-v", "cat, dog, stuff:sky", "-f", "panoptic", "-o", "out"]
    code = f"from straw import killed_at; killed_at('p4.png', {words})"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == -signal.SIGKILL
    assert Path("out/panoptic/p3.png").exists()
    ledger = Path("out", LEDGER)
    ledger.write_bytes(ledger.read_bytes() + b'"panoptic/p4')  # a line that a kill left unfinished
    Path("photos/p3.png").unlink()
    assert run("-o", "out", kind="panoptic") == 0
    assert run("-o", "one", kind="panoptic") == 0
    assert tree("out").keys() == tree("one").keys()
    assert ledger.read_bytes() == Path("one", LEDGER).read_bytes()


@pytest.mark.parametrize("line", ["{}", '"../photos/p0.png"', '"/etc/passwd"', "7", "\\xff"])
def test_a_damaged_list_of_files_removes_nothing(
    straw: Straw, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert run("-o", "out", kind="panoptic") == 0
    before = tree("photos")
    Path("out", LEDGER).write_text(f"{line}\n")
    capsys.readouterr()
    assert run("-o", "out", kind="panoptic") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"out/{LEDGER}: damaged; delete it" in said
    assert tree("photos") == before


def test_datasets_that_a_link_leads_to_are_no_pictures(
    straw: Straw, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link to the folder above leads to what earlier runs have written there."""
    Path("photos/loop").symlink_to("..")
    assert run("--out", "yolo", kind="yolo") == 0
    capsys.readouterr()
    assert run("--out", "coco") == 0
    document = json.loads(Path("coco/annotations.json").read_text())
    assert {Path(entry["file_name"]).name for entry in document["images"]} == set(NAMES)
    assert "results of an earlier labelling" in capsys.readouterr().err
