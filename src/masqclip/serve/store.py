"""Encoded pictures in memory, the least recently used out first.

Every upload gets an identifier of its own that nobody can guess, so that knowing a picture is not
enough to ask about another's upload of it, or to delete it. The same file is encoded and kept once,
however often it comes; it leaves with the last identifier that stands for it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from masqclip.clip.masked_vision import ImageTokens
from masqclip.encoding import EncodedImage

#: Identifiers of one file; the oldest leave, so that uploading one file for ever takes no memory.
IDENTIFIERS_OF_A_FILE = 256


@dataclass
class _Kept:
    image: EncodedImage
    identifiers: OrderedDict[str, None] = field(default_factory=OrderedDict)


class ImageStore:
    """Encoded pictures by file and by identifier, bounded by their bytes.

    Args:
        max_bytes: what all pictures together may take. One that is larger by itself is kept until
            the next one comes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, _Kept] = OrderedDict()  # digest of a file -> its picture
        self._digests: dict[str, str] = {}  # identifier -> digest
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._files)

    def get(self, identifier: str) -> EncodedImage | None:
        """The picture, which thereby becomes the most recently used one."""
        digest = self._digests.get(identifier)
        if digest is None:
            return None
        self._files.move_to_end(digest)
        return self._files[digest].image

    def find(self, data: bytes) -> EncodedImage | None:
        """The picture of a file that somebody has uploaded."""
        kept = self._files.get(_digest(data))
        return None if kept is None else kept.image

    def put(self, data: bytes, encoded: EncodedImage) -> str:
        """Keep the picture of a file, let go of others until all fit; returns an identifier."""
        digest, identifier = _digest(data), secrets.token_hex(16)
        if digest not in self._files:
            self._files[digest] = _Kept(_compact(encoded))
            self.bytes += _size(self._files[digest].image)
        self._files.move_to_end(digest)
        kept = self._files[digest]
        kept.identifiers[identifier] = None
        self._digests[identifier] = digest
        if len(kept.identifiers) > IDENTIFIERS_OF_A_FILE:
            self.remove(next(iter(kept.identifiers)))
        while self.bytes > self._max_bytes and len(self._files) > 1:
            for old in list(self._files[next(iter(self._files))].identifiers):
                self.remove(old)
        return identifier

    def remove(self, identifier: str) -> bool:
        """Forget an upload, and its picture if it was the last of it; false if it is not there."""
        digest = self._digests.pop(identifier, None)
        if digest is None:
            return False
        kept = self._files[digest]
        del kept.identifiers[identifier]
        if not kept.identifiers:
            self.bytes -= _size(kept.image)
            del self._files[digest]
        return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _compact(encoded: EncodedImage) -> EncodedImage:
    """What naming masks needs, in memory of its own.

    CLIP's keys and values serve masks from elsewhere only, which the service does not take; the
    rest may be views into a whole batch, which would stay as long as one of its pictures does.
    """
    pixels = encoded.pixel_embeddings
    return replace(
        encoded,
        pixel_embeddings=None if pixels is None else pixels.clone(),
        mask_logits=encoded.mask_logits.clone(),
        object_logits=encoded.object_logits.clone(),
        mask_embeddings=encoded.mask_embeddings.clone(),
        tokens=ImageTokens((), ()),
    )


def _size(encoded: EncodedImage) -> int:
    tensors = [encoded.mask_logits, encoded.object_logits, encoded.mask_embeddings]
    if encoded.pixel_embeddings is not None:
        tensors.append(encoded.pixel_embeddings)
    return int(encoded.image.pixels.nbytes) + sum(tensor.nbytes for tensor in tensors)
