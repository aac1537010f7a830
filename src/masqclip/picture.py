"""Pictures between the two halves of the work: read, or encoded already, whatever encoded them.

Free of torch. What PyTorch encodes is `masqclip.encoding.EncodedImage`; what ONNX graphs encode is
`masqclip.runtime.encoded.OnnxImage`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from masqclip.data.images import Channels, ImageInput, LoadedImage, read_image
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    import torch


class Encoded(ABC):
    """A picture after the proposer and CLIP have seen it, before any word.

    Attributes:
        image: the picture as it was read.
        seconds: that encoding took, its share of those that went together; None where nobody
            measured.
    """

    image: LoadedImage
    seconds: float | None

    @abstractmethod
    def with_image(self, image: LoadedImage) -> Self:
        """The same with another picture, or with more notes on it."""

    @abstractmethod
    def masks_at(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """The proposals' mask logits [Q,h,w], all at once, as if the picture had another size."""

    @abstractmethod
    def proposed_mask(self, proposal: int) -> NDArray[np.bool_]:
        """The mask [H,W] of one proposal at the picture's own size."""

    @abstractmethod
    def object_scores(self) -> NDArray[np.float32]:
        """[Q], 0..1: how surely each proposal is an object."""

    @abstractmethod
    def directions(self) -> NDArray[np.float32]:
        """[Q,E], the proposals' embeddings at length one."""


Picture = LoadedImage | Encoded

PictureInput = ImageInput | Encoded
"""What a picture can be: see `read_image`; or one that is encoded already."""

Masks = Union["NDArray[Any]", "torch.Tensor", Sequence[Union["NDArray[Any]", "torch.Tensor"]]]
"""Masks of one picture, of bool, or 0 and 1: [N,H,W], or N of [H,W]."""


_E = TypeVar("_E", bound=Encoded)


def check_own(image: Encoded, kind: type[_E]) -> _E:
    """A picture that one engine has encoded, whose kind is given.

    Raises:
        MasqclipError: another engine has.
    """
    if not isinstance(image, kind):
        raise MasqclipError(f"{image.image.source} was encoded by another engine: encode it anew")
    return image


def misfit(what: str, size: tuple[int, int]) -> MasqclipError:
    """The error for masks that are not of a picture's (height, width).

    Args:
        what: which they are, and "do" or "does".
        size: the picture's.
    """
    return MasqclipError(
        f"{what} not fit a picture of {size[0]}x{size[1]} pixels; give [N, height, width]"
    )


def read_picture(image: PictureInput, *, channels: Channels = "rgb") -> Picture:
    """A picture as it can be encoded; what is encoded already passes."""
    return image if isinstance(image, Encoded) else read_image(image, channels=channels)
