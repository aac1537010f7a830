"""What comes out: masks with names, and the formats that other tools read.

A `Segmentation` holds what was found in one picture, at the picture's own size. It knows its
vocabulary, so a name always follows its mask, whatever was asked in whatever order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from masqclip.data.bit_masks import BitMask, binary_mask, mask_box
from masqclip.data.files import write_atomically
from masqclip.data.label_maps import ids_to_rgb, png_bytes
from masqclip.data.rle import decode_rle, encode_rle
from masqclip.errors import MasqclipError, require
from masqclip.export.coco import box_xywh, coco_result
from masqclip.export.label_studio import RegionKind, mask_regions
from masqclip.export.panoptic import semantic_png
from masqclip.export.yolo import yolo_line

if TYPE_CHECKING:
    from PIL import Image

Task = Literal["instance", "semantic", "panoptic"]


@dataclass(frozen=True, eq=False)
class Segment:
    """One mask and its name.

    Attributes:
        id: counts from 1 in its picture; the value in a panoptic map.
        name: as the vocabulary says it.
        class_id: the name's place in the vocabulary.
        score: 0..1.
        thing: a countable thing, or a region of stuff.
        mask: [H,W] bool; 0 and 1 become bool. Where a picture's masks would take much memory they
            are kept as bits; each look then makes an array anew, which cannot be written to.

    Raises:
        MasqclipError: the mask holds other numbers, such as probabilities.
    """

    id: int
    name: str
    class_id: int
    score: float
    thing: bool
    mask: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        mask = binary_mask(np.asarray(self.mask), what=f"the segment {self.name!r}")
        object.__setattr__(self, "mask", mask)

    @classmethod
    def packed(
        cls, id: int, name: str, class_id: int, score: float, thing: bool, bits: BitMask
    ) -> Segment:
        """A segment that keeps its mask as bits."""
        segment = cls.__new__(cls)
        fields = {"id": id, "name": name, "class_id": class_id, "score": score, "thing": thing}
        known = {"box": bits.box if bits.area else (0, 0, 0, 0), "area": bits.area}
        segment.__dict__.update(fields, _bits=bits, **known)
        return segment

    if not TYPE_CHECKING:  # where every name would be an attribute

        def __getattr__(self, name: str) -> np.ndarray:
            """The mask of a packed segment, which has none of its own."""
            if name == "mask" and "_bits" in self.__dict__:
                return self.__dict__["_bits"].unpack()
            raise AttributeError(f"a Segment has no {name!r}")

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels, ends exclusive; zeros for an empty mask."""
        return mask_box(self.mask)

    @cached_property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one picture.

    Attributes:
        image: [H,W,3] uint8 RGB, the picture itself.
        task: ``instance`` (masks may overlap), ``semantic`` or ``panoptic`` (they do not).
        names: the vocabulary that was asked for, in its order.
        segments: the masks; for ``semantic`` one for each name that is there.
        notes: what was done to the picture to read it ("transparency put on white").
    """

    image: np.ndarray = field(repr=False)
    task: Task
    names: tuple[str, ...]
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.segments)

    def summary(self) -> str:
        """What is there, in words: "tiger x2, grass"."""
        counts = Counter(segment.name for segment in self.segments)
        words = [name if count == 1 else f"{name} x{count}" for name, count in counts.items()]
        return ", ".join(words) or "nothing found"

    @property
    def not_found(self) -> tuple[str, ...]:
        """The names of which nothing was found, in the vocabulary's order."""
        found = {segment.name for segment in self.segments}
        return tuple(name for name in self.names if name not in found)

    @cached_property
    def label_map(self) -> np.ndarray:
        """[H,W] int32: segment ids, 0 = unlabelled (panoptic); class ids, -1 = none (semantic).

        Raises:
            MasqclipError: the task is ``instance``, whose masks may overlap.
        """
        if self.task == "instance":
            raise MasqclipError(
                "instances may overlap, so they are no map; ask for task='panoptic' or 'semantic', "
                "or use .segments"
            )
        semantic = self.task == "semantic"
        labels = np.full(self.image.shape[:2], -1 if semantic else 0, np.int32)
        for segment in self.segments:
            labels[segment.mask] = segment.class_id if semantic else segment.id
        return labels

    def plot(self, *, opacity: float = 0.55, labels: bool = True) -> Image.Image:
        """The picture with its masks and names drawn over it. Small pictures are enlarged."""
        from masqclip.render.overlay import draw_overlay

        return draw_overlay(
            self.image, self.segments, names=self.names, opacity=opacity, labels=labels
        )

    def save(self, path: str | Path, *, opacity: float = 0.55, labels: bool = True) -> Path:
        """Write the overlay (`plot`) as a PNG, whole or not at all; returns its path.

        Raises:
            MasqclipError: the path does not end in .png, or is a folder; nothing is drawn then.
        """
        target = _png_path(path)
        write_atomically(target, png_bytes(self.plot(opacity=opacity, labels=labels)))
        return target

    def to_coco(
        self, image_id: int = 0, category_ids: list[int] | None = None
    ) -> list[dict[str, Any]]:
        """Entries of a COCO results file: RLE, xywh box, area, score.

        Args:
            image_id: of the picture.
            category_ids: the dataset's number of each name; its place in the vocabulary by default.

        Raises:
            MasqclipError: there are not as many numbers as names.
        """
        numbers = self._category_ids(category_ids)
        return [
            coco_result(
                segment.mask,
                image_id=image_id,
                category_id=numbers[segment.class_id],
                score=segment.score,
                box=segment.box,
            )
            for segment in self.segments
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the picture, ready for `json.dumps`."""
        height, width = self.image.shape[:2]
        return {
            "task": self.task,
            "height": height,
            "width": width,
            "vocabulary": list(self.names),
            "notes": list(self.notes),
            "segments": [
                {
                    "id": segment.id,
                    "name": segment.name,
                    "class_id": segment.class_id,
                    "score": round(segment.score, 4),
                    "thing": segment.thing,
                    "area": segment.area,
                    "bbox": box_xywh(segment.box),
                    "segmentation": encode_rle(segment.mask),
                }
                for segment in self.segments
            ],
        }

    @classmethod
    def from_json(
        cls, document: Mapping[str, Any], image: np.ndarray | None = None
    ) -> Segmentation:
        """What `to_json` wrote, as it was.

        Args:
            document: the JSON, parsed.
            image: [H,W,3] uint8, the picture, which the JSON does not hold; black unless given.
        """
        if image is None:
            shape = (document["height"], document["width"], 3)
            image = np.broadcast_to(np.uint8(0), shape)
        segments = (
            Segment(
                id=segment["id"],
                name=segment["name"],
                class_id=segment["class_id"],
                score=segment["score"],
                thing=segment["thing"],
                mask=decode_rle(segment["segmentation"]),
            )
            for segment in document["segments"]
        )
        return cls(
            image=image,
            task=document["task"],
            names=tuple(document["vocabulary"]),
            segments=tuple(segments),
            notes=tuple(document["notes"]),
        )

    def segments_info(self, category_ids: list[int] | None = None) -> list[dict[str, Any]]:
        """What COCO's panoptic format says of each segment; the ids are those of `label_map`.

        Args:
            category_ids: the dataset's number of each name; its place in the vocabulary by default.

        Raises:
            MasqclipError: there are not as many numbers as names.
        """
        numbers = self._category_ids(category_ids)
        return [
            {
                "id": segment.id,
                "category_id": numbers[segment.class_id],
                "name": segment.name,
                "isthing": int(segment.thing),
                "score": round(segment.score, 4),
                "area": segment.area,
                "bbox": box_xywh(segment.box),
                "iscrowd": 0,
            }
            for segment in self.segments
        ]

    def _category_ids(self, given: Sequence[int] | None) -> Sequence[int]:
        if given is not None and len(given) != len(self.names):
            raise MasqclipError(
                f"{len(given)} category_ids do not fit {len(self.names)} names: give one for each"
            )
        return range(len(self.names)) if given is None else given

    def panoptic_png(self) -> bytes:
        """COCO's panoptic PNG: the ids of `label_map` as colours.

        Raises:
            MasqclipError: the task is not ``panoptic``.
        """
        if self.task != "panoptic":
            raise MasqclipError(f"a {self.task} result is no panoptic map; ask for task='panoptic'")
        return png_bytes(ids_to_rgb(self.label_map))

    def to_panoptic_png(self, path: str | Path) -> list[dict[str, Any]]:
        """Write COCO's panoptic PNG, and its ``segments_info`` beside it as JSON.

        Returns:
            The ``segments_info``; ``category_id`` is the name's place in the vocabulary.

        Raises:
            MasqclipError: the task is not ``panoptic``, or the path does not end in .png.
        """
        target, info = _png_path(path), self.segments_info()
        write_atomically(target, self.panoptic_png())
        document = json.dumps({"file_name": target.name, "segments_info": info}, indent=1)
        write_atomically(target.with_suffix(".json"), document.encode())
        return info

    def to_semantic_png(self, path: str | Path) -> Path:
        """Write a class map: greyscale, the name's place in the vocabulary, 255 = unlabelled.

        With more than 255 names the PNG has 16 bits, and 65535 is unlabelled.

        Raises:
            MasqclipError: the path does not end in .png.
        """
        target = _png_path(path)
        classes = np.full(self.image.shape[:2], -1, np.int64)
        # The best on top, where instances overlap.
        for segment in sorted(self.segments, key=lambda segment: segment.score):
            classes[segment.mask] = segment.class_id
        write_atomically(target, semantic_png(classes, len(self.names)))
        return target

    def to_supervision(self) -> Any:
        """As `supervision.Detections`, with ``class_name`` in its data.

        Raises:
            MasqclipError: supervision is not installed (extra ``viz``).
        """
        sv: Any = require("supervision", extra="viz", purpose="to_supervision")
        height, width = self.image.shape[:2]
        found = self.segments
        return sv.Detections(
            xyxy=np.array([s.box for s in found], np.float32).reshape(-1, 4),
            mask=np.stack([s.mask for s in found]) if found else np.zeros((0, height, width), bool),
            confidence=np.array([s.score for s in found], np.float32),
            class_id=np.array([s.class_id for s in found], int),
            data={"class_name": np.array([s.name for s in found], dtype=object).astype(str)},
        )

    def to_yolo(self) -> list[str]:
        """Lines of a YOLO segmentation file: the name's place in the vocabulary, and one polygon.

        Parts and holes of a mask are joined by seams.
        """
        lines = (yolo_line(segment.mask, segment.class_id) for segment in self.segments)
        return [line for line in lines if line is not None]

    def to_label_studio(self, kind: RegionKind = "brush") -> list[dict[str, Any]]:
        """The ``result`` of a Label Studio prediction.

        Args:
            kind: ``brush`` is exact; ``polygon`` is easier to edit, and its holes are filled.

        Raises:
            MasqclipError: there is no such kind.
        """
        if kind not in get_args(RegionKind):
            raise MasqclipError(f"kind {kind!r}: give 'brush' or 'polygon'")
        return [
            region
            for segment in self.segments
            for region in mask_regions(
                segment.mask,
                region_id=f"segment-{segment.id}",
                name=segment.name,
                score=round(segment.score, 4),
                kind=kind,
            )
        ]

    def to_fiftyone(self) -> Any:
        """As a label of FiftyOne: `Detections` with masks, or for ``semantic`` a `Segmentation`.

        The values of a `Segmentation`'s mask are places in the vocabulary, counted from 1, because
        FiftyOne reads 0 as background.

        Raises:
            MasqclipError: fiftyone is not installed (extra ``fiftyone``).
        """
        fo: Any = require("fiftyone", extra="fiftyone", purpose="to_fiftyone")
        if self.task == "semantic":
            depth = np.uint8 if len(self.names) < 256 else np.uint16
            return fo.Segmentation(mask=(self.label_map + 1).astype(depth))
        height, width = self.image.shape[:2]
        detections = []
        for segment in self.segments:
            x0, y0, x1, y1 = segment.box
            detections.append(
                fo.Detection(
                    label=segment.name,
                    bounding_box=[
                        x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height
                    ],
                    mask=segment.mask[y0:y1, x0:x1],
                    confidence=segment.score,
                )
            )  # fmt: skip
        return fo.Detections(detections=detections)


def _png_path(path: str | Path) -> Path:
    """Where a PNG goes: told before it is drawn that it cannot."""
    target = Path(path)
    if target.suffix.lower() != ".png" or target.is_dir():
        raise MasqclipError(
            f"{target}: a PNG is written; give the path of a file that ends in .png"
        )
    return target
