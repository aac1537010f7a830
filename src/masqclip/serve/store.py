"""Encoded pictures in memory, found by the hash of their file, the least recently used out first.

The identifier is a SHA-256 of the uploaded bytes: the same file is encoded once however often it
comes, and an identifier cannot be guessed without having the picture.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace

from masqclip.clip.masked_vision import ImageTokens
from masqclip.encoding import EncodedImage


def image_id(data: bytes) -> str:
    """The identifier of a picture's file: 32 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:32]


class ImageStore:
    """A mapping from identifiers to encoded pictures, bounded by their bytes.

    Args:
        max_bytes: what all pictures together may take. One that is larger by itself is kept until
            the next one comes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._images: OrderedDict[str, EncodedImage] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def get(self, key: str) -> EncodedImage | None:
        """The picture, which thereby becomes the most recently used one."""
        found = self._images.get(key)
        if found is not None:
            self._images.move_to_end(key)
        return found

    def put(self, key: str, encoded: EncodedImage) -> None:
        """Keep a picture, and let go of others until all fit."""
        self.remove(key)
        kept = _compact(encoded)
        self._images[key] = kept
        self.bytes += _size(kept)
        while self.bytes > self._max_bytes and len(self._images) > 1:
            self.remove(next(iter(self._images)))

    def remove(self, key: str) -> bool:
        """Forget a picture; false if it was not there."""
        found = self._images.pop(key, None)
        if found is not None:
            self.bytes -= _size(found)
        return found is not None


def _compact(encoded: EncodedImage) -> EncodedImage:
    """What naming masks needs, in memory of its own.

    CLIP's keys and values serve masks from elsewhere only, which the service does not take; the
    rest may be views into a whole batch, which would stay as long as one of its pictures does.
    """
    return replace(
        encoded,
        mask_logits=encoded.mask_logits.clone(),
        object_logits=encoded.object_logits.clone(),
        mask_embeddings=encoded.mask_embeddings.clone(),
        tokens=ImageTokens((), ()),
    )


def _size(encoded: EncodedImage) -> int:
    tensors = (encoded.mask_logits, encoded.object_logits, encoded.mask_embeddings)
    return int(encoded.image.pixels.nbytes) + sum(tensor.nbytes for tensor in tensors)
