"""Predict and score the miniature world: resuming, sharing, scoring again, protocols, oracles."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from masqclip import Segmenter, Vocabulary
from masqclip.clip.category import Category
from masqclip.data.class_lists import read_class_list
from masqclip.data.coco_truth import coco_truth
from masqclip.data.label_maps import read_segment_ids
from masqclip.data.published import load_truth
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import check_pictures, evaluate, score
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.processes import Processes
from masqclip.evaluation.protocol import Protocol, fingerprint, published_protocol
from masqclip.evaluation.report import Report
from masqclip.evaluation.vocabularies import dataset_vocabulary, match_vocabulary

SPRITES = Path(__file__).parents[1] / "data" / "sprites"
EVERYTHING = ("instance", "semantic", "panoptic", "masks", "classes")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings())
    write_stickers(folder, world, images=6, seed=77)
    return folder


@pytest.fixture(scope="module")
def truth(scenes: Path) -> GroundTruth:
    return load_truth("stickers", scenes)


@pytest.fixture(scope="module")
def measured(
    segmenter: Segmenter, truth: GroundTruth, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("predictions")
    return evaluate(segmenter, truth, EVERYTHING, folder=folder), folder


def same(one: Report, other: Report) -> bool:
    return one.to_json() == other.to_json() and one.to_csv() == other.to_csv()


def test_figures_are_there(measured: tuple[Report, Path]) -> None:
    report, _ = measured
    for task, name in (("instance", "AP"), ("semantic", "mIoU"), ("panoptic", "PQ")):
        assert 0.02 < report.figures[task][name] < 1
        assert len(report.quality[task]) == 6
    assert {"AP50 base", "AP50 novel", "AP75", "APs", "AR100"} <= report.figures["instance"].keys()
    assert {"PQ base", "PQ things", "SQ stuff"} <= report.figures["panoptic"].keys()
    assert report.figures["semantic"].keys() >= {"mIoU", "mIoU novel", "fwIoU", "mAcc", "pAcc"}


def test_oracles(measured: tuple[Report, Path], truth: GroundTruth) -> None:
    figures = measured[0].figures["masks"]
    assert figures["mask quality"] == 1.0
    for part in ("", " base", " base things", " novel", " things", " stuff"):
        assert 0 <= figures[f"mask accuracy{part}"] <= 1
    masks = sum(len(truth.masks_of(picture)[0]) for picture in truth.pictures)
    accuracy = np.array(measured[0].per_class["masks"]["accuracy"])
    assert 0 < np.isfinite(accuracy).sum() <= masks
    found = measured[0].figures["classes"]
    assert found["AR@1"] <= found["AR@10"] <= found["AR@50"] <= found["AR@100"] <= 1
    assert found["recall at IoU 0.5"] > 0.5, "the proposer knows this world"
    assert {"AR@100 small", "AR@100 medium", "AR@100 novel", "AR@100 stuff"} <= found.keys()


def test_scoring_again_needs_no_model(measured: tuple[Report, Path], truth: GroundTruth) -> None:
    report, folder = measured
    assert same(score(PredictionFolder(folder), truth), report)


def test_a_stopped_run_goes_on(
    segmenter: Segmenter, truth: GroundTruth, measured: tuple[Report, Path], tmp_path: Path
) -> None:
    def stop(phase: str, done: int, total: int) -> None:
        assert total == 6
        if (phase, done) == ("predicting", 3):
            raise KeyboardInterrupt

    tasks = ("semantic", "panoptic")
    with pytest.raises(KeyboardInterrupt):
        evaluate(segmenter, truth, tasks, folder=tmp_path, report=stop)
    with pytest.raises(MasqclipError, match="lacks the semantic prediction of picture 3"):
        score(PredictionFolder(tmp_path), truth)
    (tmp_path / "panoptic" / "1.json").unlink()  # killed between two files of a picture
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "semantic").iterdir()}
    assert len(times) == 3
    report = evaluate(segmenter, truth, tasks, folder=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for task in tasks:
        assert report.figures[task] == measured[0].figures[task]


def test_each_process_takes_its_share(
    segmenter: Segmenter, truth: GroundTruth, measured: tuple[Report, Path], tmp_path: Path
) -> None:
    """Two processes played one after the other; the second finds the first one's predictions."""
    handed: list[object] = []

    class Played(Processes):
        def gather(self, mine):  # type: ignore[no-untyped-def]
            handed.append(mine)
            return handed if len(handed) == 2 else [mine]

    for index in (0, 1):
        report = evaluate(segmenter, truth, EVERYTHING, folder=tmp_path, processes=Played(index, 2))
        assert len(list((tmp_path / "semantic").iterdir())) == 3 * (index + 1)
    for task, figures in measured[0].figures.items():
        assert report.figures[task] == pytest.approx(figures, abs=1e-12, nan_ok=True)
    assert report.quality["panoptic"].keys() == measured[0].quality["panoptic"].keys()


def test_predictions_of_another_kind_are_refused(
    segmenter: Segmenter, truth: GroundTruth, measured: tuple[Report, Path]
) -> None:
    _, folder = measured
    with pytest.raises(MasqclipError, match="panoptic predictions of the protocol"):
        evaluate(
            segmenter,
            truth,
            ("panoptic",),
            folder=folder,
            protocol=Protocol(object_threshold=0.5),
        )
    with pytest.raises(MasqclipError, match="another split"):
        evaluate(segmenter, truth.only("novel"), ("panoptic",), folder=folder)
    words = Vocabulary.parse(dataset_vocabulary(truth), templates="a photo of a {}.")
    with pytest.raises(MasqclipError, match="another vocabulary"):
        evaluate(segmenter, truth, ("panoptic",), folder=folder, words=words)
    parameter = next(segmenter.model.queries.parameters())
    with torch.no_grad():
        parameter += 0.01
    try:
        with pytest.raises(MasqclipError, match="another model"):
            evaluate(segmenter, truth, ("panoptic",), folder=folder)
    finally:
        with torch.no_grad():
            parameter -= 0.01


def test_broken_or_foreign_predictions_are_told(
    segmenter: Segmenter, truth: GroundTruth, tmp_path: Path
) -> None:
    with pytest.raises(MasqclipError, match="holds no predictions"):
        score(PredictionFolder(tmp_path), truth)
    evaluate(segmenter, truth.first(1), ("instance", "panoptic"), folder=tmp_path)
    with pytest.raises(MasqclipError, match="no predictions for 'semantic'"):
        score(PredictionFolder(tmp_path), truth.first(1), ("semantic",))
    (tmp_path / "instance" / "0.json").write_text("[{")
    with pytest.raises(MasqclipError, match=r"instance/0\.json cannot be read"):
        score(PredictionFolder(tmp_path), truth.first(1))
    with pytest.raises(MasqclipError, match="cannot be measured in 'depth'"):
        evaluate(segmenter, truth, ("depth",))


# Protocols


def test_equal_protocols_have_equal_hashes(truth: GroundTruth, scenes: Path) -> None:
    words, protocol = dataset_vocabulary(truth), Protocol(128, 256, 0.3, 0.3)
    before = {task: fingerprint(task, truth, words, protocol) for task in EVERYTHING}
    assert len(set(before.values())) == len(EVERYTHING)
    again = load_truth("stickers", scenes)
    assert before == {task: fingerprint(task, again, words, protocol) for task in EVERYTHING}

    def changed(**kinds: object) -> set[str]:
        arguments = {"truth": truth, "words": words, "protocol": protocol, **kinds}
        return {t for t in EVERYTHING if fingerprint(t, **arguments) != before[t]}  # type: ignore[arg-type]

    everything = set(EVERYTHING)
    assert changed(protocol=replace(protocol, object_threshold=0.5)) == {"panoptic"}
    assert changed(protocol=replace(protocol, semantic_resize="scores")) == {"semantic"}
    assert changed(protocol=replace(protocol, top_k=50)) == {"instance"}
    assert changed(protocol=replace(protocol, shortest_edge=64)) == everything
    assert changed(words=Vocabulary.parse(words, templates="a {}")) == everything
    assert changed(words=Vocabulary.parse(words, distractors="moon base")) == everything
    synonyms = (replace(words.categories[0], prompts=("x", "y")), *words.categories[1:])
    assert changed(words=replace(words, categories=synonyms)) == everything
    assert changed(truth=truth.first(5)) == everything


def test_other_annotations_have_another_hash(scenes: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    before = load_truth("stickers", copy)
    content = json.loads((copy / "annotations/instances.json").read_text())
    content["annotations"].pop()
    (copy / "annotations/instances.json").write_text(json.dumps(content))
    after = load_truth("stickers", copy)
    assert before.version("instance") != after.version("instance")
    assert before.version("panoptic") == after.version("panoptic")


def test_predictions_of_a_picture_that_was_replaced_are_not_taken(
    segmenter: Segmenter, scenes: Path, tmp_path: Path
) -> None:
    """By one of as many bytes, which a size does not tell."""
    shutil.copytree(scenes, tmp_path / "copy")
    truth = load_truth("stickers", tmp_path / "copy").first(1)
    evaluate(segmenter, truth, ("semantic",), folder=tmp_path / "predictions")
    path = truth.pictures[0].path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(MasqclipError, match="predictions with another images"):
        evaluate(segmenter, truth, ("semantic",), folder=tmp_path / "predictions")


def test_a_picture_of_another_size_is_told_before_anything_is_predicted(
    segmenter: Segmenter, scenes: Path, tmp_path: Path
) -> None:
    shutil.copytree(scenes, tmp_path / "copy")
    truth = load_truth("stickers", tmp_path / "copy")
    path = truth.pictures[5].path
    with Image.open(path) as picture:
        picture.crop((0, 0, picture.width - 1, picture.height)).save(path)
    with pytest.raises(MasqclipError, match="but its annotations are for"):
        evaluate(segmenter, truth, ("instance",), folder=tmp_path / "predictions")
    assert not (tmp_path / "predictions").exists()


def test_results_of_another_size_are_told(
    segmenter: Segmenter, truth: GroundTruth, tmp_path: Path
) -> None:
    evaluate(segmenter, truth.first(1), ("instance",), folder=tmp_path)
    path = tmp_path / "instance" / f"{truth.pictures[0].id}.json"
    results = json.loads(path.read_text())
    results[0]["segmentation"] = {"size": [2, 2], "counts": [1, 3]}
    path.write_text(json.dumps(results))
    with pytest.raises(MasqclipError, match=r"a mask of picture \d+ is of \[2, 2\] pixels"):
        score(PredictionFolder(tmp_path), truth.first(1))


def test_a_published_datasets_ids_are_the_published_ones(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "bicycle"}]
    annotation = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    document = {"images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}]}
    document |= {"annotations": [annotation], "categories": categories}
    (tmp_path / "mine.json").write_text(json.dumps(document))
    with pytest.raises(MasqclipError, match="category 1 is 'bicycle', of coco-instances 'person'"):
        coco_truth(
            "coco-instances",
            images=tmp_path,
            instances=tmp_path / "mine.json",
            classes=read_class_list("coco-instances").classes,
        )


def test_published_protocols() -> None:
    assert published_protocol("ade20k-150") == Protocol(640, 2560, 0.3, 0.3)
    assert published_protocol("coco-base-novel").shortest_edge == 800
    pascal = published_protocol("pascal-context-459")
    assert (pascal.shortest_edge, pascal.longest_edge) == (512, 2048)
    assert pascal.semantic_resize == "scores"
    with pytest.raises(MasqclipError, match="object_threshold is 3"):
        Protocol(object_threshold=3)


def test_a_vocabulary_of_ones_own(truth: GroundTruth) -> None:
    published = dataset_vocabulary(truth)
    # Letter case and what else CLIP does not read tell no names apart.
    given = [Category(n.upper(), (f"drawn {n}",)) for n in reversed(published.names)]
    words = match_vocabulary(truth, Vocabulary((*given, Category("moon base")), ("void",)))
    assert words.names == published.names
    assert words.stuff_ids == published.stuff_ids
    assert words.categories[0].prompts == (f"drawn {published.names[0]}",)
    assert words.distractors == ("moon base", "void")
    kinds = Vocabulary(tuple(given), parents=((published.names[0].upper(), "drawing"),))
    assert match_vocabulary(truth, kinds).paths[0] == ("drawing", published.names[0])
    with pytest.raises(MasqclipError, match="'everything' is no list of names"):
        match_vocabulary(truth, Vocabulary.parse("everything"))
    with pytest.raises(MasqclipError, match="lacks 148 classes of stickers"):
        match_vocabulary(truth, Vocabulary((Category(published.names[0]),)))


def test_a_call_is_checked_before_any_work(
    segmenter: Segmenter, truth: GroundTruth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("masqclip.evaluation.evaluate.check_pictures", None)
    long = (*dataset_vocabulary(truth).categories[:-1], Category("word " * 90))
    folder = tmp_path / "out"
    with pytest.raises(MasqclipError, match="tokens long"):
        evaluate(segmenter, truth, ("instance",), words=Vocabulary(long), folder=folder)
    with pytest.raises(MasqclipError, match="are 1 categories, stickers has 149 classes"):
        evaluate(segmenter, truth, ("instance",), words=Vocabulary.parse("cat"), folder=folder)
    with pytest.raises(MasqclipError, match="the tasks are the string 'instance'"):
        evaluate(segmenter, truth, "instance", folder=folder)
    # What counts instances is asked for before anything is predicted.
    monkeypatch.setattr("masqclip.evaluation.instance.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(MasqclipError, match=r"instance AP needs .*pip install 'masqclip\[eval\]'"):
        evaluate(segmenter, truth, ("semantic", "instance"), folder=folder)
    assert not folder.exists()


# Truths


def test_the_constrained_setting(segmenter: Segmenter, truth: GroundTruth) -> None:
    novel = truth.only("novel")
    assert len(novel.classes) == 30
    picture = novel.pictures[0]
    ids, segments = novel.panoptic_of(picture)
    assert set(np.unique(ids[ids > 0])) == {segment["id"] for segment in segments}
    raw = read_segment_ids(truth.panoptic.files[picture.id])  # type: ignore[union-attr]
    np.testing.assert_array_equal(ids[ids > 0], raw[ids > 0])
    classes = novel.class_map_of(picture)
    assert ((classes >= 0) == (ids > 0)).all()
    report = evaluate(segmenter, novel, ("instance", "panoptic", "masks"))
    assert report.split == "novel"
    assert len(report.per_class["instance"]["AP"]) == 30
    assert not math.isnan(report.figures["instance"]["AP50"])


def test_masks_are_the_same_from_every_source(truth: GroundTruth) -> None:
    for picture in truth.pictures:
        masks, positions = truth.masks_of(picture)
        things = [truth.classes[p].thing for p in positions]
        alone, names = replace(truth, panoptic=None).masks_of(picture)
        assert {(n, m.tobytes()) for n, m in zip(names, alone, strict=True)} == {
            (p, m.tobytes()) for p, m, t in zip(positions, masks, things, strict=True) if t
        }


def test_a_file_of_ones_own(scenes: Path, segmenter: Segmenter) -> None:
    truth = load_truth(str(scenes / "annotations/instances.json"), Path())
    assert truth.tasks == ("instance",)
    assert all(picture.path.is_file() for picture in truth.pictures)
    whole = load_truth(str(scenes / "annotations/panoptic.json"), Path())
    assert whole.tasks == ("semantic", "panoptic")
    assert whole.panoptic_of(whole.pictures[0])[1]
    with pytest.raises(MasqclipError, match="no annotations for 'panoptic': it has instance"):
        load_truth(str(scenes / "annotations/instances.json"), Path(), tasks=("panoptic",))
    report = evaluate(segmenter, truth.first(2), ("instance",))
    assert report.dataset == "instances.json"


def test_sizes_that_a_file_lacks_are_the_pictures_own(scenes: Path, tmp_path: Path) -> None:
    document = json.loads((scenes / "annotations/instances.json").read_text())
    sizes = [(picture.pop("height"), picture.pop("width")) for picture in document["images"]]
    (tmp_path / "mine.json").write_text(json.dumps(document))
    truth = load_truth(str(tmp_path / "mine.json"), Path(), images=scenes / "images")
    assert [(picture.height, picture.width) for picture in truth.pictures] == sizes
    elsewhere = load_truth(str(tmp_path / "mine.json"), Path(), images=tmp_path)
    with pytest.raises(MasqclipError, match="6 of 6 pictures are not there"):
        check_pictures(elsewhere, elsewhere.pictures, None, needed=True)
    long = replace(elsewhere.pictures[0], path=tmp_path / ("n" * 300))
    for picture in (elsewhere.pictures[0], long):
        with pytest.raises(MasqclipError, match="do not say its size"):
            check_pictures(elsewhere, [picture], None, needed=False)
