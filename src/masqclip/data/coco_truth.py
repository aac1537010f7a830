"""COCO files as something to be measured on, and pictures seen to be as they are annotated.

A figure is only as good as its truth. What training may leave out and go on without, measuring
refuses: an annotation that is lost turns a right prediction into a wrong one, without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from masqclip.data.class_lists import ClassEntry
from masqclip.data.coco_files import CocoFile, Kind, check_stated_size, read_coco
from masqclip.data.images import image_size
from masqclip.data.label_maps import read_labels, read_panoptic_map
from masqclip.data.truth import (
    GroundTruth,
    InstanceTruth,
    PanopticTruth,
    Picture,
    digest,
    files_version,
)
from masqclip.errors import MasqclipError


def coco_truth(
    name: str,
    *,
    images: Path,
    instances: Path | None = None,
    panoptic: Path | None = None,
    either: Path | None = None,
    panoptic_maps: Path | None = None,
    classes: Sequence[ClassEntry] = (),
) -> GroundTruth:
    """Read COCO files.

    Args:
        name: of the dataset.
        images: the folder of the pictures.
        instances, panoptic: annotation files.
        either: an annotation file of one or the other kind; one of the three at least.
        panoptic_maps: the folder with the maps of the panoptic file.
        classes: the published classes; those of the files unless given.

    Raises:
        MasqclipError: a file is missing or broken, annotations cannot be used, are of pictures or
            categories that are not listed, or there is nothing to measure.
    """
    known = [entry.id for entry in classes]
    files: dict[Kind, CocoFile] = {}
    if panoptic is not None:
        files["panoptic"] = read_coco(panoptic, images, kind="panoptic", classes=known)
    if instances is not None:
        files["instances"] = read_coco(instances, images, kind="instances", classes=known)
    if either is not None:
        found = read_coco(either, images, classes=known)
        files[found.kind] = found
    for file in files.values():
        _check_whole(file)
        _check_names(file, name, classes)
    main = next(iter(files.values()))
    truth = GroundTruth(
        name,
        tuple(classes) or coco_classes(files.values()),
        tuple(Picture(p.id, images / p.file_name, p.height, p.width) for p in main.pictures),
        notes=tuple(f"{file.path}: {file.notes}" for file in files.values() if file.notes),
    )
    if not truth.classes:
        raise MasqclipError(f"{main.path} has no categories: add them")
    if "instances" in files:
        annotated = files["instances"]
        version = digest(annotated.path.read_bytes())
        truth = replace(truth, instances=InstanceTruth(annotated.annotations, version))
    if "panoptic" in files:
        assert panoptic_maps is not None
        annotated = files["panoptic"]
        entries = {i: parts[0] for i, parts in annotated.annotations.items()}
        maps = {i: panoptic_maps / entry["file_name"] for i, entry in entries.items()}
        segments = {i: entry["segments_info"] for i, entry in entries.items()}
        version = digest(annotated.path.read_bytes(), files_version(maps.values()))
        truth = replace(truth, panoptic=PanopticTruth(maps, segments, version))
    return truth


def coco_classes(files: Iterable[CocoFile]) -> tuple[ClassEntry, ...]:
    """The categories of COCO files as classes; where a file does not say so, they are things."""
    entries: dict[int, ClassEntry] = {}
    for category in (category for file in files for category in file.categories):
        entries.setdefault(
            category["id"],
            ClassEntry(
                id=category["id"],
                name=category["name"],
                prompts=(category["name"].strip(),),
                thing=bool(category.get("isthing", 1)),
                split=category.get("split"),
            ),
        )
    return tuple(entries.values())


def check_picture(truth: GroundTruth, picture: Picture) -> None:
    """See that a picture and its maps are what the annotations say, before it is measured on.

    Args:
        truth: what is annotated.
        picture: one of its pictures; where its file is not there, only the maps are looked at.

    Raises:
        MasqclipError: sizes differ, or a map and its segments do.
    """
    size = (picture.height, picture.width)
    if os.path.isfile(picture.path):  # a name may be longer than names can be
        found = image_size(picture.path)
        if all(size):
            check_stated_size(picture.path, found, size)
        size = found
    if not all(size):
        raise MasqclipError(
            f"{picture.path} is not there, and its annotations do not say its size: restore it"
        )
    if truth.panoptic is not None:
        path, segments = truth.panoptic.files[picture.id], truth.panoptic.segments[picture.id]
        _, present = read_panoptic_map(path, segments, size)
        if lacking := {segment["id"] for segment in segments} - present:
            raise MasqclipError(
                f"the map {path} holds no pixel of the segment {min(lacking)}, which "
                "'segments_info' lists: take it out there, or restore the map"
            )
    if truth.semantic is not None:
        path = truth.semantic.files[picture.id]
        labels = read_labels(path)
        if labels.shape != size:
            raise MasqclipError(
                f"the labels {path} are {labels.shape[0]} x {labels.shape[1]} pixels (height x "
                f"width), their picture {size[0]} x {size[1]}: they must be the same"
            )


def _check_whole(file: CocoFile) -> None:
    """Refuse a file that would give wrong figures, or none."""
    if file.left_out:
        raise MasqclipError(
            f"{file.path}: {file.left_out}: figures would be wrong; mend or remove these"
        )
    if all(mask["iscrowd"] for mask in file.masks()):
        raise MasqclipError(
            f"{file.path} has nothing to measure: it has no annotation, or of crowds only"
        )


def _check_names(file: CocoFile, name: str, classes: Sequence[ClassEntry]) -> None:
    """Refuse a published dataset whose ids stand for other classes than the published ones."""
    published = {entry.id: entry.name.strip() for entry in classes}
    for category in file.categories:
        given = str(category["name"]).strip()
        if published.get(category["id"], given) != given:
            raise MasqclipError(
                f"{file.path}: category {category['id']} is {given!r:.60}, of {name} "
                f"{published[category['id']]!r}: give the published file, or measure on this one "
                "by its path"
            )
