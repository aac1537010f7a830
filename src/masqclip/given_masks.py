"""Masks that come from elsewhere (SAM, an annotator, ground truth): embedded by CLIP, and named."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from masqclip.clip.mask_coverage import Masks
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import Channels, LoadedImage
from masqclip.devices import overflow_advice
from masqclip.encoding import (
    EncodedImage,
    PictureInput,
    encode_pictures,
    frame_sizes,
    read_picture,
)
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel

# Given masks that go through CLIP together.
_MASKS_AT_ONCE = 1000


@dataclass(frozen=True)
class MaskClassification:
    """Names for masks that were given.

    Attributes:
        names: the best name of each mask.
        scores: its probability, 0..1, among all names, distractors and background.
        probs: [N,K] probabilities of all names.
        vocabulary: the names, in the order of the columns.
    """

    names: tuple[str, ...]
    scores: tuple[float, ...]
    probs: NDArray[np.float32] = field(repr=False)
    vocabulary: tuple[str, ...]


def embed_given_masks(
    model: MasQClipModel, image: PictureInput, masks: Masks, *, channels: Channels = "rgb"
) -> Tensor:
    """CLIP embeddings [N,E] of given masks; see `Segmenter.embed_masks`."""
    if not model.takes_masks:
        raise MasqclipError(
            f"a model of the system {model.system!r} names its own masks only: take one of masqclip"
        )
    picture = read_picture(image, channels=channels)
    loaded = picture.image if isinstance(picture, EncodedImage) else picture
    size = (loaded.height, loaded.width)
    if isinstance(picture, EncodedImage):
        resized, frame = picture.resized, picture.frame_size
    else:
        resized, frame = frame_sizes(*size, model.config)
    with torch.inference_mode():
        weights = model.patch_weights(masks, size=size, resized=resized, frame=frame)
        if isinstance(picture, LoadedImage):
            (picture,) = encode_pictures(model, [picture])
        tokens = picture.tokens
        found = [
            model.embed_patches(tokens, some[None])[0].float()
            for some in weights.split(_MASKS_AT_ONCE)
        ]
    embeddings = torch.cat(found)
    if not bool(embeddings.norm(dim=-1).isfinite().all()):
        raise _no_numbers(model, "the masks' embeddings")
    return F.normalize(embeddings, dim=-1)


def name_embeddings(
    model: MasQClipModel, embeddings: Tensor, words: Vocabulary, rows: Tensor
) -> MaskClassification:
    """Name masks by their embeddings [N,E].

    Args:
        model: that made them.
        embeddings: L2-normalised.
        words: the K names.
        rows: their text embeddings, those of distractors and background (`TextEncoder`).

    Raises:
        MasqclipError: the model overflows.
    """
    probs = model.classify(embeddings[None], rows, len(words))[0].exp().cpu()
    if not bool(probs.isfinite().all()):
        raise _no_numbers(model, "the names' embeddings")
    scores, best = probs.max(dim=-1)
    return MaskClassification(
        names=tuple(words.names[i] for i in best.tolist()),
        scores=tuple(scores.tolist()),
        probs=probs.numpy(),
        vocabulary=words.names,
    )


def _no_numbers(model: MasQClipModel, what: str) -> MasqclipError:
    return MasqclipError(f"{what} are no numbers: {overflow_advice(model.dtype)}")
