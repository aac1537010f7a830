"""Every published dataset, from its layout on disk through check and conversion to figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layouts import COUNT, LAYOUTS, ade20k_150, ade20k_847, coco, pascal_context
from PIL import Image

from masqclip import Segmenter
from masqclip.cli.main import main
from masqclip.data.class_lists import read_class_list
from masqclip.data.label_maps import read_labels, read_segment_ids
from masqclip.data.published import find_dataset, load_truth
from masqclip.data.rle import decode_rle
from masqclip.data.truth import labelled_truth
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import evaluate
from masqclip.evaluation.protocol import published_protocol


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("name", "layout", "tasks"), LAYOUTS)
def test_from_disk_to_figures(
    name: str,
    layout: Callable[[Path], Path],
    tasks: set[str],
    tmp_path: Path,
    segmenter: Segmenter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = layout(tmp_path)
    users = contents(root)
    assert main(["data", "check", name, "--root", str(tmp_path), "--convert"]) == 0
    shown = capsys.readouterr().out
    assert "pictures are ready for" in shown
    assert {file: data for file, data in contents(root).items() if file in users} == users
    assert all(file.startswith("masqclip/") for file in contents(root).keys() - users.keys())

    converted = contents(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert main(["data", "check", name, "--root", str(root), "--convert"]) == 0
    assert contents(root) == converted
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times

    truth = load_truth(name, root)
    assert set(truth.tasks) == tasks
    assert len(truth.pictures) == COUNT + (layout is coco and name != "coco-base-novel")
    protocol = replace(published_protocol(name), shortest_edge=64, longest_edge=96)
    report = evaluate(segmenter, truth, truth.tasks, protocol=protocol)
    main_figures = {"instance": "AP", "semantic": "mIoU", "panoptic": "PQ"}
    for task in tasks:
        assert 0 <= report.figures[task][main_figures[task]] <= 1
        assert len(report.hashes[task]) == 12
    assert len(report.classes) == len(read_class_list(name).classes)
    assert segmenter.model.config.shortest_edge != 64, "the model sees as before afterwards"


@pytest.mark.parametrize("name", sorted({name for name, _, _ in LAYOUTS}))
def test_an_empty_folder_is_told_what_it_lacks(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", name, "--root", str(tmp_path)]) == 2
    shown, errors = capsys.readouterr()
    assert "missing" in shown
    assert "cannot be measured yet" in errors
    with pytest.raises(MasqclipError, match=f"masqclip data check {name}"):
        load_truth(name, tmp_path)


def test_a_missing_picture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = coco(tmp_path)
    (root / "val2017" / f"{1:012d}.jpg").unlink()
    assert main(["data", "check", "coco-panoptic", "--root", str(root)]) == 2
    assert f"{1:012d}.jpg" in capsys.readouterr().err


def test_what_needs_conversion_says_so(tmp_path: Path) -> None:
    root = ade20k_150(tmp_path)
    with pytest.raises(MasqclipError, match="panoptic maps"):
        load_truth("ade20k-150", root, tasks=("panoptic",))
    assert load_truth("ade20k-150", root).tasks == ("semantic",)


def test_a_conversion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, broken = ade20k_847(tmp_path / "whole"), ade20k_847(tmp_path / "broken")
    dataset = find_dataset("ade20k-847")
    dataset.convert(whole, lambda *_: None)

    def stop(_: str, done: int, __: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.convert(broken, stop)
    assert dataset.parts["labels"].find(broken) is None
    begun = list((broken / "masqclip").rglob("*.png"))
    times = {p.name: p.stat().st_mtime_ns for p in begun}
    assert len(begun) == 2
    dataset.convert(broken, lambda *_: None)
    assert contents(whole / "masqclip") == contents(broken / "masqclip")
    kept = {p.name: p.stat().st_mtime_ns for p in (broken / "masqclip").rglob("*.png")}
    assert times.items() <= kept.items()


def test_the_base_novel_split(tmp_path: Path) -> None:
    root = coco(tmp_path)
    find_dataset("coco-base-novel").convert(root, lambda *_: None)
    written = json.loads((root / "masqclip/instances_val2017_base_novel.json").read_text())
    assert len(written["images"]) == COUNT, "the last picture holds none of the 65"
    assert len(written["categories"]) == 65
    assert sum(c["split"] == "novel" for c in written["categories"]) == 17
    truth = load_truth("coco-base-novel", root)
    novel = truth.only("novel")
    assert len(novel.classes) == 17
    assert novel.classes == read_class_list("coco-novel").classes
    ids = {c.id for c in novel.classes}
    for picture in novel.pictures:
        assert {a["category_id"] for a in novel.instances_of(picture)} <= ids
        assert novel.instances_of(picture)
    with pytest.raises(MasqclipError, match="choose base or novel"):
        truth.only("nouvel")


def test_ade_panoptic_is_stuff_with_instances_on_top(tmp_path: Path) -> None:
    root = ade20k_150(tmp_path)
    find_dataset("ade20k-150").convert(root, lambda *_: None)
    truth = load_truth("ade20k-150", root)
    for picture in truth.pictures:
        stem = picture.path.stem
        labels = read_labels(root / "annotations/validation" / f"{stem}.png")
        coded = read_segment_ids(root / "annotations_instance/validation" / f"{stem}.png")
        ids, segments = truth.panoptic_of(picture)
        category = {s["id"]: s["category_id"] for s in segments}
        thing = {c.id: c.thing for c in truth.classes}
        assert (ids[:4, :4] == 0).all(), "a thing without an instance is void"
        for y in range(0, labels.shape[0], 3):
            for x in range(0, labels.shape[1], 3):
                label, owner = labels[y, x] - 1, category.get(int(ids[y, x]))
                if coded[y, x] or (label >= 0 and not thing[label]):
                    assert owner == label
                else:
                    assert owner is None
        things = [s for s in segments if thing[s["category_id"]]]
        assert len(things) == len(np.unique(coded[coded > 0]))
        instances = truth.instances_of(picture)
        assert len(instances) == len(things)
        for entry in instances:
            mask = decode_rle(entry["segmentation"])
            assert {category[i] for i in np.unique(ids[mask]).tolist()} == {entry["category_id"]}
        classes = truth.class_map_of(picture)
        np.testing.assert_array_equal(classes, labels - 1)


def test_ade_full_indices_become_positions(tmp_path: Path) -> None:
    root = ade20k_847(tmp_path)
    find_dataset("ade20k-847").convert(root, lambda *_: None)
    truth = load_truth("ade20k-847", root)
    ids = np.array([c.id for c in truth.classes])
    for picture in truth.pictures:
        with Image.open(picture.path.with_name(f"{picture.path.stem}_seg.png")) as image:
            red, green, _ = np.moveaxis(np.asarray(image).astype(int), -1, 0)
        index, positions = red // 10 * 256 + green, truth.class_map_of(picture)
        known = np.isin(index, ids)
        np.testing.assert_array_equal(ids[positions[known]], index[known])
        assert (positions[~known] == -1).all()
        assert known.any()
        assert not known.all()


@pytest.mark.parametrize("count", [59, 459])
def test_pascal_numbers_become_positions(count: int, tmp_path: Path) -> None:
    from scipy.io import loadmat

    root = pascal_context(tmp_path)
    name = f"pascal-context-{count}"
    find_dataset(name).convert(root, lambda *_: None)
    truth = load_truth(name, root)
    assert [p.path.stem for p in truth.pictures] == (root / "val.txt").read_text().split()
    names = [c.name for c in truth.classes]
    all_names = [c.name for c in read_class_list("pascal-context-459").classes]
    for picture in truth.pictures:
        numbers = loadmat(root / "trainval" / f"{picture.path.stem}.mat")["LabelMap"]
        positions = truth.class_map_of(picture)
        for number, position in set(zip(numbers.flat, positions.flat, strict=True)):
            published = all_names[number - 1] if number else None
            # The list of 59 calls this one class by another name.
            renamed = {"table": "diningtable"}.get(str(published), published)
            if count == 459:
                assert (names[position] if position >= 0 else None) == published
            else:
                assert (renamed in names) == (position >= 0)
                assert position < 0 or names[position] == renamed


def test_two_pictures_of_one_stem_are_told(tmp_path: Path) -> None:
    """Labels are found by it: they might be the other's."""
    for name in ("images/a/street.jpg", "images/b/street.png", "labels/street.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(MasqclipError, match=r"a/street\.jpg and .*b/street\.png have one stem"):
        labelled_truth(
            "mine", [], images=tmp_path / "images", labels=tmp_path / "labels", values={}
        )
    (tmp_path / "images/b/street.png").unlink()
    (tmp_path / "images/c").symlink_to(tmp_path / "images/a")
    found = labelled_truth(
        "mine", [], images=tmp_path / "images", labels=tmp_path / "labels", values={}
    )
    assert [picture.path.name for picture in found.pictures] == ["street.jpg"]
