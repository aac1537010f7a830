"""What every segmenter can be asked for, whatever computes it: the calls, and what they mean.

Free of torch. `masqclip.segmenter.Segmenter` computes with PyTorch,
`masqclip.runtime.OnnxSegmenter` with onnxruntime and NumPy.

A picture's part and the words' part are apart: `encode` runs the proposer and CLIP once, and what
it returns can be asked about any names, in any task, for almost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast, overload

import numpy as np
from numpy.typing import NDArray

from masqclip.assembly import check_system_task, least_object_score, least_score
from masqclip.clip.category import Category
from masqclip.clip.hierarchy import groups_at
from masqclip.clip.vocabulary import Names, Vocabulary
from masqclip.data.images import Channels
from masqclip.data.pixels import check_channels
from masqclip.engine import A, E, Engine
from masqclip.errors import MasqclipError
from masqclip.everything import check_unnamed
from masqclip.make_examples import Box, Point, fitting_mask
from masqclip.options import check_count, check_share
from masqclip.picture import Masks, Picture, PictureInput, read_picture
from masqclip.result import Segmentation, Task
from masqclip.streams import (
    Errors,
    PicturesInput,
    check_errors,
    is_several,
    picture_source,
    progress_bar,
    read_ahead,
    segmented,
)

if TYPE_CHECKING:
    import torch


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


class BaseSegmenter(Engine[E, A]):
    """Segments pictures by names: what `Segmenter` and `OnnxSegmenter` have in common."""

    # A string is a sequence of strings, but one picture: the first that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        image: PictureInput,
        vocabulary: Names,
        task: Task = "panoptic",
        *,
        min_score: float | None = None,
        level: int | None = None,
        stuff: str | Iterable[str] = (),
        things: str | Iterable[str] = (),
        distractors: str | Iterable[str] | Vocabulary = (),
        channels: Channels = "rgb",
    ) -> Segmentation: ...

    @overload
    def __call__(
        self,
        image: Sequence[PictureInput],
        vocabulary: Names,
        task: Task = "panoptic",
        *,
        min_score: float | None = None,
        level: int | None = None,
        stuff: str | Iterable[str] = (),
        things: str | Iterable[str] = (),
        distractors: str | Iterable[str] | Vocabulary = (),
        channels: Channels = "rgb",
    ) -> list[Segmentation]: ...

    def __call__(
        self,
        image: PictureInput | Sequence[PictureInput],
        vocabulary: Names,
        task: Task = "panoptic",
        *,
        min_score: float | None = None,
        level: int | None = None,
        stuff: str | Iterable[str] = (),
        things: str | Iterable[str] = (),
        distractors: str | Iterable[str] | Vocabulary = (),
        channels: Channels = "rgb",
    ) -> Segmentation | list[Segmentation]:
        """Segment a picture, or a list of them.

        Args:
            image: a path, bytes, PIL picture, array or tensor; one that is encoded; or a list or
                tuple of these.
            vocabulary: names as a list, a string, a file, a built-in vocabulary, or a `Vocabulary`.
            task: ``instance`` finds every thing (masks may overlap), ``semantic`` names every
                pixel, ``panoptic`` does both without overlap.
            min_score: what scores less is left out or stays unlabelled; 0.3 by default, or a name's
                own, where the vocabulary says one.
            level: of the vocabulary's hierarchy that is reported: 0 = the widest names.
            stuff: names that are regions, not countable things; a list, or a string with commas.
                Sky, grass and what else everybody takes for one need not be said.
            things: names that are counted, whatever else is said of them; likewise.
            distractors: names that compete but are never reported; likewise.
            channels: the order of the colours of arrays and tensors: ``rgb``, or ``bgr`` as OpenCV
                has them. Files and PIL pictures know their own.

        Returns:
            A `Segmentation`, or a list of them for a list.

        Raises:
            MasqclipError: the names or an option cannot be used, which is told before any work;
                or a picture.
        """
        several = is_several(image)
        results = self.stream(
            image if several else [cast(PictureInput, image)],
            vocabulary,
            task,
            min_score=min_score,
            level=level,
            stuff=stuff,
            things=things,
            distractors=distractors,
            channels=channels,
        )
        return list(results) if several else next(results)

    def stream(
        self,
        images: PicturesInput,
        vocabulary: Names,
        task: Task = "panoptic",
        *,
        batch_size: int = 8,
        min_score: float | None = None,
        level: int | None = None,
        stuff: str | Iterable[str] = (),
        things: str | Iterable[str] = (),
        distractors: str | Iterable[str] | Vocabulary = (),
        channels: Channels = "rgb",
        errors: Errors = "raise",
        progress: bool = False,
    ) -> Iterator[Segmentation]:
        """Segment any number of pictures, one result at a time, in their order.

        `images` is anything to iterate over, a folder or glob of pictures, or one picture; a
        warning says which pictures of a folder are left out, such as those of sub-folders. Each
        result says in `Segmentation.path` which file it is of.

        Pictures whose frames are of one size go through the model together. A result never depends
        on what else is in its batch.

        Args:
            images: see above.
            vocabulary, task, min_score, level, stuff, things, distractors, channels: as in a call.
            batch_size: pictures at a time.
            errors: ``raise`` ends at the first picture that cannot be read or segmented; ``skip``
                leaves it out, and a warning says which and why.
            progress: show a bar; in a notebook it needs ipywidgets (extra ``notebook``).

        Raises:
            MasqclipError: the names, an option or the folder cannot be used, which this call tells
                itself; or a picture, once its turn has come.
        """
        task, least = check_system_task(self.system, task), least_score(min_score)
        batch_size = check_count(batch_size, what="batch_size")
        channels, errors = check_channels(channels), check_errors(errors)
        words = self._words(vocabulary, stuff, things, distractors)
        check_unnamed(words, task)
        source = picture_source(images)
        rows, notes = self._rows(words), self.notes_on(words, task)
        heard = least_object_score(task, least, words, trust=self.refinements.trust)
        if level is not None:
            groups_at(words.paths, level)  # refused before any work

        def segment(pictures: Sequence[Picture]) -> Iterator[Segmentation]:
            with self.proposing(words):
                seen = self._encoded(pictures, heard)
            for encoded in seen:
                result = self._segment(encoded, words, rows, task, min_score=least, level=level)
                yield replace(result, notes=(*result.notes, *notes))

        def results() -> Iterator[Segmentation]:
            batches = read_ahead(source, batch_size, channels=channels, errors=errors)
            with progress_bar(source, shown=progress) as advance:
                yield from segmented(batches, segment, errors=errors, advance=advance)

        return results()

    @overload
    def encode(  # type: ignore[overload-overlap]
        self,
        image: PictureInput,
        *,
        min_object_score: float = 0.0,
        channels: Channels = "rgb",
    ) -> E: ...

    @overload
    def encode(
        self,
        image: Sequence[PictureInput],
        *,
        min_object_score: float = 0.0,
        channels: Channels = "rgb",
    ) -> list[E]: ...

    def encode(
        self,
        image: PictureInput | Sequence[PictureInput],
        *,
        min_object_score: float = 0.0,
        channels: Channels = "rgb",
    ) -> E | list[E]:
        """Run the proposer and CLIP over a picture, for any number of calls that follow.

        Args:
            image: a picture, or a list or tuple of them: those whose frames have one size go
                through the model together.
            min_object_score: leave out proposals that score less (see `least_object_score`).
            channels: as in a call.

        Returns:
            The picture, encoded (`Encoded`), or a list of them for a list.

        Raises:
            MasqclipError: the score is none, which is told before any picture is read; or a
                picture cannot be used.
        """
        min_object_score = check_share(min_object_score, what="min_object_score")
        several = is_several(image)
        given = cast(Sequence[PictureInput], image if several else [image])
        pictures = [read_picture(picture, channels=channels) for picture in given]
        encoded = self._encoded(pictures, min_object_score)
        return encoded if several else encoded[0]

    def classify_masks(
        self,
        image: PictureInput,
        masks: Masks,
        vocabulary: Names,
        *,
        distractors: str | Iterable[str] | Vocabulary = (),
        channels: Channels = "rgb",
    ) -> MaskClassification:
        """Name masks that come from elsewhere. Arguments as in `embed_masks`.

        Raises:
            MasqclipError: the names cannot be used, which is told before the picture is read; or
                the picture or the masks.
        """
        words = self._words(vocabulary, (), (), distractors)
        rows = self._rows(words)
        embeddings = self.embed_masks(image, masks, channels=channels)
        probs = self._probabilities(embeddings, words, rows)
        best = probs.argmax(axis=1)
        return MaskClassification(
            names=tuple(words.names[place] for place in best.tolist()),
            scores=tuple(probs.max(axis=1, initial=0.0).tolist()),
            probs=probs,
            vocabulary=words.names,
        )

    def example(
        self,
        name: str,
        image: PictureInput,
        mask: NDArray[np.generic] | torch.Tensor | None = None,
        *,
        box: Box | None = None,
        point: Point | None = None,
        prompts: Sequence[str] | None = None,
        stuff: bool = False,
        channels: Channels = "rgb",
    ) -> Vocabulary:
        """A vocabulary of one category that a picture shows: "here is one of them".

        `Vocabulary.joined` puts several together and adds them to names; `Vocabulary.save` keeps
        them. How much they count beside the name follows from how well the name fits them.

        Args:
            name: what results call it.
            image: a picture, or one that is encoded.
            mask: [H,W] bool, or 0 and 1, at the picture's own size: where it is. In its place:
            box, point: (x0, y0, x1, y1) or (x, y) in pixels; the proposal that fits is taken.
            prompts: what CLIP reads beside the example; the name by default, none if it is empty.
            stuff: it is a region, not a countable thing.
            channels: as in a call.

        Raises:
            MasqclipError: the mask is empty or of another size, no proposal fits, or none is given.
        """
        if sum(given is not None for given in (mask, box, point)) != 1:
            raise MasqclipError("give one of a mask, a box and a point that shows the example")
        if isinstance(prompts, str):
            raise MasqclipError(f"the prompts {prompts!r:.100} are one string: give a list of them")
        words = (name,) if prompts is None else tuple(prompts)
        Category(name, words)  # names are refused before any work
        if is_several(image):
            raise MasqclipError("several pictures: an example is of one, so give them one by one")
        encoded = self.encode(image, channels=channels)
        shown = fitting_mask(encoded, box=box, point=point) if mask is None else mask
        examples = self.examples_of(encoded, [shown])
        return Vocabulary((Category(name, words, not stuff, examples, worded=bool(words)),))
