"""A folder of pictures becomes a dataset; interrupted, the same call goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masqclip.clip.saved_vocabulary import to_json
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.files import remove_scratch, write_atomically
from masqclip.data.folders import LeftOut
from masqclip.data.images import LoadedImage, find_images, read_image
from masqclip.data.label_maps import png_bytes
from masqclip.data.locks import lock_folder
from masqclip.errors import MasqclipError
from masqclip.labelling.formats import DatasetWriter, Format, FormatSettings, dataset_writer
from masqclip.labelling.journal import FILE_NAME as JOURNAL_NAME
from masqclip.labelling.journal import Journal, PictureFile, read_picture
from masqclip.labelling.written import WrittenFiles
from masqclip.options import check_count, check_countable, check_share, check_task
from masqclip.render.sheet import contact_sheet
from masqclip.result import Segmentation, Task
from masqclip.word_levels import words_at

if TYPE_CHECKING:
    from PIL import Image

    from masqclip.segmenter import Segmenter

SHEET_PICTURES = 24
_SHEET_CELL = 384  # pixels


@dataclass
class LabelledFolder:
    """What a job has done.

    Attributes:
        pictures: labelled, now or earlier.
        segments: in all of them.
        failed: pictures that could not be read, and why.
        dataset: the file that tools open.
        sheet: pictures with their masks, to look at.
    """

    pictures: int = 0
    segments: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    dataset: Path | None = None
    sheet: Path | None = None


def default_task(kind: Format) -> Task:
    """The task whose results a format is made for."""
    return "panoptic" if kind == "panoptic" else "instance"


def find_pictures(folder: Path, out: Path, left_out: LeftOut | None = None) -> list[str]:
    """The paths, in their folder, of all its pictures; what lies in `out` is none of them.

    Args:
        folder: searched with its sub-folders, linked ones too.
        out: where the dataset goes.
        left_out: takes what is passed over, to be told.

    Raises:
        MasqclipError: there is no such folder, no picture in it, or `out` is the folder itself.
    """
    if not folder.is_dir():
        raise MasqclipError(f"{folder}: no such folder; name one that holds pictures")
    results = os.path.realpath(out)
    if results == os.path.realpath(folder):
        raise MasqclipError(f"{out}: holds the pictures; name another folder for the dataset")
    tally = LeftOut() if left_out is None else left_out
    # Links may lead to datasets of ours within the folder: their pictures are none of its own.
    is_dataset = cache(lambda parent: (parent / JOURNAL_NAME).exists())
    names = []
    for path in find_images([folder], recursive=True, left_out=left_out):
        name = path.relative_to(folder).as_posix()
        if os.path.realpath(path).startswith(results + os.sep):
            continue
        within = path.parents[: len(path.relative_to(folder).parents) - 1]
        if any(is_dataset(parent) for parent in within):
            tally.add("results of an earlier labelling", name, picture=False)
        else:
            names.append(name)
    if not names:
        raise MasqclipError(f"{folder}: holds no picture but those of the dataset in {out}")
    return names


def label_folder(
    folder: Path,
    names: Sequence[str],
    words: Vocabulary,
    *,
    out: Path,
    load: Callable[[], Segmenter],
    kind: Format = "coco",
    task: Task | None = None,
    min_score: float | None = None,
    level: int | None = None,
    batch_size: int = 1,
    settings: FormatSettings | None = None,
    about: Mapping[str, Any] | None = None,
    weights: Callable[[], str] | None = None,
    report: Callable[[int, str], None] | None = None,
) -> LabelledFolder:
    """Label pictures of a folder and write them as a dataset.

    Every picture's result goes to a journal in `out` as soon as it is there. After a kill, the same
    call does what is missing and leaves the same files as one run would. Pictures that cannot be
    read or drawn, whatever the reason, are listed in ``failed.json`` and tried again by the next
    call.

    Args:
        folder: where the pictures are.
        names: of the pictures, as `find_pictures` gives them.
        words: what to look for.
        out: the folder to write; new, empty, or left by an earlier call.
        load: gives the segmenter; called only if there is something to do.
        kind: the format.
        task: see `Segmenter`; `default_task` of the format unless given.
        min_score: what scores less is left out.
        level: of the vocabulary's hierarchy that is labelled, 0 = the widest names.
        batch_size: pictures at a time.
        settings: of the format.
        about: what else results depend on, such as the model's name.
        weights: gives the digest of the model's weights (`digest_model`), so that others under the
            same name are refused.
        report: called with the number of pictures done, and what the last ones hold.

    Raises:
        MasqclipError: no picture can be read, `out` holds something else, another process is at
            work in it, an option is none, the format needs another task, it cannot hold a name, or
            no name has instances and they are asked for.
    """
    settings, task = settings or FormatSettings(), check_task(task or default_task(kind))
    check_count(batch_size, what="batch_size")
    if min_score is not None:
        min_score = check_share(min_score, what="min_score")
    if kind == "panoptic" and task != "panoptic":
        raise MasqclipError(f"the format panoptic holds no {task} masks; ask for task panoptic")
    reported = words if level is None else words_at(words, level)
    check_countable(reported, task)
    basis = {
        "folder": str(folder.resolve()),
        "format": kind,
        "task": task,
        "vocabulary": to_json(words.document()),
        "least score": min_score,
        **({} if level is None else {"level": level}),
        **asdict(settings),
        **(about or {}),
    }
    # It refuses names that the format cannot hold: before anything is written.
    writer = dataset_writer(
        kind, folder=folder, out=out, names=names, words=reported, settings=settings
    )
    segmenter: Segmenter | None = None

    def segment(images: Sequence[LoadedImage]) -> Iterator[Segmentation]:
        nonlocal segmenter
        segmenter = segmenter or load()
        return segmenter.stream(
            images, words, task, batch_size=batch_size, min_score=min_score, level=level
        )

    with lock_folder(out):
        journal = Journal(out, basis, weights)
        remove_scratch(out)
        written = WrittenFiles(out)
        done = LabelledFolder()
        results = _results(folder, names, journal, batch_size, segment, done.failed)
        thumbnails = _write_pictures(folder, names, writer, written, results, done, report)
        _write_failed(out / "failed.json", done.failed)
        if not done.pictures:
            first = next(iter(done.failed.values()))
            raise MasqclipError(
                f"none of the {len(names)} pictures can be read; the first: {first}"
            )
        done.dataset = writer.finish()
        labelled = [name for name in names if name not in done.failed]
        written.keep(file for name in labelled for file in writer.files(name))
        sheet_file = out / "contact-sheet.png"
        sheet_file.unlink(missing_ok=True)
        if thumbnails:
            done.sheet = sheet_file
            captions = [_printable(name) for name in thumbnails]
            sheet = contact_sheet(list(thumbnails.values()), captions, cell=_SHEET_CELL)
            write_atomically(done.sheet, png_bytes(sheet))
    return done


def _write_pictures(
    folder: Path,
    names: Sequence[str],
    writer: DatasetWriter,
    written: WrittenFiles,
    results: Iterable[tuple[str, str, Segmentation]],
    done: LabelledFolder,
    report: Callable[[int, str], None] | None,
) -> dict[str, Image.Image]:
    """Hand every result to the writer and count it; returns the pictures of the contact sheet."""
    shown = _evenly(names, SHEET_PICTURES)
    thumbnails: dict[str, Image.Image] = {}
    for name, digest, result in results:
        try:
            if name in shown:
                thumbnails[name] = _thumbnail(read_image(folder / name), result)
            written.claim(writer.files(name))
            writer.add(name, digest, result)
        except OSError:  # of the disk that is written to, not of the picture
            raise
        except Exception as error:
            thumbnails.pop(name, None)
            done.failed[name] = _reason(folder / name, error)
            continue
        done.pictures += 1
        done.segments += len(result)
        if report is not None:
            report(done.pictures + len(done.failed), f"{name}: {result.summary()}")
    return thumbnails


def _results(
    folder: Path,
    names: Sequence[str],
    journal: Journal,
    batch_size: int,
    segment: Callable[[Sequence[LoadedImage]], Iterator[Segmentation]],
    failed: dict[str, str],
) -> Iterator[tuple[str, str, Segmentation]]:
    """Every readable picture, its file's digest and its result, from the journal or new.

    The others go to `failed`. A result is always read back from its line in the journal, so that a
    new one and an old one cannot differ.
    """
    for first in range(0, len(names), batch_size):
        batch = names[first : first + batch_size]
        known = {name: journal.find(name, folder / name) for name in batch}
        if None in known.values():
            # All of the batch: who is in it may change the last bit of a score.
            loaded: dict[str, LoadedImage] = {}
            files: dict[str, PictureFile] = {}
            for name in batch:
                try:
                    files[name], content = read_picture(folder / name)
                    loaded[name] = read_image(content, name=str(folder / name))
                except Exception as error:
                    if known[name] is None:
                        failed[name] = _reason(folder / name, error)
            for name, result in _segmented(folder, loaded, segment, failed):
                if known[name] is None:
                    known[name] = journal.add(name, files[name], result.to_json())
                    failed.pop(name, None)
        for name, picture in known.items():
            if picture is not None:
                yield name, picture.digest, Segmentation.from_json(picture.result)


def _segmented(
    folder: Path,
    loaded: Mapping[str, LoadedImage],
    segment: Callable[[Sequence[LoadedImage]], Iterator[Segmentation]],
    failed: dict[str, str],
) -> Iterator[tuple[str, Segmentation]]:
    """The results of pictures; where they fail together, each is tried alone."""
    if not loaded:
        return
    results = segment(list(loaded.values()))  # loads the model, whose errors are no picture's
    left = dict(loaded)
    for name in loaded:
        try:
            result = next(results)
        except Exception as error:
            if len(loaded) == 1:
                failed[name] = _reason(folder / name, error)
            break
        del left[name]
        yield name, result
    if left and len(loaded) > 1:
        for name, image in left.items():
            yield from _segmented(folder, {name: image}, segment, failed)


def _reason(path: Path, error: Exception) -> str:
    """Why a picture could not be labelled, in one line that names it."""
    if isinstance(error, MasqclipError):
        return str(error)
    said = " ".join(str(error).split())
    return f"{path}: cannot be labelled ({type(error).__name__}{': ' if said else ''}{said:.300})"


def _printable(name: str) -> str:
    """A file's name as it can be drawn: it may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _evenly(names: Sequence[str], most: int) -> frozenset[str]:
    """At most so many of the names, evenly spaced."""
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return frozenset(names[place] for place in places)


def _thumbnail(picture: LoadedImage, result: Segmentation) -> Image.Image:
    """A picture and its masks, made small first, so that the names on it stay legible."""
    longest = max(picture.height, picture.width)
    side = min(longest, _SHEET_CELL)
    height, width = (max(1, edge * side // longest) for edge in (picture.height, picture.width))
    rows = (np.arange(height) + 0.5) * picture.height // height
    columns = (np.arange(width) + 0.5) * picture.width // width
    places = np.ix_(rows.astype(int), columns.astype(int))
    segments = tuple(replace(s, mask=s.mask[places]) for s in result.segments)
    return replace(result, image=picture.pixels[places], segments=segments).plot()


def _write_failed(path: Path, failed: Mapping[str, str]) -> None:
    if failed:
        write_atomically(path, (json.dumps(failed, indent=1) + "\n").encode())
    else:
        path.unlink(missing_ok=True)
