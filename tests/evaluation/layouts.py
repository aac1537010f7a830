"""Published datasets in small: random pictures and annotations in the layouts people have on disk.

Each function writes one dataset below a folder and returns that folder. Annotations are rectangles
of random classes, drawn so that every kind of pixel occurs: things, stuff, crowds, ignored ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from masqclip.data.class_lists import ClassEntry, read_class_list
from masqclip.data.label_maps import ids_to_rgb
from masqclip.data.rle import encode_rle

SIZE = (40, 56)
COUNT = 3


def rectangles(rng: np.random.Generator, values: Sequence[int], background: int) -> np.ndarray:
    """[H,W]: rectangles of the values over a background; the first value is there for certain."""
    canvas = np.full(SIZE, background, np.int64)
    for value in reversed(values):
        y, x = rng.integers(0, SIZE[0] - 12), rng.integers(0, SIZE[1] - 12)
        canvas[y : y + rng.integers(8, 24), x : x + rng.integers(8, 24)] = value
    return canvas


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def choose(rng: np.random.Generator, classes: Sequence[ClassEntry], count: int) -> list[ClassEntry]:
    return [classes[i] for i in rng.choice(len(classes), count, replace=False)]


def coco(folder: Path) -> Path:
    """COCO 2017 val: instances (RLE, polygons, a crowd) and panoptic."""
    rng = np.random.default_rng(0)
    root = folder / "coco"
    classes = read_class_list("coco-panoptic").classes
    base_novel = read_class_list("coco-base-novel").classes
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    for number in range(COUNT + 1):
        name = f"{number:012d}"
        images.append(
            {"id": number, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
        )
        save(root / "val2017" / f"{name}.jpg", picture(rng))
        # The last picture holds none of the 65 classes.
        things = (
            choose(rng, base_novel, 3)
            if number < COUNT
            else [next(c for c in classes if c.id not in {b.id for b in base_novel})]
        )
        chosen = [*things, *choose(rng, [c for c in classes if not c.thing], 2)]
        ids = rectangles(rng, range(1, len(chosen) + 1), background=0)
        segments = []
        for segment_id in np.unique(ids[ids > 0]).tolist():
            entry, mask = chosen[segment_id - 1], ids == segment_id
            crowd = int(segment_id == 2 and number == 1)
            area = int(mask.sum())
            segments.append(
                {"id": segment_id, "category_id": entry.id, "iscrowd": crowd, "area": area}
            )
            if segment_id <= len(things):
                rows, columns = np.nonzero(mask)
                x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                corners = [x0, y0, x1, y0, x1, y1, x0, y1]
                whole = area == (x1 - x0) * (y1 - y0) and not crowd
                instances.append(
                    {
                        "id": len(instances) + 1,
                        "image_id": number,
                        "category_id": entry.id,
                        "iscrowd": crowd,
                        "area": area,
                        "bbox": [float(v) for v in (x0, y0, x1 - x0, y1 - y0)],
                        "segmentation": [[float(v) for v in corners]]
                        if whole
                        else encode_rle(mask),
                    }
                )
        save(root / "panoptic_val2017" / f"{name}.png", ids_to_rgb(ids))
        panoptic.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
    categories = [{"id": c.id, "name": c.name, "isthing": int(bool(c.thing))} for c in classes]
    things_only = [c for c in categories if c["isthing"]]
    for kind, entries, listed in (
        ("instances", instances, things_only),
        ("panoptic", panoptic, categories),
    ):
        path = root / "annotations" / f"{kind}_val2017.json"
        path.parent.mkdir(exist_ok=True)
        document = {"images": images, "annotations": entries, "categories": listed}
        path.write_text(json.dumps(document))
    return root


def ade20k_150(folder: Path) -> Path:
    """The scene parsing challenge: class maps, and instance pictures of 100 things."""
    rng = np.random.default_rng(1)
    root = folder / "ADEChallengeData2016"
    classes = read_class_list("ade20k-150").classes
    things = [c for c in classes if c.thing]
    stuff = [c for c in classes if not c.thing]
    for number in range(1, COUNT + 1):
        name = f"ADE_val_{number:08d}"
        save(root / "images" / "validation" / f"{name}.jpg", picture(rng))
        chosen = choose(rng, things, 3)
        numbers = rectangles(rng, (1, 2, 3), background=0)
        ground = rectangles(rng, [c.id + 1 for c in choose(rng, stuff, 3)], background=0)
        labels = ground.copy()
        coded = np.zeros((*SIZE, 3), np.uint8)
        for instance in (1, 2, 3):
            mask = numbers == instance
            labels[mask] = chosen[instance - 1].id + 1
            coded[mask] = (things.index(chosen[instance - 1]) + 1, instance, 0)
        # A thing of which nobody drew the instances: it is void in the panoptic map.
        labels[:4, :4] = things[0].id + 1
        coded[:4, :4] = 0
        save(root / "annotations" / "validation" / f"{name}.png", labels.astype(np.uint8))
        save(root / "annotations_instance" / "validation" / f"{name}.png", coded)
    return root


def ade20k_847(folder: Path) -> Path:
    """The full dataset as it ships: pictures and ``*_seg.png`` in folders of scenes."""
    rng = np.random.default_rng(2)
    root = folder / "ADE20K_2021_17_01"
    classes = read_class_list("ade20k-847").classes
    for number in range(COUNT):
        name = f"ADE_val_{number:08d}"
        scene = root / "images" / "ADE" / "validation" / "urban" / f"street_{number % 2}"
        save(scene / f"{name}.jpg", picture(rng))
        # 4000 is an index that is not among the 847, 0 is "nothing".
        values = [*(c.id for c in choose(rng, classes, 4)), 4000]
        index = rectangles(rng, values, background=0)
        coded = np.stack([index // 256 * 10 + rng.integers(0, 10), index % 256, index * 0], -1)
        save(scene / f"{name}_seg.png", coded.astype(np.uint8))
    return root


def ade20k_847_prepared(folder: Path) -> Path:
    """The full dataset as detectron2's users have it: 16-bit TIFF maps."""
    rng = np.random.default_rng(3)
    root = folder / "ADE20K_2021_17_01"
    for number in range(COUNT):
        name = f"ADE_val_{number:08d}"
        save(root / "images_detectron2" / "validation" / f"{name}.jpg", picture(rng))
        labels = rectangles(rng, rng.integers(0, 847, 4).tolist(), background=65535)
        target = root / "annotations_detectron2" / "validation" / f"{name}.tif"
        save(target, labels.astype(np.uint16))
    return root


def pascal_context(folder: Path) -> Path:
    """The original annotations, without a line feed at the end of val.txt."""
    rng = np.random.default_rng(4)
    root = folder / "pascal_context_full"
    few = [c.category_id for c in read_class_list("pascal-context-59").classes]
    names = [f"2008_{number:06d}" for number in range(COUNT)]
    (root / "trainval").mkdir(parents=True)
    for name in names:
        save(root / "JPEGImages" / f"{name}.jpg", picture(rng))
        values = [*rng.choice(few, 3).tolist(), *rng.integers(1, 460, 2).tolist()]
        labels = rectangles(rng, values, background=0)
        savemat(root / "trainval" / f"{name}.mat", {"LabelMap": labels.astype(np.uint16)})
    save(root / "JPEGImages" / "2008_999999.jpg", picture(rng))  # not of the test set
    (root / "val.txt").write_text("\n".join(names))
    return root


def pascal_context_prepared(folder: Path) -> Path:
    """The prepared class maps: 8 bits for 59 classes, 16-bit TIFF for 459."""
    rng = np.random.default_rng(5)
    root = folder / "pascal_context_full"
    names = [f"2008_{number:06d}" for number in range(COUNT)]
    for name in names:
        save(root / "images" / f"{name}.jpg", picture(rng))
        for count, ignore, ending, kind in (
            (59, 255, "png", np.uint8),
            (459, 65535, "tif", np.uint16),
        ):
            labels = rectangles(rng, rng.integers(0, count, 4).tolist(), background=ignore)
            save(root / f"labels_{count}" / f"{name}.{ending}", labels.astype(kind))
    (root / "val.txt").write_text("\n".join(names) + "\n")
    return root


#: Dataset, the layout that holds it, and what can be measured on it.
LAYOUTS: list[tuple[str, Callable[[Path], Path], set[str]]] = [
    ("coco-instances", coco, {"instance"}),
    ("coco-base-novel", coco, {"instance"}),
    ("coco-panoptic", coco, {"instance", "semantic", "panoptic"}),
    ("ade20k-150", ade20k_150, {"instance", "semantic", "panoptic"}),
    ("ade20k-847", ade20k_847, {"semantic"}),
    ("ade20k-847", ade20k_847_prepared, {"semantic"}),
    ("pascal-context-59", pascal_context, {"semantic"}),
    ("pascal-context-459", pascal_context, {"semantic"}),
    ("pascal-context-59", pascal_context_prepared, {"semantic"}),
    ("pascal-context-459", pascal_context_prepared, {"semantic"}),
]
