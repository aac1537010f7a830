"""Right figures or a refusal, whatever a COCO file is like: what must be read, and what must not.

    python tests/fuzz/annotation_meaning.py [SEED [NUMBER]]

makes so many files, each a right one in other ways of writing or with something broken, or a right
one changed at random, and prints each whose figure is not the right one (of the last kind that is
pycocotools', where it can read the file), or that is not refused in one line.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import annotations
import numpy as np
from annotation_ways import (
    COLOURS,
    HEIGHT,
    NAMES,
    SAME,
    SAME_INSTANCES,
    SIMPLE,
    WIDTH,
    Document,
    breakages,
    rewritten,
    right_file,
)
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from masqclip.data.open_coco import open_coco
from masqclip.data.published import load_truth
from masqclip.errors import MasqclipError
from masqclip.evaluation.evaluate import check_pictures
from masqclip.evaluation.scorers import make_scorer
from masqclip.evaluation.vocabularies import dataset_vocabulary


def make_folder(folder: Path) -> None:
    """The pictures that the files are about, the maps, and maps that fit none."""
    (folder / "images").mkdir(parents=True)
    maps = folder / "case"
    maps.mkdir()
    ids = np.repeat(np.repeat(np.array([COLOURS]), HEIGHT, 0), WIDTH // 3, 1)
    for name in NAMES:
        Image.new("RGB", (WIDTH, HEIGHT), (90, 140, 30)).save(folder / "images" / name)
        _save_ids(maps / name, ids)
    _save_ids(maps / "small.png", ids[1:])
    _save_ids(maps / "other.png", ids + 1)
    Image.fromarray(ids.astype(np.uint8)).save(maps / "grey.png")


def _save_ids(path: Path, ids: np.ndarray) -> None:
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    Image.fromarray(colours).save(path)


_BACKEND = "masqclip.evaluation.instance.default_backend"


class Perfect:
    """Predictions that are the truth of `right_file`, whatever a picture's id came to be."""

    path = Path("perfect")

    def __init__(self, truth: Any) -> None:
        self.names = {picture.id: picture.path.name for picture in truth.pictures}
        names = {entry.name: entry.id for entry in truth.classes}
        self.ids = {i: names.get(f"thing {i}", i) for i in (1, 2, 3)}

    def read_records(self, task: str, picture: int) -> list[Document]:
        right = right_file(panoptic=False)
        number = 1 + NAMES.index(self.names[picture])
        return [
            {
                "image_id": picture,
                "score": 0.9,
                "category_id": self.ids[a["category_id"]],
            }
            | {"segmentation": _native(a["segmentation"])}
            for a in right["annotations"]
            if a["image_id"] == number and not a["iscrowd"]
        ]

    def read_panoptic(self, picture: int) -> tuple[np.ndarray, list[Document]]:
        ids = np.repeat(np.repeat(np.array([COLOURS], np.int32), HEIGHT, 0), WIDTH // 3, 1)
        return ids, [
            {"id": colour, "category_id": self.ids[i]} for i, colour in enumerate(COLOURS, start=1)
        ]


def _native(parts: Any) -> Document:
    from hotcoco import mask

    rle = mask.merge(mask.frPyObjects(parts, HEIGHT, WIDTH))
    return {"size": list(rle["size"]), "counts": rle["counts"]}


def write(folder: Path, document: Document) -> Path:
    """Write a file beside its pictures."""
    path = folder / "case.json"
    path.write_text(json.dumps(document))
    return path


def figures(folder: Path, document: Document) -> dict[str, float]:
    """What measuring `right_file`'s truth by a file gives, with either library the same."""
    truth = load_truth(str(write(folder, document)), Path(), images=folder / "images")
    check_pictures(truth, truth.pictures, None, needed=True)
    dataset_vocabulary(truth)
    task = "instance" if truth.instances is not None else "panoptic"
    found = []
    for library in ("hotcoco", "pycocotools"):
        with mock.patch(_BACKEND, return_value=library):
            scorer = make_scorer(task, truth)
        for picture in truth.pictures:
            scorer.add(Perfect(truth), picture)  # type: ignore[arg-type]
        figures = scorer.figures()
        found.append({name: figures[name] for name in ("AP", "AP50", "PQ") if name in figures})
    assert found[0] == found[1]
    return found[0]


def samples(folder: Path, document: Document) -> tuple[list[Any], tuple[str, ...]]:
    """What tuning learns of a file, by picture: names and masks; and what it says of the file."""
    dataset = open_coco(write(folder, document), images=folder / "images")
    learned = []
    for row in range(len(dataset)):
        sample = dataset[row]
        names = [dataset.categories.names[int(i)] for i in sample.category_ids]
        masks = {(name, mask.tobytes()) for name, mask in zip(names, sample.masks, strict=True)}
        learned.append((dataset.entry(row)["file_name"], masks))
    return sorted(learned, key=lambda entry: entry[0]), dataset.notes


def reference(document: Document) -> float | None:
    """The AP of `right_file`'s truth by pycocotools alone; None of a file it may not be given."""
    if not _is_plain(document):
        return None
    numbers = {e["id"]: NAMES.index(e["file_name"]) + 1 for e in document["images"]}
    right = right_file(panoptic=False)
    found = [
        {"image_id": image, "category_id": a["category_id"], "score": 0.9}
        | {"segmentation": _native(a["segmentation"])}
        for image, number in numbers.items()
        for a in right["annotations"]
        if a["image_id"] == number and not a["iscrowd"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        entries = [{**a, "id": n} for n, a in enumerate(document["annotations"], start=1)]
        truth.dataset = json.loads(json.dumps({**document, "annotations": entries}))
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def _is_plain(document: Any) -> bool:
    """Whether a file of instances is as COCO has them, to the letter, as far as AP looks."""
    try:
        images, categories = document["images"], document["categories"]
        ids = [entry["id"] for entry in images]
        known = [entry["id"] for entry in categories]
        sizes = {(entry["height"], entry["width"]) for entry in images}
        names = [entry["file_name"] for entry in images]
        return (
            sizes == {(HEIGHT, WIDTH)}
            and all(type(number) is int and number >= 0 for number in (*ids, *known))
            and len({*ids}) == len(ids)
            and {1, 2, 3} <= {*known}
            and len({*known}) == len(known)
            and len({entry["name"].lower() for entry in categories}) == len(known)
            and all(entry["name"].isprintable() and entry["name"] != "" for entry in categories)
            and all(len(entry["name"]) < 1000 for entry in categories)
            and {*names} <= {*NAMES}
            and len({*names}) == len(names)
            and all(_is_plain_annotation(a, ids, known) for a in document["annotations"])
            and any(not a["iscrowd"] for a in document["annotations"])
        )
    except (KeyError, TypeError, AttributeError, IndexError):
        return False


def _is_plain_annotation(entry: Document, ids: list[int], known: list[int]) -> bool:
    shape = entry["segmentation"]
    if isinstance(shape, dict):
        right = shape["size"] == [HEIGHT, WIDTH] and isinstance(shape["counts"], list)
        right = right and all(type(n) is int and n >= 0 for n in shape["counts"])
        right = right and sum(shape["counts"]) == HEIGHT * WIDTH and sum(shape["counts"][1::2]) > 0
    else:
        right = bool(shape) and all(
            len(part) >= 6
            and len(part) % 2 == 0
            and all(type(n) in (int, float) and 0 <= n <= 24 for n in part)
            for part in shape
        )
    return (
        right
        and entry["image_id"] in ids
        and entry["category_id"] in known
        and type(entry["image_id"]) is int
        and type(entry["category_id"]) is int
        and entry["iscrowd"] in (0, 1)
        and type(entry["area"]) in (int, float)
        and 0 < entry["area"] <= HEIGHT * WIDTH
    )


def verdict(folder: Path, chance: random.Random) -> tuple[str, str]:
    """One file: what was done to it, and what is wrong with what came of it ("" = nothing)."""
    panoptic = chance.random() < 0.4
    document, done = rewritten(chance, panoptic)
    expected: float | None = 1.0
    kind = chance.choice(("same", "broken", "changed"))
    if kind == "broken":
        document = right_file(panoptic)
        ways = SAME | SAME_INSTANCES
        done = [way for way in SIMPLE if chance.random() < 0.3]
        for way in done:
            ways[way](document, chance)
        name, change_it = chance.choice(breakages(panoptic))
        done.append(name)
        change_it(document)
    elif kind == "changed":
        panoptic, document = False, right_file(panoptic=False)
        done = [annotations.change(document, chance) for _ in range(chance.randint(1, 3))]
        expected = reference(document)
    label = f"{kind} {'panoptic' if panoptic else 'instances'}: {'; '.join(done)}"
    try:
        found = figures(folder, document)
    except MasqclipError as error:
        one_line = "\n" not in str(error)
        allowed = kind == "broken" or (kind == "changed" and expected is None)
        return label, "" if allowed and one_line else f"refused: {error}"
    except Exception:
        return label, traceback.format_exc(limit=-3)
    if kind == "broken":
        return label, f"is not refused, but measured: {found}"
    values = [found["AP"]] if kind == "changed" else list(found.values())
    right = expected is None or all(abs(value - expected) < 1e-9 for value in values)
    return label, "" if right else f"figures {found}, not {expected}"


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    total = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    luck, faults = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        make_folder(Path(scratch) / "data")
        for _ in range(total):
            what, wrong = verdict(Path(scratch) / "data", luck)
            if wrong:
                faults += 1
                print(what, wrong, sep="\n  ")
    print(f"{total} files, {faults} of them without the right figure or the refusal")
    sys.exit(faults > 0)
