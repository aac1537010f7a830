"""COCO files that mean the same as a right one (`rewritten`), and such that mean nothing
(`breakages`)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from masqclip.data.rle import encode_rle, rle_counts
from masqclip.data.segmentations import segmentation_mask

Document = dict[str, Any]
HEIGHT, WIDTH = 20, 24  # not square: sides that are swapped must show
NAMES = ("a.png", "b.png", "c.png")
COLOURS = (3, 300, 70_000)


def _box(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def right_file(panoptic: bool) -> Document:
    """A file as it should be, of three pictures, three categories and a crowd."""
    images = [
        {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for i, name in enumerate(NAMES, start=1)
    ]
    categories: list[Document] = [{"id": i, "name": f"thing {i}"} for i in (1, 2, 3)]
    if panoptic:
        for category in categories:
            category["isthing"] = int(category["id"] < 3)
        infos = [
            {"id": colour, "category_id": i, "iscrowd": 0, "area": 160}
            for i, colour in enumerate(COLOURS, start=1)
        ]
        annotations: list[Document] = [
            {"image_id": i, "file_name": name, "segments_info": json.loads(json.dumps(infos))}
            for i, name in enumerate(NAMES, start=1)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}
    shapes: list[tuple[int, int, list[list[float]]]] = [
        (1, 1, [_box(1, 2, 9, 12)]),
        (1, 2, [_box(12, 3, 22, 17), _box(2, 14, 8, 19)]),
        (2, 3, [_box(0, 0, 24, 10)]),
        (2, 1, [_box(5, 12, 15, 19)]),
        (3, 2, [_box(3, 3, 13, 13)]),
    ]
    annotations = [
        {"id": n, "image_id": image, "category_id": category, "segmentation": parts}
        | {"area": float(_mask(parts).sum()), "bbox": [1, 2, 3, 4], "iscrowd": 0}
        for n, (image, category, parts) in enumerate(shapes, start=1)
    ]
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[14:19, 14:20] = True
    annotations.append(
        {"id": 6, "image_id": 3, "category_id": 1, "area": 30, "iscrowd": 1}
        | {"segmentation": _plain(encode_rle(crowd))}
    )
    return {"images": images, "annotations": annotations, "categories": categories}


def _mask(parts: list[list[float]]) -> np.ndarray:
    return segmentation_mask(parts, HEIGHT, WIDTH)


def _plain(rle: Document) -> Document:
    return {"size": rle["size"], "counts": rle_counts(rle).tolist()}


def _every(key: str, value: Callable[[Any], Any]) -> Callable[[Document, random.Random], None]:
    """Change a value wherever the key stands, in annotations, segments, pictures, categories."""

    def change(document: Document, chance: random.Random) -> None:
        parts = [p for a in document["annotations"] for p in (a, *a.get("segments_info", ()))]
        for entry in (*document["images"], *parts, *document["categories"]):
            if key in entry:
                entry[key] = value(entry[key])

    return change


def _ids(number: Callable[[int], Any]) -> Callable[[Document, random.Random], None]:
    def change(document: Document, chance: random.Random) -> None:
        for entry in (*document["images"], *document["categories"]):
            entry["id"] = number(entry["id"])
        for entry in document["annotations"]:
            entry["image_id"] = number(entry["image_id"])
            for part in entry.get("segments_info", [entry]):
                part["category_id"] = number(part["category_id"])

    return change


def _numbers(change_one: Callable[[float], Any]) -> Callable[[Document, random.Random], None]:
    def change(document: Document, chance: random.Random) -> None:
        for entry in document["annotations"]:
            if isinstance(entry.get("segmentation"), list):
                entry["segmentation"] = [
                    [change_one(n) for n in part] for part in entry["segmentation"]
                ]

    return change


def _shapes(change_one: Callable[[Any], Any]) -> Callable[[Document, random.Random], None]:
    return _every("segmentation", lambda s: change_one(s) if isinstance(s, list) else s)


def _dropped(key: str) -> Callable[[Document, random.Random], None]:
    def change(document: Document, chance: random.Random) -> None:
        for entry in (*document["images"], *document["annotations"]):
            entry.pop(key, None)

    return change


def _shuffled(document: Document, chance: random.Random) -> None:
    for name in ("images", "annotations", "categories"):
        chance.shuffle(document[name])


def _one_more(document: Document, chance: random.Random) -> None:
    document["images"].append(dict(chance.choice(document["images"])))


def _heading(document: Document, chance: random.Random) -> None:
    document["categories"].insert(0, {"id": 77, "name": "project", "supercategory": "none"})
    for category in document["categories"][1:]:
        category["supercategory"] = "project"


def _pairs(parts: list[list[Any]]) -> list[Any]:
    paired = [[part[i : i + 2] for i in range(0, len(part), 2)] for part in parts]
    return paired[0] if len(paired) == 1 else paired


def _listed(parts: list[Any]) -> bool:
    return all(isinstance(p, list) and not isinstance(p[0], list) and len(p) > 2 for p in parts)


def _to_rle(parts: list[Any]) -> Any:
    if not _listed(parts):
        return parts
    return encode_rle(_mask([[float(n) for n in part] for part in parts]))


#: Ways of writing that mean the same, for both formats and for instances only.
SAME: dict[str, Callable[[Document, random.Random], None]] = {
    "ids: words": _ids(lambda i: f"uuid-{i}"),
    "ids: in quotes": _ids(str),
    "ids: with a point": _ids(float),
    "ids: from zero": _ids(lambda i: i - 1),
    "ids: negative": _ids(lambda i: -i),
    "ids: huge": _ids(lambda i: i + 10**30),
    "sizes: in quotes": lambda d, c: [_every(k, str)(d, c) for k in ("height", "width")] and None,
    "sizes: null": lambda d, c: _every("height", lambda _: None)(d, c),
    "sizes: 0": lambda d, c: _every("width", lambda _: 0)(d, c),
    "sizes: none": _dropped("height"),
    "crowds: in words": _every("iscrowd", lambda flag: ("false", "true")[int(flag or 0)]),
    "crowds: booleans": _every("iscrowd", lambda flag: flag in (1, True, "1", "true")),
    "another order": _shuffled,
    "a picture twice over": _one_more,
    "other keys": lambda d, c: d.update(info={"a": [None]}, licenses=None),
}  # fmt: skip
SAME_INSTANCES: dict[str, Callable[[Document, random.Random], None]] = {
    "annotation ids: any": _every("bbox", lambda box: box),
    "areas: in quotes": _every("area", str),
    "areas: null": _every("area", lambda _: None),
    "areas: beyond the picture": _every("area", lambda _: 1e300),
    "areas: 0": _every("area", lambda _: 0),
    "areas: in words": _every("area", lambda _: "large"),
    "areas: none": _dropped("area"),
    "boxes: null": _every("bbox", lambda _: None),
    "corners: in quotes": _numbers(str),
    "corners: with a point": _numbers(float),
    "corners: in pairs": _shapes(_pairs),
    "corners: compressed runs": _shapes(_to_rle),
    "corners: plain runs": _shapes(lambda s: _plain(_to_rle(s)) if _listed(s) else s),
    "corners: a line beside them": _shapes(lambda s: [*s, [1, 2, 3, 4]] if _listed(s) else s),
    "heading: one": _heading,
}  # fmt: skip


# What leaves entries where breakages look for them.
SIMPLE = ("other keys", "crowds: booleans", "sizes: in quotes", "areas: null", "boxes: null")


def _no_crowd_is_null(document: Document, chance: random.Random) -> None:
    for entry in document["annotations"]:
        for part in entry.get("segments_info", [entry]):
            if not part.get("iscrowd"):
                part["iscrowd"] = chance.choice((None, 0, False, "0", 0.0))


def _annotation_ids(document: Document, chance: random.Random) -> None:
    kind = chance.choice(("zero", "same", "none", "words"))
    for n, entry in enumerate(document["annotations"]):
        entry["id"] = {"zero": n, "same": 5, "none": None, "words": f"a{n}"}[kind]


SAME["crowds: null for none"] = _no_crowd_is_null
SAME_INSTANCES["annotation ids: any"] = _annotation_ids


def _at(where: str, key: str, *values: Any) -> list[Callable[[Document], None]]:
    """Breakages of one entry: each value in turn, and the key left out for `...`."""

    def put(value: Any) -> Callable[[Document], None]:
        def change(document: Document) -> None:
            *path, last = [*where.split("."), key]
            holder: Any = document
            for step in path:
                holder = holder[int(step) if step.isdigit() else step]
            if value is ...:
                del holder[last]
            else:
                holder[last] = value(holder) if callable(value) else value

        return change

    return [put(value) for value in values]


def _whole(key: str, *values: Any) -> list[Callable[[Document], None]]:
    """Breakages of the whole document, likewise."""

    def put(value: Any) -> Callable[[Document], None]:
        def change(document: Document) -> None:
            if value is ...:
                del document[key]
            else:
                document[key] = value(document) if callable(value) else value

        return change

    return [put(value) for value in values]


_ODD_IDS = (..., None, True, 1.5, [], {}, "")
_ODD_NAMES = (..., None, 7, "", "  ", [], {}, "\0.png", "\ud800.png", "missing.png")
_ODD_LISTS = (..., None, "x", 3, {"1": {}}, [1], [None])
_SIDES = (HEIGHT + 1, -1, 1.5, "many", [], True, 10**9)
#: What no file may have; each must be refused.
BROKEN: dict[str, list[Callable[[Document], None]]] = {
    "images": _whole("images", *_ODD_LISTS, []),
    "annotations": _whole("annotations", *_ODD_LISTS, []),
    "categories": _whole("categories", *_ODD_LISTS, []),
    "picture id": _at("images.0", "id", *_ODD_IDS, "elsewhere", 99),
    "picture id twice": _at("images.0", "id", lambda e: 2, "2", 2.0),
    "picture under two ids": _whole(
        "images", lambda d: [*d["images"], d["images"][0] | {"id": 44}]
    ),
    "file name": _at("images.0", "file_name", *_ODD_NAMES),
    "height": _at("images.0", "height", *_SIDES),
    "sides swapped": [lambda d: d["images"][0].update(height=WIDTH, width=HEIGHT)],
    "category id": _at("categories.0", "id", *_ODD_IDS, "elsewhere", 99, 2),
    "category name": _at("categories.0", "name", ..., None, "", " ", [], {}, True, "thing 2"),
    "split": _at("categories.0", "split", 3, [], {}),
    "isthing": _at("categories.0", "isthing", 2, "perhaps", [], 0.5),
    "picture of an annotation": _at("annotations.0", "image_id", *_ODD_IDS, 99, "elsewhere"),
}  # fmt: skip
_SHARES = [0.1, 0.2, 0.5, 0.2, 0.5, 0.9, 0.1, 0.9]
_NO_FLAGS = (2, -1, 0.5, "perhaps", "", [], {})
BROKEN_INSTANCES = BROKEN | {
    "category of an annotation": _at("annotations.0", "category_id", *_ODD_IDS, 99, "elsewhere"),
    "crowd": _at("annotations.0", "iscrowd", *_NO_FLAGS),
    "no mask": _at("annotations.0", "segmentation", ..., None, [], [[]], [[1, 2, 3, 4]], [1, 2]),
    "mask": _at(
        "annotations.0", "segmentation",
        "", "text", 7, 1.5, True, {}, [None], [[None]], ["text"], [[1, 2, 3, 4, 5, 6, 7]],
        [1, 2, 3, 4, 5], [[1, 2, 3, 4, 5, None]], [[1, 2, 3, 4, 5, "six"]], [[[[1, 2], [3, 4]]]],
        [[1, 2, 3, 4, 5, "nan"]], [[1, 2, 3, 4, 5, "inf"]], [[1, 2, 3, 4, 5, 10**400]],
        [[1, 2, 3, 4, 5, 1e300]], [[1, 2, 3, 4, 5, True]], [[0, 0, 1e8, 0, 1e8, 1e8]] * 2,
        [[500, 500, 600, 500, 600, 600]], [[-9, -9, -1, -9, -1, -1]], [{"x": 1, "y": 2}],
    ),
    "runs": _at(
        "annotations.0", "segmentation",
        {"counts": "abc"}, {"size": [HEIGHT, WIDTH]}, {"size": [HEIGHT, WIDTH], "counts": None},
        {"size": [WIDTH, HEIGHT], "counts": [10, 470]}, {"size": None, "counts": [10, 470]},
        {"size": [HEIGHT], "counts": [10, 470]}, {"size": ["a", "b"], "counts": [10, 470]},
        {"size": [0, 0], "counts": []}, {"size": [HEIGHT, WIDTH], "counts": [10, 400]},
        {"size": [HEIGHT, WIDTH], "counts": [-10, 490]}, {"size": [HEIGHT, WIDTH], "counts": []},
        {"size": [HEIGHT, WIDTH], "counts": [480]}, {"size": [HEIGHT, WIDTH], "counts": [480, 0]},
        {"size": [HEIGHT, WIDTH], "counts": [10.5, 469.5]},
        {"size": [HEIGHT, WIDTH], "counts": [2**62] * 4 + [480]},
        {"size": [HEIGHT, WIDTH], "counts": ["a", {}]},
        {"size": [HEIGHT, WIDTH], "counts": [[10], [470]]},
        {"size": [HEIGHT, WIDTH], "counts": "not runs"},
        {"size": [HEIGHT, WIDTH], "counts": "o" * 200},
        {"size": [10**9, 10**9], "counts": [10**18]},
    ),
    "all crowds": [lambda d: _every("iscrowd", lambda _: 1)(d, random.Random(0))],
    "shares": [lambda d: _relative(d), *_at("annotations.0", "segmentation", [_SHARES])],
    "a panoptic entry among them": _at("annotations.0", "segments_info", lambda e: e.clear() or []),
}  # fmt: skip
BROKEN_PANOPTIC = BROKEN | {
    "no entry": _whole("annotations", lambda d: d["annotations"][1:]),
    "two entries": _whole("annotations", lambda d: [*d["annotations"], d["annotations"][0]]),
    "map": _at("annotations.1", "file_name", *_ODD_NAMES, "small.png", "grey.png", "other.png"),
    "segments": _at("annotations.1", "segments_info", ..., None, "x", {}, [1], [None], [[]], []),
    "segment id": _at(
        "annotations.0.segments_info.0", "id", *_ODD_IDS, 0, -3, 4, 300, 1 << 24, "word"
    ),
    "segment missing": _at("annotations.0", "segments_info", lambda e: e["segments_info"][1:]),
    "category of a segment": _at(
        "annotations.0.segments_info.0", "category_id", *_ODD_IDS, 99, "elsewhere"
    ),
    "crowd": _at("annotations.0.segments_info.0", "iscrowd", *_NO_FLAGS),
    "isthing": _at("categories.0", "isthing", ..., None, 2, "perhaps", [], 0.5),
    "all crowds": [lambda d: _every("iscrowd", lambda _: 1)(d, random.Random(0))],
}  # fmt: skip


def _relative(document: Document) -> None:
    document["annotations"] = [a for a in document["annotations"] if not a["iscrowd"]]
    _numbers(lambda n: n / 100)(document, random.Random(0))


def rewritten(chance: random.Random, panoptic: bool) -> tuple[Document, list[str]]:
    """A right file, written in up to four other ways; and which."""
    ways = SAME | ({} if panoptic else SAME_INSTANCES)
    document = right_file(panoptic)
    groups: dict[str, list[str]] = {}
    for way in ways:
        groups.setdefault(way.split(":")[0], []).append(way)
    chosen = [chance.choice(groups[g]) for g in chance.sample(list(groups), chance.randint(1, 4))]
    for way in chosen:
        ways[way](document, chance)
    return document, chosen


def breakages(panoptic: bool) -> list[tuple[str, Callable[[Document], None]]]:
    """All single breakages of a format, each with its name."""
    table = BROKEN_PANOPTIC if panoptic else BROKEN_INSTANCES
    return [
        (f"{name} {n}", change)
        for name, several in table.items()
        for n, change in enumerate(several)
    ]
