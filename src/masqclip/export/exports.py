"""The `to_...` methods of a result: each in a few lines here, its format in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from masqclip.data.files import write_atomically
from masqclip.data.label_maps import ids_to_rgb, png_bytes
from masqclip.errors import MasqclipError
from masqclip.export.coco import CocoResult, PanopticSegment, coco_result, panoptic_segment
from masqclip.export.cvat import CvatKind, cvat_xml
from masqclip.export.label_studio import LabelStudioRegion, RegionKind, mask_regions
from masqclip.export.labelme import LabelMeDocument, LabelMeKind, labelme_document, picture_path
from masqclip.export.libraries import (
    data_frame,
    fiftyone_detections,
    fiftyone_segmentation,
    supervision_detections,
)
from masqclip.export.mask_files import write_mask_files
from masqclip.export.own_json import SegmentationJson, segment_json
from masqclip.export.panoptic import semantic_png
from masqclip.export.segment import ExportedSegment, check_kind
from masqclip.export.voc import picture_place, voc_xml
from masqclip.export.yolo import yolo_line

if TYPE_CHECKING:
    import fiftyone as fo
    import pandas as pd
    import supervision as sv


class Exports:
    """What `masqclip.result.Segmentation` can be turned into for other tools."""

    image: NDArray[np.uint8]
    task: str
    names: tuple[str, ...]
    segments: tuple[ExportedSegment, ...]
    notes: tuple[str, ...]
    path: Path | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture in pixels."""
        return int(self.image.shape[0]), int(self.image.shape[1])

    # Documents

    def to_json(self) -> SegmentationJson:
        """Everything but the picture, its path and the timing, ready for `json.dumps`."""
        height, width = self.size
        return {
            "task": self.task,
            "height": height,
            "width": width,
            "vocabulary": list(self.names),
            "notes": list(self.notes),
            "segments": [segment_json(segment) for segment in self.segments],
        }

    def to_coco(
        self, image_id: int = 0, category_ids: Sequence[int] | None = None
    ) -> list[CocoResult]:
        """Entries of a COCO results file: RLE, xywh box, area, score.

        Args:
            image_id: of the picture.
            category_ids: the dataset's number of each name; its place in the vocabulary by default.

        Raises:
            MasqclipError: there are not as many numbers as names.
        """
        numbers = self._category_ids(category_ids)
        return [
            coco_result(segment, image_id=image_id, category_id=numbers[segment.class_id])
            for segment in self.segments
        ]

    def segments_info(self, category_ids: Sequence[int] | None = None) -> list[PanopticSegment]:
        """What COCO's panoptic format says of each segment; the ids are those of `label_map`.

        Args:
            category_ids: the dataset's number of each name; its place in the vocabulary by default.

        Raises:
            MasqclipError: there are not as many numbers as names.
        """
        numbers = self._category_ids(category_ids)
        return [
            panoptic_segment(segment, category_id=numbers[segment.class_id])
            for segment in self.segments
        ]

    def _category_ids(self, given: Sequence[int] | None) -> Sequence[int]:
        if given is not None and len(given) != len(self.names):
            raise MasqclipError(
                f"{len(given)} category_ids do not fit {len(self.names)} names: give one for each"
            )
        return range(len(self.names)) if given is None else given

    def to_yolo(self) -> list[str]:
        """Lines of a YOLO segmentation file: the name's place in the vocabulary, and one polygon.

        Parts and holes of a mask are joined by seams.
        """
        lines = (yolo_line(segment.mask, segment.class_id) for segment in self.segments)
        return [line for line in lines if line is not None]

    def to_label_studio(self, kind: RegionKind = "brush") -> list[LabelStudioRegion]:
        """The ``result`` of a Label Studio prediction.

        Args:
            kind: ``brush`` and ``bitmask`` are exact; ``polygon`` is easier to edit, and its holes
                are filled; ``rectangle`` is the mask's box, ``ellipse`` one of the mask's middle,
                area and axes.

        Raises:
            MasqclipError: there is no such kind.
        """
        check_kind(kind, get_args(RegionKind))
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

    def to_labelme(
        self,
        path: str | Path | None = None,
        *,
        kind: LabelMeKind = "polygon",
        image_name: str | None = None,
    ) -> LabelMeDocument:
        """A file of LabelMe, which opens with its picture.

        Args:
            path: where it is to be written as well, ``.json``.
            kind: ``polygon`` is easy to edit, and its holes are filled; ``mask`` is exact (LabelMe
                5.3 and newer); ``rectangle``, the box.
            image_name: the picture's path from the file's folder. By default the one that it came
                from; a picture that came from none is put into the file.

        Raises:
            MasqclipError: there is no such kind.
        """
        target = None if path is None else Path(path)
        named = image_name
        if named is None:
            named = "image.png" if self.path is None else picture_path(self.path, target)
        document = labelme_document(
            self.segments,
            self.image,
            image_path=named,
            embed_image=image_name is None and self.path is None,
            kind=kind,
        )
        if target is not None:
            write_atomically(target, json.dumps(document, indent=2).encode())
        return document

    def to_voc(self, path: str | Path | None = None, *, image_name: str | None = None) -> str:
        """The boxes as XML of PASCAL VOC: whole pixels, counted from 1, both ends inside.

        Args:
            path: where it is to be written as well, ``.xml``, in UTF-8.
            image_name: of the picture's file; by default of the one that it came from.

        Raises:
            MasqclipError: a name holds a character that XML cannot.
        """
        name, folder = picture_place(self.path, image_name)
        text = voc_xml(self.segments, size=self.size, name=name, folder=folder)
        if path is not None:
            write_atomically(path, text.encode())
        return text

    def to_cvat(
        self,
        path: str | Path | None = None,
        *,
        kind: CvatKind = "mask",
        image_name: str | None = None,
    ) -> str:
        """Annotations as XML of "CVAT for images 1.1", with the vocabulary as labels.

        Of several pictures `masqclip.export.cvat.cvat_xml` makes one document.

        Args:
            path: where it is to be written as well, ``.xml``, in UTF-8.
            kind: ``mask`` is exact; ``polygon`` is easier to edit, and its holes are filled;
                ``box``.
            image_name: of the picture in CVAT's task; by default of the file that it came from.

        Raises:
            MasqclipError: there is no such kind, or a name holds a character that XML cannot.
        """
        name, _ = picture_place(self.path, image_name)
        text = cvat_xml([(name, self.size, self.segments)], self.names, kind=kind)
        if path is not None:
            write_atomically(path, text.encode())
        return text

    # Maps

    @cached_property
    def label_map(self) -> NDArray[np.int32]:
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
        labels = np.full(self.size, -1 if semantic else 0, np.int32)
        for segment in self.segments:
            labels[segment.mask] = segment.class_id if semantic else segment.id
        return labels

    def panoptic_png(self) -> bytes:
        """COCO's panoptic PNG: the ids of `label_map` as colours.

        Raises:
            MasqclipError: the task is not ``panoptic``.
        """
        if self.task != "panoptic":
            raise MasqclipError(f"a {self.task} result is no panoptic map; ask for task='panoptic'")
        return png_bytes(ids_to_rgb(self.label_map))

    def to_panoptic_png(self, path: str | Path) -> list[PanopticSegment]:
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
        classes = np.full(self.size, -1, np.int64)
        # The best on top, where instances overlap.
        for segment in sorted(self.segments, key=lambda segment: segment.score):
            classes[segment.mask] = segment.class_id
        write_atomically(target, semantic_png(classes, len(self.names)))
        return target

    def to_mask_pngs(self, folder: str | Path) -> list[Path]:
        """Write each mask as a PNG of its own, 255 inside and 0 outside; returns their paths.

        Their names begin with that of the picture's file, if it came from one, and hold the
        segment's id and name: ``beach-0003-car.png``.

        Args:
            folder: where they go; it is made if need be.
        """
        stem = "image" if self.path is None else self.path.stem
        return write_mask_files(self.segments, Path(folder), stem=stem)

    # Other libraries

    def to_supervision(self) -> sv.Detections:
        """As `supervision.Detections`, with ``class_name`` in its data.

        Raises:
            MasqclipError: supervision is not installed (extra ``viz``).
        """
        return supervision_detections(self.segments, self.size)

    def to_dataframe(self) -> pd.DataFrame:
        """As a table of pandas, a row a segment: id, name, class_id, score, thing, area, and the
        box as x0, y0, x1, y1 in pixels, ends exclusive.

        Raises:
            MasqclipError: pandas is not installed (extra ``pandas``).
        """
        return data_frame(self.segments)

    def to_fiftyone(self) -> fo.Detections | fo.Segmentation:
        """As a label of FiftyOne: `Detections` with masks, or for ``semantic`` a `Segmentation`.

        The values of a `Segmentation`'s mask are places in the vocabulary, counted from 1, because
        FiftyOne reads 0 as background.

        Raises:
            MasqclipError: fiftyone is not installed (extra ``fiftyone``).
        """
        if self.task == "semantic":
            return fiftyone_segmentation(self.label_map, len(self.names))
        return fiftyone_detections(self.segments, self.size)


def _png_path(path: str | Path) -> Path:
    """Where a PNG goes: told before it is drawn that it cannot."""
    target = Path(path)
    if target.suffix.lower() != ".png" or target.is_dir():
        raise MasqclipError(
            f"{target}: a PNG is written; give the path of a file that ends in .png"
        )
    return target
