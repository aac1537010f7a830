"""A CLIP by name, of any family, from a folder or the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.hub.kinds import instead_of, kind_in_words
from masqclip.towers.families import FAMILIES, family_of
from masqclip.towers.open_clip import check_open_clip_folder, is_open_clip, read_open_clip
from masqclip.towers.tokenizer_files import check_tokenizer_class
from masqclip.weights.configs import read_config
from masqclip.weights.folders import fill_model, load_model
from masqclip.weights.model_kinds import model_type_of

_SUPPORTED = (
    "a CLIP of OpenAI, LAION, MetaCLIP or DFN (model_type 'clip'), a SigLIP, a MetaCLIP 2, a "
    "TIPS v2, an EVA02-CLIP or a PE-Core"
)


def load_clip(name_or_path: str | Path) -> Any:
    """Load a CLIP in float32.

    Args:
        name_or_path: a folder, in transformers' or open_clip's layout, a name of the registry, or
            the Hub's owner/name.

    Raises:
        MasqclipError: there is none, or it is another model than a CLIP of ViT towers, which is
            told before its weights are read.
    """
    folder = find_weights(name_or_path, what="CLIP")
    try:
        if is_open_clip(folder):
            kind = check_open_clip_folder(folder)
            config, weights = read_open_clip(folder)
            clip, missing = fill_model(
                family_of(kind).model_class,
                config,
                weights,
                dtype=torch.float32,
                source=f"the folder {str(folder)!r}",
            )
        else:
            kind = check_clip_kind(folder, name_or_path)
            clip, missing = load_model(family_of(kind).model_class, folder)
    except MasqclipError as error:
        raise MasqclipError(f"no CLIP can be loaded from {str(name_or_path)!r}: {error}") from error
    if missing:
        raise MasqclipError(
            f"no CLIP can be loaded from {str(name_or_path)!r}: there is no tensor {min(missing)!r}"
        )
    return clip


def load_clip_and_tokenizer(name_or_path: str | Path) -> tuple[Any, Any]:
    """Load a CLIP, and the tokenizer that belongs to it: its own, or its family's.

    Arguments and errors as in `load_clip`; that the tokenizer is the tower's is seen before the
    weights are read.
    """
    folder = find_weights(name_or_path, what="CLIP")
    if is_open_clip(folder):  # whose sizes only the weights tell
        clip = load_clip(folder)
        family = family_of(clip.config.model_type)
        return clip, family.load_tokenizer(folder, clip.config.text_config)
    try:
        family = family_of(check_clip_kind(folder, name_or_path))
        config = read_config(folder, family.model_class.config_class)
        tokenizer = family.load_tokenizer(folder, config.text_config)
    except MasqclipError as error:
        raise MasqclipError(f"no CLIP can be loaded from {str(name_or_path)!r}: {error}") from error
    return load_clip(folder), tokenizer


def check_clip_kind(folder: Path, name: str | Path) -> str:
    """The type of the CLIP in a folder of transformers' layout; models of other kinds are refused.

    Others have the tensors' names of a CLIP as well, load, and give words no meaning.

    Args:
        folder: that holds it.
        name: what the user calls it, for the errors.

    Raises:
        MasqclipError: it is of another kind; the message names that.
    """
    kind = model_type_of(folder, name=name)
    if kind not in FAMILIES:
        use = "it as --model" if kind == "masqclip" else instead_of(kind) or _SUPPORTED
        raise MasqclipError(
            f"it is {kind_in_words(kind)}, whose text tower is not supported: use {use}"
        )
    if kind == "clip":
        check_tokenizer_class(folder)
    return kind
