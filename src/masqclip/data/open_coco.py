"""Opening annotated pictures of either COCO format, with the classes of a shipped list."""

from __future__ import annotations

from pathlib import Path

from masqclip.data.annotation_files import read_coco_json
from masqclip.data.class_lists import read_class_list
from masqclip.data.coco import CocoInstances, CocoPanoptic, Keep
from masqclip.errors import MasqclipError

#: Datasets with masks to train on.
CocoMasks = CocoInstances | CocoPanoptic


def open_coco(
    data: str | Path, *, images: str | Path | None = None, keep: Keep | None = None
) -> CocoMasks:
    """Open annotations of either format.

    Args:
        data: a folder as "masqclip data stickers" writes it (its panoptic file if there is one), or
            a COCO instances or panoptic JSON file.
        images: the folder of pictures; of a folder, its ``images`` by default.
        keep: which categories to keep, by their JSON entry.

    Raises:
        MasqclipError: there is no such file, it is not COCO's, or nothing says where its pictures
            are, or no category is kept.
    """
    path = Path(data)
    dataset: CocoMasks
    if path.is_dir():
        pictures = Path(images).resolve() if images is not None else "images"
        kind = CocoPanoptic if (path / "annotations/panoptic.json").is_file() else CocoInstances
        dataset = kind(path, keep=keep, images=pictures)
    else:
        if images is None:
            raise MasqclipError(f"say where the pictures of {path} are: --images DIR")
        pictures = Path(images).resolve()
        if _is_panoptic(path):
            dataset = CocoPanoptic(
                path.parent, keep=keep, annotations=path.name, images=pictures, masks=path.stem
            )
        else:
            dataset = CocoInstances(path.parent, keep=keep, annotations=path.name, images=pictures)
    if not dataset.categories.kept:
        known = ", ".join(list(dataset.categories.names.values())[:5])
        raise MasqclipError(f"none of the categories of {path} is kept; it has {known or 'none'}")
    return dataset


def keep_classes(class_list: str) -> Keep:
    """Keep the classes of a shipped list, by name: of a list with splits, the base ones.

    ``keep_classes("coco-base-novel")`` is the 48 base classes of the 48/17 setting, for COCO's own
    files; all other categories go unannotated.

    Raises:
        MasqclipError: no list has that name.
    """
    names = {c.name.strip() for c in read_class_list(class_list).classes if c.split != "novel"}
    return lambda category: str(category["name"]).strip() in names


def _is_panoptic(path: Path) -> bool:
    annotations = read_coco_json(path)["annotations"]
    return bool(annotations) and "segments_info" in annotations[0]
