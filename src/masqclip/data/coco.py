"""Annotated pictures in COCO's three formats, as samples to train and measure on.

Each dataset is a folder with pictures and one JSON file; the defaults are the layout that
``masqclip data stickers`` writes, and the original COCO needs only its own names:

    CocoPanoptic("coco", annotations="annotations/panoptic_train2017.json",
                 masks="annotations/panoptic_train2017", images="train2017")

- Categories keep the ids of the file. `keep` chooses categories by their JSON entry, so that novel
  ones can stand in the pictures without being annotated: ``keep=is_base``.
- Crowd regions are left out, as in the published training.
- A sample that cannot be read raises an error that names the file; the others stay usable.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError

Keep = Callable[[Mapping[str, Any]], bool]


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

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


def is_base(category: Mapping[str, Any]) -> bool:
    """Keep what may be annotated in training: everything but categories of the novel split."""
    return category.get("split") != "novel"


class _CocoFolder:
    """What the three formats share: a JSON file with ``images``, and the pictures it names."""

    def __init__(self, folder: str | Path, *, annotations: str, images: str) -> None:
        self.folder = Path(folder)
        self.image_folder = self.folder / images
        self.content = _read_json(self.folder / annotations)
        self.entries = sorted(self.content["images"], key=lambda entry: entry["id"])
        by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self.content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        self.annotations = by_image

    def __len__(self) -> int:
        return len(self.entries)

    def _image(self, entry: Mapping[str, Any]) -> NDArray[np.uint8]:
        path = self.image_folder / entry["file_name"]
        image = _read_picture(path)
        given = (entry.get("height"), entry.get("width"))
        if None not in given and image.shape[:2] != given:
            raise MasqclipError(
                f"{path} is {image.shape[0]} x {image.shape[1]} pixels (height x width), but its "
                f"annotations are for {given[0]} x {given[1]}; replace the picture by its original"
            )
        return image


class _Categories:
    """The categories of a file, and which of them are kept."""

    def __init__(self, categories: Sequence[Mapping[str, Any]], keep: Keep | None) -> None:
        self.by_id = {category["id"]: dict(category) for category in categories}
        self.kept = {i for i, category in self.by_id.items() if keep is None or keep(category)}

    def is_thing(self, category_id: int) -> bool:
        """Instances files do not say: their categories are things."""
        return bool(self.by_id[category_id].get("isthing", 1))


class CocoInstances(_CocoFolder):
    """COCO instances: a mask (polygons, RLE) for each thing.

    Args:
        folder: the dataset.
        keep: which categories to keep, by their JSON entry; all of them by default.
        annotations, images: where they are in the folder.

    Raises:
        MasqclipError: the JSON file is missing or is not COCO instances.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: Keep | None = None,
        annotations: str = "annotations/instances.json",
        images: str = "images",
    ) -> None:
        super().__init__(folder, annotations=annotations, images=images)
        self.categories = _Categories(self.content["categories"], keep)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        image = self._image(entry)
        height, width = image.shape[:2]
        masks, ids = [], []
        for annotation in self.annotations[entry["id"]]:
            if annotation["category_id"] not in self.categories.kept or annotation.get("iscrowd"):
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
        annotations, images, masks: where they are in the folder.

    Raises:
        MasqclipError: the JSON file is missing or is not COCO panoptic.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: Keep | None = None,
        annotations: str = "annotations/panoptic.json",
        images: str = "images",
        masks: str = "panoptic",
    ) -> None:
        super().__init__(folder, annotations=annotations, images=images)
        self.mask_folder = self.folder / masks
        self.categories = _Categories(self.content["categories"], keep)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        image = self._image(entry)
        id_map = np.zeros(image.shape[:2], np.int64)
        segments: list[Mapping[str, Any]] = []
        for annotation in self.annotations[entry["id"]]:
            path = self.mask_folder / annotation["file_name"]
            coded = _read_picture(path).astype(np.int64)
            if coded.shape != image.shape:
                raise MasqclipError(f"{path} and its picture differ in size; they must be the same")
            id_map = coded @ np.array([1, 256, 65536])
            segments = annotation["segments_info"]
        present = set(np.unique(id_map).tolist())
        chosen = [
            segment
            for segment in segments
            if segment["category_id"] in self.categories.kept
            and not segment.get("iscrowd")
            and segment["id"] in present
        ]
        segment_ids = np.array([segment["id"] for segment in chosen], np.int64)
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
        annotations: str = "annotations/captions.json",
        images: str = "images",
    ) -> None:
        super().__init__(folder, annotations=annotations, images=images)
        self.entries = [entry for entry in self.entries if entry["id"] in self.annotations]

    def all_captions(self) -> list[str]:
        """Every caption, picture by picture; no picture is read."""
        return [caption for index in range(len(self)) for caption in self.captions(index)]

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one picture; the picture is not read."""
        image = self.entries[index]["id"]
        return tuple(annotation["caption"] for annotation in self.annotations[image])

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        image = self._image(entry)
        return Sample(
            image=image,
            masks=np.zeros((0, *image.shape[:2]), bool),
            category_ids=np.zeros(0, np.int64),
            is_thing=np.zeros(0, bool),
            image_id=entry["id"],
            captions=self.captions(index),
        )


def segmentation_mask(
    segmentation: Mapping[str, Any] | Sequence[Sequence[float]], height: int, width: int
) -> NDArray[np.bool_]:
    """A COCO ``segmentation``, RLE or polygons, as a mask [H, W].

    A polygon holds the pixels whose middle it encloses (even-odd). pycocotools traces the outline
    on a five times finer grid, so single pixels along the edge may differ.

    Raises:
        MasqclipError: the RLE is malformed or of another size than the picture.
    """
    if isinstance(segmentation, Mapping):
        mask = decode_rle(segmentation)
        if mask.shape != (height, width):
            raise MasqclipError(
                f"a mask of {mask.shape[0]} x {mask.shape[1]} pixels (height x width) stands in "
                f"the annotations of a picture of {height} x {width}"
            )
        return mask
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        if len(polygon) >= 6:
            mask |= _fill_polygon(np.asarray(polygon, np.float64).reshape(-1, 2), height, width)
    return mask


def _fill_polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Fill a closed polygon, corners [C, 2] as (x, y), by counting crossings along each row."""
    start, end = corners, np.roll(corners, -1, axis=0)
    middle = np.arange(height) + 0.5
    crosses = (start[:, 1:] <= middle) != (end[:, 1:] <= middle)  # [C, H]
    edge, row = np.nonzero(crosses)
    share = (middle[row] - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
    first = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    toggles = np.zeros((height, width + 1), np.int64)
    np.add.at(toggles, (row, first), 1)
    return toggles[:, :width].cumsum(axis=1) % 2 == 1


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise MasqclipError(f"cannot read the annotations {path}: {error.strerror}") from error
    except ValueError as error:
        raise MasqclipError(f"{path} is not JSON ({error}); write or download it again") from error
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise MasqclipError(f"{path} is not a COCO file: it needs 'images' and 'annotations'")
    return content


def _read_picture(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except FileNotFoundError as error:
        raise MasqclipError(f"the picture {path} is missing; its annotations name it") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise MasqclipError(f"the picture {path} cannot be read ({error}); replace it") from error
