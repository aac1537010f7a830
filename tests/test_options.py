"""All of a call is checked before any work: mistakes are told before a picture is looked at."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masqclip.batch.settings import JobSettings
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.labelling.folder import label_folder
from masqclip.options import check_count, check_countable, check_share, check_task
from masqclip.result import Segmentation
from masqclip.segmenter import Segmenter
from test_segmenter import NAMES, noise, tiny

__all__ = ["tiny"]  # the fixture

OPTIONS = [
    ({"task": "segmentic"}, r"task 'segmentic': .*\(did you mean 'semantic'\?\)"),
    ({"task": "Panoptic"}, "did you mean 'panoptic'"),
    ({"task": None}, "task None: give 'instance', 'semantic' or 'panoptic'"),
    ({"task": 3}, "task 3: give"),
    ({"min_score": "0.3"}, "min_score '0.3': give a number from 0 to 1"),
    ({"min_score": float("nan")}, "min_score nan: give a number from 0 to 1"),
    ({"min_score": True}, "min_score True: give"),
    ({"min_score": np.float32(1.5)}, "min_score 1.5: give"),
    ({"min_score": np.zeros(2)}, "min_score array.*: give"),
    ({"min_score": -1}, "min_score -1: give"),
]
WORDS = [
    ({"vocabulary": ["word " * 90]}, "tokens long"),
    ({"vocabulary": ["cat", "\U0001f9a9" * 30]}, "tokens long"),
    ({"distractors": ["word " * 90]}, "tokens long"),
    ({"distractors": 3}, "the distractors are 3: give names"),
]
STREAM = [
    ({"batch_size": 0}, "batch_size 0: give 1 or more"),
    ({"batch_size": -1}, "batch_size -1: give"),
    ({"batch_size": 2.5}, "batch_size 2.5: give"),
    ({"batch_size": "4"}, "batch_size '4': give"),
]
ARRAYS = [({"channels": "gbr"}, "channels 'gbr': give 'rgb', or 'bgr'")]
ERRORS = [({"errors": "ignore"}, "errors 'ignore': give 'raise', or 'skip'")]
REGIONS = [({"stuff": ["gras"]}, "did you mean 'grass'"), ({"stuff": 3}, "stuff names are 3")]


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may read or encode a picture."""

    def seen(*_: Any, **__: Any) -> Any:
        raise AssertionError("a picture was looked at")

    for name in ("masqclip.segmenting.read_picture", "masqclip.picture.read_image"):
        monkeypatch.setattr(name, seen)
    monkeypatch.setattr("masqclip.segmenter.encode_pictures", seen)


def told(message: str, call: Callable[..., Any], **arguments: Any) -> None:
    with pytest.raises(MasqclipError, match=message) as caught:
        call(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "message"), OPTIONS + WORDS + REGIONS + ARRAYS)
def test_a_call(tiny: Segmenter, unseen: None, options: dict[str, Any], message: str) -> None:
    told(message, tiny, **{"image": noise(9, 9), "vocabulary": NAMES} | options)
    told(message, tiny, **{"image": [noise(9, 9)], "vocabulary": NAMES} | options)


@pytest.mark.parametrize(
    ("options", "message"), OPTIONS + WORDS + STREAM + REGIONS + ARRAYS + ERRORS
)
def test_a_stream_when_it_is_asked_for(
    tiny: Segmenter, unseen: None, options: dict[str, Any], message: str
) -> None:
    told(message, tiny.stream, **{"images": iter([noise(9, 9)]), "vocabulary": NAMES} | options)


def test_a_stream_of_no_pictures(tiny: Segmenter, tmp_path: Path) -> None:
    told("images are 5: give pictures", tiny.stream, images=5, vocabulary=NAMES)
    told("nowhere", tiny.stream, images=tmp_path / "nowhere", vocabulary=NAMES)


def test_an_open_file_is_one_picture_and_not_its_lines(tiny: Segmenter) -> None:
    def stream(**arguments: Any) -> list[Segmentation]:
        return list(tiny.stream(**arguments))

    file = io.BytesIO(b"one line\nand another")
    told("cannot read a picture from 'BytesIO'.*bytes", stream, images=file, vocabulary=NAMES)


@pytest.mark.parametrize(("options", "message"), WORDS)
def test_naming_masks(tiny: Segmenter, unseen: None, options: dict[str, Any], message: str) -> None:
    masks = np.ones((1, 9, 9), bool)
    call = {"image": noise(9, 9), "masks": masks, "vocabulary": NAMES}
    told(message, tiny.classify_masks, **call | options)


@pytest.mark.parametrize("score", ["0.3", 2, float("nan"), True, None])
def test_encoding(tiny: Segmenter, unseen: None, score: Any) -> None:
    told("min_object_score .*: give a", tiny.encode, image=noise(9, 9), min_object_score=score)


def test_strings_of_regions_and_distractors_are_lists_of_names(tiny: Segmenter) -> None:
    result = tiny(noise(20, 20), NAMES, min_score=0, stuff="sky, Grass", distractors="bus, tram")
    assert {s.name for s in result.segments if not s.thing} <= {"sky", "grass"}
    told("stuff name 'gras'", tiny, image=noise(9, 9), vocabulary=NAMES, stuff="gras, sky")


def test_numbers_of_numpy_are_numbers() -> None:
    assert check_share(np.float32(0.5), what="x") == 0.5
    assert check_share(np.int64(1), what="x") == 1
    assert check_count(np.int64(3), what="x") == 3
    assert check_task("semantic") == "semantic"


def test_both_ends_of_a_share_and_the_first_count_are_taken() -> None:
    for share in (0, 1, 0.0, 1.0, np.float64(0.25)):
        assert check_share(share, what="x") == share
        assert type(check_share(share, what="x")) is float
    assert type(check_count(np.int64(1), what="x")) is int
    assert [check_count(count, what="x") for count in (1, 2)] == [1, 2]
    for share in (-1e-9, 1 + 1e-9, None):
        told("x .*: give a number from 0 to 1", check_share, value=share, what="x")
    for count in (0, True, 1.0, None):
        told("x .*: give 1 or more", check_count, value=count, what="x")
    for task in ("instance", "semantic", "panoptic"):
        assert check_task(task) == task
    for near in (" Instance ", "PANOPTIK"):
        told("did you mean", check_task, value=near)
    with pytest.raises(MasqclipError, match=r"give 'instance', 'semantic' or 'panoptic'$"):
        check_task("xyz")


@pytest.mark.parametrize(("options", "message"), [*OPTIONS[:2], *OPTIONS[4:7], *STREAM])
def test_a_labelled_folder(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    call = {"folder": tmp_path, "names": ["a.png"], "words": Vocabulary.parse("cat"), "load": None}
    told(message, label_folder, **call | {"out": tmp_path / "out"} | options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "message"), [*OPTIONS[:2], *OPTIONS[4:7]])
def test_a_job(options: dict[str, Any], message: str) -> None:
    job = {"inputs": ("a",), "kind": "files", "model": "m", "vocabulary": Vocabulary.parse("cat")}
    told(message, JobSettings, **job | options)
    told("shard_size 0: give 1 or more", JobSettings, **job, shard_size=0)


def test_where_a_picture_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = Segmentation(noise(9, 9), "panoptic", ("cat",), ())
    monkeypatch.setattr(Segmentation, "plot", None)
    for path in (tmp_path, tmp_path / "a.jpg", tmp_path / "a.json"):
        for write in (result.to_panoptic_png, result.to_semantic_png):
            told(r"ends in \.png", write, path=path)
    told("a folder; give the path of a file", result.save, path=tmp_path)
    told("no format that pictures are saved in", result.save, path=tmp_path / "a.json")
    told("its name says no format", result.save, path=tmp_path / "a")
    told("no format that pictures", result.save, path=tmp_path / "a.png", format="docx")
    assert list(tmp_path.iterdir()) == []


def test_instances_of_regions_alone_are_not_looked_for(tmp_path: Path) -> None:
    """A dataset without a mask would be all there is to show for hours of work."""
    regions = Vocabulary.parse("stuff: sand, stuff: sky")
    said = r"sand, sky: regions only, .* ask for the task semantic or panoptic, or .* \(--things\)"
    with pytest.raises(MasqclipError, match=said):
        check_countable(regions, "instance")
    for words in ("sand, sky", "stuff: sand, car"):  # what nobody called a region is counted
        check_countable(Vocabulary.parse(words), "instance")
    check_countable(regions, "panoptic")
    check_countable(regions, "semantic")
    with pytest.raises(MasqclipError, match="regions only"):
        label_folder(tmp_path, ["a.png"], regions, out=tmp_path / "out", load=None, kind="coco")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    with pytest.raises(MasqclipError, match="regions only"):
        JobSettings(inputs=("a",), kind="files", model="m", vocabulary=regions, task="instance")
