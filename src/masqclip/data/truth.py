"""What is true of a dataset's pictures, in the three forms that scores are made of.

A `GroundTruth` lists classes and pictures and reads the annotations of one picture at a time:
instances as COCO writes them, a class map, a panoptic map. Whatever a dataset lacks is None, and
the task that needs it cannot be scored. Positions are places in `GroundTruth.classes`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.class_lists import ClassEntry, class_list_descriptions, read_class_list
from masqclip.data.digests import digest_files
from masqclip.data.folders import LeftOut, search_folder
from masqclip.data.label_maps import read_labels, read_segment_ids
from masqclip.data.segmentations import segmentation_mask
from masqclip.errors import MasqclipError

TASKS = ("instance", "semantic", "panoptic")


@dataclass(frozen=True)
class Picture:
    """One picture of a dataset; its size is 0 x 0 where the annotations do not say it."""

    id: int
    path: Path
    height: int = 0
    width: int = 0


@dataclass(frozen=True)
class InstanceTruth:
    """COCO annotations by picture id, crowds included."""

    annotations: Mapping[int, Sequence[dict[str, Any]]]
    version: str


@dataclass(frozen=True)
class PanopticTruth:
    """A file of segment ids and its segments, by picture id."""

    files: Mapping[int, Path]
    segments: Mapping[int, Sequence[dict[str, Any]]]
    version: str


@dataclass(frozen=True)
class SemanticTruth:
    """A file of labels by picture id, and the class id that each label value stands for."""

    files: Mapping[int, Path]
    class_ids: Mapping[int, int]
    version: str


@dataclass(frozen=True)
class GroundTruth:
    """A dataset to be measured on.

    Attributes:
        name: of the dataset.
        classes: in order; ids are the annotations' own.
        pictures: in order.
        instances, semantic, panoptic: what is annotated.
        split: the split to which the classes were cut, "" = all of them.
        notes: what of the annotations was read in another way than it stands there, a line each.
    """

    name: str
    classes: tuple[ClassEntry, ...]
    pictures: tuple[Picture, ...]
    instances: InstanceTruth | None = None
    semantic: SemanticTruth | None = None
    panoptic: PanopticTruth | None = None
    split: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {entry.id: i for i, entry in enumerate(self.classes)}

    @property
    def tasks(self) -> tuple[str, ...]:
        """What can be scored. A panoptic map tells the class of each pixel as well."""
        there = {
            "instance": self.instances,
            "semantic": self.semantic or self.panoptic,
            "panoptic": self.panoptic,
        }
        return tuple(task for task in TASKS if there[task] is not None)

    def version(self, task: str) -> str:
        """A hash of the annotations that a task is scored by, and of the pictures' names."""
        used: Iterable[InstanceTruth | SemanticTruth | PanopticTruth | None] = {
            "instance": (self.instances,),
            "semantic": (self.semantic or self.panoptic,),
            "panoptic": (self.panoptic,),
        }.get(task, (self.instances, self.semantic, self.panoptic))
        return digest(*(truth.version for truth in used if truth), self._pictures_version)

    @cached_property
    def _pictures_version(self) -> str:
        return digest(*(f"{picture.id} {picture.path.name}" for picture in self.pictures))

    def first(self, count: int) -> GroundTruth:
        """Only the first so many pictures."""
        return replace(self, pictures=self.pictures[:count])

    def only(self, split: str) -> GroundTruth:
        """The constrained setting: some of the classes, and the pictures that hold any.

        Args:
            split: which: of that split, or those that a shipped list of this name has as well.

        Raises:
            MasqclipError: the dataset has no such split, and nothing in common with such a list.
        """
        kept = tuple(entry for entry in self.classes if entry.split == split)
        if not kept and split in class_list_descriptions():
            names = {entry.name for entry in read_class_list(split).classes}
            kept = tuple(entry for entry in self.classes if entry.name in names)
        if not kept:
            splits = sorted({entry.split for entry in self.classes if entry.split})
            offered = f"choose {' or '.join(splits)}" if splits else "it is not split"
            raise MasqclipError(f"{self.name} has no classes of the split {split!r}: {offered}")
        cut = replace(self, classes=kept, split=split)
        if self.instances is None:
            return cut
        return replace(cut, pictures=tuple(p for p in self.pictures if cut.instances_of(p)))

    def instances_of(self, picture: Picture) -> list[dict[str, Any]]:
        """The COCO annotations of the classes, crowds included."""
        assert self.instances is not None
        found = self.instances.annotations.get(picture.id, ())
        return [entry for entry in found if entry["category_id"] in self._positions]

    def class_map_of(self, picture: Picture) -> NDArray[np.int64]:
        """[H,W] positions of the classes; -1 = does not count."""
        if self.semantic is None:
            ids, segments = self.panoptic_of(picture)
            values, inverse = np.unique(ids, return_inverse=True)
            by_id = {s["id"]: self._positions[s["category_id"]] for s in segments}
            table = np.array([by_id.get(value, -1) for value in values.tolist()], np.int64)
            return table[inverse].reshape(ids.shape)
        labels = read_labels(self.semantic.files[picture.id])
        table = np.full(max(int(labels.max(initial=0)), *self.semantic.class_ids) + 1, -1, np.int64)
        for value, class_id in self.semantic.class_ids.items():
            table[value] = self._positions.get(class_id, -1)
        return table[labels]

    def panoptic_of(self, picture: Picture) -> tuple[NDArray[np.int32], list[dict[str, Any]]]:
        """[H,W] segment ids, 0 = void, and the segments of the classes; others become void."""
        assert self.panoptic is not None
        ids = read_segment_ids(self.panoptic.files[picture.id])
        every = self.panoptic.segments[picture.id]
        kept = [segment for segment in every if segment["category_id"] in self._positions]
        if len(kept) < len(every):
            ids = np.where(np.isin(ids, [segment["id"] for segment in kept]), ids, 0)
        return ids, kept

    def masks_of(self, picture: Picture) -> tuple[NDArray[np.bool_], list[int]]:
        """All annotated masks [N,H,W], crowds left out, and their positions.

        Taken from the panoptic map, which has things and stuff, else from instances, else from the
        class map, where a class is one mask.
        """
        masks: list[NDArray[np.bool_]] = []
        positions: list[int] = []
        if self.panoptic is not None:
            ids, segments = self.panoptic_of(picture)
            for segment in segments:
                if not segment.get("iscrowd"):
                    masks.append(ids == segment["id"])
                    positions.append(self._positions[segment["category_id"]])
            shape = ids.shape
        elif self.instances is not None:
            shape = (picture.height, picture.width)
            for entry in self.instances_of(picture):
                if not entry.get("iscrowd"):
                    masks.append(segmentation_mask(entry.get("segmentation"), *shape))
                    positions.append(self._positions[entry["category_id"]])
        else:
            labels = self.class_map_of(picture)
            shape = labels.shape
            positions = [int(label) for label in np.unique(labels) if label >= 0]
            masks = [labels == label for label in positions]
        whole = [i for i, mask in enumerate(masks) if mask.any()]
        empty = np.zeros((0, *shape), bool)
        return (
            np.stack([masks[i] for i in whole]) if whole else empty,
            [positions[i] for i in whole],
        )


def digest(*parts: str | bytes) -> str:
    """A short hash of texts, in their order."""
    whole = hashlib.sha256()
    for part in parts:
        # A name of a file may hold half a character.
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:12]


def files_version(files: Iterable[Path]) -> str:
    """A hash of files' names and contents; those that are not there do not count."""
    there = [path for path in files if os.path.isfile(path)]
    digests = digest_files(there)
    return digest(*(f"{path.name} {is_}" for path, is_ in zip(there, digests, strict=True)))


def labelled_truth(
    name: str,
    classes: Sequence[ClassEntry],
    *,
    images: Path,
    labels: Path | None,
    values: Mapping[int, int],
    stems: Sequence[str] | None = None,
) -> GroundTruth:
    """A dataset of label pictures: a picture and its labels share their stem.

    Args:
        name: of the dataset.
        classes: the published classes.
        images: the folder of the pictures, searched with its folders.
        labels: the folder of the label pictures, if it is there.
        values: the class id that each label value stands for; other values are ignored.
        stems: the test pictures, in order; all that have labels unless given, sorted.

    Raises:
        MasqclipError: a picture of `stems` has no labels, or two files have its stem; or a folder
            cannot be listed.
    """
    by_stem = _by_stem(images, (".jpg", ".jpeg", ".png"))
    files = {} if labels is None else _by_stem(labels, (".png", ".tif", ".tiff"), deep=False)
    stems = sorted(files or by_stem) if stems is None else stems
    lacking = [stem for stem in stems if labels is not None and stem not in files]
    if lacking:
        raise MasqclipError(
            f"{labels} has no labels of {lacking[0]} and {len(lacking) - 1} others: unpack or "
            "convert them again"
        )
    pictures = tuple(
        Picture(number, _only(by_stem.get(stem, [images / f"{stem}.jpg"])))
        for number, stem in enumerate(stems)
    )
    semantic = None
    if labels is not None:
        chosen = {number: _only(files[stem]) for number, stem in enumerate(stems)}
        semantic = SemanticTruth(chosen, values, files_version(chosen.values()))
    return GroundTruth(name, tuple(classes), pictures, semantic=semantic)


def _by_stem(
    folder: Path, suffixes: tuple[str, ...], *, deep: bool = True
) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in search_folder(str(folder), LeftOut(), recursive=deep):
        if file.problem is not None:
            raise MasqclipError(f"{file.path}: {file.problem}")
        path = Path(file.path)
        if path.suffix.lower() in suffixes:
            found.setdefault(path.stem, []).append(path)
    return found


def _only(paths: Sequence[Path]) -> Path:
    """The file of a stem, of which there must not be two: labels would be the other's."""
    first, *others = sorted(paths)
    if others:
        raise MasqclipError(f"{first} and {others[0]} have one stem: take one of them away")
    return first
