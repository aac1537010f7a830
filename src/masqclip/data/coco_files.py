"""COCO annotation files of anybody's, checked once, where they are read.

`read_coco` gives a `CocoFile` that training and measuring can trust: whole-number ids, sizes in
pixels, masks as polygons or RLE of the picture's size, crowds as flags.

- What a tool wrote in another way, and what can mean only one thing, is read as that: ids that are
  words, numbers in quotes, corners in pairs.
- What can mean nothing is refused in one line that names the file and the entry.
- What there is no use for (a box without a mask, an annotation of a picture that is not listed) is
  left out and counted in `CocoFile.left_out`: whoever trains says so; whoever measures refuses it,
  for a figure would be wrong.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from masqclip.data.annotation_files import read_coco_json
from masqclip.data.clip_text import reading
from masqclip.data.coco_values import (
    Key,
    no_classes,
    numbering,
    read_area,
    read_file_name,
    read_flag,
    read_key,
    read_side,
)
from masqclip.data.images import MAX_PIXELS, image_size
from masqclip.data.segmentations import tidy_segmentation
from masqclip.errors import MasqclipError

Kind = Literal["instances", "panoptic", "captions"]
UNKNOWN_PICTURES = "annotations of pictures that 'images' does not list"
UNKNOWN_CATEGORIES = "annotations of categories that 'categories' does not list"
NO_MASK = "annotations without a mask"
NO_CAPTION = "captions without a word"
NO_ENTRY = "pictures without a panoptic annotation"
TWICE = "pictures that are listed twice over, read once"
REPEATED = "annotations that stand twice, and count twice"
NO_AREA = "areas that cannot be, counted from the masks instead"

_LARGEST_SEGMENT_ID = (1 << 24) - 1  # of a colour of three bytes


@dataclass(frozen=True)
class CocoPicture:
    """One entry of ``images``; its size is 0 x 0 where neither the file nor the picture says it."""

    id: int
    file_name: str
    height: int = 0
    width: int = 0


@dataclass
class Counts:
    """How often something was found, and where first."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, what: str, where: str) -> None:
        """One more."""
        count, first = self.found.get(what, (0, where))
        self.found[what] = (count + 1, first)

    def __bool__(self) -> bool:
        return bool(self.found)

    def __str__(self) -> str:
        """``3 annotations without a mask (the first: annotations[7])``, one after the other."""
        return "; ".join(
            f"{count} {what} (the first: {first})" for what, (count, first) in self.found.items()
        )


@dataclass(frozen=True)
class CocoFile:
    """What a COCO file says, checked.

    Attributes:
        path: of the file.
        kind: which of the three formats it is in.
        pictures: in the order of their ids.
        annotations: by the id of their picture. Of instances ``category_id``, ``segmentation``,
            ``iscrowd`` (0, 1) and, where the file states one that can be, ``area``; of panoptic
            pictures, at most one each, ``file_name`` and ``segments_info``; of captions
            ``caption``.
        categories: with ``id``, ``name`` and whatever else the file says; ``isthing``, if there, is
            0 or 1.
        left_out: annotations that are not among the above, and why.
        notes: what was read in another way than it stands there, or should be known.
    """

    path: Path
    kind: Kind
    pictures: tuple[CocoPicture, ...]
    annotations: Mapping[int, list[dict[str, Any]]]
    categories: tuple[dict[str, Any], ...]
    left_out: Counts
    notes: Counts

    def masks(self) -> Iterator[Mapping[str, Any]]:
        """What has a category: the annotations of instances, the segments of panoptic pictures."""
        if self.kind != "captions":
            for found in self.annotations.values():
                for entry in found:
                    yield from entry.get("segments_info", [entry])


def read_coco(
    path: Path, images: Path, *, kind: Kind | None = None, classes: Iterable[int] = ()
) -> CocoFile:
    """Read and check a COCO file.

    Args:
        path: the file.
        images: the folder of its pictures, which are looked at where it does not say their sizes.
        kind: the format that it must be in; None = what its annotations are.
        classes: ids of classes that are known without ``categories``.

    Raises:
        MasqclipError: it is missing or no COCO file; or the first entry that can mean nothing.
    """
    content = read_coco_json(path)
    found = _kind_of(content["annotations"])
    if kind is not None and content["annotations"] and found != kind:
        raise MasqclipError(f"{path} holds COCO {found}, not {kind}: give a file of {kind}")
    return _Reading(path, images, kind or found).read(content, classes)


def check_stated_size(path: Path, found: tuple[int, ...], stated: tuple[int, int]) -> None:
    """See that annotations are of a picture as it is.

    Args:
        path: the picture.
        found: its height and width, turned upright.
        stated: what its annotations say.

    Raises:
        MasqclipError: they differ.
    """
    if tuple(found[:2]) == stated:
        return
    remedy = "replace the picture by its original, or mend 'height' and 'width'"
    if found[:2] == stated[::-1]:
        remedy = "mend 'height' and 'width', or, where EXIF turns the picture, save it upright"
    raise MasqclipError(
        f"{path} is {found[0]} x {found[1]} pixels (height x width), but its annotations are for "
        f"{stated[0]} x {stated[1]}; {remedy}"
    )


def _kind_of(annotations: list[dict[str, Any]]) -> Kind:
    first = annotations[0] if annotations else {}
    if "segments_info" in first:
        return "panoptic"
    if "caption" in first and not any("segmentation" in entry for entry in annotations):
        return "captions"
    return "instances"


class _Reading:
    """One file being read: `where` is the entry that a mistake in it is told of."""

    def __init__(self, path: Path, images: Path, kind: Kind) -> None:
        self.path, self.images, self.kind = path, images, kind
        self.where = ""
        self.left_out, self.notes = Counts(), Counts()
        self._seen: set[int] = set()  # hashes of annotations

    def read(self, content: Mapping[str, Any], classes: Iterable[int]) -> CocoFile:
        try:
            entries = self._pictures(content["images"])
            numbers = numbering(entries)
            pictures = {
                key: CocoPicture(numbers[key], name, height, width)
                for key, (_, name, height, width) in entries.items()
            }
            categories = self._categories(content)
            known = dict.fromkeys(classes) if not content.get("categories") else categories
            ids = numbering(known)
            annotations = self._annotations(content["annotations"], pictures, ids)
        except (MasqclipError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise MasqclipError(f"{self.path}: {self.where}: {error}") from error
        if self.kind == "panoptic":
            for picture in pictures.values():
                if picture.id not in annotations:
                    self.left_out.add(NO_ENTRY, picture.file_name)
        return CocoFile(
            self.path,
            self.kind,
            tuple(sorted(pictures.values(), key=lambda picture: picture.id)),
            annotations,
            tuple({**entry, "id": ids[key]} for key, entry in categories.items()),
            self.left_out,
            self.notes,
        )

    def _each(self, name: str, entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for number, entry in enumerate(entries):
            self.where = f"{name}[{number}]"
            yield entry

    def _pictures(self, images: list[dict[str, Any]]) -> dict[Key, tuple[str, str, int, int]]:
        """By id as in the file: where it stands, file name, height, width."""
        found: dict[Key, tuple[str, str, int, int]] = {}
        files: dict[str, Key] = {}
        for entry in self._each("images", images):
            key, name = read_key(entry, "id"), read_file_name(entry)
            height, width = read_side(entry, "height"), read_side(entry, "width")
            if height * width > MAX_PIXELS:
                raise MasqclipError(
                    f"{name!r} is of {height} x {width} pixels, more than the limit of "
                    f"{MAX_PIXELS:,}; make it smaller"
                )
            size = (height, width) if height and width else self._measured(name)
            if key in found:
                if found[key][1:] != (name, *size):
                    raise MasqclipError(
                        f"the id {key!r:.60} stands for {name!r:.200} and, in {found[key][0]}, for "
                        f"{found[key][1]!r:.200}; give each picture an id of its own"
                    )
                self.notes.add(TWICE, self.where)
                continue
            path = os.path.normpath(os.path.join(self.images, name))  # "./a.png" is "a.png"
            if path in files:
                raise MasqclipError(
                    f"{name!r:.200} is listed under the ids {files[path]!r:.60} and {key!r:.60}; "
                    "list each picture once"
                )
            files[path] = key
            found[key] = (self.where, name, *size)
        return found

    def _measured(self, name: str) -> tuple[int, int]:
        """The size of a picture itself; 0, 0 of one that cannot be read: reading it says why."""
        try:
            return image_size(self.images / name)
        except MasqclipError:
            return 0, 0

    def _categories(self, content: Mapping[str, Any]) -> dict[Key, dict[str, Any]]:
        found: dict[Key, dict[str, Any]] = {}
        for entry in self._each("categories", content.get("categories", [])):
            key, name, split = read_key(entry, "id"), entry.get("name"), entry.get("split")
            if isinstance(name, int | float) and not isinstance(name, bool):
                name = str(name)
            if not isinstance(name, str) or not name.strip():
                raise MasqclipError(f"its 'name' is {name!r:.60}; give it a name")
            if not isinstance(split, str | None):
                raise MasqclipError(f"its 'split' is {split!r:.60}; give a word, or leave it out")
            checked = {**entry, "name": name}
            if entry.get("isthing") is not None:
                checked["isthing"] = int(read_flag(entry, "isthing"))
            elif self.kind == "panoptic":
                raise MasqclipError(
                    f"{name!r:.60} does not say whether it is a thing; give 'isthing', 1 or 0"
                )
            else:
                checked.pop("isthing", None)
            if found.get(key, checked)["name"] != name:
                raise MasqclipError(
                    f"the id {key!r:.60} stands for {found[key]['name']!r:.60} and {name!r:.60}; "
                    "give each category an id of its own"
                )
            found[key] = checked
        if self.kind == "instances":
            for what, key in no_classes(found, content["annotations"]):
                self.notes.add(what, repr(found.pop(key)["name"])[:60])
        named: dict[str, Key] = {}
        for key, entry in found.items():
            same = named.setdefault(reading(entry["name"]), key)
            if same != key:  # CLIP reads one word, and the first would get all that is found
                self.where = "categories"
                other = found[same]["name"]
                also = "" if other == entry["name"] else f", to CLIP the same as {other!r:.60}"
                raise MasqclipError(
                    f"{same!r:.60} and {key!r:.60} are both named {entry['name']!r:.60}{also}; "
                    "name them apart, or make one of them"
                )
        return found

    def _annotations(
        self,
        entries: list[dict[str, Any]],
        pictures: Mapping[Key, CocoPicture],
        ids: Mapping[Key, int],
    ) -> dict[int, list[dict[str, Any]]]:
        read: Callable[..., dict[str, Any] | None] = {
            "instances": self._instance,
            "panoptic": self._segments,
            "captions": self._caption,
        }[self.kind]
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in self._each("annotations", entries):
            picture = pictures.get(read_key(entry, "image_id"))
            if picture is None:
                self.left_out.add(UNKNOWN_PICTURES, self._named(entry, "image_id"))
                continue
            if self.kind == "panoptic" and picture.id in found:
                raise MasqclipError(
                    f"{picture.file_name!r:.200} has two panoptic annotations; leave one out"
                )
            if (kept := read(entry, picture, ids)) is not None:
                found[picture.id].append(kept)
        return dict(found)

    def _instance(
        self, entry: dict[str, Any], picture: CocoPicture, ids: Mapping[Key, int]
    ) -> dict[str, Any] | None:
        category = ids.get(read_key(entry, "category_id"))
        if category is None:
            self.left_out.add(UNKNOWN_CATEGORIES, self._named(entry, "category_id"))
            return None
        crowd = int(read_flag(entry, "iscrowd"))
        try:
            mask = tidy_segmentation(entry.get("segmentation"), picture.height, picture.width)
        except MasqclipError as error:
            raise MasqclipError(
                f"a mask of {picture.file_name!r:.200} cannot be used: {error}; give polygons "
                "or RLE"
            ) from error
        if mask is None:
            self.left_out.add(NO_MASK, f"{self.where}, of {picture.file_name}")
            return None
        if isinstance(mask, list) and max(map(max, mask)) <= 1 < picture.height * picture.width:
            raise MasqclipError(
                f"a mask of {picture.file_name!r:.200} has its corners within 1 x 1; give them in "
                "pixels, not in shares of the picture"
            )
        shape = tuple(map(tuple, mask)) if isinstance(mask, list) else str(mask["counts"])
        told = hash((picture.id, category, crowd, shape))
        if told in self._seen:  # as in files that were joined: nothing can match the second one
            self.notes.add(REPEATED, f"{self.where}, of {picture.file_name}")
        self._seen.add(told)
        kept: dict[str, Any] = {"category_id": category, "segmentation": mask, "iscrowd": crowd}
        area = read_area(entry.get("area"), picture.height * picture.width)
        if area is not None:
            kept["area"] = area
        elif entry.get("area") is not None:
            self.notes.add(NO_AREA, self.where)
        return kept

    def _segments(
        self, entry: dict[str, Any], picture: CocoPicture, ids: Mapping[Key, int]
    ) -> dict[str, Any]:
        segments: dict[int, dict[str, Any]] = {}
        given = entry.get("segments_info")
        if not isinstance(given, list) or not all(isinstance(segment, dict) for segment in given):
            raise MasqclipError(
                "its 'segments_info' is no list of objects; give one for each segment"
            )
        whole = f"{self.where}, of {picture.file_name}"
        for segment in given:
            number = read_key(segment, "id")
            if not isinstance(number, int) or not 0 < number <= _LARGEST_SEGMENT_ID:
                raise MasqclipError(
                    f"a segment has the id {number!r:.60}; give R + 256 G + 65536 B of its colour"
                )
            if number in segments:
                raise MasqclipError(f"two segments have the id {number}; give each its own")
            category = ids.get(read_key(segment, "category_id"))
            if category is None:  # listed all the same: it has its pixels in the map
                self.left_out.add(UNKNOWN_CATEGORIES, whole)
            crowd = int(read_flag(segment, "iscrowd"))
            segments[number] = {"id": number, "category_id": category, "iscrowd": crowd}
        return {"file_name": read_file_name(entry), "segments_info": list(segments.values())}

    def _caption(
        self, entry: dict[str, Any], picture: CocoPicture, ids: Mapping[Key, int]
    ) -> dict[str, Any] | None:
        caption = entry.get("caption")
        if caption is not None and not isinstance(caption, str):
            raise MasqclipError(f"its 'caption' is {caption!r:.60}; give a sentence")
        if not caption or not caption.strip():
            self.left_out.add(NO_CAPTION, f"{self.where}, of {picture.file_name}")
            return None
        return {"caption": caption}

    def _named(self, entry: Mapping[str, Any], key: str) -> str:
        return f"{self.where}, with {key} {entry[key]!r:.60}"
