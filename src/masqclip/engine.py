"""What computes for a segmenter: the steps that its calls (`masqclip.segmenting`) are made of.

Free of torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from masqclip.assembly import System
from masqclip.clip.examples import Examples, ExampleSpace
from masqclip.clip.name_encoder import NameEncoder
from masqclip.clip.vocabulary import Names, Vocabulary
from masqclip.data.images import Channels
from masqclip.everything import suggestions
from masqclip.make_examples import example_space, make_examples
from masqclip.own_world import OwnWorld, vocabulary_notes
from masqclip.picture import Encoded, Masks, Picture, PictureInput
from masqclip.refinements import Refinements
from masqclip.result import Segmentation, Task

E = TypeVar("E", bound=Encoded)
#: Embeddings, of masks or of names: a tensor, or an array.
A = TypeVar("A")


class Engine(ABC, Generic[E, A]):
    """What a model does with pictures and names, in PyTorch or elsewhere.

    Attributes:
        name: what the model is called.
        world: what it knows, if that is little: names and pictures beyond are noted in results.
    """

    name: str
    world: OwnWorld | None

    @property
    @abstractmethod
    def text(self) -> NameEncoder:
        """The model's word tower, with the embeddings that it has made."""

    @property
    @abstractmethod
    def system(self) -> System:
        """What the model can be asked for."""

    @property
    @abstractmethod
    def refinements(self) -> Refinements:
        """What of the reading and naming of masks is not as published."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """The model's inverse temperature."""

    @abstractmethod
    def _encode(self, pictures: Sequence[Picture], heard: float) -> list[E]:
        """Pictures, encoded, without the proposals whose object score is below `heard`."""

    @abstractmethod
    def _picture_notes(self, encoded: E) -> tuple[str, ...]:
        """What is to be said of a picture that was just encoded."""

    @abstractmethod
    def _rows(self, words: Vocabulary) -> A:
        """Embeddings of a vocabulary's names, distractors and background (`NameEncoder`)."""

    @abstractmethod
    def _segment(
        self,
        encoded: E,
        words: Vocabulary,
        rows: A,
        task: Task,
        *,
        min_score: float,
        level: int | None,
    ) -> Segmentation:
        """A result for an encoded picture; `rows` are those of the words."""

    @abstractmethod
    def _probabilities(self, embeddings: A, words: Vocabulary, rows: A) -> NDArray[np.float32]:
        """[N,K]: the probability of each name for masks of these embeddings [N,E]."""

    @abstractmethod
    def _directions(self, encoded: Encoded, masks: Masks) -> NDArray[np.float32]:
        """`embed_masks`, as an array."""

    @abstractmethod
    def embed_masks(self, image: PictureInput, masks: Masks, *, channels: Channels = "rgb") -> A:
        """CLIP embeddings of masks that come from elsewhere: SAM, an annotator, ground truth.

        However small a mask is, it sees the patches about it (`mask_coverage`); one without a pixel
        sees none. Masks of any number and size take little memory beside themselves.

        Args:
            image: a picture, or one that is encoded.
            masks: [N,H,W] bool, or 0 and 1, at the picture's own size: an array, a tensor, or a
                list of masks.
            channels: as in a call.

        Returns:
            [N,E] float32, L2-normalised, comparable with text embeddings.

        Raises:
            MasqclipError: the masks' size is not the picture's, or they hold probabilities, logits
                or other numbers.
        """

    def _encoded(self, pictures: Sequence[Picture], heard: float) -> list[E]:
        """Pictures, encoded, with a note of where one of them lies outside what the model knows."""
        return [
            found if found is picture else self._noted(found)
            for picture, found in zip(pictures, self._encode(pictures, heard), strict=True)
        ]

    def _noted(self, encoded: E) -> E:
        image = encoded.image
        notes = (*image.notes, *self._picture_notes(encoded))
        return encoded.with_image(replace(image, notes=notes))

    def notes_on(self, words: Vocabulary, task: Task) -> tuple[str, ...]:
        """What is to be said of names, whatever the picture: those that are taken for regions
        although nobody said so, and those that the model has never read."""
        return vocabulary_notes(words, task, self.world)

    @cached_property
    def example_space(self) -> ExampleSpace:
        """Where words and masks lie for this model."""
        known = None if self.world is None else self.world.names
        return example_space(self.text, known, self.logit_scale, model=self.name)

    def proposing(self, words: Vocabulary) -> AbstractContextManager[None]:
        """Have a proposer that is to look for the names of a vocabulary do so, within this."""
        return nullcontext()

    def examples_of(self, encoded: Encoded, masks: Masks) -> Examples:
        """Examples of masks [N,H,W] on an encoded picture."""
        return make_examples(self._directions, self.example_space, encoded, masks)

    def _words(
        self,
        vocabulary: Names,
        stuff: str | Iterable[str],
        things: str | Iterable[str],
        distractors: str | Iterable[str] | Vocabulary,
    ) -> Vocabulary:
        words = Vocabulary.parse(vocabulary, stuff=stuff, things=things, distractors=distractors)
        return suggestions(words, self.world) if words.unnamed else words
