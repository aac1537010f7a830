"""Opening annotated pictures of either COCO format, with the classes of a shipped list."""

from __future__ import annotations

import os
from pathlib import Path

from masqclip.data.class_lists import read_class_list
from masqclip.data.coco import CocoInstances, CocoPanoptic, Keep
from masqclip.data.coco_files import read_coco
from masqclip.data.stickers.drawn import DrawnScenes
from masqclip.data.stickers.source import is_sticker_address, parse_sticker_address
from masqclip.errors import MasqclipError

#: Datasets with masks in files, to train and to be judged on.
CocoFiles = CocoInstances | CocoPanoptic
#: Datasets with masks to train on.
CocoMasks = CocoFiles | DrawnScenes


def open_coco(
    data: str | Path, *, images: str | Path | None = None, keep: Keep | None = None
) -> CocoMasks:
    """Open annotations of either format.

    Args:
        data: a folder as "masqclip data stickers" writes it (its panoptic file if there is one), a
            COCO instances or panoptic JSON file, or ``stickers:...``, scenes to draw.
        images: the folder of pictures; of a folder, its ``images`` by default.
        keep: which categories to keep, by their JSON entry.

    Raises:
        MasqclipError: there is no such file, it is not COCO's, or nothing says where its pictures
            are, no category is kept, or no mask of those that are.
    """
    if is_sticker_address(data):
        return DrawnScenes(parse_sticker_address(data), keep=keep)
    path = Path(data)
    dataset: CocoFiles
    if path.is_dir():
        pictures = Path("images" if images is None else os.path.realpath(images))
        kind = CocoPanoptic if (path / "annotations/panoptic.json").is_file() else CocoInstances
        dataset = kind(path, keep=keep, images=pictures)
    elif images is None:
        raise MasqclipError(f"say where the pictures of {path} are: --images DIR")
    else:
        folder, pictures = path.parent, Path(os.path.realpath(images))
        content = read_coco(path, pictures)
        if content.kind == "panoptic":
            dataset = CocoPanoptic(
                folder, keep=keep, annotations=content, images=pictures, masks=path.stem
            )
        else:
            dataset = CocoInstances(folder, keep=keep, annotations=content, images=pictures)
    _check_left(dataset, path)
    return dataset


def _check_left(dataset: CocoFiles, path: Path) -> None:
    """Refuse a dataset of which nothing is left to learn from."""
    categories = dataset.categories
    if not categories.kept:
        known = ", ".join(list(categories.names.values())[:5])
        raise MasqclipError(f"none of the categories of {path} is kept; it has {known or 'none'}")
    if any(categories.masks[category] for category in categories.kept):
        return
    others = sum(categories.masks.values())
    crowds = sum(categories.crowds.values())
    reasons = [
        f"{others} masks of other categories" if others else "",
        f"{crowds} crowds" if crowds else "",
        *dataset.notes,
    ]
    said = "; ".join(reason for reason in reasons if reason) or "it has no annotation"
    raise MasqclipError(f"{path} holds no mask to learn from: {said}")


def keep_classes(class_list: str) -> Keep:
    """Keep the classes of a shipped list, by name: of a list with splits, the base ones.

    ``keep_classes("coco-base-novel")`` is the 48 base classes of the 48/17 setting, for COCO's own
    files; all other categories go unannotated.

    Raises:
        MasqclipError: no list has that name.
    """
    names = {c.name.strip() for c in read_class_list(class_list).classes if c.split != "novel"}
    return lambda category: str(category["name"]).strip() in names
