"""What formats call pictures, which of them validate, and what of a picture is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.digests import digest_bytes
from masqclip.data.label_maps import png_bytes
from masqclip.errors import MasqclipError
from masqclip.labelling.formats import Format, FormatSettings, dataset_writer, flat_stems
from masqclip.labelling.journal import PictureFile

WORDS = Vocabulary.parse("cat, stuff: sky")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.999])
def test_a_share_to_validate_on_is_less_than_all(share: float) -> None:
    assert FormatSettings(validation=share).validation == share
    for bad in (-0.001, 1.0, 2.0):
        with pytest.raises(MasqclipError, match="give 0 to less than 1"):
            FormatSettings(validation=bad)


def test_stems_are_flat_and_each_its_own() -> None:
    names = ["a/b.jpg", "a-b.png", "A-B.gif", "c.tar.gz", "a/b-2.jpg", "deep/er/d", "a-b.bmp"]
    assert flat_stems(names) == {
        "a/b.jpg": "a-b", "a-b.png": "a-b-2", "A-B.gif": "A-B-3", "c.tar.gz": "c.tar",
        "a/b-2.jpg": "a-b-2-2", "deep/er/d": "deep-er-d", "a-b.bmp": "a-b-4",
    }  # fmt: skip


def test_stems_that_differ_in_letter_case_are_the_same_to_some_disks() -> None:
    for names in (["A.jpg", "a.png", "a.gif"], ["a.jpg", "A.png", "a.gif"]):
        stems = list(flat_stems(names).values())
        assert len({stem.casefold() for stem in stems}) == 3
        assert stems == [names[0][0], f"{names[1][0]}-2", f"{names[2][0]}-3"]


def test_a_long_name_is_cut_and_told_apart_by_its_digest() -> None:
    """A stem has 230 bytes at most, so that its suffix has room."""
    fits, long, other = "x" * 230, "x" * 231, "x" * 230 + "y"
    stems = flat_stems([f"{name}.jpg" for name in (fits, long, other)])
    found = list(stems.values())
    assert found[0] == fits
    assert len({*found}) == 3
    assert all(len(stem) == 230 and stem.startswith("x" * 213) for stem in found)
    assert found[1][213] == "-"
    (letters,) = flat_stems(["\u00e4" * 116 + ".jpg"]).values()
    assert len(os.fsencode(letters)) <= 230
    assert letters.startswith("\u00e4" * 106 + "-")


def parts(tmp_path: Path, count: int, share: float) -> list[str]:
    """The part of each picture, by its number."""
    names = [f"{n}.png" for n in range(count)]
    for name in names:
        (tmp_path / name).write_bytes(png_bytes(np.zeros((2, 2, 3), np.uint8)))
    writer = dataset_writer("yolo", folder=tmp_path, out=tmp_path / "out", names=names,
                            words=WORDS, settings=FormatSettings(validation=share))  # fmt: skip
    return [writer.files(name)[0].split("/")[1] for name in names]


@pytest.mark.parametrize(
    ("count", "share", "validating"),
    [(10, 0.2, 2), (10, 0.25, 2), (10, 0.0, 0), (10, 0.01, 1), (2, 0.01, 1), (2, 0.99, 1),
     (10, 0.99, 9), (1, 0.5, 0)],
)  # fmt: skip
def test_a_share_validates_one_at_least_and_one_is_left_to_train(
    tmp_path: Path, count: int, share: float, validating: int
) -> None:
    assert parts(tmp_path, count, share).count("val") == validating


def test_who_validates_is_told_by_hashes_and_grows_with_the_share(tmp_path: Path) -> None:
    few, many = parts(tmp_path, 10, 0.2), parts(tmp_path, 10, 0.5)
    assert few == parts(tmp_path, 10, 0.2)
    assert all(b == "val" for a, b in zip(few, many, strict=True) if a == "val")
    assert [n for n, part in enumerate(many) if part == "val"] != [0, 1, 2, 3, 4]


def test_a_picture_is_the_same_file_only_by_inode_size_and_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    status, digest = path.stat(), digest_bytes(b"abc")
    same = PictureFile(3, status.st_ino, status.st_ctime_ns, "not looked at")
    assert same.is_still(path)
    # Another account of it: it is read, and its bytes decide.
    for change in ((3, status.st_ino + 1, status.st_ctime_ns), (3, status.st_ino, 5)):
        assert PictureFile(*change, digest).is_still(path)
        assert not PictureFile(*change, "other").is_still(path)
    assert not PictureFile(4, status.st_ino, status.st_ctime_ns, digest).is_still(path)
    assert not same.is_still(tmp_path / "gone")


@pytest.mark.parametrize(("kind", "files"), [("coco", ()), ("label-studio", ()),
                                             ("panoptic", ("panoptic/a-b.png",))])  # fmt: skip
def test_files_of_a_picture_alone(tmp_path: Path, kind: Format, files: tuple[str, ...]) -> None:
    writer = dataset_writer(kind, folder=tmp_path, out=tmp_path / "out", names=["a/b.jpg"],
                            words=WORDS, settings=FormatSettings())  # fmt: skip
    assert writer.files("a/b.jpg") == files
    made = writer.finish()
    document = json.loads(made.read_text())
    if kind != "label-studio":
        assert [(c["id"], c["name"], c["isthing"]) for c in document["categories"]] == [
            (1, "cat", 1), (2, "sky", 0)
        ]  # fmt: skip
