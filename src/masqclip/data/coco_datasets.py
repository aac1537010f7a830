"""COCO 2017 to be measured on: instances, the 48 + 17 base and novel classes, panoptic."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from masqclip.data.annotation_files import read_coco_json
from masqclip.data.class_lists import read_class_list
from masqclip.data.coco_truth import coco_truth
from masqclip.data.datasets import Dataset, Part, Progress
from masqclip.data.files import write_atomically
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError


def base_novel_split(sources: Sequence[Path], target: Path, report: Progress) -> None:
    """Cut an instances file to the 48 + 17 classes and to the pictures that hold any of them."""
    content = read_coco_json(sources[0])
    split = {entry.id: entry.split for entry in read_class_list("coco-base-novel").classes}
    try:
        annotations = [entry for entry in content["annotations"] if entry["category_id"] in split]
        used = {entry["image_id"] for entry in annotations}
        document = {
            "info": {"description": "COCO cut to 48 base and 17 novel classes by masqclip"},
            "images": [entry for entry in content["images"] if entry["id"] in used],
            "annotations": annotations,
            "categories": [
                {**category, "split": split[category["id"]]}
                for category in content["categories"]
                if category["id"] in split
            ],
        }
    except (KeyError, TypeError) as error:
        raise MasqclipError(
            f"{sources[0]}: an entry is not as COCO writes it ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
    write_atomically(target, json.dumps(document).encode())
    report(1, 1)


def _reader(name: str) -> Callable[[dict[str, Path]], GroundTruth]:
    def read(found: dict[str, Path]) -> GroundTruth:
        whole = "panoptic" in found and "maps" in found
        return coco_truth(
            name,
            images=found["images"],
            instances=found.get("split" if name == "coco-base-novel" else "instances"),
            panoptic=found["panoptic"] if whole else None,
            panoptic_maps=found["maps"] if whole else None,
            classes=read_class_list(name).classes,
        )

    return read


_IMAGES = Part(
    "the pictures",
    ("val2017",),
    "val2017.zip, from cocodataset.org",
    ("instance", "semantic", "panoptic"),
)
_INSTANCES = Part(
    "the instance annotations",
    ("annotations/instances_val2017.json",),
    "annotations_trainval2017.zip, from cocodataset.org",
    ("instance",),
)

COCO_INSTANCES = Dataset(
    "coco-instances",
    folder="coco",
    parts={"images": replace(_IMAGES, tasks=("instance",)), "instances": _INSTANCES},
    pictures=5000,
    read=_reader("coco-instances"),
)

COCO_BASE_NOVEL = Dataset(
    "coco-base-novel",
    folder="coco",
    parts={
        "images": replace(_IMAGES, tasks=("instance",)),
        "instances": replace(_INSTANCES, tasks=()),
        "split": Part(
            "the instances of the 48 + 17 classes",
            ("masqclip/instances_val2017_base_novel.json",),
            tasks=("instance",),
            convert=base_novel_split,
            inputs=("instances",),
        ),
    },
    pictures=0,
    read=_reader("coco-base-novel"),
)

COCO_PANOPTIC = Dataset(
    "coco-panoptic",
    folder="coco",
    parts={
        "images": _IMAGES,
        "instances": _INSTANCES,
        "panoptic": Part(
            "the panoptic annotations",
            ("annotations/panoptic_val2017.json",),
            "panoptic_annotations_trainval2017.zip, from cocodataset.org",
            ("semantic", "panoptic"),
        ),
        "maps": Part(
            "the panoptic maps",
            ("panoptic_val2017", "annotations/panoptic_val2017"),
            "panoptic_val2017.zip, which lies in panoptic_annotations_trainval2017.zip",
            ("semantic", "panoptic"),
        ),
    },
    pictures=5000,
    read=_reader("coco-panoptic"),
)
