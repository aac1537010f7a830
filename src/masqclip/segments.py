"""Decoded masks as the segments of a result: the last step of `Segmenter`."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from masqclip.clip.vocabulary import Vocabulary
from masqclip.decoding.instance import decode_instance
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.result import Segment, Task


def find_segments(
    task: Task,
    encoded: EncodedImage,
    log_probs: Tensor,
    words: Vocabulary,
    *,
    min_score: float,
    overlap_threshold: float,
) -> tuple[Segment, ...]:
    """The segments of an encoded picture, in one of the three tasks.

    Args:
        task: see `Segmenter`.
        encoded: the picture.
        log_probs: [Q,K] log object score + log class probability.
        words: the K names.
        min_score: what scores less is left out, 0..1.
        overlap_threshold: of the panoptic rule.

    Raises:
        MasqclipError: there is no such task.
    """
    if task == "instance":
        return _instances(encoded, log_probs, words, min_score)
    if task == "semantic":
        return _semantic(encoded, log_probs, words, min_score)
    if task == "panoptic":
        return _panoptic(encoded, log_probs, words, min_score, overlap_threshold)
    raise MasqclipError(f"task is {task!r}; it is 'instance', 'semantic' or 'panoptic'")


def _instances(
    encoded: EncodedImage, log_probs: Tensor, words: Vocabulary, least: float
) -> tuple[Segment, ...]:
    found = decode_instance(encoded.masks, log_probs, min_score=least, stuff_ids=words.stuff_ids)
    masks = found.unique_masks.cpu().numpy()
    return tuple(
        Segment(
            id=n + 1,
            name=words.names[label],
            class_id=label,
            score=score,
            thing=True,
            mask=masks[index],
        )
        for n, (label, score, index) in enumerate(
            zip(
                found.class_ids.tolist(),
                found.scores.tolist(),
                found.mask_index.tolist(),
                strict=True,
            )
        )
    )


def _semantic(
    encoded: EncodedImage, log_probs: Tensor, words: Vocabulary, least: float
) -> tuple[Segment, ...]:
    found = decode_semantic(encoded.masks, log_probs, min_score=least)
    classes, scores = found.class_map.cpu().numpy(), found.scores.cpu().numpy()
    present = [int(label) for label in np.unique(classes) if label >= 0]
    segments = []
    for n, label in enumerate(present):
        mask = classes == label
        segments.append(
            Segment(
                id=n + 1,
                name=words.names[label],
                class_id=label,
                score=float(min(1.0, scores[mask].mean())),
                thing=label not in words.stuff_ids,
                mask=mask,
            )
        )
    return tuple(segments)


def _panoptic(
    encoded: EncodedImage,
    log_probs: Tensor,
    words: Vocabulary,
    least: float,
    overlap_threshold: float,
) -> tuple[Segment, ...]:
    found = decode_panoptic(
        encoded.masks,
        log_probs,
        stuff_ids=words.stuff_ids,
        object_threshold=least,
        overlap_threshold=overlap_threshold,
    )
    ids = found.segment_map.cpu().numpy()
    return tuple(
        Segment(
            id=segment.id,
            name=words.names[segment.class_id],
            class_id=segment.class_id,
            score=segment.score,
            thing=segment.thing,
            mask=ids == segment.id,
        )
        for segment in found.segments
    )
