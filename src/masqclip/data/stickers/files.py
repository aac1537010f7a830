"""Writing the miniature world to disk in the field's own formats.

    DIR/images/000000.png             RGB
    DIR/annotations/captions.json     COCO captions
    DIR/annotations/instances.json    COCO instances: things, masks as compressed RLE
    DIR/annotations/panoptic.json     COCO panoptic, with DIR/panoptic/000000.png
    DIR/semantic/000000.png           the class's place in the vocabulary, 255 = unlabelled; of the
                                      second world 16 bit, 65535 = unlabelled
    DIR/scenes.json                   seed and settings: enough to draw the same folder again

Categories carry ``isthing`` and ``split`` (base or novel). A folder that was begun may
be written again: the same scenes give the same files. The annotations are written last.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from masqclip.data.class_lists import read_class_list
from masqclip.data.files import sync_files, write_atomically, writing
from masqclip.data.json_files import read_json
from masqclip.data.locks import lock_folder
from masqclip.data.rle import encode_rle
from masqclip.data.stickers.scenes import Region, StickerWorld
from masqclip.data.stickers.worlds import World
from masqclip.errors import MasqclipError

_CHUNK = 64  # scenes of up to 256 pixels at once; of larger ones as many as have these pixels


def sticker_categories(world: World) -> list[dict[str, Any]]:
    """The categories of a miniature world as COCO panoptic writes them, plus their split."""
    return [
        {"id": c.id, "name": c.name, "isthing": int(bool(c.thing)), "split": c.split}
        for c in read_class_list(world.class_list).classes
    ]


def write_stickers(
    out: str | Path,
    world: StickerWorld,
    *,
    images: int,
    seed: int,
    captions_only: bool = False,
    report: Callable[[int], None] | None = None,
) -> None:
    """Draw scenes 0 to `images` - 1 of a seed and write them as a COCO-style folder.

    Args:
        out: the folder; it is made, and may hold an earlier, unfinished part of the same scenes.
        world: draws the scenes.
        images: how many.
        seed: which world; training and testing must use different ones.
        captions_only: leave out every mask.
        report: called with the number of scenes done so far.

    Raises:
        MasqclipError: the folder holds scenes of another seed or other settings, or another
            process is at work in it.
    """
    with lock_folder(out):
        _write_scenes(Path(out), world, images, seed, captions_only, report)


def _write_scenes(
    root: Path,
    world: StickerWorld,
    images: int,
    seed: int,
    captions_only: bool,
    report: Callable[[int], None] | None,
) -> None:
    about = {
        "seed": seed,
        "studios": sorted(set(world.sprites.studios)),
        "settings": asdict(world.settings),
        "captions_only": captions_only,
    }
    if world.sprites.world.name != "first":  # folders of before do not say
        about["world"] = world.sprites.world.name
    if world.styles:
        about["styles"] = world.styles
    _claim(root / "scenes.json", about)
    for name in ("images",) if captions_only else ("images", "panoptic", "semantic"):
        (root / name).mkdir(parents=True, exist_ok=True)
    categories = sticker_categories(world.sprites.world)
    order = {category["name"]: i for i, category in enumerate(categories)}
    unlabelled = np.uint8(255) if len(order) < 256 else np.uint16(65535)
    entries: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    together = min(_CHUNK, max(1, _CHUNK * 256**2 // world.settings.size**2))
    for first in range(0, images, together):
        numbers = range(first, min(first + together, images))
        scenes = world.draw(seed, numbers)
        pixels = scenes.images.permute(0, 2, 3, 1).cpu().numpy()
        id_maps = scenes.id_maps.cpu().numpy()
        for i, number in enumerate(numbers):
            file = f"{number:06d}.png"
            height, width = id_maps[i].shape
            entries.append({"id": number, "file_name": file, "height": height, "width": width})
            for text in scenes.captions[i]:
                captions.append({"id": len(captions), "image_id": number, "caption": text})
            _write_png(root / "images" / file, pixels[i])
            if captions_only:
                continue
            segments = [
                _segment(region, id_maps[i], categories[order[region.name]])
                for region in scenes.regions[i]
            ]
            panoptic.append({"image_id": number, "file_name": file, "segments_info": segments})
            for segment, region in zip(segments, scenes.regions[i], strict=True):
                if region.thing:
                    mask = id_maps[i] == region.id
                    instances.append(
                        {"image_id": number, "id": len(instances) + 1, "iscrowd": 0}
                        | {key: segment[key] for key in ("category_id", "area", "bbox")}
                        | {"segmentation": encode_rle(mask), "studio": region.studio}
                    )
            coded = np.zeros((height, width, 3), np.uint8)
            coded[..., 0] = id_maps[i]
            _write_png(root / "panoptic" / file, coded)
            classes = np.full(256, unlabelled, unlabelled.dtype)
            for region in scenes.regions[i]:
                classes[region.id] = order[region.name]
            _write_png(root / "semantic" / file, classes[id_maps[i]])
        if report is not None:
            report(numbers[-1] + 1)
    # All pictures at once: to wait for each would take longer than to draw it.
    sync_files(root)
    things = [category for category in categories if category["isthing"]]
    _write_json(root, "captions", {"images": entries, "annotations": captions})
    if not captions_only:
        _write_json(
            root, "instances", {"images": entries, "annotations": instances, "categories": things}
        )
        _write_json(
            root, "panoptic", {"images": entries, "annotations": panoptic, "categories": categories}
        )


def _claim(path: Path, about: dict[str, Any]) -> None:
    """Say in the folder what it holds; refuse a folder that holds something else."""
    if path.exists():
        before = read_json(path, what="the description of scenes")
        if before != about:
            known = before if isinstance(before, dict) else {}
            differing = sorted(k for k in {*about, *known} if known.get(k) != about.get(k))
            raise MasqclipError(
                f"{path.parent} holds scenes with another {', '.join(differing)}; choose another "
                "folder, or delete it first"
            )
    write_atomically(path, json.dumps(about, indent=1).encode())


def _segment(region: Region, id_map: np.ndarray, category: dict[str, Any]) -> dict[str, Any]:
    ys, xs = np.nonzero(id_map == region.id)
    x, y = int(xs.min()), int(ys.min())
    return {
        "id": region.id,
        "category_id": category["id"],
        "area": region.area,
        "bbox": [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1],
        "iscrowd": 0,
    }


def _write_png(path: Path, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with writing(path):
            scratch.write_bytes(buffer.getvalue())
            os.replace(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _write_json(root: Path, name: str, content: dict[str, Any]) -> None:
    about = {"info": {"description": "scenes of the miniature world, drawn by masqclip"}}
    write_atomically(root / "annotations" / f"{name}.json", json.dumps(about | content).encode())
