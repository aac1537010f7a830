"""What a published dataset consists of: where it lies, what is missing, how it is converted.

A dataset is a few `Part`s. A part is there when one of its paths is. What a protocol needs and the
publisher does not ship is made from other parts and goes below the folder ``masqclip``; nothing
else is ever written, so that no file of a user's can be lost.

A conversion is deterministic. Its target comes into being last, whole, so one that was stopped
goes on where it was, and one that is done is never done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from masqclip.data.files import move_folder, sync_folder, write_atomically
from masqclip.data.label_maps import png_bytes
from masqclip.data.locks import lock_folder
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError

#: Called with what is done, and of how much.
Progress = Callable[[int, int], None]
#: (paths of the inputs, where the result goes, progress) -> the result is there.
Convert = Callable[[Sequence[Path], Path, Progress], None]


@dataclass(frozen=True)
class Part:
    """One thing that a dataset consists of.

    Attributes:
        about: what it is, in words.
        paths: where it may lie below the dataset's folder; the first that is there is used.
        source: where to get it.
        tasks: which tasks need it by itself; none = only conversions do.
        convert, inputs: how its last path is made, and the keys of the parts it is made from.
    """

    about: str
    paths: tuple[str, ...]
    source: str = ""
    tasks: tuple[str, ...] = ()
    convert: Convert | None = None
    inputs: tuple[str, ...] = ()

    def find(self, root: Path) -> Path | None:
        """Where it is, if anywhere."""
        return next((root / path for path in self.paths if (root / path).exists()), None)


@dataclass(frozen=True)
class Finding:
    """What a check says of one part: ``there``, ``missing`` or ``convertible``."""

    part: Part
    state: str
    remark: str


@dataclass(frozen=True)
class Dataset:
    """A published dataset.

    Attributes:
        name: as `masqclip evaluate --dataset` takes it.
        folder: what its folder is called; people name it or the one above.
        parts: by key.
        pictures: how many the published test set has; 0 = unknown.
        read: makes the ground truth of the paths of the parts that are there.
    """

    name: str
    folder: str
    parts: dict[str, Part]
    pictures: int
    read: Callable[[dict[str, Path]], GroundTruth]

    def root(self, folder: str | Path) -> Path:
        """The dataset's own folder: the one given, or the one of its name in it.

        Raises:
            MasqclipError: there is no such folder.
        """
        given = Path(folder)
        if not given.is_dir():
            raise MasqclipError(
                f"--root {given}: there is no such folder; 'masqclip data check {self.name}' says "
                "what belongs into it, and where to get it"
            )
        return given / self.folder if (given / self.folder).is_dir() else given

    def check(self, folder: str | Path) -> list[Finding]:
        """Look at every part; where there is no such folder, all are missing."""
        root = self.root(folder) if Path(folder).is_dir() else Path(folder)
        findings = []
        for part in self.parts.values():
            path = part.find(root)
            lacking = [self.parts[key] for key in part.inputs if not self.parts[key].find(root)]
            if path is not None:
                state, remark = "there", str(path.relative_to(root))
            elif part.convert is not None and not lacking:
                state, remark = "convertible", f"--convert makes {part.paths[-1]}"
            elif part.convert is not None:
                state, remark = "missing", f"is made from {', '.join(p.about for p in lacking)}"
            else:
                state, remark = "missing", f"{part.paths[0]}: {part.source}"
            findings.append(Finding(part, state, remark))
        return findings

    def convert(self, folder: str | Path, report: Callable[[str, int, int], None]) -> list[Path]:
        """Make every part that can be made and is not there; returns what was made.

        Args:
            folder: see `root`.
            report: called with what is made, how much of it is done, and of how much.

        Raises:
            MasqclipError: another process is at it, or a part that it is made from is broken.
        """
        root = self.root(folder)
        made = []
        for part in self.parts.values():
            inputs = [self.parts[key].find(root) for key in part.inputs]
            if part.convert is None or part.find(root) or None in inputs:
                continue
            target = root / part.paths[-1]
            sources = [path for path in inputs if path is not None]
            with lock_folder(target.parent):
                part.convert(sources, target, partial(report, part.about))
            made.append(target)
        return made

    def lacking(self, folder: str | Path) -> dict[str, list[Part]]:
        """For each task the parts that it needs and that are not there; none = it is ready."""
        root = self.root(folder)
        tasks = dict.fromkeys(task for part in self.parts.values() for task in part.tasks)
        return {
            task: [p for p in self.parts.values() if task in p.tasks and not p.find(root)]
            for task in tasks
        }

    def load(self, folder: str | Path, tasks: Iterable[str] = ()) -> GroundTruth:
        """Read the annotations.

        Args:
            folder: see `root`.
            tasks: those that must be possible; whatever is there is read.

        Raises:
            MasqclipError: something that the tasks need is not there.
        """
        root = self.root(folder)
        found = {key: path for key, part in self.parts.items() if (path := part.find(root))}
        for key, part in self.parts.items():
            if key not in found and (set(tasks) & set(part.tasks) or key == "images"):
                raise MasqclipError(
                    f"{self.name} in {root} lacks {part.about}: "
                    f"masqclip data check {self.name} --root {folder} says what to do"
                )
        return self.read(found)


def missing_pictures(truth: GroundTruth) -> list[Path]:
    """The pictures that the annotations name and that are not there."""
    return [picture.path for picture in truth.pictures if not picture.path.is_file()]


def convert_labels(
    files: Mapping[str, Path],
    target: Path,
    convert: Callable[[Path], NDArray[Any]],
    report: Progress,
) -> None:
    """Convert label files one by one to PNG, in a folder that gets its name when all are there.

    Args:
        files: by the stem of what each becomes.
        target: the folder.
        convert: a file to its label map.
        report: progress.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    for number, (stem, path) in enumerate(files.items()):
        if Path(stem).name != stem:
            raise MasqclipError(f"{stem!r:.100} is no name of a picture: a name has no folders")
        made = unfinished / f"{stem}.png"
        if not made.exists():
            write_atomically(made, png_bytes(convert(path)))
        report(number + 1, len(files))
    sync_folder(unfinished)
    move_folder(unfinished, target)
    sync_folder(target.parent)
