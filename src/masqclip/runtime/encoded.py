"""A picture after an exported model's graphs have seen it, before any word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.name_encoder import unit_rows
from masqclip.data.images import LoadedImage
from masqclip.picture import Encoded
from masqclip.runtime.classify import object_log_scores
from masqclip.runtime.decoding import instance_mask
from masqclip.runtime.masks import ResizedMasks


@dataclass(frozen=True, repr=False)
class OnnxImage(Encoded):
    """A picture after the proposer and CLIP have seen it.

    Attributes:
        image: the picture as it was read.
        mask_logits: [Q,h,w], over the padded frame.
        object_logits: [Q,2], (object, no object).
        mask_embeddings: [Q,E].
        frame_size: (H, W) of the padded frame.
        resized: (height, width) of the picture inside the frame.
        untuned_embeddings: [Q,E] by CLIP's own queries, where the model's refinements ask for them.
        statistics: [2 C], by which a picture unlike those of training is known (`own_world`).
        seconds: that encoding took; None where nobody measured.
    """

    image: LoadedImage
    mask_logits: NDArray[np.float32]
    object_logits: NDArray[np.float32]
    mask_embeddings: NDArray[np.float32]
    frame_size: tuple[int, int]
    resized: tuple[int, int]
    untuned_embeddings: NDArray[np.float32] | None = None
    statistics: NDArray[np.float32] | None = None
    seconds: float | None = None

    def __repr__(self) -> str:
        """One line: the picture, its size, and how many proposals there are."""
        image = self.image
        return (
            f"<OnnxImage: {image.source}, {image.width} x {image.height} pixels, "
            f"{len(self.mask_logits)} proposals>"
        )

    @property
    def masks(self) -> ResizedMasks:
        """Mask logits at the picture's own size, made as they are read."""
        size = (self.image.height, self.image.width)
        return ResizedMasks(self.mask_logits, self.frame_size, self.resized, size)

    def with_image(self, image: LoadedImage) -> Self:
        """See `Encoded`."""
        return replace(self, image=image)

    def masks_at(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """See `Encoded`."""
        return replace(self.masks, output_size=size).rows(0, size[0])

    def proposed_mask(self, proposal: int) -> NDArray[np.bool_]:
        """See `Encoded`."""
        return instance_mask(self.masks, proposal)

    def object_scores(self) -> NDArray[np.float32]:
        """See `Encoded`."""
        return np.exp(object_log_scores(self.object_logits))

    def directions(self) -> NDArray[np.float32]:
        """See `Encoded`."""
        return unit_rows(self.mask_embeddings)
