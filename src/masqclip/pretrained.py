"""A model with its tokenizer, and how both are loaded, saved and made fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import torch

from masqclip.acceleration import compile_model
from masqclip.baselines.loading import load_system
from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.files import shared
from masqclip.devices import choose_device, choose_dtype
from masqclip.encoding import resize_model
from masqclip.errors import MasqclipError
from masqclip.hub import Parts, find_model
from masqclip.model import MasQClipModel
from masqclip.options import check_size
from masqclip.own_world import OwnWorld, load_world
from masqclip.parts import join_parts, several
from masqclip.proposals.words import asking
from masqclip.refinements import Refinements
from masqclip.towers.families import folder_tokenizer
from masqclip.towers.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

Size = str | int | tuple[int, int] | None
#: What a proposer that takes words is asked for: words of its own, or the names of the vocabulary.
ProposerWords = Literal["own", "vocabulary"]


class Pretrained:
    """What `masqclip.segmenter.Segmenter` holds; arguments as there."""

    def __init__(
        self,
        model: MasQClipModel,
        tokenizer: CLIPTokenizer,
        *,
        name: str = "",
        cache: bool | str | Path = True,
        world: OwnWorld | None = None,
        sized: bool = False,
    ) -> None:
        self.model: MasQClipModel = model.eval()
        self.name = name
        self.world = world
        self._sized = sized
        self._proposer_words: ProposerWords = "own"
        self._text = TextEncoder(model.clip, tokenizer, cache=cache)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "masqclip-mini",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        size: Size = None,
        cache: bool | str | Path = True,
    ) -> Self:
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
            tokenizer = folder_tokenizer(source, model.clip)
        except MasqclipError as error:
            raise MasqclipError(
                f"the model {str(name_or_path)!r} cannot be loaded: {error}"
            ) from error
        if missing:
            raise MasqclipError(
                f"the model {str(name_or_path)!r} is incomplete: it has no {min(missing)!r}"
            )
        if size is not None:
            resize_model(model, size)
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
        proposer: str | Path | Sequence[str | Path],
        queries: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        size: Size = None,
        cache: bool | str | Path = True,
    ) -> Self:
        """Join a CLIP and a universal segmenter, neither of which need know of the other.

        Args:
            clip: a CLIP with ViT towers: a folder in transformers' format, a name of the registry
                (``masqclip info --models``), or of the Hugging Face Hub.
            proposer: a Mask2Former, MaskFormer, OneFormer, EoMT, SAM, SAM 2 or SAM 3, named
                likewise. Its own classes do not matter: they become one object score. Several of
                them, in a list, propose together (`masqclip.proposals.union`).
            queries: a MasQ add-on (`MasQClipModel.save_queries`) that was tuned on this CLIP;
                without one the model is MaskCLIP.
            device, dtype, size, cache: as in `from_pretrained`.

        Raises:
            MasqclipError: a part is not there, of no known kind, or does not fit.
        """
        model, tokenizer = join_parts(clip, proposer, queries, size=size)
        where = choose_device(device)
        model.to(device=where, dtype=choose_dtype(dtype, where))
        name = " + ".join(str(part) for part in (clip, *several(proposer)))
        return cls(model, tokenizer, name=name, cache=cache, sized=True)

    def __repr__(self) -> str:
        """One line: the model, where it is, and in which precision."""
        dtype = str(self.model.dtype).removeprefix("torch.")
        return f"<{type(self).__name__}: {self.name or 'unnamed'} on {self.device}, {dtype}>"

    def refine(self, settings: Refinements | Mapping[str, object] | None = None) -> None:
        """Change how masks are read and named, without training; `save_pretrained` keeps it.

        Args:
            settings: refinements, or some of them by name, such as ``{"prune": 0.05}``; all others
                are as published. None = the published method.

        Raises:
            MasqclipError: there is no such refinement, a value is out of its bounds, or the model
                has nothing to refine so.
        """
        chosen = settings if isinstance(settings, Refinements) else Refinements.read(settings)
        mixes = chosen.untuned_seen or chosen.untuned_unseen
        if chosen.changed and self.model.system != MasQClipModel.system:
            raise MasqclipError(
                f"a model of the system {self.model.system!r} has no refinements: take one of "
                "masqclip"
            )
        if mixes and self.model.config.own_projections != "q":
            raise MasqclipError(
                "untuned_seen and untuned_unseen need masks that read CLIP's own keys and values; "
                f"those of this model have own projections {self.model.config.own_projections!r}"
            )
        self.model.config.refinements = chosen.changed

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its tokenizer as a folder for `from_pretrained`."""
        self.model.save_pretrained(folder)
        with shared(folder):
            self.text.tokenizer.save_pretrained(folder)
        if self.world is not None:
            self.world.save(Path(folder))

    @property
    def text(self) -> TextEncoder:
        """The model's word tower, with the embeddings that it has made."""
        return self._text

    @property
    def proposer_words(self) -> ProposerWords:
        """What a proposer that takes words (SAM 3) is asked for: general words of its ``own``, or
        the names of the ``vocabulary``, whose masks are then named by CLIP like all others.

        It holds where a picture and names come together, in a call and in `stream`; a picture that
        is encoded before its names are known is asked the proposer's own.
        """
        return self._proposer_words

    @proposer_words.setter
    def proposer_words(self, words: ProposerWords) -> None:
        if words not in get_args(ProposerWords):
            raise MasqclipError(f"proposer_words is {words!r}: it is 'own' or 'vocabulary'")
        if words == "vocabulary" and not self.model.proposer.takes_words:
            raise MasqclipError(
                f"proposer_words is {words!r}, and the proposer of {self.name!r} takes no words: "
                "use a SAM 3"
            )
        self._proposer_words = words

    def proposing(self, words: Vocabulary) -> AbstractContextManager[None]:
        """Where the proposer is to be asked for them, have it look for the names of a vocabulary,
        those that only compete among them."""
        if self._proposer_words == "own" or words.unnamed:
            return asking(None)
        names = list(dict.fromkeys(row.name for row in words.rows if row.worded))
        prompts: list[list[int]] = load_tokenizer()(names)["input_ids"] if names else []
        return asking(prompts or None)

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
