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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.files import open_regular, write_atomically
from masqclip.data.images import read_image
from masqclip.data.label_maps import png_bytes
from masqclip.errors import MasqclipError
from masqclip.export.label_studio import RegionKind, labeling_config, picture_address
from masqclip.export.yolo import HEAD_BYTES, data_yaml, trainer_suffix
from masqclip.render.palette import name_colour

if TYPE_CHECKING:
    from masqclip.result import Segmentation

Format = Literal["coco", "yolo", "label-studio", "panoptic"]
Images = Literal["copy", "link"]

_LONGEST_STEM = 230  # bytes


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

    def add(self, name: str, result: Segmentation) -> None:
        """Take in one picture, by its path in its folder."""

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
        stem = unique = _shortened("-".join(Path(name).with_suffix("").parts))
        number = 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        stems[name] = unique
    return stems


def _shortened(stem: str) -> str:
    """A stem that leaves room for a suffix in the 255 bytes that the name of a file may have."""
    content = os.fsencode(stem)
    if len(content) <= _LONGEST_STEM:
        return stem
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: _LONGEST_STEM - 17].decode('utf-8', 'ignore')}-{digest}"


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

    def add(self, name: str, result: Segmentation) -> None:
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

    def add(self, name: str, result: Segmentation) -> None:
        """See `DatasetWriter`."""
        file = f"{self._stems[name]}.png"
        info = result.segments_info(self._images.category_ids)
        write_atomically(self._out / "panoptic" / file, result.panoptic_png())
        number = self._images.add(name, result)
        self._annotations.append({"image_id": number, "file_name": file, "segments_info": info})

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
        self._yaml()  # a name that it cannot hold is told before the work

    def add(self, name: str, result: Segmentation) -> None:
        """See `DatasetWriter`."""
        part, other = "train", "val"
        if name in self._validation:
            part, other = other, part
        text = "".join(f"{line}\n" for line in result.to_yolo())
        stem, source = self._stems[name], self._folder / name
        suffix = trainer_suffix(source.suffix, _head(source))
        file, text_file = f"{stem}{suffix or '.png'}", f"{stem}.txt"
        # A folder that has grown is parted anew.
        (self._out / "images" / other / file).unlink(missing_ok=True)
        (self._out / "labels" / other / text_file).unlink(missing_ok=True)
        picture = self._out / "images" / part / file
        if suffix is None:
            _convert(source, picture)
        elif self._link:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.unlink(missing_ok=True)
            picture.symlink_to(source.resolve())
        elif not _is_copy(picture, source):
            _copy(source, picture)
        write_atomically(self._out / "labels" / part / text_file, text.encode())

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

    def add(self, name: str, result: Segmentation) -> None:
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
        colours = {name: name_colour(name) for name in self.words.names}
        return labeling_config(colours, self.settings.regions)


def _is_copy(copy: Path, source: Path) -> bool:
    """Whether a copy is that of the file as it is now: a copy has the time of its original."""
    if not copy.exists():
        return False
    ours, theirs = copy.stat(), source.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _head(source: Path) -> bytes:
    """How a picture's file begins."""
    with open_regular(source, name=str(source)) as file:
        return file.read(HEAD_BYTES)


def _convert(source: Path, copy: Path) -> None:
    """The picture as a PNG, upright, as its masks are; anew each time, as bytes do not tell of what
    picture a PNG was made.
    """
    write_atomically(copy, png_bytes(read_image(source).pixels))


def _copy(source: Path, copy: Path) -> None:
    try:
        times = source.stat()
        content = source.read_bytes()
    except OSError as error:
        raise MasqclipError(f"{source}: cannot be read ({error.strerror or error})") from error
    write_atomically(copy, content)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))


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
