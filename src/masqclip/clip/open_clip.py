"""CLIPs as open_clip writes them: ``open_clip_config.json`` beside weights with OpenAI's names.

Towers that compute as OpenAI's do are read; what else open_clip can build, from timm's backbones to
text towers of BERT, is told by a setting of the configuration and refused by its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import CLIPConfig

from masqclip.clip.normalisation import OPEN_CLIP_CONFIG
from masqclip.clip.openai_clip import HEAD_WIDTH, openai_clip_to_transformers
from masqclip.errors import MasqclipError
from masqclip.weights.checkpoint import read_state_dict
from masqclip.weights.folders import has_weights, inside
from masqclip.weights.preprocessing import flag, read_object
from masqclip.weights.rules import StateDict, in_float32

_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# Settings that shapes tell again, that this module reads, or that matter to training only; and the
# one value that others may have.
_KNOWN: dict[str, frozenset[str]] = {
    "model_cfg": frozenset(
        {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale"}
    ),
    "vision_cfg": frozenset(
        {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
        | {"patch_dropout", "output_tokens"}
    ),
    "text_cfg": frozenset(
        {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "output_tokens"}
    ),
}
_ONLY = {
    ("vision_cfg", "pool_type"): "tok",
    ("vision_cfg", "pos_embed_type"): "learnable",
    ("text_cfg", "pool_type"): "argmax",
}


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
    model = _part(read_object(folder, OPEN_CLIP_CONFIG), "model_cfg", source)
    vision, text = (_part(model, name, source) for name in ("vision_cfg", "text_cfg"))
    for name, part in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        _check(name, part, source)
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


def _part(document: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    part = document.get(name)
    if not isinstance(part, dict):
        raise MasqclipError(f"{source!r} describes no CLIP: there is no {name} in it")
    return part


def _check(part: str, settings: dict[str, Any], source: str) -> None:
    """Refuse a tower that would not compute as OpenAI's."""
    for name, value in settings.items():
        if name in _KNOWN[part] or not value or value == _ONLY.get((part, name)):
            continue
        raise MasqclipError(
            f"{source!r} says {name[:60]} = {str(value)[:60]!r} ({part}), which is not supported: "
            "use a CLIP whose towers are OpenAI's ViT and text transformer"
        )
    if isinstance(settings.get("layers"), list):
        raise MasqclipError(f"{source!r} describes a ResNet CLIP: use one with a ViT")


def _count(part: dict[str, Any], name: str, source: str, default: int | None = None) -> int:
    value = part.get(name, default)
    if type(value) is not int or not 1 <= value <= 100_000:
        raise MasqclipError(f"{source!r} says {name} = {str(value)[:40]}: it is a whole number")
    return value
