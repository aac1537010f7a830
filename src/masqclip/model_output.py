"""What the model says of a batch of frames, before words have made segments of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from masqclip.clip.masked_vision import ImageTokens
from masqclip.decoding.masks import resize_masks
from masqclip.errors import MasqclipError
from masqclip.proposals.base import Proposals, object_log_scores


@dataclass(frozen=True)
class Seen:
    """What a system takes from a batch of frames before any word.

    Attributes:
        proposals: the masks, and how surely each is an object.
        mask_embeddings: [B,Q,E], not normalised.
        tokens: CLIP's keys and values; none of a system that names no masks of others.
        pixel_embeddings: [B,E,h,w], of a system that has no masks.
    """

    proposals: Proposals
    mask_embeddings: Tensor
    tokens: ImageTokens = field(default_factory=lambda: ImageTokens((), ()))
    pixel_embeddings: Tensor | None = None

    def pixels_of(self, row: int) -> Tensor | None:
        """The pixel embeddings of one picture, if there are any."""
        return None if self.pixel_embeddings is None else self.pixel_embeddings[row].float()


@dataclass
class MasQClipOutput:
    """What the model says of a batch of frames.

    Attributes:
        mask_logits: [B,Q,h,w], over the padded frame.
        object_logits: [B,Q,2], (object, no object).
        mask_embeddings: [B,Q,E], not normalised.
        class_log_probs: [B,Q,K], of each name given that there is an object; None without words.
        frame_size: (H, W) of the padded frame.
        image_sizes: (height, width) of each picture inside its frame.
    """

    mask_logits: Tensor
    object_logits: Tensor
    mask_embeddings: Tensor
    class_log_probs: Tensor | None
    frame_size: tuple[int, int]
    image_sizes: list[tuple[int, int]]

    @property
    def log_probs(self) -> Tensor:
        """[B,Q,K]: log object score + log class probability (MasQCLIP, eq. 6)."""
        if self.class_log_probs is None:
            raise MasqclipError("these outputs have no classes: pass text_embeddings to the model")
        return object_log_scores(self.object_logits).unsqueeze(-1) + self.class_log_probs

    def masks(self, index: int, size: tuple[int, int] | None) -> Tensor:
        """[Q,H',W'] mask logits of one picture, its padding cut off, at `size` or its own."""
        return resize_masks(
            self.mask_logits[index],
            padded_size=self.frame_size,
            image_size=self.image_sizes[index],
            output_size=size or self.image_sizes[index],
        )
