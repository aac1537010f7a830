"""Around the metrics: example pages, groups of classes, folders of predictions, processes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masqclip.data.class_lists import ClassEntry
from masqclip.data.published import load_truth
from masqclip.data.rle import encode_rle
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError
from masqclip.evaluation import examples
from masqclip.evaluation.examples import example_sheet
from masqclip.evaluation.groups import (
    all_groups,
    group_means,
    mean,
    split_groups,
    thing_groups,
)
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.processes import Processes
from masqclip.evaluation.report import Column, Report, read_column, table_rows, to_markdown
from masqclip.evaluation.scorers import make_scorer
from masqclip.segment import Segment

SPRITES = Path(__file__).parents[1] / "data" / "sprites"
NAN = float("nan")


# Classes


def entry(number: int, thing: bool | None, split: str | None) -> ClassEntry:
    return ClassEntry(id=number, name=str(number), prompts=(str(number),), thing=thing, split=split)


CLASSES = [
    entry(1, True, "novel"),
    entry(2, False, "base"),
    entry(3, True, "base"),
    entry(4, None, None),
    entry(5, True, "novel"),
]


def test_parts_of_a_list_of_classes() -> None:
    """What the publisher does not call stuff is a thing, unless he calls nothing either."""
    assert split_groups(CLASSES) == {"base": [1, 2], "novel": [0, 4]}
    assert list(split_groups(CLASSES)) == ["base", "novel"]
    assert thing_groups(CLASSES) == {"things": [0, 2, 3, 4], "stuff": [1]}
    assert thing_groups([entry(1, None, None)]) == {}
    assert split_groups([entry(1, True, None)]) == {}
    # Only base has stuff: things alone compare with novel, which needs no part of its own.
    assert all_groups(CLASSES) == {
        "base": [1, 2], "novel": [0, 4], "base things": [2],
        "things": [0, 2, 3, 4], "stuff": [1],
    }  # fmt: skip


def test_means_leave_out_what_is_not_there() -> None:
    values = np.array([0.5, NAN, 1.0, 0.0])
    found = group_means("AP", values, {"base": [0, 1], "none": [1], "empty": []})
    assert (found["AP"], found["AP base"]) == (0.5, 0.5)
    assert math.isnan(found["AP none"])
    assert math.isnan(found["AP empty"])
    assert list(found) == ["AP", "AP base", "AP none", "AP empty"]
    assert math.isnan(mean(np.zeros(0)))


# Processes


def test_which_of_several_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.here() == Processes(0, 1) == Processes()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "5")
    here = Processes.here()
    assert (here.index, here.count, here.first) == (3, 5, False)
    assert Processes(0, 5).first
    assert Processes().gather("mine") == ["mine"]


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    several = Processes(1, 4)
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert several.device(None) == ("cuda:0" if there else None)
        assert several.device("cuda") == ("cuda:0" if there else "cuda")
        assert several.device("cpu") == "cpu"
        assert several.device("cuda:1") == "cuda:1"
        assert Processes().device("cuda") == "cuda"
        assert Processes().device(None) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for rank, device in (("1", "cuda:1"), ("2", "cuda:0"), ("3", "cuda:1")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert several.device(None) == device


# Folders


def manifest(**changes: Any) -> dict[str, Any]:
    whole = {
        "model": {"name": "m", "version": "v"},
        "dataset": "d",
        "split": "",
        "pictures": 2,
        "images": "i",
        "vocabulary": {"categories": [{"name": "cat", "prompts": ["cat"], "thing": True}]},
        "tasks": {"instance": {"hash": "a", "protocol": {}}},
    }
    return whole | changes


def test_a_folder_holds_predictions_of_one_kind(tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path)
    folder.claim(manifest())
    folder.claim(manifest())
    for name, other in (
        ("model", {"name": "m", "version": "w"}),
        ("dataset", "e"),
        ("split", "novel"),
        ("images", "j"),
        ("vocabulary", {"categories": [], "distractors": [], "templates": []}),
    ):
        with pytest.raises(MasqclipError, match=f"another {name}"):
            folder.claim(manifest(**{name: other}))
    with pytest.raises(MasqclipError, match="instance predictions of the protocol a, not b"):
        folder.claim(manifest(tasks={"instance": {"hash": "b", "protocol": {}}}))
    more = {"semantic": {"hash": "c", "protocol": {"top_k": 1}}}
    folder.claim(manifest(tasks=more))
    assert folder.manifest() == manifest(tasks=manifest()["tasks"] | more)


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path)
    for count, dtype_limit in ((3, 255), (300, 65535)):
        classes = np.array([[0, count - 1, -1]])
        assert not folder.has("semantic", count)
        folder.write_semantic(count, classes, count)
        assert folder.has("semantic", count)
        assert folder.read_semantic(count, count).tolist() == classes.tolist()
        assert dtype_limit > count
    assert not folder.has("panoptic", 3)
    segments = [{"id": 70_000, "category_id": 3, "score": 0.5}]
    folder.write_panoptic(3, np.array([[0, 70_000]]), segments)
    assert folder.has("panoptic", 3)
    ids, found = folder.read_panoptic(3)
    assert (ids.tolist(), found) == ([[0, 70_000]], segments)
    folder.write_records("masks", 9, segments)
    assert folder.has("masks", 9)
    assert not folder.has("classes", 9)
    assert folder.read_records("masks", 9) == segments


# Scores and pages


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    folder = tmp_path_factory.mktemp("scenes")
    write_stickers(folder, StickerWorld(load_sprites(SPRITES), SceneSettings()), images=5, seed=77)
    return load_truth("stickers", folder)


def right(truth: GroundTruth, folder: PredictionFolder) -> None:
    """Predict what is there."""
    for picture in truth.pictures:
        ids, segments = truth.panoptic_of(picture)
        folder.write_panoptic(picture.id, ids, segments)
        folder.write_semantic(picture.id, truth.class_map_of(picture), len(truth.classes))
        entries = truth.instances_of(picture)
        scores = np.linspace(0.9, 0.1, len(entries)).tolist()
        records = [
            {**entry, "score": score, "image_id": picture.id}
            for entry, score in zip(entries, scores, strict=True)
        ]
        folder.write_records("instance", picture.id, records)
        masks, positions = truth.masks_of(picture)
        named = [
            {"class": p, "predicted": p, "segmentation": encode_rle(m)}
            for p, m in zip(positions, masks, strict=True)
        ]
        folder.write_records("masks", picture.id, named)


def test_what_is_all_right_scores_one(truth: GroundTruth, tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path)
    right(truth, folder)
    for task, names in (
        ("instance", ("AP", "AP50", "AR100")),
        ("semantic", ("mIoU", "pAcc", "mIoU base")),
        ("panoptic", ("PQ", "SQ", "PQ things", "PQ stuff")),
        ("masks", ("mask accuracy", "mask quality", "class accuracy")),
    ):
        scorer = make_scorer(task, truth)
        assert [scorer.add(folder, picture) for picture in truth.pictures] == [1.0] * 5
        figures = scorer.figures()
        assert [figures[name] for name in names] == pytest.approx([1.0] * len(names))
        for values in scorer.per_class().values():
            assert len(values) == len(truth.classes)
            assert set(values[~np.isnan(values)].round(6)) == {1.0}


def test_only_things_have_instances(truth: GroundTruth, tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path)
    right(truth, folder)
    picture = truth.pictures[0]
    kinds = {c.id: i for i, c in enumerate(truth.classes)}
    region = truth.instances_of(picture)[0]["category_id"]
    first = kinds[region]
    found = folder.read_records("instance", picture.id)
    rest = [record for record in found if record["category_id"] != region]
    folder.write_records("instance", picture.id, rest)
    classes = tuple(
        replace(c, thing=False) if i == first else c for i, c in enumerate(truth.classes)
    )
    scorer = make_scorer("instance", replace(truth, classes=classes))
    scorer.add(folder, picture)
    values = scorer.per_class()["AP"]
    assert math.isnan(values[first])
    assert np.isfinite(values).sum() >= 1


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_a_page_shows_the_best_and_the_worst(
    task: str, truth: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, drawn = PredictionFolder(tmp_path), list[tuple[list[Segment], bool]]()
    right(truth, folder)

    def draw(
        pixels: np.ndarray, segments: list[Segment], *, names: list[str], scores: bool
    ) -> np.ndarray:
        assert names == [entry.name for entry in truth.classes]  # by which colours are apart
        drawn.append((segments, scores))
        return pixels

    pages: list[tuple[int, list[str], int]] = []
    monkeypatch.setattr(examples, "draw_overlay", draw)
    monkeypatch.setattr(
        examples,
        "contact_sheet",
        lambda pictures, captions, columns: pages.append((len(pictures), captions, columns)),
    )
    ids = [picture.id for picture in truth.pictures]
    names = [picture.path.name for picture in truth.pictures]
    quality = dict(zip(ids, (0.5, 0.25, NAN, 1.0, 0.5), strict=True))
    other = dict.fromkeys(ids, 0.0)
    worse = {"panoptic": (), "semantic": ("instance",), "instance": ()}[task]
    rated = {**dict.fromkeys(worse, other), task: quality, "masks": other}
    report = Report("d", "", 5, {}, {}, {}, {}, [], {}, rated)
    example_sheet(report, truth, folder, count=1)
    shown = [f"{names[3]}: truth", f"{names[3]}: 100 %", f"{names[1]}: truth", f"{names[1]}: 25 %"]
    assert pages == [(4, shown, 4)]
    assert [scores for _, scores in drawn] == [False, True] * 2
    for (true, _), (guess, _) in zip(drawn[::2], drawn[1::2], strict=True):
        assert len(true) == len(guess) > 0
        for one, two in zip(true, guess, strict=True):
            assert (one.name, one.thing, one.class_id) == (two.name, two.thing, two.class_id)
            assert truth.classes[one.class_id].name == one.name
            assert truth.classes[one.class_id].thing == one.thing
            assert np.array_equal(one.mask, two.mask)
    example_sheet(report, truth, folder)
    order = [names[i] for i in (3, 0, 4, 1)]
    assert pages[1][1][::2] == [f"{name}: truth" for name in order], "each once, the best first"
    assert example_sheet(replace(report, quality={"masks": other}), truth, folder) is None
    assert example_sheet(replace(report, quality={task: {0: NAN}}), truth, folder) is None
    assert len(pages) == 2


def test_columns_have_the_names_of_their_files(tmp_path: Path) -> None:
    for name, title in (("report.json", tmp_path.name), ("before.json", "before")):
        (tmp_path / name).write_text('{"hashes": {"semantic": "a"}, "figures": {"semantic": {}}}')
        assert read_column(tmp_path / name).title == title
    assert read_column(tmp_path).title == tmp_path.name


def test_a_table_without_other_protocols_has_no_mark() -> None:
    main = Column("a", {"semantic": "x"}, {"semantic": {"mIoU": 0.123456, "pAcc": None}})
    other = Column("b", {"semantic": "x"}, {"semantic": {"mIoU": 1}})
    assert table_rows([main, other]) == [["mIoU", "12.3", "100.0", "x"], ["pAcc", "-", "-", "x"]]
    assert "*" not in to_markdown([main, other])
