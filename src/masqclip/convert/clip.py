"""A CLIP for a conversion: what of it shapes do not tell, and all that belongs to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPTokenizer

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.towers.families import family_of
from masqclip.towers.loading import load_clip, load_clip_and_tokenizer
from masqclip.towers.normalisation import (
    OPENAI,
    ClipNormalisation,
    clip_normalisation,
    usual_normalisation,
)
from masqclip.towers.openai_clip import huggingface_clip, openai_clip_to_transformers
from masqclip.towers.timm_clip import timm_clip_kind, timm_clip_to_model
from masqclip.towers.tokenizer import check_own_vocabulary, check_tokenizer, load_tokenizer
from masqclip.weights.checkpoint import read_state_dict
from masqclip.weights.preprocessing import Channels
from masqclip.weights.rules import StateDict

#: What begins a name of a CLIP in transformers' own layout.
TRANSFORMERS = ("vision_model.",)


@dataclass(frozen=True)
class ClipOptions:
    """What tensors' shapes do not tell of a CLIP; None = as published.

    Attributes:
        vision_heads, text_heads: attention heads.
        activation: of OpenAI's towers, ``quick_gelu`` or ``gelu``.
        mean, std: of RGB values in 0..1; None = those of its folder, or the published ones.
        tokenizer: a folder; None = that of its folder, or OpenAI's.
    """

    vision_heads: int | None = None
    text_heads: int | None = None
    activation: str = "quick_gelu"
    mean: Channels | None = None
    std: Channels | None = None
    tokenizer: str | Path | None = None

    def normalisation(self, own: ClipNormalisation = OPENAI) -> ClipNormalisation:
        """A CLIP's own, where no other is asked for."""
        changed: ClipNormalisation = {
            "clip_mean": self.mean or own["clip_mean"],
            "clip_std": self.std or own["clip_std"],
        }
        return {**own, **changed}


def file_normalisation(config: Any, options: ClipOptions) -> ClipNormalisation:
    """How pictures are normalised for a file's CLIP: as was asked for, or as was published."""
    return options.normalisation(usual_normalisation(config.model_type))


def own_tokenizer(config: Any, options: ClipOptions) -> CLIPTokenizer:
    """The tokenizer of a file's CLIP, whose tokens its configuration then names.

    Raises:
        MasqclipError: it is not the tower's.
    """
    text = config.text_config
    if config.model_type == "siglip":
        if options.tokenizer is None:
            raise MasqclipError("a SigLIP is converted with its own tokenizer: --tokenizer FOLDER")
        return family_of("siglip").load_tokenizer(Path(options.tokenizer), text)
    if options.tokenizer is None:
        tokenizer = load_tokenizer()
        check_own_vocabulary(text, tokenizer, remedy="give its own (--tokenizer FOLDER)")
        return tokenizer
    tokenizer = load_tokenizer(options.tokenizer)
    text.bos_token_id, text.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    check_tokenizer(text, tokenizer, remedy="give its own (--tokenizer FOLDER)")
    return tokenizer


def convert_clip(
    state_dict: Mapping[str, Tensor], options: ClipOptions, huggingface: bool
) -> tuple[Any, StateDict]:
    """Configuration and weights of a CLIP of whatever family.

    Args:
        state_dict: its tensors.
        options: what shapes do not tell.
        huggingface: whether the names are transformers' own.

    Raises:
        MasqclipError: it is no such CLIP; the message names the tensor.
    """
    kind = None if huggingface else timm_clip_kind(state_dict)
    if kind is not None:
        return timm_clip_to_model(
            kind, state_dict, vision_heads=options.vision_heads, text_heads=options.text_heads
        )
    convert = huggingface_clip if huggingface else openai_clip_to_transformers
    return convert(
        state_dict,
        vision_heads=options.vision_heads,
        text_heads=options.text_heads,
        activation=options.activation,
    )


def load_source(
    source: str | Path, options: ClipOptions
) -> tuple[Any, StateDict, CLIPTokenizer, ClipNormalisation]:
    """A CLIP of OpenAI's family, a file of one, or a folder or name; with all that belongs to it.

    Raises:
        MasqclipError: there is none, or it is of another family.
    """
    if Path(source).is_file():
        state_dict = read_state_dict(source)
        huggingface = any(name.startswith(TRANSFORMERS) for name in state_dict)
        config, weights = convert_clip(state_dict, options, huggingface)
        _check_family(config, source)
        return config, weights, own_tokenizer(config, options), file_normalisation(config, options)
    folder = find_weights(source, what="CLIP")
    scale = options.normalisation(clip_normalisation(folder))
    if options.tokenizer is None:
        model, tokenizer = load_clip_and_tokenizer(folder)
    else:
        model = load_clip(folder)
        _check_family(model.config, source)
        tokenizer = own_tokenizer(model.config, options)
    _check_family(model.config, source)
    return model.config, dict(model.state_dict()), tokenizer, scale


def _check_family(config: Any, source: str | Path) -> None:
    if config.model_type != "clip":
        raise MasqclipError(
            f"the CLIP {str(source)!r} is of the family {config.model_type!r}: the "
            "checkpoint's is OpenAI's"
        )
