"""What each dataset format writes: files for every picture, and files for all of them.

    coco          annotations.json
    panoptic      panoptic.json, panoptic/NAME.png
    yolo          data.yaml, images/train/NAME.jpg, labels/train/NAME.txt; the same under val;
                  pictures that trainers do not open become images/train/NAME.png
    label-studio  tasks.json, config.xml

Where pictures stay in their own folder, the files name them by their path in it. The results of the
same pictures always give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.digests import digest_bytes, digest_file
from masqclip.data.files import open_regular, read_bounded, short_stem, write_atomically
from masqclip.data.images import MAX_FILE_BYTES, read_image
from masqclip.data.label_maps import png_bytes
from masqclip.errors import MasqclipError
from masqclip.export.label_studio import RegionKind, labeling_config, picture_address
from masqclip.export.yolo import HEAD_BYTES, data_yaml, trainer_suffix
from masqclip.render.palette import vocabulary_colours

if TYPE_CHECKING:
    from masqclip.result import Segmentation

Format = Literal["coco", "yolo", "label-studio", "panoptic"]
Images = Literal["copy", "link"]

_SUFFIX = 25  # bytes of a file's name that are left for what follows its stem


@dataclass(frozen=True)
class FormatSettings:
    """What a format may be asked for; each heeds what concerns it.

    Attributes:
        validation: the share of pictures that YOLO validates on, 0 to 1.
        images: whether YOLO's folders hold copies of the pictures or links to them; what trainers
            do not open is converted to PNG either way.
        regions: what a mask is in Label Studio.
        image_url: what stands before a picture's path in Label Studio's tasks; by default the
            address under which it serves local files, with the folder's name.
        model: what Label Studio calls the maker of the predictions.

    Raises:
        MasqclipError: the share is no share.
    """

    validation: float = 0.2
    images: Images = "copy"
    regions: RegionKind = "brush"
    image_url: str | None = None
    model: str = "masqclip"

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise MasqclipError(
                f"a share of {self.validation:g} pictures to validate on: give 0 to less than 1"
            )


class DatasetWriter(Protocol):
    """Writes one dataset; pictures come in their order, each once."""

    def files(self, name: str) -> tuple[str, ...]:
        """The files that are this picture's alone, by their paths in the dataset's folder."""

    def add(self, name: str, digest: str, result: Segmentation) -> None:
        """Take in one picture, by its path in its folder and the digest of its bytes."""

    def finish(self) -> Path:
        """Write what concerns all pictures; returns the file that tools open."""


def dataset_writer(
    kind: Format,
    *,
    folder: Path,
    out: Path,
    names: Sequence[str],
    words: Vocabulary,
    settings: FormatSettings,
) -> DatasetWriter:
    """The writer of a format.

    Args:
        kind: the format.
        folder: where the pictures are.
        out: where the dataset goes.
        names: of all pictures, readable or not: their paths in the folder.
        words: the vocabulary, whose order numbers the classes.
        settings: of the format.
    """
    if kind == "coco":
        return CocoWriter(out, words)
    if kind == "panoptic":
        return PanopticWriter(out, words, flat_stems(names))
    if kind == "yolo":
        return YoloWriter(folder, out, names, words, settings)
    return LabelStudioWriter(folder, out, words, settings)


def flat_stems(names: Sequence[str]) -> dict[str, str]:
    """A name without folders and suffix for each picture: ``a/b.jpg`` becomes ``a-b``.

    What would be called the same (by letter case as well) gets ``-2``, ``-3`` and so on.
    """
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = unique = short_stem("-".join(Path(name).with_suffix("").parts), _SUFFIX)
        number = 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        stems[name] = unique
    return stems


class _CocoImages:
    """The ``images`` and ``categories`` of a COCO file; both are numbered from 1."""

    def __init__(self, words: Vocabulary) -> None:
        self.entries: list[dict[str, Any]] = []
        self.category_ids = [i + 1 for i in range(len(words))]
        self.categories = [
            {"id": i + 1, "name": category.name, "isthing": int(category.thing)}
            for i, category in enumerate(words.categories)
        ]

    def add(self, name: str, result: Segmentation) -> int:
        """Returns the picture's id."""
        height, width = result.image.shape[:2]
        number = len(self.entries) + 1
        self.entries.append({"id": number, "file_name": name, "height": height, "width": width})
        return number

    def write(self, path: Path, annotations: list[dict[str, Any]]) -> Path:
        """The whole file."""
        document = {
            "info": {"description": "masks that masqclip found; a model's guesses"},
            "images": self.entries,
            "annotations": annotations,
            "categories": self.categories,
        }
        write_atomically(path, json.dumps(document).encode())
        return path


class CocoWriter:
    """COCO instances, masks as compressed run lengths."""

    def __init__(self, out: Path, words: Vocabulary) -> None:
        self._path = out / "annotations.json"
        self._images = _CocoImages(words)
        self._annotations: list[dict[str, Any]] = []

    def files(self, name: str) -> tuple[str, ...]:
        """See `DatasetWriter`."""
        return ()

    def add(self, name: str, digest: str, result: Segmentation) -> None:
        """See `DatasetWriter`."""
        # Nothing of a picture that fails is left.
        entries = result.to_coco(len(self._images.entries) + 1, self._images.category_ids)
        self._images.add(name, result)
        for entry in entries:
            self._annotations.append({"id": len(self._annotations) + 1, **entry, "iscrowd": 0})

    def finish(self) -> Path:
        """See `DatasetWriter`."""
        return self._images.write(self._path, self._annotations)


class PanopticWriter:
    """COCO panoptic: a PNG a picture, whose colours are the segments' ids."""

    def __init__(self, out: Path, words: Vocabulary, stems: dict[str, str]) -> None:
        self._out, self._stems = out, stems
        self._images = _CocoImages(words)
        self._annotations: list[dict[str, Any]] = []

    def files(self, name: str) -> tuple[str, ...]:
        """See `DatasetWriter`."""
        return (f"panoptic/{self._stems[name]}.png",)

    def add(self, name: str, digest: str, result: Segmentation) -> None:
        """See `DatasetWriter`."""
        (file,) = (self._out / file for file in self.files(name))
        info = result.segments_info(self._images.category_ids)
        write_atomically(file, result.panoptic_png())
        number = self._images.add(name, result)
        self._annotations.append(
            {"image_id": number, "file_name": file.name, "segments_info": info}
        )

    def finish(self) -> Path:
        """See `DatasetWriter`."""
        return self._images.write(self._out / "panoptic.json", self._annotations)


class YoloWriter:
    """YOLO segmentation: pictures, and a text file each, in folders to train and to validate on."""

    def __init__(
        self,
        folder: Path,
        out: Path,
        names: Sequence[str],
        words: Vocabulary,
        settings: FormatSettings,
    ) -> None:
        self._folder, self._out, self._words = folder, out, words
        self._link = settings.images == "link"
        self._stems = flat_stems(names)
        self._validation = _validation_names(names, settings.validation)
        self._suffixes: dict[str, str | None] = {}
        self._yaml()  # a name that it cannot hold is told before the work

    def files(self, name: str) -> tuple[str, ...]:
        """See `DatasetWriter`."""
        part = "val" if name in self._validation else "train"
        stem, suffix = self._stems[name], self._suffix(name)
        return f"images/{part}/{stem}{suffix or '.png'}", f"labels/{part}/{stem}.txt"

    def _suffix(self, name: str) -> str | None:
        """What trainers look for the picture under; None of one that they do not open."""
        if name not in self._suffixes:
            source = self._folder / name
            self._suffixes[name] = trainer_suffix(source.suffix, _head(source))
        return self._suffixes[name]

    def add(self, name: str, digest: str, result: Segmentation) -> None:
        """See `DatasetWriter`."""
        text = "".join(f"{line}\n" for line in result.to_yolo())
        picture, text_file = (self._out / file for file in self.files(name))
        source = self._folder / name
        if self._suffix(name) is None:
            _convert(source, picture, digest)
        elif self._link:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.unlink(missing_ok=True)
            _symlink(source, picture)
        elif not _is_copy(picture, digest):
            _copy(source, picture, digest)
        write_atomically(text_file, text.encode())

    def finish(self) -> Path:
        """See `DatasetWriter`."""
        path = self._out / "data.yaml"
        write_atomically(path, self._yaml().encode())
        return path

    def _yaml(self) -> str:
        val = "images/val" if self._validation else "images/train"
        return data_yaml(self._words.names, train="images/train", val=val)


@dataclass
class LabelStudioWriter:
    """Label Studio: tasks with predictions, and the labelling interface that shows them."""

    folder: Path
    out: Path
    words: Vocabulary
    settings: FormatSettings
    _tasks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._config()  # a name that it cannot hold is told before the work

    def files(self, name: str) -> tuple[str, ...]:
        """See `DatasetWriter`."""
        return ()

    def add(self, name: str, digest: str, result: Segmentation) -> None:
        """See `DatasetWriter`."""
        url = self.settings.image_url
        if url is None:
            url = picture_address("/data/local-files/?d=", f"{self.folder.resolve().name}/")
        regions = result.to_label_studio(self.settings.regions)
        scores = [segment.score for segment in result.segments]
        prediction = {
            "model_version": self.settings.model,
            "score": round(sum(scores) / len(scores), 4) if scores else 0.0,
            "result": regions,
        }
        address = picture_address(url, name)
        self._tasks.append({"data": {"image": address}, "predictions": [prediction]})

    def finish(self) -> Path:
        """See `DatasetWriter`."""
        write_atomically(self.out / "config.xml", self._config().encode())
        path = self.out / "tasks.json"
        write_atomically(path, json.dumps(self._tasks).encode())
        return path

    def _config(self) -> str:
        colours = vocabulary_colours(self.words.names)
        return labeling_config(colours, self.settings.regions)


def _is_copy(copy: Path, digest: str) -> bool:
    """Whether there is a copy of the picture with this digest: by its bytes.

    Not by size and time: a name in the dataset may have been another picture's in an earlier run.
    """
    return copy.is_file() and digest_file(copy) == digest


def _head(source: Path) -> bytes:
    """How a picture's file begins."""
    with open_regular(source, name=str(source)) as file:
        return file.read(HEAD_BYTES)


def _convert(source: Path, copy: Path, digest: str) -> None:
    """The picture as a PNG, upright, as its masks are; anew each time, as bytes do not tell of what
    picture a PNG was made.
    """
    content = _unchanged(source, digest)
    write_atomically(copy, png_bytes(read_image(content, name=str(source)).pixels))


def _symlink(source: Path, link: Path) -> None:
    try:
        link.symlink_to(source.resolve())
    except OSError as error:
        if sys.platform != "win32":
            raise
        raise MasqclipError(
            f"{link}: no link can be made here ({error.strerror}): switch on Windows' developer "
            "mode, or copy the pictures (--images copy)"
        ) from error


def _copy(source: Path, copy: Path, digest: str) -> None:
    content = _unchanged(source, digest)
    times = source.stat()
    write_atomically(copy, content)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))


def _unchanged(source: Path, digest: str) -> bytes:
    """The bytes of a picture, which must be those that were labelled."""
    content = read_bounded(source, max_bytes=MAX_FILE_BYTES)
    if digest_bytes(content) != digest:
        raise MasqclipError(f"{source}: changed after it was labelled; give the same command again")
    return content


def _validation_names(names: Sequence[str], share: float) -> frozenset[str]:
    """A share of the names, at least one where there are two, chosen by their hashes.

    By hashes, because neighbours in a folder are often frames of one film; and without a seed, so
    that the same folder is always parted alike.
    """
    if share == 0 or len(names) < 2:
        return frozenset()
    count = min(max(1, round(share * len(names))), len(names) - 1)
    by_hash = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return frozenset(by_hash[:count])
