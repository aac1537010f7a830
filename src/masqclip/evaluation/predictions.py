"""Predictions of pictures on disk, in formats that other tools read, and what they are made by.

    DIR/manifest.json         model, dataset, vocabulary, protocol, and a hash for each task
    DIR/instance/7.json       entries of a COCO results file
    DIR/semantic/7.png        places of classes in the dataset's list; 255 or 65535 = unlabelled
    DIR/panoptic/7.png, .json COCO's panoptic colours and their segments_info
    DIR/masks/7.json          how each true mask was named      (``--oracle masks``)
    DIR/classes/7.json        how well each true mask is found  (``--oracle classes``)

A picture of a task is done when its last file is there; every file is written whole. So a run that
was stopped goes on, several processes may fill one folder, and figures are read from it without the
model, one picture at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.name_limits import DEFAULT_LIMITS
from masqclip.clip.saved_vocabulary import from_json
from masqclip.data.files import write_atomically
from masqclip.data.json_files import read_json
from masqclip.data.label_maps import ids_to_rgb, png_bytes, read_labels, read_segment_ids
from masqclip.errors import MasqclipError
from masqclip.export.panoptic import semantic_png

Segments = list[dict[str, Any]]

_MAX_BYTES = 1_000_000_000  # of one picture's predictions
# What looking into a document of another shape ends in.
_MISFITS = (KeyError, TypeError, AttributeError, ValueError)


@dataclass(frozen=True)
class PredictionFolder:
    """A folder of predictions."""

    path: Path

    def manifest(self) -> dict[str, Any]:
        """What the predictions are of, and what made them.

        Raises:
            MasqclipError: there is none, or it is broken.
        """
        file = self.path / "manifest.json"
        if not file.exists():
            raise MasqclipError(f"{self.path} holds no predictions: {file} is missing")
        try:
            found = read_json(file, what="the manifest", max_bytes=_MAX_BYTES)
            _check_manifest(found)
        except (MasqclipError, *_MISFITS) as error:
            raise MasqclipError(f"{file} cannot be read ({error}): predict again") from error
        return dict(found)

    def claim(self, manifest: dict[str, Any]) -> None:
        """Say in the folder what it holds; what it held of other tasks stays.

        Raises:
            MasqclipError: it holds predictions of another model, dataset or protocol.
        """
        tasks = dict(manifest["tasks"])
        if (self.path / "manifest.json").exists():
            before = self.manifest()
            for key in ("model", "dataset", "split", "vocabulary", "images"):
                if before.get(key) != manifest[key]:
                    raise MasqclipError(
                        f"{self.path} holds predictions with another {key}: "
                        "choose another folder, or delete it"
                    )
            for task, made in before["tasks"].items():
                if tasks.get(task, made)["hash"] != made["hash"]:
                    raise MasqclipError(
                        f"{self.path} holds {task} predictions of the protocol {made['hash']}, not "
                        f"{tasks[task]['hash']}: choose another folder, or delete it"
                    )
            tasks = {**before["tasks"], **tasks}
        whole = {**manifest, "tasks": tasks}
        write_atomically(self.path / "manifest.json", (json.dumps(whole, indent=1) + "\n").encode())

    def has(self, task: str, picture: int) -> bool:
        """Whether a picture of a task is done."""
        return self._file(task, picture, "png" if task == "semantic" else "json").exists()

    def write_records(self, task: str, picture: int, records: list[dict[str, Any]]) -> None:
        """Instances as entries of a COCO results file, or an oracle's records."""
        write_atomically(self._file(task, picture, "json"), json.dumps(records).encode())

    def read_records(self, task: str, picture: int) -> list[dict[str, Any]]:
        """What `write_records` wrote."""
        file = self._file(task, picture, "json")
        return _list_of_objects(file, self._read(file))

    def write_semantic(self, picture: int, classes: NDArray[Any], num_classes: int) -> None:
        """A class map [H,W]; -1 = unlabelled."""
        content = semantic_png(classes, num_classes)
        write_atomically(self._file("semantic", picture, "png"), content)

    def read_semantic(self, picture: int, num_classes: int) -> NDArray[np.int32]:
        """What `write_semantic` wrote."""
        labels = read_labels(self._file("semantic", picture, "png"))
        return np.where(labels < num_classes, labels, -1)

    def write_panoptic(self, picture: int, ids: NDArray[Any], segments: Segments) -> None:
        """Segment ids [H,W], 0 = void, and what each is."""
        name = self._file("panoptic", picture, "png")
        write_atomically(name, png_bytes(ids_to_rgb(ids)))
        document = {"file_name": name.name, "segments_info": segments}
        write_atomically(name.with_suffix(".json"), json.dumps(document).encode())

    def read_panoptic(self, picture: int) -> tuple[NDArray[np.int32], Segments]:
        """What `write_panoptic` wrote."""
        name = self._file("panoptic", picture, "png")
        file = name.with_suffix(".json")
        document = self._read(file)
        segments = document.get("segments_info") if isinstance(document, dict) else None
        return read_segment_ids(name), _list_of_objects(file, segments)

    def _file(self, task: str, picture: int, suffix: str) -> Path:
        return self.path / task / f"{picture}.{suffix}"

    def _read(self, file: Path) -> Any:
        try:
            return read_json(file, what="the prediction", max_bytes=_MAX_BYTES)
        except MasqclipError as error:
            raise MasqclipError(
                f"the prediction {file} cannot be read ({error}): delete it and predict again"
            ) from error


def _list_of_objects(file: Path, found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise MasqclipError(
            f"the prediction {file} cannot be read (no list of objects): delete it and "
            "predict again"
        )
    return found


def _check_manifest(found: Any) -> None:
    """See that a manifest holds what is asked of it, or raise one of `_MISFITS`."""
    for made in found["tasks"].values():
        _ = made["hash"], dict(made["protocol"])
    _ = dict(found["model"])["name"], found["dataset"] + found["split"], found["pictures"] + 0
    from_json(found["vocabulary"], source="its vocabulary", limits=DEFAULT_LIMITS)
