"""The pictures of a command line, one bad one among them harmless, read ahead in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from masqclip.cli.sources import PictureSource, read_source
from masqclip.errors import MasqclipError, is_out_of_memory

if TYPE_CHECKING:
    from masqclip.data.images import LoadedImage
    from masqclip.result import Segmentation

#: Pixels of pictures, and of results, that wait for their turn; three bytes each and more.
MAX_WAITING_PIXELS = 64_000_000
# Seconds: a small picture, or one that is refused, is there before.
_PATIENCE = 0.05
# Of a picture that is decoded in a thread while libraries load; a larger one takes a second of it.
_MAX_PIXELS_BESIDE = 12_000_000

Ask = Callable[[Iterable["LoadedImage"]], Iterable["Segmentation"]]
"""Segments pictures, in their order."""


def explained(source: str, error: Exception) -> MasqclipError:
    """What went wrong with one picture, in one line that names it."""
    said = " ".join(str(error).split())
    if is_out_of_memory(error):
        said = "out of memory: give smaller pictures, --batch-size 1, or --device cpu"
    elif not isinstance(error, MasqclipError):
        said = f"cannot be segmented ({type(error).__name__}: {said[:200]})"
    return MasqclipError(said if source in said else f"{source}: {said}")


def read_batches(
    paths: Sequence[PictureSource],
    size: int,
    refuse: Callable[[PictureSource, Exception], None],
    *,
    meanwhile: Callable[[], None],
) -> Iterator[dict[PictureSource, LoadedImage]]:
    """Pictures in batches, fewer where they are large.

    Args:
        paths: of the pictures, addresses, or what was piped in.
        size: pictures in a batch, at most.
        refuse: takes what cannot be read, and why; it may raise.
        meanwhile: what is to be done anyway, called where the first picture takes its time.
    """
    batch: dict[PictureSource, LoadedImage] = {}
    for path, future in _read_ahead(paths, 2 * size, meanwhile):
        try:
            batch[path] = future.result()
        except Exception as error:
            refuse(path, error)
        if len(batch) == size or pixels_of(batch.values()) > MAX_WAITING_PIXELS // 2:
            yield batch
            batch = {}
    if batch:
        yield batch


def pixels_of(pictures: Iterable[LoadedImage]) -> int:
    """Pixels of pictures together."""
    return sum(picture.height * picture.width for picture in pictures)


def _read_ahead(
    paths: Sequence[PictureSource], ahead: int, meanwhile: Callable[[], None]
) -> Iterator[tuple[PictureSource, Future[LoadedImage]]]:
    """Every path with its picture, which a thread reads before it is asked for.

    As many are read ahead as are small: the next one only once those that wait, and another one
    as large as the largest so far, are no more than may wait.
    """
    largest = 1
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        todo = iter(paths)
        started: deque[tuple[PictureSource, Future[LoadedImage]]] = deque()
        while True:
            room = min(ahead, max(1, MAX_WAITING_PIXELS // largest))
            while len(started) < room and (path := next(todo, None)) is not None:
                # Until then libraries load, and they and a thread that decodes stop each other.
                here = _MAX_PIXELS_BESIDE if largest == 1 else None
                started.append((path, reader.submit(read_source, path, max_pixels_here=here)))
                if len(started) > 1 and largest == 1:
                    break  # until it is known how large they are
            if not started:
                return
            path, future = started.popleft()
            if path is paths[0] and wait([future], _PATIENCE).not_done:
                meanwhile()
            if future.exception() is None:
                largest = max(largest, pixels_of([future.result()]))
            yield path, future
            del future


def segment_each(
    batch: dict[PictureSource, LoadedImage], ask: Ask
) -> Iterator[tuple[PictureSource, Segmentation | Exception]]:
    """The result of each picture of a batch, or what went wrong with it.

    A batch in which something went wrong is asked about again from there, picture by picture.

    Raises:
        MasqclipError: it is the names that cannot be used, not a picture.
    """
    left = list(batch)
    failure: Exception | None = None
    results = iter(ask(batch.values()))
    while left and failure is None:
        try:
            result = next(results)
        except Exception as error:
            failure = error
        else:
            yield left.pop(0), result
    for path in left:
        outcome: Segmentation | Exception
        if failure is not None and len(batch) == 1:
            outcome = failure
        else:
            try:
                outcome = next(iter(ask([batch[path]])))
            except Exception as error:
                outcome = error
        yield path, outcome
