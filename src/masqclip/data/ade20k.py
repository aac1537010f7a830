"""ADE20K to be measured on: 150 classes (semantic, instance, panoptic) and the full 847.

- 150: class maps hold 0 = ignored, then 1 to 150. In instance pictures red is a class of the
  places challenge's 100, which are the things of the 150 in their order, and green the instance.
- Panoptic maps are made as published: stuff from the class map, one segment a class; things from
  the instances; a thing's pixels that belong to no instance are void.
- 847: 16-bit class maps, 65535 = ignored. They are made from ``*_seg.png``, where an object's
  index, which the class list names, is ``red // 10 * 256 + green``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.class_lists import ClassEntry, read_class_list
from masqclip.data.coco_truth import coco_truth
from masqclip.data.datasets import Dataset, Part, Progress, convert_labels
from masqclip.data.files import write_atomically
from masqclip.data.folders import LeftOut, search_folder
from masqclip.data.label_maps import ids_to_rgb, png_bytes, read_labels, read_segment_ids
from masqclip.data.rle import encode_rle
from masqclip.data.truth import GroundTruth, labelled_truth
from masqclip.errors import MasqclipError

Region = tuple[ClassEntry, NDArray[np.bool_]]


def instances_to_coco(sources: Sequence[Path], target: Path, report: Progress) -> None:
    """Instance pictures and pictures (two folders) to one file of COCO instances."""
    things = _classes(thing=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    files = _files(sources[0], ".png")
    for number, path in enumerate(files):
        instances, height, width = _instances(path, things)
        images.append(_entry(number, sources[1], path, height, width))
        for category, mask in instances:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category.id}
                | {"segmentation": encode_rle(mask), "iscrowd": 0}
                | _extent(mask)
            )
        report(number + 1, len(files))
    _write_coco(target, images, annotations, things)


def panoptic_to_coco(sources: Sequence[Path], target: Path, report: Progress) -> None:
    """Class maps, instance pictures and pictures (three folders) to COCO panoptic.

    The maps go to the folder beside `target` that has its stem.
    """
    stuff, things = _classes(thing=False), _classes(thing=True)
    folder = target.with_suffix("")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    files = _files(sources[0], ".png")
    for number, path in enumerate(files):
        labels = read_labels(path)
        instances, height, width = _instances(sources[1] / path.name, things)
        if labels.shape != (height, width):
            raise MasqclipError(f"{path} and its instances differ in size: download both again")
        regions: list[Region] = [(entry, labels == entry.id + 1) for entry in stuff]
        regions += instances
        ids = np.zeros((height, width), np.int32)
        for segment_id, (_, mask) in enumerate(regions, start=1):
            ids[mask] = segment_id
        segments = [
            {"id": i, "category_id": regions[i - 1][0].id, "iscrowd": 0} | _extent(ids == i)
            for i in np.unique(ids[ids > 0]).tolist()
        ]
        images.append(_entry(number, sources[2], path, height, width))
        annotations.append({"image_id": number, "file_name": path.name, "segments_info": segments})
        if not (folder / path.name).exists():
            write_atomically(folder / path.name, png_bytes(ids_to_rgb(ids)))
        report(number + 1, len(files))
    _write_coco(target, images, annotations, read_class_list("ade20k-150").classes)


def full_labels(sources: Sequence[Path], target: Path, report: Progress) -> None:
    """The full dataset's ``*_seg.png``, wherever they lie in a folder, to class maps of the 847."""
    classes = read_class_list("ade20k-847").classes
    table = np.full(1 << 16, 65535, np.uint16)
    table[[entry.id for entry in classes]] = np.arange(len(classes))

    def convert(path: Path) -> NDArray[np.uint16]:
        coded = read_segment_ids(path)
        return table[coded % 256 // 10 * 256 + coded // 256 % 256]

    files = {
        path.name.removesuffix("_seg.png"): path
        for path in _files(sources[0], "_seg.png", deep=True)
    }
    convert_labels(files, target, convert, report)


def _files(folder: Path, ending: str, *, deep: bool = False) -> list[Path]:
    found = list(search_folder(str(folder), LeftOut(), recursive=deep))
    if problem := next((file for file in found if file.problem is not None), None):
        raise MasqclipError(f"{problem.path}: {problem.problem}")
    paths = [Path(file.path) for file in found if file.path.endswith(ending)]
    files = sorted(paths, key=lambda path: path.stem)
    if not files:
        raise MasqclipError(f"{folder} holds no *{ending}: unpack the dataset again")
    return files


def _classes(*, thing: bool) -> list[ClassEntry]:
    return [entry for entry in read_class_list("ade20k-150").classes if entry.thing is thing]


def _instances(path: Path, things: Sequence[ClassEntry]) -> tuple[list[Region], int, int]:
    """The instances of one picture, and its height and width."""
    coded = read_segment_ids(path) % 65536
    found: list[Region] = []
    for code in np.unique(coded).tolist():
        number, category = divmod(code, 256)
        if number and category:
            if category > len(things):
                raise MasqclipError(f"{path}: class {category} of {len(things)}: download it again")
            found.append((things[category - 1], coded == code))
    return found, coded.shape[0], coded.shape[1]


def _entry(number: int, images: Path, labels: Path, height: int, width: int) -> dict[str, Any]:
    name = f"{labels.stem}.jpg"
    if not (images / name).exists() and (images / labels.name).exists():
        name = labels.name
    return {"id": number, "file_name": name, "height": height, "width": width}


def _extent(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    box = [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
    return {"area": int(mask.sum()), "bbox": box}


def _write_coco(
    target: Path,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    classes: Sequence[ClassEntry],
) -> None:
    categories = [
        {"id": entry.id, "name": entry.name, "isthing": int(entry.thing is not False)}
        for entry in classes
    ]
    document = {
        "info": {"description": "ADE20K in COCO's format, converted by masqclip"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    write_atomically(target, json.dumps(document).encode())


def _read_150(found: dict[str, Path]) -> GroundTruth:
    classes = read_class_list("ade20k-150").classes
    images, panoptic = found["images"], found.get("panoptic")
    truth = labelled_truth(
        "ade20k-150",
        classes,
        images=images,
        labels=found.get("labels"),
        values={entry.id + 1: entry.id for entry in classes},
    )
    if panoptic is None and "instances" not in found:
        return truth
    # The converted files number the same sorted label files, so the pictures' ids agree.
    converted = coco_truth(
        "ade20k-150",
        images=images,
        instances=found.get("instances"),
        panoptic=panoptic,
        panoptic_maps=panoptic and panoptic.with_suffix(""),
        classes=classes,
    )
    return replace(converted, semantic=truth.semantic)


def _read_847(found: dict[str, Path]) -> GroundTruth:
    classes = read_class_list("ade20k-847").classes
    return labelled_truth(
        "ade20k-847",
        classes,
        images=found["images"],
        labels=found.get("labels"),
        values={i: entry.id for i, entry in enumerate(classes)},
    )


_CHALLENGE = "ADEChallengeData2016.zip, from the MIT scene parsing benchmark"

ADE20K_150 = Dataset(
    "ade20k-150",
    folder="ADEChallengeData2016",
    parts={
        "images": Part(
            "the pictures",
            ("images/validation",),
            _CHALLENGE,
            ("instance", "semantic", "panoptic"),
        ),
        "labels": Part("the class maps", ("annotations/validation",), _CHALLENGE, ("semantic",)),
        "originals": Part(
            "the instance pictures",
            ("annotations_instance/validation",),
            "annotations_instance.tar, from the MIT places challenge 2017",
        ),
        "instances": Part(
            "the instances as COCO JSON",
            ("masqclip/instances_validation.json",),
            tasks=("instance",),
            convert=instances_to_coco,
            inputs=("originals", "images"),
        ),
        "panoptic": Part(
            "the panoptic maps as COCO JSON",
            ("masqclip/panoptic_validation.json",),
            tasks=("panoptic",),
            convert=panoptic_to_coco,
            inputs=("labels", "originals", "images"),
        ),
    },
    pictures=2000,
    read=_read_150,
)

ADE20K_847 = Dataset(
    "ade20k-847",
    folder="ADE20K_2021_17_01",
    parts={
        "images": Part(
            "the pictures",
            ("images_detectron2/validation", "images/ADE/validation"),
            "ADE20K_2021_17_01.zip, from the ADE20K page after registration",
            ("semantic",),
        ),
        "originals": Part(
            "the original *_seg.png files",
            ("images/ADE/validation",),
            "the same archive",
        ),
        "labels": Part(
            "the class maps of the 847 classes",
            ("annotations_detectron2/validation", "masqclip/labels_847"),
            tasks=("semantic",),
            convert=full_labels,
            inputs=("originals",),
        ),
    },
    pictures=2000,
    read=_read_847,
)
