"""CLIPs as open_clip writes them: ``open_clip_config.json`` beside weights with OpenAI's names.

Towers that compute as OpenAI's do are read; what else open_clip can build, from timm's backbones to
text towers of BERT, is told by a setting of the configuration and refused by its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import CLIPConfig

from masqclip.errors import MasqclipError
from masqclip.hub.kinds import check_open_clip
from masqclip.hub.local import OPEN_CLIP_CONFIG, WEIGHTS
from masqclip.towers.openai_clip import HEAD_WIDTH, openai_clip_to_transformers
from masqclip.weights.checkpoint import read_state_dict
from masqclip.weights.folders import has_weights, inside
from masqclip.weights.preprocessing import flag, read_object
from masqclip.weights.rules import StateDict, in_float32

_WEIGHTS = WEIGHTS[OPEN_CLIP_CONFIG]


def is_open_clip(folder: Path) -> bool:
    """Whether a folder's weights are open_clip's, and not transformers'."""
    there = os.path.lexists(folder / OPEN_CLIP_CONFIG) and not has_weights(folder)
    return there and any(os.path.lexists(folder / name) for name in _WEIGHTS)


def read_open_clip(folder: Path) -> tuple[CLIPConfig, StateDict]:
    """Configuration and `CLIPModel` weights, in float32, of open_clip's folder.

    Raises:
        MasqclipError: a file is damaged, or the towers compute in another way than OpenAI's; the
            message names the setting.
    """
    source = str(folder / OPEN_CLIP_CONFIG)
    model, vision, text = check_open_clip(read_object(folder, OPEN_CLIP_CONFIG), source)
    widths = [_count(part, "width", source) for part in (vision, text)]
    head_width = _count(vision, "head_width", source, default=HEAD_WIDTH)
    quick = flag(model, "quick_gelu", False, source=repr(source))
    file = next(name for name in _WEIGHTS if os.path.lexists(folder / name))
    config, weights = openai_clip_to_transformers(
        read_state_dict(inside(folder, file)),
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
    return config, in_float32(weights)


def _count(part: dict[str, Any], name: str, source: str, default: int | None = None) -> int:
    value = part.get(name, default)
    if type(value) is not int or not 1 <= value <= 100_000:
        raise MasqclipError(f"{source!r} says {name} = {str(value)[:40]}: it is a whole number")
    return value
