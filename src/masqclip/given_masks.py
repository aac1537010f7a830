"""Masks that come from elsewhere (SAM, an annotator, ground truth): embedded by CLIP, and named."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.data.images import Channels, LoadedImage
from masqclip.devices import overflow_advice
from masqclip.encoding import EncodedImage, encode_pictures, frame_sizes
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.picture import Encoded, Masks, PictureInput, check_own, read_picture

# Given masks that go through CLIP together.
_MASKS_AT_ONCE = 1000


def embed_given_masks(
    model: MasQClipModel, image: PictureInput, masks: Masks, *, channels: Channels = "rgb"
) -> Tensor:
    """CLIP embeddings [N,E] of given masks; see `Segmenter.embed_masks`."""
    if not model.takes_masks:
        raise MasqclipError(
            f"a model of the system {model.system!r} names its own masks only: take one of masqclip"
        )
    picture = read_picture(image, channels=channels)
    loaded = picture.image if isinstance(picture, Encoded) else picture
    size = (loaded.height, loaded.width)
    if isinstance(picture, Encoded):
        picture = check_own(picture, EncodedImage)
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


def name_probabilities(
    model: MasQClipModel, embeddings: Tensor, rows: Tensor, num_classes: int
) -> Tensor:
    """[N,K] on the CPU: the probability of each name for masks.

    Args:
        model: that made the embeddings.
        embeddings: [N,E] of the masks, L2-normalised.
        rows: text embeddings of the K names, distractors and background (`TextEncoder`).
        num_classes: K.

    Raises:
        MasqclipError: the model overflows.
    """
    probs = model.classify(embeddings[None], rows, num_classes)[0].exp().cpu()
    if not bool(probs.isfinite().all()):
        raise _no_numbers(model, "the names' embeddings")
    return probs


def _no_numbers(model: MasQClipModel, what: str) -> MasqclipError:
    return MasqclipError(f"{what} are no numbers: {overflow_advice(model.dtype)}")
