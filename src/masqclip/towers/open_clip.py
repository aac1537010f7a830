"""CLIPs as open_clip writes them: ``open_clip_config.json`` beside weights with its names.

Which towers are read says `masqclip.hub.open_clip_kinds`; what else open_clip can build is told by
a setting of the configuration and refused by its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from masqclip.errors import MasqclipError
from masqclip.hub.kinds import kind_in_words
from masqclip.hub.local import OPEN_CLIP_CONFIG, WEIGHTS, has_tokenizer
from masqclip.hub.open_clip_kinds import (
    OpenClipParts,
    open_clip_kind,
    open_clip_parts,
    timm_kind,
)
from masqclip.towers.openai_clip import HEAD_WIDTH, openai_clip_to_transformers
from masqclip.towers.timm_clip import timm_clip_kind, timm_clip_to_model
from masqclip.towers.tokenizer_files import check_tokenizer_class
from masqclip.weights.checkpoint import read_state_dict
from masqclip.weights.folders import has_weights, inside
from masqclip.weights.preprocessing import flag, read_object
from masqclip.weights.rules import StateDict, in_float32

_WEIGHTS = WEIGHTS[OPEN_CLIP_CONFIG]


def is_open_clip(folder: Path) -> bool:
    """Whether a folder's weights are open_clip's, and not transformers'."""
    there = os.path.lexists(folder / OPEN_CLIP_CONFIG) and not has_weights(folder)
    return there and any(os.path.lexists(folder / name) for name in _WEIGHTS)


def check_open_clip_folder(folder: Path) -> str:
    """The model type of open_clip's folder, whose tokenizer is looked at; no weights are read.

    Raises:
        MasqclipError: a tower computes in another way than those that are read, or the tokenizer
            is not there, or of another kind than CLIP's.
    """
    source = str(folder / OPEN_CLIP_CONFIG)
    settings = read_object(folder, OPEN_CLIP_CONFIG)
    kind = open_clip_kind(settings, source)
    name = open_clip_parts(settings, source)[2].get("hf_tokenizer_name")
    if name and not has_tokenizer(folder):
        raise MasqclipError(
            f"{source!r} says hf_tokenizer_name = {str(name)[:60]!r}: put the files of that "
            "tokenizer into the folder"
        )
    if kind != "siglip":  # whose tokenizer its family reads
        check_tokenizer_class(folder)
    return kind


def read_open_clip(folder: Path) -> tuple[Any, StateDict]:
    """Configuration and weights, in float32, of the model in open_clip's folder.

    Raises:
        MasqclipError: a file is damaged, or a tower computes in another way than those that are
            read; the message names the setting.
    """
    source = str(folder / OPEN_CLIP_CONFIG)
    settings = read_object(folder, OPEN_CLIP_CONFIG)
    kind = open_clip_kind(settings, source)
    parts = open_clip_parts(settings, source)
    file = next(name for name in _WEIGHTS if os.path.lexists(folder / name))
    read = _openai if kind == "clip" else _timm
    config, weights = read(read_state_dict(inside(folder, file)), parts, source)
    return config, in_float32(weights)


def _openai(state_dict: StateDict, parts: OpenClipParts, source: str) -> tuple[Any, StateDict]:
    model, vision, text = parts
    widths = [_count(part, "width", source) for part in (vision, text)]
    head_width = _count(vision, "head_width", source, default=HEAD_WIDTH)
    quick = flag(model, "quick_gelu", False, source=repr(source))
    config, weights = openai_clip_to_transformers(
        state_dict,
        vision_heads=widths[0] // head_width,
        text_heads=_count(text, "heads", source),
        activation="quick_gelu" if quick else "gelu",
    )
    found = [config.vision_config.hidden_size, config.text_config.hidden_size]
    if found != widths:
        raise MasqclipError(
            f"{source!r} says that the towers are {widths[0]} and {widths[1]} wide, and the "
            f"weights beside it are {found[0]} and {found[1]}"
        )
    return config, weights


def _timm(state_dict: StateDict, parts: OpenClipParts, source: str) -> tuple[Any, StateDict]:
    _, vision, text = parts
    kind = timm_kind(vision["timm_model_name"], source)
    found = timm_clip_kind(state_dict)
    if kind is None or found != kind:
        raise MasqclipError(
            f"{source!r} says timm_model_name = {vision['timm_model_name']!r}, and the weights "
            f"beside it are those of {kind_in_words(found or 'clip')}"
        )
    config, weights = timm_clip_to_model(
        kind,
        state_dict,
        text_heads=_count(text, "heads", source),
        activation="gelu_pytorch_tanh" if text.get("act_kwargs") else "gelu",
    )
    # A side that is no whole number of patches is cut off, in all pictures alike.
    size, patch_size = _count(vision, "image_size", source), config.vision_config.patch_size
    told = [size // patch_size * patch_size, _count(text, "width", source)]
    sizes = [config.vision_config.image_size, config.text_config.hidden_size]
    if told != sizes:
        raise MasqclipError(
            f"{source!r} says that pictures have {told[0]} pixels and that the words' tower is "
            f"{told[1]} wide, and the weights beside it are of {sizes[0]} and {sizes[1]}"
        )
    config.vision_config.image_size = size
    return config, weights


def _count(part: dict[str, Any], name: str, source: str, default: int | None = None) -> int:
    value = part.get(name, default)
    if type(value) is not int or not 1 <= value <= 100_000:
        raise MasqclipError(f"{source!r} says {name} = {str(value)[:40]}: it is a whole number")
    return value
