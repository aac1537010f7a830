"""`Segmenter`: a picture and a vocabulary in, a `Segmentation` out: what most people touch.

    segmenter = Segmenter.from_pretrained("masqclip-mini")
    segmenter("scene.png", "cat, car, grass", task="panoptic").save("scene.overlay.png")

A picture's part and the words' part are apart: `encode` runs the proposer and CLIP once, and what
it returns can be asked about any names, in any task, for almost nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.acceleration import compile_model
from masqclip.clip.mask_coverage import Masks
from masqclip.clip.name_limits import shown
from masqclip.clip.text import TextEncoder
from masqclip.clip.tokenizer import load_tokenizer
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.folders import LeftOut
from masqclip.data.images import LoadedImage, find_images
from masqclip.devices import choose_device, choose_dtype, overflow_advice
from masqclip.encoding import (
    EncodedImage,
    Picture,
    encode_pictures,
    frame_sizes,
    read_ahead,
    read_picture,
    set_size,
)
from masqclip.errors import MasqclipError
from masqclip.hub import model_folder
from masqclip.model import MasQClipModel
from masqclip.options import check_count, check_share, check_size, check_task
from masqclip.parts import join_parts
from masqclip.result import Segmentation, Task
from masqclip.segments import segment_encoded

Names = Vocabulary | str | Path | Sequence[Any] | Mapping[str, Sequence[str]]

# Given masks that go through CLIP together.
_MASKS_AT_ONCE = 1000

#: What scores less stays unlabelled, unless a call says otherwise: the published object threshold.
MIN_SCORE = 0.3


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
    probs: np.ndarray
    vocabulary: tuple[str, ...]


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
    """

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: Any,
        *,
        name: str = "",
        cache: bool | str | Path = True,
    ) -> None:
        self.model = model.eval()
        self.name = name
        self.text = TextEncoder(model.clip, tokenizer, cache=cache)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "masqclip-mini",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        size: str | int | tuple[int, int] | None = None,
        cache: bool | str | Path = True,
    ) -> Segmenter:
        """Load a model of this package, a folder, or a repository of the Hugging Face Hub.

        Args:
            name_or_path: ``masqclip-mini`` is shipped and works offline.
            device: ``cpu``, ``cuda``, ``mps``; the best one here by default.
            dtype: of the computation; float32 by default.
            size: the edges in pixels that pictures are resized by, in place of the model's own:
                ``800`` or ``"800:1333"`` (see `encoding.set_size`).
            cache: see the class.

        Raises:
            MasqclipError: there is no such model, or its files are broken.
        """
        where = choose_device(device)
        precision = choose_dtype(dtype, where)
        if size is not None:
            check_size(size, what="size")
        source = model_folder(name_or_path)
        try:
            model, report = MasQClipModel.from_pretrained(
                source, dtype=precision, output_loading_info=True
            )
            tokenizer = load_tokenizer(source)
        except MasqclipError as error:
            raise MasqclipError(
                f"the model {str(name_or_path)!r} cannot be loaded: {error}"
            ) from error
        if missing := report["missing_keys"]:
            raise MasqclipError(
                f"the model {str(name_or_path)!r} is incomplete: it has no {min(missing)!r}"
            )
        if size is not None:
            set_size(model.config, size)
        model.to(device=where, dtype=precision)
        return cls(model, tokenizer, name=str(name_or_path), cache=cache)

    @classmethod
    def from_parts(
        cls,
        clip: str | Path,
        proposer: str | Path,
        queries: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        size: str | int | tuple[int, int] | None = None,
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
        return cls(model, tokenizer, name=f"{clip} + {proposer}", cache=cache)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its tokenizer as a folder for `from_pretrained`."""
        self.model.save_pretrained(folder)
        self.text.tokenizer.save_pretrained(folder)

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
        task, least = check_task(task), _least_score(min_score)
        batch_size = check_count(batch_size, what="batch_size")
        if not isinstance(images, Iterable | Path):
            raise MasqclipError(f"images are {shown(images)}: give pictures, or a folder of them")
        words = self._words(vocabulary, stuff, distractors)
        source = _listed(images) if isinstance(images, str | Path) else images
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
        heard = least_object_score(task, least)
        for batch in batches:
            for encoded in encode_pictures(self.model, batch, min_object_score=heard):
                yield segment_encoded(self.model, encoded, words, rows, task, min_score=least)

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
        encoded = encode_pictures(self.model, pictures, min_object_score=min_object_score)
        return encoded if several else encoded[0]

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
        picture = read_picture(image)
        loaded = picture.image if isinstance(picture, EncodedImage) else picture
        size = (loaded.height, loaded.width)
        if isinstance(picture, EncodedImage):
            resized, frame = picture.resized, picture.frame_size
        else:
            resized, frame = frame_sizes(*size, self.model.config)
        with torch.inference_mode():
            weights = self.model.patch_weights(masks, size=size, resized=resized, frame=frame)
            if isinstance(picture, LoadedImage):
                (picture,) = encode_pictures(self.model, [picture])
            tokens = picture.tokens
            found = [
                self.model.embed_patches(tokens, some[None])[0].float()
                for some in weights.split(_MASKS_AT_ONCE)
            ]
        embeddings = torch.cat(found)
        if not bool(embeddings.norm(dim=-1).isfinite().all()):
            raise self._no_numbers("the masks' embeddings")
        return F.normalize(embeddings, dim=-1)

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
        words = self._words(vocabulary, (), distractors)
        rows = self._text(words)
        embeddings = self.embed_masks(image, masks)
        probs = self.model.classify(embeddings[None], rows, len(words))[0].exp().cpu()
        if not bool(probs.isfinite().all()):
            raise self._no_numbers("the names' embeddings")
        scores, best = probs.max(dim=-1)
        return MaskClassification(
            names=tuple(words.names[i] for i in best.tolist()),
            scores=tuple(scores.tolist()),
            probs=probs.numpy(),
            vocabulary=words.names,
        )

    def _no_numbers(self, what: str) -> MasqclipError:
        return MasqclipError(f"{what} are no numbers: {overflow_advice(self.model.dtype)}")

    def _words(
        self, vocabulary: Names, stuff: str | Iterable[str], distractors: str | Iterable[str]
    ) -> Vocabulary:
        return Vocabulary.parse(vocabulary, stuff=stuff, distractors=distractors)

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


def _listed(source: str | Path) -> list[Path]:
    """The pictures of a folder or glob."""
    left_out = LeftOut()
    paths = find_images([source], left_out=left_out)
    for line in left_out.lines(pictures_only=True):
        warnings.warn(f"{source}: {line}", stacklevel=3)
    return paths
