"""COCO files as nobody should write them: a small right one, changed in structure or in its bytes.

    python tests/fuzz/annotations.py [SEED [NUMBER]]

opens so many of them for tuning and for measuring, and prints each that ends in anything but a
result or one line.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from masqclip.data.open_coco import open_coco
from masqclip.data.published import load_truth
from masqclip.data.rle import encode_rle
from masqclip.errors import MasqclipError

SIDE = 16
#: What stands where something else should.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 1.5, 2**31, 2**63, 10**30, 1e308, -1e308, "", "1", "x", "\u0000",
    "\ud800", "../../../etc/passwd", "/dev/zero", "a" * 5000, [], {}, [[]], [{}], [1], [[1, 2]],
    [[1, 2, 3, 4, 5]], [[0, 0, 1e308, 1e308, -1e308, 5]], [[0, 0, 1e9, 0, 1e9, 1e9]] * 3,
    {"size": [SIDE, SIDE], "counts": "0" * 50}, {"size": [10**9, 10**9], "counts": [10**18]},
    {"size": [SIDE, SIDE], "counts": [2**62] * 4 + [SIDE * SIDE]},
    {"size": [SIDE, SIDE], "counts": [-5, SIDE * SIDE + 5]}, {"size": 4, "counts": 4},
    {"size": [SIDE, SIDE], "counts": "o" * 200}, {"size": [SIDE, SIDE], "counts": [[1], [2, 3]]},
    {"size": ["a", None], "counts": "abc"}, {"counts": []},
)  # fmt: skip


def base(panoptic: bool) -> dict[str, Any]:
    """A right file of two pictures, a.png and b.png."""
    images = [
        {"id": i, "file_name": f"{name}.png", "height": SIDE, "width": SIDE}
        for i, name in enumerate("ab", start=1)
    ]
    categories = [{"id": i, "name": f"thing {i}", "isthing": i % 2} for i in (1, 2, 3)]
    box = np.zeros((SIDE, SIDE), bool)
    box[2:9, 3:12] = True
    shapes = ([[2, 2, 9, 2, 9, 12.5, 2, 12]], encode_rle(box), [[1, 1, 5, 1, 5, 5]])
    annotations: list[dict[str, Any]] = [
        {"id": n, "image_id": 1 + n % 2, "category_id": 1 + n % 3, "segmentation": shape}
        | {"area": 63, "bbox": [3, 2, 9, 7], "iscrowd": 0}
        for n, shape in enumerate(shapes, start=1)
    ]
    if panoptic:
        infos = [{"id": i, "category_id": i, "iscrowd": 0, "area": 80} for i in (1, 2)]
        annotations = [
            {"image_id": i, "file_name": f"{name}.png", "segments_info": infos}
            for i, name in enumerate("ab", start=1)
        ]
    return {"images": images, "annotations": annotations, "categories": categories}


def cases(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """So many changed files, each with a word about what was done to it."""
    chance = random.Random(seed)
    for count in range(number):
        document = base(panoptic=chance.random() < 0.4)
        if chance.random() < 0.2:
            content = bytearray(json.dumps(document).encode())
            name = f"{count} bytes"
            for _ in range(chance.randint(1, 8)):
                place = chance.randrange(len(content))
                content[place] = chance.randrange(256)
            if chance.random() < 0.3:
                del content[chance.randrange(len(content)) :]
            yield name, bytes(content)
            continue
        done = [change(document, chance) for _ in range(chance.randint(1, 3))]
        text = json.dumps(document)
        if chance.random() < 0.05:
            depth = chance.choice((500, 990, 100_000))
            text = text.replace('"thing 1"', "[" * depth + "]" * depth)
            done.append(f"{depth} deep")
        if chance.random() < 0.05:
            text = text.replace("63", chance.choice(("NaN", "Infinity", "1" * 5000, "1e999")))
            done.append("odd number")
        yield f"{count} {'; '.join(done)}", text.encode()


def change(document: dict[str, Any], chance: random.Random) -> str:
    """Replace, drop or repeat something at a random place."""
    holder: Any = document
    path = ""
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return f"{path}: as it is"
        key = chance.choice(keys)
        path += f"/{key}"
        value = holder[key]
        if isinstance(value, dict | list) and value and chance.random() < 0.8:
            holder = value
            continue
        what = chance.choice(("odd", "odd", "odd", "drop", "repeat"))
        if what == "drop":
            del holder[key]
        elif what == "repeat" and isinstance(holder, list):
            holder.append(value)
        else:
            # A copy, for a later change may go into it.
            holder[key] = json.loads(json.dumps(chance.choice(ODD)))
        return f"{path}: {what}"


def make_folder(folder: Path) -> None:
    """The pictures that the files are about, and their segments' maps."""
    (folder / "images").mkdir(parents=True)
    (folder / "case").mkdir()
    for name in "ab":
        Image.new("RGB", (SIDE, SIDE), (90, 140, 30)).save(folder / "images" / f"{name}.png")
        ids = np.zeros((SIDE, SIDE, 3), np.uint8)
        ids[:8, :, 0], ids[8:, :, 0] = 1, 2
        Image.fromarray(ids).save(folder / "case" / f"{name}.png")


def open_case(folder: Path, content: bytes) -> list[str]:
    """Open a file as tuning and as measuring do, and look at all there is; the refusals."""
    path = folder / "case.json"
    path.write_bytes(content)
    refused = []
    try:
        dataset = open_coco(path, images=folder / "images")
        dataset.fingerprint()
        for row in range(len(dataset)):
            try:
                dataset[row]
            except MasqclipError as error:
                refused.append(str(error))
    except MasqclipError as error:
        refused.append(str(error))
    try:
        truth = load_truth(str(path), Path(), images=folder / "images")
        for picture in truth.pictures:
            for look in ("masks_of", "instances_of", "class_map_of", "panoptic_of"):
                needed = truth.instances if look == "instances_of" else truth.panoptic
                if look == "masks_of" or needed is not None:
                    try:
                        getattr(truth, look)(picture)
                    except MasqclipError as error:
                        refused.append(str(error))
    except MasqclipError as error:
        refused.append(str(error))
    return refused


if __name__ == "__main__":
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    total = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        make_folder(Path(scratch) / "data")
        for label, changed in cases(first, total):
            try:
                open_case(Path(scratch) / "data", changed)
            except Exception:
                failures += 1
                print(label, traceback.format_exc(limit=-3), sep="\n")
    print(f"{total} files, {failures} of them ended in neither a result nor one line")
    sys.exit(failures > 0)
