"""Annotated pictures in COCO's three formats, as samples to train and measure on.

Each dataset is a folder with pictures and one JSON file; the defaults are the layout that
``masqclip data stickers`` writes, and the original COCO needs only its own names:

    CocoPanoptic("coco", annotations="annotations/panoptic_train2017.json",
                 masks="annotations/panoptic_train2017", images="train2017")

`open_coco` (in `open_coco.py`) finds out which format a folder or a file of one's own is in.

- Categories keep the ids of the file. `keep` chooses categories by their JSON entry, so that novel
  ones can stand in the pictures without being annotated: `is_base` reads the split that the file
  states.
- Crowd regions are left out, as in the published training.
- A sample that cannot be read raises an error that names the file; the others stay usable.
- Annotations are kept as packed bytes (`records.py`): workers share them.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from masqclip.data.coco_files import CocoFile, Kind, check_stated_size, read_coco
from masqclip.data.digests import combine_digests, digest_files
from masqclip.data.images import read_image
from masqclip.data.label_maps import read_panoptic_map
from masqclip.data.records import PackedRecords
from masqclip.data.segmentations import segmentation_mask
from masqclip.errors import MasqclipError

Keep = Callable[[Mapping[str, Any]], bool]

#: The most that the masks of one sample may take together.
_MAX_MASK_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Sample:
    """One picture and what is annotated in it.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        masks: [N, H, W] bool; instances may overlap, panoptic segments do not.
        category_ids: [N] int64, as in the file.
        is_thing: [N] bool.
        image_id: as in the file.
        captions: sentences about the picture.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    category_ids: NDArray[np.int64]
    is_thing: NDArray[np.bool_]
    image_id: int
    captions: tuple[str, ...] = ()


class Samples(Protocol):
    """A dataset: anything with a length whose items are samples."""

    @property
    def endless(self) -> bool:
        """Whether there are always more; the length is then only a large number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


def is_base(category: Mapping[str, Any]) -> bool:
    """Keep what may be annotated in training: everything but categories of the novel split."""
    return category.get("split") != "novel"


class _CocoFolder:
    """What the three formats share: a checked JSON file, and the pictures it names.

    Attributes:
        notes: what of the file was left out or read in another way, a line each.
    """

    endless = False  # unlike scenes that are drawn as they are needed

    def __init__(
        self,
        folder: str | Path,
        *,
        annotations: str | Path | CocoFile,
        images: str | Path,
        kind: Kind,
    ) -> None:
        self.folder = Path(folder)
        self.image_folder = self.folder / images
        if isinstance(annotations, CocoFile):
            content = annotations
        else:
            content = read_coco(self.folder / annotations, self.image_folder, kind=kind)
        self.categories = Categories(content.categories, content.masks())
        self.notes = tuple(
            f"{content.path}: {what}: {found}"
            for what, found in (("left out", content.left_out), ("as read", content.notes))
            if found
        )
        self._records = PackedRecords(
            (
                {
                    "id": picture.id,
                    "file_name": picture.file_name,
                    "height": picture.height or None,
                    "width": picture.width or None,
                },
                content.annotations.get(picture.id, []),
            )
            for picture in content.pictures
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Sample:
        """Read a picture and its annotations; an error names the picture."""
        entry, annotations = self._records[index]
        return self._sample(entry, annotations)

    def _sample(self, entry: Mapping[str, Any], annotations: Sequence[Any]) -> Sample:
        raise NotImplementedError

    def entry(self, index: int) -> dict[str, Any]:
        """``id``, ``file_name``, ``height`` and ``width`` of a picture; no picture is read."""
        return self._records[index][0]

    def annotations(self, index: int) -> list[dict[str, Any]]:
        """A picture's annotations as in the file, cut to what the format is read for."""
        return self._records[index][1]

    def fingerprint(self) -> str:
        """What pictures there are and what is annotated, in a word, by the content of all files."""
        kept = [self.categories.by_id[i] for i in sorted(self.categories.kept)]
        files = [path for row in range(len(self)) for path in self._files(row)]
        return combine_digests(
            [self._records.digest(), json.dumps(kept, sort_keys=True), *digest_files(files)]
        )

    def _files(self, row: int) -> list[Path]:
        """The files of one sample: its picture, and maps of its segments."""
        return [self.image_folder / str(self.entry(row)["file_name"])]

    def part(self, rows: Sequence[int]) -> Self:
        """The same dataset with some of its pictures only."""
        part = copy(self)
        part._records = self._records[np.asarray(rows, np.int64)]
        return part

    def annotated(self) -> Self:
        """The pictures with an annotation that is kept and no crowd; no picture is read."""
        kept = self.categories.kept
        return self.part(
            [
                row
                for row in range(len(self))
                if any(e["category_id"] in kept and not e["iscrowd"] for e in self.masks_of(row))
            ]
        )

    def masks_of(self, row: int) -> list[dict[str, Any]]:
        """A picture's entries that stand for one mask each."""
        return self.annotations(row)

    def keeping(self, keep: Keep | None) -> Self:
        """The same pictures with another choice of categories."""
        other = copy(self)
        other.categories = copy(self.categories)
        other.categories.keep(keep)
        return other

    def hold_out(self, share: float) -> tuple[Self, Self]:
        """Split into a part to train on and a part to measure on.

        Which pictures are held out follows from their ids alone.

        Args:
            share: of the pictures that are held out, 0 to 1; at least one is.

        Raises:
            MasqclipError: the share leaves nothing to train on.
        """
        count = max(1, round(share * len(self))) if 0 < share < 1 else len(self)
        if count >= len(self):
            raise MasqclipError(
                f"{share:g} of {len(self)} pictures cannot be held out; give a share between 0 and "
                "1 that leaves some to train on"
            )
        keys = [zlib.crc32(str(self.entry(row)["id"]).encode()) for row in range(len(self))]
        order = np.argsort(keys, kind="stable")
        return self.part(np.sort(order[count:]).tolist()), self.part(
            np.sort(order[:count]).tolist()
        )

    def _image(self, entry: Mapping[str, Any]) -> NDArray[np.uint8]:
        path = self.image_folder / entry["file_name"]
        image = read_image(path).pixels
        if entry["height"] is not None:
            check_stated_size(path, image.shape[:2], (entry["height"], entry["width"]))
        return image


class Categories:
    """The categories of a dataset, and which of them are kept (all, until `keep` chooses).

    Args:
        categories: as in the file.
        masks: its entries that stand for one mask each.
    """

    def __init__(
        self, categories: Iterable[Mapping[str, Any]], masks: Iterable[Mapping[str, Any]]
    ) -> None:
        self.by_id = {category["id"]: category for category in categories}
        self.names = {i: str(category["name"]) for i, category in self.by_id.items()}
        self.kept = set(self.by_id)
        #: How many masks each category has, those of crowds apart.
        self.masks: Counter[int] = Counter()
        self.crowds: Counter[int] = Counter()
        for entry in masks:
            (self.crowds if entry["iscrowd"] else self.masks)[entry["category_id"]] += 1

    def keep(self, keep: Keep | None) -> None:
        """Keep what `keep` says yes to."""
        self.kept = {i for i, category in self.by_id.items() if keep is None or keep(category)}

    def is_thing(self, category_id: int) -> bool:
        """Instances files do not say: their categories are things."""
        return bool(self.by_id[category_id].get("isthing", 1))


class CocoInstances(_CocoFolder):
    """COCO instances: a mask (polygons, RLE) for each thing.

    Args:
        folder: the dataset.
        keep: which categories to keep, by their JSON entry; all of them by default.
        annotations: the file in the folder, or what was read of it.
        images: where the pictures are in the folder.

    Raises:
        MasqclipError: the JSON file is missing or is not COCO instances.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: Keep | None = None,
        annotations: str | Path | CocoFile = "annotations/instances.json",
        images: str | Path = "images",
    ) -> None:
        super().__init__(folder, annotations=annotations, images=images, kind="instances")
        self.categories.keep(keep)

    def _sample(self, entry: Mapping[str, Any], annotations: Sequence[Any]) -> Sample:
        image = self._image(entry)
        height, width = image.shape[:2]
        _check_number(len(annotations), height, width, entry)
        masks, ids = [], []
        for annotation in annotations:
            if annotation["category_id"] not in self.categories.kept or annotation["iscrowd"]:
                continue
            mask = segmentation_mask(annotation["segmentation"], height, width)
            if mask.any():
                masks.append(mask)
                ids.append(annotation["category_id"])
        return Sample(
            image=image,
            masks=np.stack(masks) if masks else np.zeros((0, height, width), bool),
            category_ids=np.array(ids, np.int64),
            is_thing=np.array([self.categories.is_thing(i) for i in ids], bool),
            image_id=entry["id"],
        )


class CocoPanoptic(_CocoFolder):
    """COCO panoptic: a picture of segment ids, and the category of each segment.

    Args:
        folder: the dataset.
        keep: which categories to keep, by their JSON entry; all of them by default.
        annotations: the file in the folder, or what was read of it.
        images, masks: where pictures and maps are in the folder.

    Raises:
        MasqclipError: the JSON file is missing or is not COCO panoptic.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: Keep | None = None,
        annotations: str | Path | CocoFile = "annotations/panoptic.json",
        images: str | Path = "images",
        masks: str | Path = "panoptic",
    ) -> None:
        super().__init__(folder, annotations=annotations, images=images, kind="panoptic")
        self.mask_folder = self.folder / masks
        self.categories.keep(keep)

    def _files(self, row: int) -> list[Path]:
        """The picture, and the map of its segments."""
        maps = [self.mask_folder / str(a["file_name"]) for a in self.annotations(row)]
        return [*super()._files(row), *maps]

    def masks_of(self, row: int) -> list[dict[str, Any]]:
        return [segment for a in self.annotations(row) for segment in a["segments_info"]]

    def _sample(self, entry: Mapping[str, Any], annotations: Sequence[Any]) -> Sample:
        image = self._image(entry)
        id_map = np.zeros(image.shape[:2], np.int32)
        present: frozenset[int] = frozenset()
        segments: list[Mapping[str, Any]] = []
        for annotation in annotations:
            segments = annotation["segments_info"]
            path = self.mask_folder / annotation["file_name"]
            id_map, present = read_panoptic_map(path, segments, image.shape[:2])
        chosen = [
            segment
            for segment in segments
            if segment["category_id"] in self.categories.kept
            and not segment["iscrowd"]
            and segment["id"] in present
        ]
        _check_number(len(chosen), image.shape[0], image.shape[1], entry)
        segment_ids = np.array([segment["id"] for segment in chosen], np.int32)
        category_ids = [segment["category_id"] for segment in chosen]
        return Sample(
            image=image,
            masks=id_map[None] == segment_ids[:, None, None],
            category_ids=np.array(category_ids, np.int64),
            is_thing=np.array([self.categories.is_thing(i) for i in category_ids], bool),
            image_id=entry["id"],
        )


class CocoCaptions(_CocoFolder):
    """COCO captions: sentences about each picture, and no masks; pictures without are left out.

    Args:
        folder: the dataset.
        annotations, images: where they are in the folder.

    Raises:
        MasqclipError: the JSON file is missing or is not COCO captions.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        annotations: str | Path = "annotations/captions.json",
        images: str | Path = "images",
    ) -> None:
        super().__init__(folder, annotations=annotations, images=images, kind="captions")
        captioned = [index for index in range(len(self)) if self.annotations(index)]
        self._records = self._records[np.array(captioned, np.int64)]

    def all_captions(self) -> list[str]:
        """Every caption, picture by picture; no picture is read."""
        return [caption for index in range(len(self)) for caption in self.captions(index)]

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one picture; the picture is not read."""
        return tuple(annotation["caption"] for annotation in self.annotations(index))

    def _sample(self, entry: Mapping[str, Any], annotations: Sequence[Any]) -> Sample:
        image = self._image(entry)
        return Sample(
            image=image,
            masks=np.zeros((0, *image.shape[:2]), bool),
            category_ids=np.zeros(0, np.int64),
            is_thing=np.zeros(0, bool),
            image_id=entry["id"],
            captions=tuple(annotation["caption"] for annotation in annotations),
        )


def _check_number(count: int, height: int, width: int, entry: Mapping[str, Any]) -> None:
    if count * height * width > _MAX_MASK_BYTES:
        raise MasqclipError(
            f"{entry['file_name']} has {count} annotations of {height} x {width} pixels, more than "
            f"the limit of {_MAX_MASK_BYTES / 1e9:g} GB of masks; leave some out"
        )
