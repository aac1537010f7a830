"""What a run trains on and starts from, told by digests, so that nothing is mixed on going on.

A run's folder holds them from its first moment, in ``inputs.json``; and so does every checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from masqclip.data.files import write_atomically
from masqclip.data.json_files import read_json
from masqclip.data.stickers.drawn import DrawnScenes
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.data.open_coco import CocoFiles, CocoMasks
    from masqclip.training.settings import FrameSettings

FILE_NAME = "inputs.json"


def dataset_inputs(dataset: CocoMasks, held_out: CocoFiles | None) -> dict[str, str]:
    """The data of a stage, by the names of its options."""
    found = {"--data": dataset.fingerprint()}
    if held_out is not None:
        found["--held-out"] = held_out.fingerprint()
    return found


def dataset_notes(dataset: CocoMasks, held_out: CocoFiles | None) -> tuple[str, ...]:
    """What is to be said of a stage's annotations, each line once: both may be of one file."""
    notes = [*dataset.notes, *(held_out.notes if held_out is not None else ())]
    return (*dict.fromkeys(notes), *_seen_pictures(dataset, held_out))


def _seen_pictures(dataset: CocoMasks, held_out: CocoFiles | None) -> list[str]:
    """A line if pictures that are to be evaluated on are trained on, too."""
    if held_out is None or isinstance(dataset, DrawnScenes):
        return []
    if not held_out.image_folder.exists() or not held_out.image_folder.samefile(
        dataset.image_folder
    ):
        return []
    trained, judged = (
        {str(files.entry(row)["file_name"]) for row in range(len(files))}
        for files in (dataset, held_out)
    )
    if not (seen := len(trained & judged)):
        return []
    return [
        f"{seen} of {len(judged)} held-out pictures are trained on, too: figures of them tell "
        "nothing of new ones"
    ]


def dataset_size(dataset: CocoMasks) -> dict[str, int]:
    """How many pictures there are, of a dataset that has an end."""
    return {"sources of drawn scenes": 1} if dataset.endless else {"pictures": len(dataset)}


def annotated_pictures(
    dataset: CocoMasks, settings: FrameSettings
) -> tuple[CocoMasks, tuple[str, ...]]:
    """The pictures of a dataset that a stage trains on, see `FrameSettings.filter_empty`.

    Returns:
        They, and a line that says how many were left out, if any were.

    Raises:
        MasqclipError: none is left.
    """
    if not settings.filter_empty:
        return dataset, ()
    total, found = len(dataset), dataset.annotated()
    if len(found) == 0:
        raise MasqclipError(
            f"none of the {total} pictures of {dataset.folder} has an annotation of a kept "
            "category that is no crowd; filter_empty=false trains on them all the same"
        )
    if len(found) == total:
        return dataset, ()
    left_out = f"{total - len(found)} of {total} pictures, without an annotation to learn from"
    return found, (f"{dataset.folder}: left out: {left_out} (filter_empty)",)


def claim_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    """Write down a run's inputs in its folder; refuse a folder of a run with others.

    Args:
        folder: of the run.
        inputs: what each input is called, and its digest.

    Raises:
        MasqclipError: it is a run with other inputs, or nothing says with which.
    """
    path = folder / FILE_NAME
    if path.exists():
        check_inputs(path, read_json(path, what="the run's inputs"), inputs)
        return
    if any((folder / "checkpoints").glob("step-*.pt")):
        raise MasqclipError(
            f"{folder} holds a run, but no {FILE_NAME} that says what it was trained on: choose "
            "another --out"
        )
    write_atomically(path, (json.dumps(dict(inputs), indent=1) + "\n").encode())


def check_inputs(path: Path, before: object, now: Mapping[str, str]) -> None:
    """Compare the inputs that a file states with those of now.

    Raises:
        MasqclipError: they differ; the line says which.
    """
    known = before if isinstance(before, dict) else {}
    differing = [name for name in (*now, *known) if known.get(name) != now.get(name)]
    if differing:
        raise MasqclipError(
            f"{path} is of a run with other content of {', '.join(dict.fromkeys(differing))}; give "
            "the same to go on, or choose another --out"
        )
