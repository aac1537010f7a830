"""Pascal Context to be measured on: 59 classes (8-bit maps, 255 = ignored) and 459 (16, 65535).

Copies of the dataset differ in the order of their labels. Label pictures are taken to be in the
order of the published lists (``labels_59``, ``labels_459``); where there are none, they are made
from the original ``.mat`` files, in which ``LabelMap`` holds the number of the class in the list of
459, from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.class_lists import read_class_list
from masqclip.data.datasets import Dataset, Part, Progress, convert_labels
from masqclip.data.files import read_bounded
from masqclip.data.truth import GroundTruth, labelled_truth
from masqclip.errors import MasqclipError

_MAX_LIST_BYTES = 16_000_000  # the published list has 5,105 names of 11 letters


def _dataset(name: str, labels: str, about: str, table: NDArray[Any]) -> Dataset:
    """One of the two.

    Args:
        name: of the dataset and its class list.
        labels: the folder of its label pictures.
        about: how they are stored.
        table: the label of each number of the list of 459.
    """

    def convert_number(path: Path) -> NDArray[Any]:
        from scipy.io import loadmat

        try:
            return table[np.asarray(loadmat(path)["LabelMap"])]
        except Exception as error:  # the reader of foreign files raises nearly anything
            raise MasqclipError(f"{path} is no annotation of Pascal Context ({error})") from error

    def convert(sources: Sequence[Path], target: Path, report: Progress) -> None:
        files = {stem: sources[0] / f"{stem}.mat" for stem in _read_names(sources[1])}
        convert_labels(files, target, convert_number, report)

    def read(found: dict[str, Path]) -> GroundTruth:
        classes = read_class_list(name).classes
        return labelled_truth(
            name,
            classes,
            images=found["images"],
            labels=found.get("labels"),
            values={i: entry.id for i, entry in enumerate(classes)},
            stems=_read_names(found["list"]) if "list" in found else None,
        )

    return Dataset(
        name,
        folder="pascal_context_full",
        parts={
            "images": Part(
                "the pictures",
                ("images", "JPEGImages"),
                "the folder JPEGImages of PASCAL VOC 2010",
                ("semantic",),
            ),
            "list": Part(
                "the names of the test pictures",
                ("val.txt",),
                "one name a line, from the page of Pascal Context",
                ("semantic",),
            ),
            "originals": Part(
                "the original .mat files",
                ("trainval",),
                "trainval.tar.gz, from the page of Pascal Context",
            ),
            "labels": Part(
                f"the class maps ({about})",
                (labels, f"masqclip/{labels}"),
                tasks=("semantic",),
                convert=convert,
                inputs=("originals", "list"),
            ),
        },
        pictures=5105,
        read=read,
    )


def _read_names(path: Path) -> list[str]:
    content = read_bounded(path, max_bytes=_MAX_LIST_BYTES, what="the list of test pictures")
    try:
        return content.decode().split()
    except UnicodeDecodeError as error:
        raise MasqclipError(f"{path} is not UTF-8 text: get it again") from error


def _table_459() -> NDArray[np.uint16]:
    table = np.full(1 << 16, 65535, np.uint16)
    table[1:460] = np.arange(459)
    return table


def _table_59() -> NDArray[np.uint8]:
    table = np.full(1 << 16, 255, np.uint8)
    for position, entry in enumerate(read_class_list("pascal-context-59").classes):
        table[entry.category_id] = position
    return table


PASCAL_CONTEXT_59 = _dataset("pascal-context-59", "labels_59", "8 bits, 255 = ignored", _table_59())
PASCAL_CONTEXT_459 = _dataset(
    "pascal-context-459", "labels_459", "16 bits, 65535 = ignored", _table_459()
)
