"""`Segmenter`: a picture and a vocabulary in, a `Segmentation` out: what most people touch.

    segmenter = Segmenter.from_pretrained("masqclip-mini")
    segmenter("scene.png", "cat, car, grass", task="panoptic").save("scene.overlay.png")

Here is what PyTorch computes; the calls themselves are in `masqclip.segmenting`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masqclip.assembly import MIN_SCORE, least_object_score
from masqclip.clip.vocabulary import Names, Vocabulary
from masqclip.data.images import Channels
from masqclip.encoding import EncodedImage, encode_pictures, seen_sizes
from masqclip.given_masks import embed_given_masks, name_probabilities
from masqclip.model import MasQClipModel
from masqclip.picture import Encoded, Masks, Picture, PictureInput
from masqclip.picture_statistics import own_statistics
from masqclip.pretrained import Pretrained, Size
from masqclip.refinements import Refinements
from masqclip.result import Segmentation, Task
from masqclip.segmenting import BaseSegmenter, MaskClassification
from masqclip.segments import segment_encoded

__all__ = [
    "MIN_SCORE",
    "EncodedImage",
    "MaskClassification",
    "Names",
    "Segmenter",
    "Size",
    "least_object_score",
]


class Segmenter(Pretrained, BaseSegmenter[EncodedImage, Tensor]):
    """Segments pictures by names.

    Threads may share one: all calls but `compile`, and changing or training the model, may overlap,
    and each answer is the one that a single thread would get. A compiled one belongs to the thread
    that compiled it, and an iterator of `stream` to the thread that reads it.

    Args:
        model: proposer, CLIP and queries.
        tokenizer: of the CLIP.
        name: what the model is called.
        cache: where text embeddings are kept: memory (true), a folder, or nowhere (false).
        world: what it knows, if that is little: names and pictures beyond are noted in results.
        sized: note in results at which size pictures were seen, as that was not told by the model.
    """

    @property
    def system(self) -> MasQClipModel:
        """See `BaseSegmenter`."""
        return self.model

    @property
    def refinements(self) -> Refinements:
        """See `BaseSegmenter`."""
        return self.model.refinements

    @property
    def logit_scale(self) -> float:
        """See `BaseSegmenter`."""
        return self.model.config.logit_scale

    def embed_masks(
        self, image: PictureInput, masks: Masks, *, channels: Channels = "rgb"
    ) -> Tensor:
        """CLIP embeddings [N,E] of masks that come from elsewhere; see `BaseSegmenter`."""
        return embed_given_masks(self.model, image, masks, channels=channels)

    def _encode(self, pictures: Sequence[Picture], heard: float) -> list[EncodedImage]:
        return encode_pictures(self.model, pictures, min_object_score=heard)

    def _picture_notes(self, encoded: EncodedImage) -> tuple[str, ...]:
        image, notes = encoded.image, []
        if self._sized:
            notes.append(seen_sizes(self.model.config, image.height, image.width))
        if self.world is not None:
            notes += self.world.picture_note(own_statistics(self.world, encoded.tokens))
        return tuple(notes)

    def _segment(
        self,
        encoded: EncodedImage,
        words: Vocabulary,
        rows: Tensor,
        task: Task,
        *,
        min_score: float,
        level: int | None,
    ) -> Segmentation:
        return segment_encoded(
            self.model, encoded, words, rows, task, min_score=min_score, level=level
        )

    def _probabilities(
        self, embeddings: Tensor, words: Vocabulary, rows: Tensor
    ) -> NDArray[np.float32]:
        with torch.inference_mode():
            probs = name_probabilities(self.model, embeddings, rows, len(words))
            found: NDArray[np.float32] = probs.numpy()
            return found

    def _directions(self, encoded: Encoded, masks: Masks) -> NDArray[np.float32]:
        return self.embed_masks(encoded, masks).cpu().numpy()

    def _rows(self, words: Vocabulary) -> Tensor:
        with torch.inference_mode():
            return self.text.embed_vocabulary(words, synonyms=self.refinements.synonyms)
