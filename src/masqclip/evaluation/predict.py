"""Running a model over the pictures of a dataset by a protocol; predictions go to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.rle import encode_rle
from masqclip.data.truth import GroundTruth, Picture
from masqclip.decoding.instance import decode_instance
from masqclip.decoding.masks import ResizedMasks, row_chunks
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.resized_scores import decode_resized_scores
from masqclip.decoding.semantic import decode_semantic
from masqclip.evaluation.oracle import COUNTS
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.protocol import Protocol
from masqclip.proposals.base import object_log_scores

if TYPE_CHECKING:
    from masqclip.encoding import EncodedImage
    from masqclip.segmenter import Segmenter

_MASKS_AT_ONCE = 100


@contextmanager
def seen_at(segmenter: Segmenter, protocol: Protocol) -> Iterator[None]:
    """Let a model see pictures at a protocol's size for a while."""
    config = segmenter.model.config
    before = (config.shortest_edge, config.longest_edge)
    shortest, longest = protocol.shortest_edge, protocol.longest_edge
    # What a protocol leaves open is the model's own.
    config.shortest_edge = before[0] if shortest is None else shortest
    config.longest_edge = before[1] if longest is None else longest
    try:
        yield
    finally:
        config.shortest_edge, config.longest_edge = before


class Predictor:
    """Predicts whatever is asked for of one picture after the other.

    Args:
        segmenter: the model.
        truth: the dataset; its annotations are looked at for oracles only.
        words: a category for each of its classes.
        protocol: resolved.
        tasks: tasks and oracles (``masks``, ``classes``).
        folder: where predictions go; what is there is not made again.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        truth: GroundTruth,
        words: Vocabulary,
        protocol: Protocol,
        tasks: Sequence[str],
        folder: PredictionFolder,
    ) -> None:
        self.segmenter, self.truth, self.words = segmenter, truth, words
        self.protocol, self.tasks, self.folder = protocol, tasks, folder
        with torch.inference_mode():
            synonyms = segmenter.model.refinements.synonyms
            self._text = segmenter.text.embed_vocabulary(words, synonyms=synonyms)

    @torch.inference_mode()
    def predict(self, picture: Picture) -> None:
        """Predict what of a picture is not there yet."""
        tasks = [task for task in self.tasks if not self.folder.has(task, picture.id)]
        if not tasks:
            return
        encoded = self.segmenter.encode(picture.path)
        makers = {
            "instance": self._instance,
            "semantic": self._semantic,
            "panoptic": self._panoptic,
        }
        oracles = {"masks": self._masks, "classes": self._classes}
        masks, log_probs = encoded.named(
            self.segmenter.model,
            self._text,
            len(self.words),
            object_score=self.protocol.object_score,
            names=self.words.names,
        )
        for task in tasks:
            if task in oracles:
                oracles[task](picture, encoded)
            else:
                makers[task](picture, masks, log_probs)

    def _instance(self, picture: Picture, masks: ResizedMasks, log_probs: Tensor) -> None:
        found = decode_instance(
            masks, log_probs, top_k=self.protocol.top_k, stuff_ids=self.words.stuff_ids
        )
        rles = [encode_rle(mask) for mask in found.unique_masks.cpu().numpy()]
        rows = zip(
            found.class_ids.tolist(), found.scores.tolist(), found.mask_index.tolist(), strict=True
        )
        results = [
            {
                "image_id": picture.id,
                "category_id": self.truth.classes[label].id,
                "score": score,
                "segmentation": rles[mask],
            }
            for label, score, mask in rows
        ]
        self.folder.write_records("instance", picture.id, results)

    def _semantic(self, picture: Picture, masks: ResizedMasks, log_probs: Tensor) -> None:
        if self.protocol.semantic_resize == "scores":
            classes = decode_resized_scores(masks, log_probs)
        else:
            classes = decode_semantic(masks, log_probs).class_map
        self.folder.write_semantic(picture.id, classes.cpu().numpy(), len(self.words))

    def _panoptic(self, picture: Picture, masks: ResizedMasks, log_probs: Tensor) -> None:
        assert self.protocol.object_threshold is not None
        assert self.protocol.overlap_threshold is not None
        found = decode_panoptic(
            masks,
            log_probs,
            stuff_ids=self.words.stuff_ids,
            object_threshold=self.protocol.object_threshold,
            overlap_threshold=self.protocol.overlap_threshold,
        )
        segments = [
            {
                "id": segment.id,
                "category_id": self.truth.classes[segment.class_id].id,
                "score": segment.score,
            }
            for segment in found.segments
        ]
        self.folder.write_panoptic(picture.id, found.segment_map.cpu().numpy(), segments)

    def _masks(self, picture: Picture, encoded: EncodedImage) -> None:
        masks, positions = self.truth.masks_of(picture)
        predicted: list[int] = []
        for first in range(0, len(masks), _MASKS_AT_ONCE):
            given = masks[first : first + _MASKS_AT_ONCE]
            named = self.segmenter.classify_masks(encoded, given, self.words)
            predicted += named.probs.argmax(axis=1).tolist()
        records = [
            {"class": true, "predicted": guess, "segmentation": encode_rle(mask)}
            for true, guess, mask in zip(positions, predicted, masks, strict=True)
        ]
        self.folder.write_records("masks", picture.id, records)

    def _classes(self, picture: Picture, encoded: EncodedImage) -> None:
        masks, positions = self.truth.masks_of(picture)
        order = object_log_scores(encoded.object_logits).argsort(descending=True, stable=True)
        best = _best_so_far(encoded.masks.select(order), masks)
        records = [
            {"class": position, "area": int(mask.sum()), "ious": row}
            for position, mask, row in zip(positions, masks, best, strict=True)
        ]
        self.folder.write_records("classes", picture.id, records)


def _best_so_far(proposals: ResizedMasks, masks: NDArray[np.bool_]) -> list[list[float]]:
    """For each of N masks the best IoU among the first 1, 10, ... proposals."""
    queries, height, width = proposals.shape
    if len(masks) == 0:
        return []
    true = torch.from_numpy(masks).to(proposals.device).float()
    overlap = true.new_zeros(queries, len(masks))
    areas = true.new_zeros(queries, 1)
    for start, stop in row_chunks(height, queries * width):
        found = (proposals.rows(start, stop) > 0).flatten(1).float()
        overlap += found @ true[:, start:stop].flatten(1).T
        areas += found.sum(1, keepdim=True)
    ious = overlap / (areas + true.flatten(1).sum(1) - overlap).clamp(min=1)
    running = ious.cummax(dim=0).values
    columns = [min(count, queries) - 1 for count in COUNTS]
    rows: list[list[float]] = running[columns].T.tolist()
    return rows
