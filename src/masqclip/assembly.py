"""Decoded masks as the segments of a result, whatever decoded them: the last step of a segmenter.

Free of torch: `masqclip.segments` decodes with PyTorch, `masqclip.runtime` with NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.vocabulary import UNNAMED, Vocabulary
from masqclip.data.bit_masks import BitMask, label_boxes
from masqclip.data.images import LoadedImage
from masqclip.errors import MasqclipError
from masqclip.options import check_share, check_task
from masqclip.result import Segmentation, Task, Timing
from masqclip.score_scale import calibrated, lowest_score
from masqclip.segment import Segment

#: What scores less stays unlabelled, unless a call says otherwise: the published object threshold.
MIN_SCORE = 0.3
#: Masks of one picture that take more memory than this are kept as bits, an eighth of it.
MAX_MASK_BYTES = 1 << 28
_BAND = 1 << 20

Mask = NDArray[np.bool_] | BitMask


class System(Protocol):
    """Of a model, what says what it can be asked for."""

    @property
    def system(self) -> str: ...
    @property
    def tasks(self) -> tuple[Task, ...]: ...


class Winner(Protocol):
    """A segment of a panoptic map."""

    @property
    def id(self) -> int: ...
    @property
    def class_id(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def thing(self) -> bool: ...


def check_system_task(model: System, task: Task) -> Task:
    """Refuse a task that is none, or that a model's system has not.

    Raises:
        MasqclipError: it is so.
    """
    if check_task(task) not in model.tasks:
        raise MasqclipError(
            f"a model of the system {model.system!r} has no {task} segmentation: ask for "
            f"{' or '.join(model.tasks)}"
        )
    return task


def least_score(min_score: float | None) -> float:
    """The score below which a result leaves something out: that of a call, or the usual one.

    Raises:
        MasqclipError: it is no number from 0 to 1.
    """
    return MIN_SCORE if min_score is None else check_share(min_score, what="min_score")


def least_object_score(
    task: Task, min_score: float | None, words: Vocabulary | None = None, *, trust: float = 0.0
) -> float:
    """The object score below which a proposal is not heard: in a semantic vote all are.

    Args:
        task, min_score: of the call.
        words: what is looked for, where its names may have least scores of their own.
        trust: of the model's `Refinements`: a sure class can raise an object score so far.
    """
    if task == "semantic":
        return 0.0
    least = MIN_SCORE if min_score is None else min_score
    least = least if words is None else lowest_score(words, least)
    if not trust:
        return least
    return 0.0 if least <= trust else 1 - (1 - least) / (1 - trust)


def as_result(
    image: LoadedImage,
    task: Task,
    words: Vocabulary,
    segments: tuple[Segment, ...],
    *,
    encoding: float | None,
    decoding: float,
    notes: tuple[str, ...] = (),
) -> Segmentation:
    """Segments as the result of a picture.

    Args:
        image: the picture.
        task: that was asked for.
        words: the names, as they are reported.
        segments: what was found.
        encoding, decoding: the seconds that these took (`Timing`).
        notes: to be said beside those of the picture.
    """
    timing = Timing()
    if image.seconds is not None:
        timing["reading"] = image.seconds
    if encoding is not None:
        timing["encoding"] = encoding
    timing["decoding"] = decoding
    return Segmentation(
        image.pixels,
        task,
        (UNNAMED,) if words.unnamed else words.names,
        segments,
        image.notes + notes,
        image.path,
        timing,
        kinds={path[-1]: path[:-1] for path in words.paths if len(path) > 1},
    )


def instance_segments(
    words: Vocabulary,
    class_ids: Sequence[int],
    scores: Sequence[float],
    masks: Sequence[Mask],
) -> tuple[Segment, ...]:
    """Instances, which are all that is there, in their order; one mask may be of several."""
    found = zip(class_ids, scores, masks, strict=True)
    return tuple(
        _segment(n, words, label, score, True, mask)
        for n, (label, score, mask) in enumerate(found, start=1)
    )


def semantic_segments(
    words: Vocabulary, places: NDArray[np.int32], scores: NDArray[np.float32]
) -> tuple[Segment, ...]:
    """A segment for each name that is there.

    Args:
        words: the names.
        places: [H,W], the place of each pixel's name, counted from 1; 0 where there is none.
        scores: [H,W], of that name.
    """
    present = [place for place in _values(places, len(words)) if place > 0]
    segments = []
    for n, (place, mask) in enumerate(zip(present, masks_of(places, present), strict=True)):
        label = place - 1
        whole = mask.unpack() if isinstance(mask, BitMask) else mask
        score = float(min(1.0, scores[whole].mean()))
        thing = label not in words.stuff_ids
        segments.append(_segment(n + 1, words, label, score, thing, mask))
    return tuple(segments)


def panoptic_segments(
    words: Vocabulary, ids: NDArray[np.int32], winners: Sequence[Winner]
) -> tuple[Segment, ...]:
    """The segments of a map [H,W] of their ids."""
    masks = masks_of(ids, [winner.id for winner in winners])
    return tuple(
        _segment(w.id, words, w.class_id, w.score, w.thing, mask)
        for w, mask in zip(winners, masks, strict=True)
    )


def too_large(number: int, size: tuple[int, ...]) -> bool:
    """Whether this many masks of (H, W) are to be kept as bits."""
    return number * size[0] * size[1] > MAX_MASK_BYTES


def _segment(
    id: int,
    words: Vocabulary,
    class_id: int,
    score: float,
    thing: bool,
    mask: Mask,
) -> Segment:
    make = Segment.packed if isinstance(mask, BitMask) else Segment
    name, suggestion = words.names[class_id], None
    if words.unnamed:
        name, class_id, suggestion = UNNAMED, 0, name
    meant = calibrated(score, words.calibration)
    return make(id, name, class_id, meant, thing, mask, suggestion)  # type: ignore[arg-type]


def _values(labels: NDArray[np.int32], highest: int) -> list[int]:
    """The values, 0 to `highest`, that stand in a map [H,W], in order."""
    step = max(1, _BAND // labels.shape[1])  # counting makes int64 of what it counts
    counts = np.zeros(highest + 1, np.int64)
    for start in range(0, len(labels), step):
        counts += np.bincount(labels[start : start + step].ravel(), minlength=highest + 1)
    return np.flatnonzero(counts).tolist()


def masks_of(labels: NDArray[np.int32], values: Sequence[int]) -> Iterator[Mask]:
    """The masks of values above 0 in a map [H,W] int32, each of which stands there."""
    height, width = labels.shape
    if not too_large(len(values), labels.shape):
        yield from (labels == value for value in values)
        return
    boxes = label_boxes(labels, max(values))
    for value in values:
        left, top, right, bottom = boxes[value].tolist()
        part = labels[top:bottom, left:right] == value
        yield BitMask.pack(part, shape=(height, width), at=(left, top))
