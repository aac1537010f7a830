"""Examples: masks on pictures that show what a category is, beside its words or in their place.

An example is the mask's embedding, which lies in the space of words. It is kept with what is needed
to compare it with words (`ExampleSpace`), so that a vocabulary with examples is a file of its own,
and with a small picture for people. Free of torch; how examples become a row among the words' is in
`masqclip.clip.example_rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import MasqclipError

#: Examples of a vocabulary, all categories together: 20 MB at 1,024 numbers each.
MAX_EXAMPLES = 10_000
#: Of a small picture.
MAX_THUMBNAIL_BYTES = 8_192
_UNIT = 0.01  # how far half precision may leave a vector from length one


@dataclass(frozen=True, eq=False)
class ExampleSpace:
    """Where words and masks lie for the CLIP that examples were made with.

    Attributes:
        model: what it is called, for people.
        probe: [P,E] unit text embeddings of fixed strings (`masqclip.clip.text.PROBE`): another
            CLIP has others.
        word_mean: [E], the mean of many words' unit embeddings.
        word_spread: their mean distance from it.
        logit_scale: the model's inverse temperature.
    """

    model: str
    probe: NDArray[np.float32]
    word_mean: NDArray[np.float32]
    word_spread: float
    logit_scale: float

    def is_of(self, probe: NDArray[np.float32]) -> bool:
        """Whether a CLIP with such a probe is the one: to half precision, not to the last bit."""
        if probe.shape != self.probe.shape:
            return False
        return bool(((self.probe * probe).sum(axis=1) > _SAME_CLIP).all())


_SAME_CLIP = 0.999  # least cosine of every string of the probe


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of one category. Two are equal if their numbers are.

    Attributes:
        space: of the CLIP.
        embeddings: [S,E] float16, of length one.
        context: [E] float16, the mean embedding of what else there is in their pictures.
        thumbnails: a small picture of each, as the bytes of a file; empty where there is none.

    Raises:
        MasqclipError: there is none, or the numbers cannot be embeddings.
    """

    space: ExampleSpace = field(repr=False)
    embeddings: NDArray[np.float16] = field(repr=False)
    context: NDArray[np.float16] = field(repr=False)
    thumbnails: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        width = self.space.word_mean.shape[0]
        if self.embeddings.ndim != 2 or self.embeddings.shape[1] != width:
            raise MasqclipError(f"an example's embedding is not of {width} numbers")
        if not len(self.embeddings):
            raise MasqclipError("a category's list of examples is empty: leave it out")
        if self.context.shape != (width,) or not np.isfinite(self.context).all():
            raise MasqclipError(f"the context of examples is not of {width} finite numbers")
        lengths = np.linalg.norm(self.embeddings.astype(np.float32), axis=1)
        if not (np.abs(lengths - 1) < _UNIT).all():
            raise MasqclipError("an example's embedding is not of length one")
        if not self.thumbnails:
            object.__setattr__(self, "thumbnails", (b"",) * len(self.embeddings))
        if len(self.thumbnails) != len(self.embeddings):
            raise MasqclipError("there are not as many thumbnails as examples")
        if max(map(len, self.thumbnails)) > MAX_THUMBNAIL_BYTES:
            raise MasqclipError(f"a thumbnail has more than {MAX_THUMBNAIL_BYTES:,} bytes")

    def __len__(self) -> int:
        return len(self.embeddings)

    @cached_property
    def digest(self) -> bytes:
        """Of all numbers that a row depends on."""
        digest = hashlib.blake2b(digest_size=16)
        space = self.space
        digest.update(np.array([space.word_spread, space.logit_scale], np.float64).tobytes())
        for array in (space.word_mean, space.probe, self.embeddings, self.context):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Examples) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def joined(self, other: Examples) -> Examples:
        """These and those of another, in one category; what both have is there once.

        Raises:
            MasqclipError: they are of different CLIPs.
        """
        check_one_clip([self, other])
        # One that both have would be like itself, and count for more than it shows.
        there = {row.tobytes() for row in self.embeddings}
        new = [i for i, row in enumerate(other.embeddings) if row.tobytes() not in there]
        if not new:
            return self
        counts = np.array([len(self), len(new)], np.float32)
        context = counts @ np.stack([self.context, other.context]).astype(np.float32)
        return Examples(
            self.space,
            np.concatenate([self.embeddings, other.embeddings[new]]),
            as_half(context / counts.sum()),
            (*self.thumbnails, *(other.thumbnails[i] for i in new)),
        )

    def without(self, place: int) -> Examples | None:
        """The others, or none: what else there is in the pictures is known of all together, and
        stays."""
        if len(self) == 1:
            return None
        thumbnails = (*self.thumbnails[:place], *self.thumbnails[place + 1 :])
        kept = np.delete(self.embeddings, place, axis=0)
        return Examples(self.space, kept, self.context, thumbnails)


def check_one_clip(examples: Sequence[Examples]) -> None:
    """Refuse examples that cannot be compared, and more than there may be.

    Raises:
        MasqclipError: it is so.
    """
    if not examples:
        return
    first = examples[0].space
    for other in examples[1:]:
        if other.space is not first and not first.is_of(other.space.probe):
            raise MasqclipError(
                f"examples made with {first.model!r} and with {other.space.model!r} cannot be "
                "compared: make all with one model"
            )
    if (count := sum(map(len, examples))) > MAX_EXAMPLES:
        raise MasqclipError(
            f"{count:,} examples, and a vocabulary may have {MAX_EXAMPLES:,}: take fewer for each "
            "category"
        )


def as_half(array: Any) -> NDArray[np.float16]:
    """Numbers as they are kept: a saved vocabulary gives the very answers of the one in memory."""
    return np.asarray(array, dtype=np.float16)
