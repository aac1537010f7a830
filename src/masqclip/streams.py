"""Any number of pictures, one result after the other: read ahead, and the bad ones told of."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeGuard, cast, get_args

import numpy as np
from PIL import Image

from masqclip.clip.name_limits import shown
from masqclip.data.folders import LeftOut
from masqclip.data.images import Channels, find_images
from masqclip.errors import MasqclipError, is_out_of_memory
from masqclip.picture import Picture, PictureInput, read_picture
from masqclip.result import Segmentation

Errors = Literal["raise", "skip"]
"""What becomes of a picture that cannot be read or segmented."""

PicturesInput = Iterable[PictureInput] | PictureInput
"""Pictures; a string or path stands for a folder or a glob."""


@dataclass(frozen=True)
class Unread:
    """In place of a picture that cannot be read: why."""

    error: Exception


def check_errors(value: object) -> Errors:
    """What is to become of bad pictures, if it can be.

    Raises:
        MasqclipError: there is no such choice.
    """
    for choice in get_args(Errors):
        if isinstance(value, str) and value == choice:
            return cast(Errors, choice)
    raise MasqclipError(f"errors {shown(value)}: give 'raise', or 'skip' to leave bad pictures out")


def is_several(image: object) -> TypeGuard[Sequence[PictureInput]]:
    """Whether this is a list or tuple of pictures, or another sequence of them."""
    nothing_else = (str, bytes, bytearray, memoryview)
    return isinstance(image, Sequence) and not isinstance(image, nothing_else)


def picture_source(images: PicturesInput) -> Iterable[PictureInput]:
    """What to iterate over: the pictures of a folder or glob, those given, or the only one.

    Raises:
        MasqclipError: there are none, or this is nothing of the kind.
    """
    if isinstance(images, str | Path):
        return listed_pictures(images)
    one = isinstance(images, bytes | bytearray | memoryview | Image.Image | Picture)
    # Of four axes and more, the first counts pictures.
    torch = sys.modules.get("torch")  # without which there is no tensor
    arrays = (np.ndarray,) if torch is None else (np.ndarray, torch.Tensor)
    if one or (isinstance(images, arrays) and cast(np.ndarray, images).ndim < 4):
        return [cast(PictureInput, images)]
    if hasattr(images, "read"):  # an open file would be iterated line by line
        return [cast(PictureInput, images)]
    if isinstance(images, Iterable):
        return cast(Iterable[PictureInput], images)
    raise MasqclipError(f"images are {shown(images)}: give pictures, or a folder of them")


def listed_pictures(source: str | Path) -> list[Path]:
    """The pictures of a folder or glob; a warning says which are left out.

    Raises:
        MasqclipError: there are none.
    """
    left_out = LeftOut()
    paths = find_images([source], left_out=left_out)
    for line in left_out.lines(pictures_only=True):
        warnings.warn(f"{source}: {line}", stacklevel=5)
    return paths


def read_ahead(
    images: Iterable[PictureInput],
    batch_size: int,
    *,
    channels: Channels = "rgb",
    errors: Errors = "raise",
) -> Iterator[list[Picture | Unread]]:
    """Batches of pictures; a thread reads the next one while this one is worked on.

    Args:
        images: anything that `read_image` takes, and encoded pictures, which pass.
        batch_size: pictures at a time.
        channels: the order of an array's colours.
        errors: with ``skip``, an `Unread` is in the place of a picture that cannot be read.

    Raises:
        MasqclipError: a picture cannot be read; those of the batches before are out already.
    """
    source = iter(images)

    def read(image: PictureInput) -> Picture | Unread:
        try:
            return read_picture(image, channels=channels)
        except Exception as error:
            if errors == "raise" or not _is_the_pictures(error):
                raise
            return Unread(error)

    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:

        def next_batch() -> Future[list[Picture | Unread]]:
            batch = list(islice(source, batch_size))
            return reader.submit(lambda: [read(image) for image in batch])

        pending = next_batch()
        while batch := pending.result():
            pending = next_batch()
            yield batch


def segmented(
    batches: Iterable[Sequence[Picture | Unread]],
    segment: Callable[[Sequence[Picture]], Iterator[Segmentation]],
    *,
    errors: Errors,
    advance: Callable[[int], None],
) -> Iterator[Segmentation]:
    """The results of pictures, in their order; a warning names each that is left out.

    Args:
        batches: of `read_ahead`.
        segment: gives a result for each picture of a batch.
        errors: with ``skip``, a batch in which something goes wrong is done picture by picture.
        advance: told how many pictures are done with.
    """
    number = 0
    for batch in batches:
        waiting: list[tuple[int, Picture]] = []
        for picture in batch:
            number += 1
            if isinstance(picture, Unread):
                _tell(number, picture.error)
                advance(1)
            else:
                waiting.append((number, picture))
        parts = [waiting]
        while parts:
            part = parts.pop(0)
            results = segment([picture for _, picture in part])
            left = list(part)
            try:
                for result in results:
                    left.pop(0)
                    advance(1)
                    yield result
            except Exception as error:
                if errors == "raise" or not _is_the_pictures(error) or not left:
                    raise
                if len(part) == 1:
                    _tell(part[0][0], error)
                    advance(1)
                else:
                    parts = [[one] for one in left]


def _is_the_pictures(error: Exception) -> bool:
    """Whether an error is one picture's, so that another may be done all the same."""
    return isinstance(error, MasqclipError) or is_out_of_memory(error)


def _tell(number: int, error: Exception) -> None:
    said = "out of memory" if is_out_of_memory(error) else str(error)
    warnings.warn(f"picture {number} is left out: {said}", stacklevel=4)


@contextmanager
def progress_bar(images: Iterable[PictureInput], *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar of pictures done, on stderr or below a notebook's cell; a function moves it on.

    Args:
        images: whose number is the whole, where they have one.
        shown: whether there is to be one at all.
    """
    if not shown:
        yield lambda count: None
        return
    from rich import progress
    from rich.console import Console

    total = len(images) if isinstance(images, Sequence | np.ndarray) else None
    bar = progress.Progress(
        progress.TextColumn("pictures"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("pictures", total=total)
        yield lambda count: bar.advance(task, count)
