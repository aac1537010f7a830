"""`Segmenter`: a picture and a vocabulary in, a `Segmentation` out: what most people touch.

    segmenter = Segmenter.from_pretrained("masqclip-mini")
    segmenter("scene.png", "cat, car, grass", task="panoptic").save("scene.overlay.png")

A picture's part and the words' part are apart: `encode` runs the proposer and CLIP once, and what
it returns can be asked about any names, in any task, for almost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from masqclip.acceleration import compile_model
from masqclip.baselines.loading import load_system
from masqclip.clip.mask_coverage import Masks
from masqclip.clip.name_limits import few_names, shown
from masqclip.clip.text import TextEncoder
from masqclip.clip.tokenizer import load_tokenizer
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.files import shared
from masqclip.devices import choose_device, choose_dtype
from masqclip.encoding import (
    EncodedImage,
    Picture,
    encode_pictures,
    listed_pictures,
    read_ahead,
    read_picture,
    seen_sizes,
    set_size,
)
from masqclip.errors import MasqclipError
from masqclip.given_masks import MaskClassification, embed_given_masks, name_embeddings
from masqclip.hub import Parts, find_model
from masqclip.model import MasQClipModel
from masqclip.options import check_count, check_share, check_size
from masqclip.own_world import OwnWorld, load_world
from masqclip.parts import join_parts
from masqclip.result import Segmentation, Task
from masqclip.segments import check_system_task, segment_encoded

Size = str | int | tuple[int, int] | None
Names = Vocabulary | str | Path | Sequence[Any] | Mapping[str, Sequence[str]]

# How, on the command line, in a request and in a vocabulary alike.
_COUNT_THEM = "'thing: NAME', or --things, counts them"

#: What scores less stays unlabelled, unless a call says otherwise: the published object threshold.
MIN_SCORE = 0.3


class Segmenter:
    """Segments pictures by names.

    Threads may share one: all calls but `compile`, and changing or training the model, may overlap,
    and each answer is the one that a single thread would get. A compiled one belongs to the thread
    that compiled it, and an iterator of `stream` to the thread that reads it.

    Args:
        model: proposer, CLIP and queries.
        tokenizer: of the CLIP.
        name: what the model is called.
        cache: where text embeddings are kept: memory (true), a folder, or nowhere (false).
        world: what it knows, if that is little: names and pictures beyond are noted in results.
        sized: note in results at which size pictures were seen, as that was not told by the model.
    """

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: Any,
        *,
        name: str = "",
        cache: bool | str | Path = True,
        world: OwnWorld | None = None,
        sized: bool = False,
    ) -> None:
        self.model = model.eval()
        self.name = name
        self.world = world
        self._sized = sized
        self.text = TextEncoder(model.clip, tokenizer, cache=cache)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "masqclip-mini",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        size: Size = None,
        cache: bool | str | Path = True,
    ) -> Segmenter:
        """Load a model of this package, a preset, a folder, or one of the Hugging Face Hub.

        Args:
            name_or_path: ``masqclip-mini`` is shipped and works offline; ``photo`` and the other
                presets (``masqclip info --models``) are downloaded when they are first used. A
                folder holds a whole model, or its parts as ``clip`` and ``proposer``.
            device: ``cpu``, ``cuda``, ``mps``; the best one here by default.
            dtype: of the computation; float32 by default.
            size: at which the proposer sees pictures, in place of the model's own: the shorter side
                in pixels, or it and the longest (``"800:1333"``).
            cache: see the class.

        Raises:
            MasqclipError: there is no such model, or its files are broken.
        """
        where = choose_device(device)
        if size is not None:
            check_size(size, what="size")
        source = find_model(name_or_path)
        if isinstance(source, Parts):
            parts = (source.clip, source.proposer, source.queries)
            joined = cls.from_parts(*parts, device=where, dtype=dtype, size=size, cache=cache)
            joined.name = str(name_or_path)
            return joined
        try:
            world = load_world(source)
            model, missing = load_system(source, dtype=choose_dtype(dtype, where))
            tokenizer = load_tokenizer(source)
        except MasqclipError as error:
            raise MasqclipError(
                f"the model {str(name_or_path)!r} cannot be loaded: {error}"
            ) from error
        if missing:
            raise MasqclipError(
                f"the model {str(name_or_path)!r} is incomplete: it has no {min(missing)!r}"
            )
        if size is not None:
            set_size(model.config, size)
        return cls(
            model.to(device=where, dtype=choose_dtype(dtype, where)),
            tokenizer,
            name=str(name_or_path),
            cache=cache,
            world=world,
            sized=size is not None,
        )

    @classmethod
    def from_parts(
        cls,
        clip: str | Path,
        proposer: str | Path,
        queries: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        size: Size = None,
        cache: bool | str | Path = True,
    ) -> Segmenter:
        """Join a CLIP and a universal segmenter, neither of which need know of the other.

        Args:
            clip: a CLIP with ViT towers: a folder in transformers' format, a name of the registry
                (``masqclip info --models``), or of the Hugging Face Hub.
            proposer: a Mask2Former, MaskFormer, OneFormer, EoMT or SAM, named likewise. Its own
                classes do not matter: they become one object score.
            queries: a MasQ add-on (`MasQClipModel.save_queries`) that was tuned on this CLIP;
                without one the model is MaskCLIP.
            device, dtype, size, cache: as in `from_pretrained`.

        Raises:
            MasqclipError: a part is not there, of no known kind, or does not fit.
        """
        model, tokenizer = join_parts(clip, proposer, queries, size=size)
        where = choose_device(device)
        model.to(device=where, dtype=choose_dtype(dtype, where))
        return cls(model, tokenizer, name=f"{clip} + {proposer}", cache=cache, sized=True)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its tokenizer as a folder for `from_pretrained`."""
        self.model.save_pretrained(folder)
        with shared(folder):
            self.text.tokenizer.save_pretrained(folder)
        if self.world is not None:
            self.world.save(Path(folder))

    def compile(self) -> None:
        """Compile the model for this machine, with CUDA graphs where there is a GPU.

        Each frame size takes minutes when it first comes, so this pays for many pictures of few
        sizes.
        """
        compile_model(self.model)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def __call__(
        self,
        image: Any,
        vocabulary: Names,
        task: Task = "panoptic",
        *,
        min_score: float | None = None,
        stuff: str | Iterable[str] = (),
        things: str | Iterable[str] = (),
        distractors: str | Iterable[str] = (),
    ) -> Any:
        """Segment a picture, or a list of them.

        Args:
            image: a path, bytes, PIL picture, array or tensor; an `EncodedImage`; or a list.
            vocabulary: names as a list, a string, a file, a built-in vocabulary, or a `Vocabulary`.
            task: ``instance`` finds every thing (masks may overlap), ``semantic`` names every
                pixel, ``panoptic`` does both without overlap.
            min_score: what scores less is left out or stays unlabelled; 0.3 by default.
            stuff: names that are regions, not countable things; a list, or a string with commas.
                Sky, grass and what else everybody takes for one need not be said.
            things: names that are counted, whatever else is said of them; likewise.
            distractors: names that compete but are never reported; likewise.

        Returns:
            A `Segmentation`, or a list of them for a list.

        Raises:
            MasqclipError: the names or an option cannot be used, which is told before any work;
                or a picture.
        """
        several = isinstance(image, (list, tuple))
        results = self.stream(
            image if several else [image],
            vocabulary,
            task,
            min_score=min_score,
            stuff=stuff,
            things=things,
            distractors=distractors,
        )
        return list(results) if several else next(results)

    def stream(
        self,
        images: Iterable[Any] | str | Path,
        vocabulary: Names,
        task: Task = "panoptic",
        *,
        batch_size: int = 8,
        min_score: float | None = None,
        stuff: str | Iterable[str] = (),
        things: str | Iterable[str] = (),
        distractors: str | Iterable[str] = (),
    ) -> Iterator[Segmentation]:
        """Segment any number of pictures, one result at a time, in their order.

        `images` is anything to iterate over, or a folder or glob of pictures; a warning says which
        pictures of that are left out, such as those of sub-folders.

        Pictures whose frames are of one size go through the model together. A result never depends
        on what else is in its batch.

        Raises:
            MasqclipError: the names, an option or the folder cannot be used, which this call tells
                itself; or a picture, once its turn has come.
        """
        task, least = check_system_task(self.model, task), _least_score(min_score)
        batch_size = check_count(batch_size, what="batch_size")
        if not isinstance(images, Iterable | Path):
            raise MasqclipError(f"images are {shown(images)}: give pictures, or a folder of them")
        words = self._words(vocabulary, stuff, things, distractors)
        source = listed_pictures(images) if isinstance(images, str | Path) else images
        rows = self._text(words)
        return self._results(read_ahead(source, batch_size), words, rows, task, least)

    def _results(
        self,
        batches: Iterable[Sequence[Picture]],
        words: Vocabulary,
        rows: Tensor,
        task: Task,
        least: float,
    ) -> Iterator[Segmentation]:
        heard, notes = least_object_score(task, least), self.notes_on(words, task)
        for batch in batches:
            for encoded in self._encoded(batch, heard):
                result = segment_encoded(self.model, encoded, words, rows, task, min_score=least)
                yield replace(result, notes=(*result.notes, *notes))

    def encode(self, image: Any, *, min_object_score: float = 0.0) -> Any:
        """Run the proposer and CLIP over a picture, for any number of calls that follow.

        Args:
            image: a picture, or a list of them: those whose frames have one size go through the
                model together.
            min_object_score: leave out proposals that score less (see `least_object_score`).

        Returns:
            An `EncodedImage`, or a list of them for a list.

        Raises:
            MasqclipError: the score is none, which is told before any picture is read; or a
                picture cannot be used.
        """
        min_object_score = check_share(min_object_score, what="min_object_score")
        several = isinstance(image, (list, tuple))
        pictures = [read_picture(picture) for picture in (image if several else [image])]
        encoded = self._encoded(pictures, min_object_score)
        return encoded if several else encoded[0]

    def _encoded(self, pictures: Sequence[Picture], heard: float) -> list[EncodedImage]:
        """Pictures, encoded, with a note of where one of them lies outside what the model knows."""
        encoded = encode_pictures(self.model, pictures, min_object_score=heard)
        return [
            found if found is picture else self._noted(found)
            for picture, found in zip(pictures, encoded, strict=True)
        ]

    def _noted(self, encoded: EncodedImage) -> EncodedImage:
        image, notes = encoded.image, list(encoded.image.notes)
        if self._sized:
            notes.append(seen_sizes(self.model.config, image.height, image.width))
        if self.world is not None:
            notes += self.world.picture_note(encoded.tokens)
        return replace(encoded, image=replace(image, notes=tuple(notes)))

    def notes_on(self, words: Vocabulary, task: Task) -> tuple[str, ...]:
        """What is to be said of names, whatever the picture: those that are taken for regions
        although nobody said so, and those that the model has never read."""
        notes = []
        if words.assumed and task == "panoptic":
            notes.append(f"taken as regions: {few_names(words.assumed)} ({_COUNT_THEM})")
        if task == "instance" and (regions := words.counted.stuff_ids):
            names = few_names([words.names[i] for i in sorted(regions)])
            notes.append(f"regions, which have no instances: {names} ({_COUNT_THEM})")
        return (*notes, *(self.world.word_note(words) if self.world is not None else ()))

    def embed_masks(self, image: Any, masks: Masks) -> Tensor:
        """CLIP embeddings of masks that come from elsewhere: SAM, an annotator, ground truth.

        However small a mask is, it sees the patches about it (`mask_coverage`); one without a pixel
        sees none. Masks of any number and size take little memory beside themselves.

        Args:
            image: a picture or an `EncodedImage`.
            masks: [N,H,W] bool, or 0 and 1, at the picture's own size: an array, a tensor, or a
                list of masks.

        Returns:
            [N,E] float32, L2-normalised, comparable with text embeddings.

        Raises:
            MasqclipError: the masks' size is not the picture's, or they hold probabilities, logits
                or other numbers.
        """
        return embed_given_masks(self.model, image, masks)

    def classify_masks(
        self,
        image: Any,
        masks: Masks,
        vocabulary: Names,
        *,
        distractors: str | Iterable[str] = (),
    ) -> MaskClassification:
        """Name masks that come from elsewhere. Arguments as in `embed_masks`.

        Raises:
            MasqclipError: the names cannot be used, which is told before the picture is read; or
                the picture or the masks.
        """
        words = self._words(vocabulary, (), (), distractors)
        rows = self._text(words)
        return name_embeddings(self.model, self.embed_masks(image, masks), words, rows)

    def _words(
        self,
        vocabulary: Names,
        stuff: str | Iterable[str],
        things: str | Iterable[str],
        distractors: str | Iterable[str],
    ) -> Vocabulary:
        return Vocabulary.parse(vocabulary, stuff=stuff, things=things, distractors=distractors)

    def _text(self, words: Vocabulary) -> Tensor:
        with torch.inference_mode():
            return self.text.embed_vocabulary(words)


def _least_score(min_score: float | None) -> float:
    return MIN_SCORE if min_score is None else check_share(min_score, what="min_score")


def least_object_score(task: Task, min_score: float | None) -> float:
    """The object score below which a proposal is not heard: in a semantic vote all are."""
    if task == "semantic":
        return 0.0
    return MIN_SCORE if min_score is None else min_score
