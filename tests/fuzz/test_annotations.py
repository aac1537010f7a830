"""Annotations of anybody's end in a result or in one line, quickly; more by `annotations.py`."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotation_meaning
import numpy as np
import pytest
from annotation_ways import SAME, SAME_INSTANCES, breakages, right_file
from annotations import SIDE, base, cases, make_folder, open_case

from masqclip.data.annotation_files import read_coco_json
from masqclip.data.label_maps import read_segment_ids
from masqclip.data.open_coco import open_coco
from masqclip.data.published import load_truth
from masqclip.data.rle import decode_rle
from masqclip.data.segmentations import segmentation_mask
from masqclip.errors import MasqclipError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "data")
    return tmp_path / "data"


def test_changed_files_end_in_a_result_or_one_line(folder: Path) -> None:
    begun = time.monotonic()
    refused = 0
    for name, content in cases(seed=20, number=400):
        try:
            lines = open_case(folder, content)
        except Exception as error:
            raise AssertionError(name) from error
        refused += bool(lines)
    assert refused > 100
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("panoptic", [False, True])
def test_the_right_file_is_read_whole(folder: Path, panoptic: bool) -> None:
    assert open_case(folder, json.dumps(base(panoptic)).encode()) == []


BOMBS: dict[str, Any] = {
    "counts that wrap round": {"size": [SIDE, SIDE], "counts": [2**62] * 4 + [SIDE * SIDE]},
    "a huge size": {"size": [10**9, 10**9], "counts": [10**18]},
    "counts of words": {"size": [SIDE, SIDE], "counts": ["a", {}]},
    "no counts": {"size": [SIDE, SIDE]},
    "corners at infinity": [[0, 0, float("inf"), 5, 5, 5]],
    "corners that are none": [[0, 0, float("nan"), 5, 5, 5]],
    "corners far away": [[0, 0, 1e308, 5, -1e308, 5]],
    "an odd number of corners": [[0, 0, 1, 2, 3, 4, 5]],
}


@pytest.mark.parametrize("name", BOMBS)
def test_masks_beyond_all_measure_are_refused(name: str) -> None:
    with pytest.raises(MasqclipError):
        segmentation_mask(BOMBS[name], SIDE, SIDE)


def test_counts_that_wrap_round_are_refused_where_they_are_expanded() -> None:
    with pytest.raises(MasqclipError, match="256 pixels"):
        decode_rle(BOMBS["counts that wrap round"])


def test_a_polygon_of_a_million_corners_takes_little_memory() -> None:
    """[corners, rows] at once would be gigabytes."""
    turns = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    ring = np.stack([500 + 400 * np.cos(turns), 500 + 400 * np.sin(turns)], axis=1)
    few = segmentation_mask([ring[::1000].ravel().tolist()], 1000, 1000)
    many = segmentation_mask([ring.ravel().tolist()], 1000, 1000)
    assert np.mean(few != many) < 0.001


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(MasqclipError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_annotation_file_is_a_regular_file_of_bounded_size(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "pipe.json")
    assert "not a regular file" in refused(lambda: read_coco_json(folder / "pipe.json"))
    (folder / "deep.json").write_text('{"images": ' + "[" * 100_000)
    assert "nested too deeply" in refused(lambda: read_coco_json(folder / "deep.json"))
    (folder / "case.json").write_text(json.dumps(base(panoptic=False)))
    monkeypatch.setattr("masqclip.data.annotation_files.MAX_ANNOTATION_BYTES", 100)
    assert "larger than the limit" in refused(lambda: read_coco_json(folder / "case.json"))


def test_a_map_that_is_a_pipe_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert "not a regular file" in refused(lambda: read_segment_ids(folder / "pipe.png"))


@pytest.mark.parametrize(("number", "size"), [(3, 10**6), ({}, SIDE), (3, -1), (3, "x")])
def test_ids_and_sizes_stay_in_bounds(folder: Path, number: object, size: object) -> None:
    document = base(panoptic=False)
    document["images"][0] |= {"id": number, "height": size, "width": size}
    (folder / "case.json").write_text(json.dumps(document))
    load = lambda: load_truth(str(folder / "case.json"), Path(), images=folder / "images")  # noqa: E731
    assert "case.json: images[0]: " in refused(load)


def test_ids_that_are_paths_become_numbers(folder: Path) -> None:
    """Predictions are called by them, and stay in their folder."""
    document = base(panoptic=False)
    document["images"][0]["id"] = "../../out"
    for annotation in document["annotations"]:
        annotation["image_id"] = document["images"][annotation["image_id"] - 1]["id"]
    (folder / "case.json").write_text(json.dumps(document))
    truth = load_truth(str(folder / "case.json"), Path(), images=folder / "images")
    assert [picture.id for picture in truth.pictures] == [1, 2]


def test_more_masks_than_memory_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "case.json").write_text(json.dumps(base(panoptic=False)))
    monkeypatch.setattr("masqclip.data.coco._MAX_MASK_BYTES", SIDE * SIDE)
    dataset = open_coco(folder / "case.json", images=folder / "images")
    assert "GB of masks" in refused(lambda: dataset[1])


def test_the_fingerprint_tells_names_sizes_and_annotations_apart(folder: Path) -> None:
    def fingerprint(document: dict[str, Any]) -> str:
        (folder / "case.json").write_text(json.dumps(document))
        return open_coco(folder / "case.json", images=folder / "images").fingerprint()

    document = base(panoptic=False)
    first = fingerprint(document)
    assert fingerprint(document) == first
    document["categories"][0]["name"] = "other"
    assert fingerprint(document) != first
    picture = folder / "images" / "a.png"
    picture.write_bytes(picture.read_bytes() + b"more")
    assert fingerprint(base(panoptic=False)) != first


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    annotation_meaning.make_folder(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("panoptic", [False, True])
def test_each_way_of_writing_is_measured_and_learned_alike(scenes: Path, panoptic: bool) -> None:
    learned, notes = annotation_meaning.samples(scenes, right_file(panoptic))
    assert notes == ()
    assert sum(len(masks) for _, masks in learned) == (9 if panoptic else 5)
    for way, write in (SAME | ({} if panoptic else SAME_INSTANCES)).items():
        document = right_file(panoptic)
        write(document, random.Random(3))
        found = annotation_meaning.figures(scenes, document)
        assert set(found.values()) == {1.0}, (way, found)
        assert annotation_meaning.samples(scenes, document)[0] == learned, way


@pytest.mark.parametrize("panoptic", [False, True])
def test_whatever_means_nothing_is_refused_in_one_line(scenes: Path, panoptic: bool) -> None:
    several = breakages(panoptic)
    assert len(several) > 100
    for name, damage in several:
        document = right_file(panoptic)
        damage(document)
        found, said = outcome(lambda d=document: annotation_meaning.figures(scenes, d))
        assert said, f"{name} gives {found}"
        assert str(scenes) in said, (name, said)
        # Training may leave it out, and says so.
        learned, said = outcome(lambda d=document: annotation_meaning.samples(scenes, d))
        assert said or learned[1], name


def outcome(read: Callable[[], Any]) -> tuple[Any, str]:
    """What reading gives, or the line of its refusal."""
    try:
        return read(), ""
    except MasqclipError as error:
        return None, "" if "\n" in str(error) else str(error)


def test_random_files_give_the_right_figure_or_a_refusal(scenes: Path) -> None:
    """More by ``annotation_meaning.py``."""
    chance = random.Random(11)
    wrong = [annotation_meaning.verdict(scenes, chance) for _ in range(200)]
    assert [case for case in wrong if case[1]] == []
