"""Encoded pictures named and decoded, with NumPy: from proposals to the segments of a result.

The same steps as `masqclip.segments`, which PyTorch does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from masqclip.assembly import (
    Mask,
    as_result,
    instance_segments,
    panoptic_segments,
    semantic_segments,
    too_large,
)
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.bit_masks import BitMask
from masqclip.data.clip_text import reading
from masqclip.options import check_task
from masqclip.result import Segmentation, Task
from masqclip.runtime.classify import (
    at_level,
    class_log_probs,
    geometric_mean,
    nearest_names,
    object_log_scores,
    tempered,
    with_children,
)
from masqclip.runtime.decoding import (
    decode_instance,
    decode_panoptic,
    instance_mask,
    sound_proposals,
)
from masqclip.runtime.encoded import OnnxImage
from masqclip.runtime.semantic import decode_semantic
from masqclip.runtime.settings import OnnxSettings
from masqclip.score_scale import least_scores
from masqclip.segment import Segment

_Floats = NDArray[np.float32]


def segment_encoded(
    settings: OnnxSettings,
    encoded: OnnxImage,
    words: Vocabulary,
    rows: _Floats,
    task: Task,
    *,
    min_score: float,
    level: int | None = None,
) -> Segmentation:
    """Name an encoded picture's masks and turn them into a result.

    Args:
        settings: of the model that the picture was encoded by.
        encoded: the picture.
        words: the K names.
        rows: their text embeddings, those of distractors and background (`OnnxNames`).
        task: see `Segmenter`.
        min_score: what scores less is left out, 0..1, where a name has no least score of its own.
        level: of the vocabulary's hierarchy that is reported, 0 = the widest names; None = all
            names as they are.

    Raises:
        MasqclipError: there is no such task.
    """
    check_task(task)
    started = time.perf_counter()
    words = words.counted if task == "instance" else words
    scores = object_log_scores(encoded.object_logits)
    if words.unnamed:
        names = [row.name for row in words.rows]
        log_probs = nearest_names(_classes(settings, encoded, rows, names), scores, len(words))
    else:
        log_probs = _classes(settings, encoded, rows, words.names)
        if trust := settings.refinements.trust:
            scores = tempered(scores, log_probs, trust)
        log_probs = log_probs + scores[:, None]
    if level is not None:
        words, log_probs = at_level(words, log_probs, level)
    elif task == "instance":
        log_probs = with_children(words, log_probs)
    segments = _find(settings, encoded, task, log_probs, words, min_score)
    notes: tuple[str, ...] = ()
    if not sound_proposals(encoded.masks, log_probs).all():
        notes = (
            "proposals whose masks or classes are no numbers were left out: the model's weights "
            "are damaged: export it anew",
        )
    return as_result(
        encoded.image,
        task,
        words,
        segments,
        encoding=encoded.seconds,
        decoding=time.perf_counter() - started,
        notes=notes,
    )


def _classes(
    settings: OnnxSettings, encoded: OnnxImage, rows: _Floats, names: Sequence[str]
) -> _Floats:
    """[Q,K] class log-probabilities: the tuned queries' answer, or mixed with CLIP's own."""
    mix = settings.refinements

    def classify(embeddings: _Floats) -> _Floats:
        return class_log_probs(
            embeddings,
            rows,
            num_classes=len(names),
            logit_scale=settings.logit_scale,
            prune=mix.prune,
            sigmoid_bias=settings.logit_bias if settings.scores == "sigmoid" else None,
        )

    log_probs = classify(encoded.mask_embeddings)
    if not (mix.untuned_seen or mix.untuned_unseen) or encoded.untuned_embeddings is None:
        return log_probs
    seen = {reading(name) for name in settings.tuned_names}
    weights = [mix.untuned_seen if reading(n) in seen else mix.untuned_unseen for n in names]
    others = classify(encoded.untuned_embeddings)
    return geometric_mean(log_probs, others, np.array(weights, np.float32))


def _find(
    settings: OnnxSettings,
    encoded: OnnxImage,
    task: Task,
    log_probs: _Floats,
    words: Vocabulary,
    min_score: float,
) -> tuple[Segment, ...]:
    source, least = encoded.masks, np.array(least_scores(words, min_score), np.float32)
    lowest = float(least.min())
    if task == "instance":
        large = too_large(source.shape[0], source.output_size)
        instances = decode_instance(
            source, log_probs, min_score=lowest, stuff_ids=words.stuff_ids, keep_masks=not large
        )
        enough = (instances.scores >= least[instances.class_ids]).tolist()
        masks: list[Mask]
        if large:
            masks = [
                BitMask.pack(instance_mask(source, query), shape=source.output_size)
                for query in instances.unique_queries.tolist()
            ]
        else:
            masks = list(instances.unique_masks)
        return instance_segments(
            words,
            list(compress(instances.class_ids.tolist(), enough)),
            list(compress(instances.scores.tolist(), enough)),
            [masks[index] for index in compress(instances.mask_index.tolist(), enough)],
        )
    if task == "semantic":
        classes, scores = decode_semantic(source, log_probs, min_score=lowest)
        if (least > lowest).any():
            classes[scores < least[classes.clip(0)]] = -1
        return semantic_segments(words, classes + np.int32(1), scores)
    if (least > lowest).any():
        # What its name has too low a score for takes no part.
        best = log_probs.argmax(axis=1)
        heard = np.exp(log_probs.max(axis=1)) > least[best]
        log_probs = np.where(heard[:, None], log_probs, np.float32(-np.inf))
    ids, winners = decode_panoptic(
        source,
        log_probs,
        stuff_ids=words.stuff_ids,
        object_threshold=lowest,
        overlap_threshold=settings.overlap_threshold,
    )
    return panoptic_segments(words, ids, winners)
