"""Encoded pictures named and decoded, with PyTorch: from proposals to the segments of a result."""

from __future__ import annotations

import time
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from masqclip.assembly import (
    as_result,
    check_system_task,
    instance_segments,
    panoptic_segments,
    semantic_segments,
    too_large,
)
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.bit_masks import BitMask
from masqclip.decoding.instance import decode_instance, instance_mask
from masqclip.decoding.masks import ResizedMasks, sound_proposals
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic
from masqclip.devices import overflow_advice
from masqclip.encoding import EncodedImage
from masqclip.levels import at_level, with_children
from masqclip.model import MasQClipModel
from masqclip.options import check_task
from masqclip.proposals.base import object_log_scores
from masqclip.result import Segmentation, Task
from masqclip.score_scale import least_scores
from masqclip.segment import Segment


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
    notes: tuple[str, ...] = ()
    if not bool(sound_proposals(masks, log_probs).all()):
        advice = overflow_advice(model.dtype)
        notes = (f"proposals whose masks or classes are no numbers were left out: {advice}",)
    return as_result(
        encoded.image,
        task,
        words,
        segments,
        encoding=encoded.seconds,
        decoding=time.perf_counter() - started,
        notes=notes,
    )


@torch.inference_mode()
def nearest_names(
    model: MasQClipModel, encoded: EncodedImage, rows: Tensor, words: Vocabulary
) -> Tensor:
    """[Q,K]: of each proposal its log object score under the name that comes nearest, and nothing
    (-inf) under all others; under all, where a distractor is nearer.

    Args:
        model: that encoded the picture.
        encoded: Q proposals.
        rows: text embeddings of `words` (`TextEncoder`).
        words: K names and D distractors.
    """
    names = [category.name for category in words.rows]
    _, log_probs = encoded.named(model, rows, len(names), object_score=False, names=names)
    best = log_probs.argmax(dim=1, keepdim=True)  # [Q,1], of K + D
    scores = torch.full_like(log_probs, -torch.inf)
    scores.scatter_(1, best, object_log_scores(encoded.object_logits).to(scores)[:, None])
    return scores[:, : len(words)]


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
    large = too_large(source.shape[0], source.output_size)
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
    return instance_segments(
        words,
        list(compress(found.class_ids.tolist(), enough)),
        list(compress(found.scores.tolist(), enough)),
        [masks[index] for index in compress(found.mask_index.tolist(), enough)],
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
    return semantic_segments(words, places, scores)


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
    return panoptic_segments(words, found.segment_map.cpu().numpy(), found.segments)


def _bits(mask: Tensor) -> BitMask:
    height, width = mask.shape
    return BitMask.pack(mask.cpu().numpy(), shape=(height, width))
