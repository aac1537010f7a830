"""All datasets that can be measured on by name, and those that people bring themselves."""

from __future__ import annotations

from pathlib import Path

from masqclip.data.ade20k import ADE20K_150, ADE20K_847
from masqclip.data.coco_datasets import COCO_BASE_NOVEL, COCO_INSTANCES, COCO_PANOPTIC
from masqclip.data.coco_truth import coco_truth
from masqclip.data.datasets import Dataset
from masqclip.data.pascal_context import PASCAL_CONTEXT_59, PASCAL_CONTEXT_459
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        COCO_INSTANCES,
        COCO_BASE_NOVEL,
        COCO_PANOPTIC,
        ADE20K_150,
        ADE20K_847,
        PASCAL_CONTEXT_59,
        PASCAL_CONTEXT_459,
    )
}


def find_dataset(name: str) -> Dataset:
    """A published dataset.

    Raises:
        MasqclipError: there is none of that name.
    """
    if name not in DATASETS:
        raise MasqclipError(f"there is no dataset {name!r}: choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


def load_truth(
    name: str, root: Path, *, tasks: tuple[str, ...] = (), images: Path | None = None
) -> GroundTruth:
    """What is true of a dataset, of whichever kind.

    Args:
        name: a published dataset; ``stickers``, a folder that ``masqclip data stickers`` wrote; or
            a COCO file of instances or of panoptic segments (``.json``).
        root: the dataset's folder. For a COCO file not looked at.
        tasks: those that must be possible.
        images: the pictures of a COCO file; the folder of the file's folder, ``images`` beside it
            or above it, by default. Its panoptic maps lie in the folder of its stem.

    Raises:
        MasqclipError: it is not there, or the tasks are not possible with it.
    """
    if name.endswith(".json"):
        truth = _user_file(Path(name), images)
    elif name == "stickers":
        truth = _stickers(root)
    elif name in DATASETS:
        truth = DATASETS[name].load(root, tasks)
    else:
        known = ", ".join((*DATASETS, "stickers"))
        raise MasqclipError(
            f"there is no dataset {name!r}: choose one of {known}, or give a COCO .json file"
        )
    for task in tasks:
        if task not in truth.tasks:
            offered = ", ".join(truth.tasks) or "none"
            raise MasqclipError(f"{name} has no annotations for {task!r}: it has {offered}")
    return truth


def _stickers(folder: Path) -> GroundTruth:
    return coco_truth(
        "stickers",
        images=folder / "images",
        instances=folder / "annotations" / "instances.json",
        panoptic=folder / "annotations" / "panoptic.json",
        panoptic_maps=folder / "panoptic",
    )


def _user_file(path: Path, images: Path | None) -> GroundTruth:
    if images is None:
        guesses = (path.parent / "images", path.parent.parent / "images", path.parent)
        images = next(folder for folder in guesses if folder.is_dir())
    maps = (path.with_suffix(""), path.parent.parent / path.stem)
    return coco_truth(
        path.name,
        images=images,
        either=path,
        panoptic_maps=next((m for m in maps if m.is_dir()), maps[0]),
    )
