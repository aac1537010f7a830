"""What is written of results of straw, number by number; and what a job refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.digests import digest_file
from masqclip.data.images import LoadedImage, read_image
from masqclip.data.label_maps import png_bytes
from masqclip.errors import MasqclipError
from masqclip.labelling import folder as folders
from masqclip.labelling.folder import _printable, _reason, _thumbnail, find_pictures, label_folder
from masqclip.labelling.formats import Format, FormatSettings, dataset_writer
from masqclip.result import Segmentation
from masqclip.segment import Segment

WORDS = Vocabulary.parse("cat, stuff: sky")


def result(pixels: np.ndarray, *, score: float = 0.5, task: Any = "panoptic") -> Segmentation:
    """A cat in the upper half, and the sky below."""
    upper = np.zeros(pixels.shape[:2], bool)
    upper[: len(upper) // 2] = True
    segments = (
        Segment(1, "cat", 0, score, True, upper),
        Segment(2, "sky", 1, score / 2, False, ~upper),
    )
    return Segmentation(pixels, task, WORDS.names, segments, ())


def write(folder: Path, name: str, value: int = 7) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(np.full((4, 6, 3), value, np.uint8)))
    return path


def written(
    tmp_path: Path, kind: Format, names: Sequence[str] = ("a.png", "b/a.png"), **settings: Any
) -> Any:
    """A format's main file, with two pictures in it."""
    pictures = tmp_path / "photos"
    writer = dataset_writer(kind, folder=pictures, out=tmp_path / "out", names=names,
                            words=WORDS, settings=FormatSettings(**settings))  # fmt: skip
    for name in names:
        path = write(pictures, name)
        writer.add(name, digest_file(path), result(read_image(path).pixels))
    return writer.finish()


def test_coco_counts_from_one(tmp_path: Path) -> None:
    document = json.loads(written(tmp_path, "coco").read_text())
    assert "masqclip" in document["info"]["description"]  # pycocotools' loadRes asks for it
    assert [(p["id"], p["file_name"], p["height"], p["width"]) for p in document["images"]] == [
        (1, "a.png", 4, 6), (2, "b/a.png", 4, 6)
    ]  # fmt: skip
    found = [
        (a["id"], a["image_id"], a["category_id"], a["iscrowd"]) for a in document["annotations"]
    ]
    assert found == [(1, 1, 1, 0), (2, 1, 2, 0), (3, 2, 1, 0), (4, 2, 2, 0)]


def test_panoptic_pictures_are_named_flat(tmp_path: Path) -> None:
    path = written(tmp_path, "panoptic", ["b/a.png", "b-a.jpg"])
    document = json.loads(path.read_text())
    assert path.name == "panoptic.json"
    assert [(a["image_id"], a["file_name"]) for a in document["annotations"]] == [
        (1, "b-a.png"), (2, "b-a-2.png")
    ]  # fmt: skip
    assert [s["category_id"] for s in document["annotations"][1]["segments_info"]] == [1, 2]
    with Image.open(tmp_path / "out/panoptic/b-a-2.png") as png:
        assert np.unique(np.array(png)[..., 0]).tolist() == [1, 2]


def test_label_studio_is_told_where_pictures_lie(tmp_path: Path) -> None:
    (first, second) = json.loads(written(tmp_path, "label-studio", model="mine").read_text())
    assert first["data"] == {"image": "/data/local-files/?d=photos/a.png"}
    assert second["data"]["image"].endswith("photos/b/a.png")
    (prediction,) = first["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("mine", 0.375)
    assert prediction["result"][0]["type"] == "brushlabels"
    assert "BrushLabels" in (tmp_path / "out/config.xml").read_text()
    options = {"image_url": "https://here/", "regions": "polygon"}
    (first, _) = json.loads(written(tmp_path, "label-studio", **options).read_text())
    assert first["data"]["image"] == "https://here/a.png"
    assert first["predictions"][0]["result"][0]["type"] == "polygonlabels"
    assert "PolygonLabels" in (tmp_path / "out/config.xml").read_text()
    writer = dataset_writer("label-studio", folder=tmp_path, out=tmp_path, names=["a"],
                            words=WORDS, settings=FormatSettings())  # fmt: skip
    nothing = replace(result(np.zeros((2, 2, 3), np.uint8)), segments=())
    writer.add("a", "", nothing)
    (task,) = json.loads(writer.finish().read_text())
    assert (task["predictions"][0]["score"], task["predictions"][0]["result"]) == (0.0, [])


def test_yolo_has_copies_or_links(tmp_path: Path) -> None:
    path = write(tmp_path / "photos", "a.png")
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert written(tmp_path, "yolo", ["a.png"]).name == "data.yaml"
    yaml = (tmp_path / "out/data.yaml").read_text()
    assert "train: images/train" in yaml
    assert "val: images/train" in yaml, "there is but one picture"
    copy = tmp_path / "out/images/train/a.png"
    assert not copy.is_symlink()
    assert copy.read_bytes() == path.read_bytes()
    assert copy.stat().st_mtime_ns == path.stat().st_mtime_ns
    lines = (tmp_path / "out/labels/train/a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    before = copy.stat().st_ino
    written(tmp_path, "yolo", ["a.png"])  # the same again; but its file was written anew
    assert copy.stat().st_ino == before, "what is a copy stays"
    for _ in range(2):
        written(tmp_path, "yolo", ["a.png"], images="link")
        assert copy.readlink() == path.resolve()
    written(tmp_path, "yolo", ["a.png", "b.png"])
    assert "val: images/val" in (tmp_path / "out/data.yaml").read_text()


def test_yolo_refuses_a_picture_that_changed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.png")
    writer = dataset_writer("yolo", folder=tmp_path, out=tmp_path / "out", names=["a.png"],
                            words=WORDS, settings=FormatSettings())  # fmt: skip
    with pytest.raises(MasqclipError, match=r"a\.png: changed after it was labelled"):
        writer.add("a.png", "other", result(read_image(path).pixels))


# The job


class Model:
    """Labels pictures as `result` does, and fails where one of this colour is among them."""

    def __init__(self, fails_at: int = -1, error: Exception | None = None) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._fails_at, self._error = fails_at, error or RuntimeError("broken\n[x]")

    def stream(
        self, images: Sequence[LoadedImage], words: Any, task: Any, **options: Any
    ) -> Iterator[Segmentation]:
        self.asked.append((len(images), words, task, options))
        for image in images:
            if image.pixels[0, 0, 0] == self._fails_at:
                raise self._error
            yield result(image.pixels, task=task)


def labelled(tmp_path: Path, model: Any, **options: Any) -> Any:
    photos, out = tmp_path / "photos", tmp_path / "out"
    names = find_pictures(photos, out)
    return label_folder(photos, names, WORDS, out=out, load=lambda: model, **options)


def test_a_job_says_what_it_has_done(tmp_path: Path) -> None:
    for n in range(5):
        write(tmp_path / "photos", f"{n}.png", n)
    model, told = Model(fails_at=3), list[tuple[int, str]]()
    done = labelled(tmp_path, model, batch_size=2, min_score=0.25,
                    report=lambda number, said: told.append((number, said)))  # fmt: skip
    assert (done.pictures, done.segments) == (4, 8)
    assert done.failed == {
        "3.png": f"{tmp_path}/photos/3.png: cannot be labelled (RuntimeError: broken [x])"
    }
    assert done.dataset == tmp_path / "out/annotations.json"
    assert done.sheet == tmp_path / "out/contact-sheet.png"
    assert json.loads((tmp_path / "out/failed.json").read_text()) == done.failed
    asked = ("instance", {"batch_size": 2, "min_score": 0.25, "level": None})
    assert [(number, *rest) for number, _, *rest in model.asked] == [
        (2, *asked), (2, *asked), (1, *asked), (1, *asked)
    ]  # fmt: skip
    assert [said.partition(":")[0] for _, said in told] == ["0.png", "1.png", "2.png", "4.png"]
    assert [number for number, _ in told] == [1, 2, 4, 5]
    again = Model()
    done = labelled(tmp_path, again, batch_size=2, min_score=0.25)
    assert (done.pictures, done.failed) == (5, {})
    assert not (tmp_path / "out/failed.json").exists()
    assert [number for number, *_ in again.asked] == [2], "the batch of the one that had failed"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"min_score": 1.5}, "min_score"),
        ({"task": "magic"}, "magic"),
        ({"kind": "panoptic", "task": "instance"}, "holds no instance masks; ask for task"),
        ({"min_score": 0.5}, "labels made with another least score"),
        ({"task": "semantic"}, "labels made with another task"),
        ({"kind": "yolo"}, "labels made with another format"),
        ({"about": {"dtype": "half"}}, "labels made with another dtype"),
        ({"settings": FormatSettings(model="m")}, "labels made with another model"),
        ({"weights": lambda: "w"}, "the model's weights have changed"),
    ],
)
def test_a_job_goes_on_as_it_was_begun(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    write(tmp_path / "photos", "a.png")
    labelled(tmp_path, Model())
    with pytest.raises(MasqclipError, match=said):
        labelled(tmp_path, Model(), **options)


def test_where_no_picture_can_be_labelled_the_first_says_why(tmp_path: Path) -> None:
    for n in range(2):
        write(tmp_path / "photos", f"{n}.png")
    for error, said in (
        (RuntimeError(""), r"0\.png: cannot be labelled \(RuntimeError\)"),
        (MasqclipError("a mistake"), "the first: a mistake"),
    ):
        with pytest.raises(MasqclipError, match="none of the 2 pictures can be read; .*" + said):
            labelled(tmp_path, Model(7, error))
    long = _reason(Path("a"), RuntimeError("x" * 301))
    assert long == f"a: cannot be labelled (RuntimeError: {'x' * 300})"
    assert _printable("a\nb\x7f[c]\u00e9") == "a?b?[c]\u00e9"


def test_pictures_of_a_folder_are_its_own(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("a.png", "deep/b.png", "out/c.png", "old/d.png", "output/e.png"):
        write(photos, name)
    (photos / "old" / folders.JOURNAL_NAME).touch()
    assert find_pictures(photos, photos / "out") == ["a.png", "deep/b.png", "output/e.png"]
    with pytest.raises(MasqclipError, match="no such folder; name one that holds pictures"):
        find_pictures(tmp_path / "gone", tmp_path)
    with pytest.raises(MasqclipError, match="holds the pictures; name another folder"):
        find_pictures(photos, photos / "deep" / "..")
    with pytest.raises(MasqclipError, match="holds no picture but those of the dataset in"):
        find_pictures(photos / "out", photos / "out" / "..")


@pytest.mark.parametrize(
    ("size", "small"), [((768, 300), (384, 150)), ((9, 1920), (1, 384)), ((5, 384), (5, 384))]
)
def test_a_thumbnail_is_small_and_of_the_middle_of_each_pixel(
    size: tuple[int, int], small: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = np.indices(size)
    pixels = np.stack([rows % 256, columns % 256, columns // 256], axis=-1).astype(np.uint8)
    seen: list[Segmentation] = []
    monkeypatch.setattr(Segmentation, "plot", lambda shown: seen.append(shown))
    _thumbnail(read_image(pixels), result(pixels))
    (shown,) = seen
    assert shown.image.shape == (*small, 3)
    for axis, channel in ((0, 0), (1, 1)):
        step = size[axis] / small[axis]
        expected = [int((n + 0.5) * step) % 256 for n in range(small[axis])]
        assert shown.image.take(0, 1 - axis)[:, channel].tolist() == expected
    assert [segment.mask.shape for segment in shown.segments] == [small] * 2
    middle = (np.arange(small[0]) + 0.5) * size[0] / small[0]
    assert shown.segments[0].mask[:, 0].tolist() == (middle.astype(int) < size[0] // 2).tolist()
