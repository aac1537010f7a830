"""Decoded masks as the segments of a result: the last step of `Segmenter`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from masqclip.clip.vocabulary import UNNAMED, Vocabulary
from masqclip.data.bit_masks import BitMask
from masqclip.decoding.instance import decode_instance, instance_mask
from masqclip.decoding.masks import ResizedMasks, sound_proposals
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic
from masqclip.devices import overflow_advice
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.everything import nearest_names
from masqclip.levels import at_level, with_children
from masqclip.model import MasQClipModel
from masqclip.options import check_share, check_task
from masqclip.result import Segmentation, Task, Timing
from masqclip.score_scale import calibrated, least_scores, lowest_score
from masqclip.segment import Segment

#: What scores less stays unlabelled, unless a call says otherwise: the published object threshold.
MIN_SCORE = 0.3
#: Masks of one picture that take more memory than this are kept as bits, an eighth of it.
MAX_MASK_BYTES = 1 << 28
_BAND = 1 << 20


def check_system_task(model: MasQClipModel | type[MasQClipModel], task: Task) -> Task:
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


@torch.inference_mode()
def segment_encoded(
    model: MasQClipModel,
    encoded: EncodedImage,
    words: Vocabulary,
    rows: Tensor,
    task: Task,
    *,
    min_score: float,
    level: int | None = None,
) -> Segmentation:
    """Name an encoded picture's masks and turn them into a result.

    Args:
        model: that the picture was encoded by.
        encoded: the picture.
        words: the K names.
        rows: their text embeddings, those of distractors and background (`TextEncoder`).
        task: see `Segmenter`.
        min_score: what scores less is left out, 0..1, where a name has no least score of its own.
        level: of the vocabulary's hierarchy that is reported, 0 = the widest names; None = all
            names as they are.

    Raises:
        MasqclipError: there is no such task, or the model's system has it not.
    """
    check_system_task(model, task)
    started = time.perf_counter()
    words = words.counted if task == "instance" else words
    if words.unnamed:
        masks, log_probs = encoded.masks, nearest_names(model, encoded, rows, words)
    else:
        masks, log_probs = encoded.named(model, rows, len(words), names=words.names)
    if level is not None:
        words, log_probs = at_level(words, log_probs, level)
    elif task == "instance":
        log_probs = with_children(words, log_probs)
    segments = find_segments(
        task,
        masks,
        log_probs,
        words,
        min_score=min_score,
        overlap_threshold=model.config.overlap_threshold,
    )
    image, notes = encoded.image, encoded.image.notes
    if not bool(sound_proposals(masks, log_probs).all()):
        advice = overflow_advice(model.dtype)
        notes += (f"proposals whose masks or classes are no numbers were left out: {advice}",)
    timing = Timing()
    if image.seconds is not None:
        timing["reading"] = image.seconds
    if encoded.seconds is not None:
        timing["encoding"] = encoded.seconds
    timing["decoding"] = time.perf_counter() - started
    return Segmentation(
        image.pixels,
        task,
        (UNNAMED,) if words.unnamed else words.names,
        segments,
        notes,
        image.path,
        timing,
        kinds={path[-1]: path[:-1] for path in words.paths if len(path) > 1},
    )


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


def find_segments(
    task: Task,
    masks: ResizedMasks,
    log_probs: Tensor,
    words: Vocabulary,
    *,
    min_score: float,
    overlap_threshold: float,
) -> tuple[Segment, ...]:
    """The segments of an encoded picture, in one of the three tasks.

    Args:
        task: see `Segmenter`.
        masks: of the picture.
        log_probs: [Q,K] log object score + log class probability.
        words: the K names.
        min_score: what scores less is left out, 0..1, where a name has no least score of its own.
        overlap_threshold: of the panoptic rule.

    Raises:
        MasqclipError: there is no such task.
    """
    check_task(task)
    least = torch.tensor(least_scores(words, min_score), device=log_probs.device)
    if task == "instance":
        return _instances(masks, log_probs, words, least)
    if task == "semantic":
        return _semantic(masks, log_probs, words, least)
    return _panoptic(masks, log_probs, words, least, overlap_threshold)


def _instances(
    source: ResizedMasks, log_probs: Tensor, words: Vocabulary, least: Tensor
) -> tuple[Segment, ...]:
    large = _too_large(source.shape[0], source.output_size)
    found = decode_instance(
        source,
        log_probs,
        min_score=float(least.min()),
        stuff_ids=words.stuff_ids,
        keep_masks=not large,
    )
    enough = (found.scores >= least[found.class_ids]).tolist()
    masks: list[np.ndarray] | list[BitMask]
    if large:
        masks = [_bits(instance_mask(source, query)) for query in found.unique_queries.tolist()]
    else:
        masks = list(found.unique_masks.cpu().numpy())
    indices = found.mask_index.tolist()
    pairs = zip(found.class_ids.tolist(), found.scores.tolist(), indices, strict=True)
    return tuple(
        _segment(n, words, label, score, True, masks[index])
        for n, (label, score, index) in enumerate(compress(pairs, enough), start=1)
    )


def _semantic(
    source: ResizedMasks, log_probs: Tensor, words: Vocabulary, least: Tensor
) -> tuple[Segment, ...]:
    found = decode_semantic(source, log_probs, min_score=float(least.min()))
    if bool((least > least.min()).any()):
        for classes, reached in zip(found.class_map, found.scores, strict=True):  # row by row
            classes[reached < least[classes.clamp(min=0)]] = -1
    scores = found.scores.cpu().numpy()
    places = found.class_map.to(torch.int32).add_(1).cpu().numpy()  # 0 = unlabelled
    del found  # the classes of 50 megapixels in int64 are 400 MB
    present = [place for place in _values(places, len(words)) if place > 0]
    segments = []
    for n, (place, mask) in enumerate(zip(present, _masks_of(places, present), strict=True)):
        label = place - 1
        whole = mask.unpack() if isinstance(mask, BitMask) else mask
        score = float(min(1.0, scores[whole].mean()))
        thing = label not in words.stuff_ids
        segments.append(_segment(n + 1, words, label, score, thing, mask))
    return tuple(segments)


def _panoptic(
    source: ResizedMasks,
    log_probs: Tensor,
    words: Vocabulary,
    least: Tensor,
    overlap_threshold: float,
) -> tuple[Segment, ...]:
    if bool((least > least.min()).any()):
        # What its name has too low a score for takes no part.
        best, classes = log_probs.max(dim=1)
        heard = best.exp() > least[classes]
        log_probs = log_probs.masked_fill(~heard[:, None], -torch.inf)
    found = decode_panoptic(
        source,
        log_probs,
        stuff_ids=words.stuff_ids,
        object_threshold=float(least.min()),
        overlap_threshold=overlap_threshold,
    )
    ids = found.segment_map.cpu().numpy()
    masks = _masks_of(ids, [segment.id for segment in found.segments])
    return tuple(
        _segment(s.id, words, s.class_id, s.score, s.thing, mask)
        for s, mask in zip(found.segments, masks, strict=True)
    )


def _too_large(number: int, size: tuple[int, ...]) -> bool:
    """Whether this many masks of (H, W) are to be kept as bits."""
    return number * size[0] * size[1] > MAX_MASK_BYTES


def _bits(mask: Tensor) -> BitMask:
    height, width = mask.shape
    return BitMask.pack(mask.cpu().numpy(), shape=(height, width))


def _segment(
    id: int,
    words: Vocabulary,
    class_id: int,
    score: float,
    thing: bool,
    mask: np.ndarray | BitMask,
) -> Segment:
    make = Segment.packed if isinstance(mask, BitMask) else Segment
    name, suggestion = words.names[class_id], None
    if words.unnamed:
        name, class_id, suggestion = UNNAMED, 0, name
    meant = calibrated(score, words.calibration)
    return make(id, name, class_id, meant, thing, mask, suggestion)  # type: ignore[arg-type]


def _values(labels: np.ndarray, highest: int) -> list[int]:
    """The values, 0 to `highest`, that stand in a map [H,W], in order."""
    step = max(1, _BAND // labels.shape[1])  # counting makes int64 of what it counts
    counts = np.zeros(highest + 1, np.int64)
    for start in range(0, len(labels), step):
        counts += np.bincount(labels[start : start + step].ravel(), minlength=highest + 1)
    return np.flatnonzero(counts).tolist()


def _masks_of(labels: np.ndarray, values: Sequence[int]) -> Iterator[np.ndarray | BitMask]:
    """The masks of values above 0 in a map [H,W] int32, each of which stands there."""
    height, width = labels.shape
    if not _too_large(len(values), labels.shape):
        yield from (labels == value for value in values)
        return
    boxes = ndimage.find_objects(labels, max(values))
    for value in values:
        rows, columns = boxes[value - 1]
        part = labels[rows, columns] == value
        yield BitMask.pack(part, shape=(height, width), at=(columns.start, rows.start))
