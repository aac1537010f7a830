"""What an ``open_clip_config.json`` describes, before any weight is fetched or read.

Towers that are read: OpenAI's ViT, and of timm's those in `timm_kind`. What else open_clip can
build, from other backbones to text towers of BERT, is told by a setting and refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from masqclip.errors import MasqclipError

#: The settings of a model, and of its two towers.
OpenClipParts = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
#: The model types of CLIPs with a tower of timm's, and what such towers are called.
_TIMM = {
    "eva02_clip": re.compile(r"eva02_(base|large)_patch\d+_clip_\d+"),
    "pe_clip": re.compile(r"vit_pe_core_[a-z]+_patch\d+_\d+"),
    "siglip": re.compile(r"vit_[a-z0-9]+_patch\d+_siglip_\d+"),
}
_USE = "use a CLIP whose towers are OpenAI's ViT and text transformer, an EVA02-CLIP B or L, a "
_USE += "PE-Core, or a SigLIP of one picture size"

# Settings that shapes tell again, that are read, or that matter to training only; and the one value
# that others may have.
_MODEL = {"embed_dim", "vision_cfg", "text_cfg", "custom_text", "init_logit_scale"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "output_tokens"}
_TIMM_VISION = {"image_size", "timm_model_name", "timm_model_pretrained", "timm_drop"}
_TIMM_VISION |= {"timm_drop_path", "patch_dropout"}
_KNOWN: dict[str, dict[str, set[str]]] = {
    "clip": {
        "model_cfg": _MODEL | {"quick_gelu"},
        "vision_cfg": {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
        | {"patch_dropout", "output_tokens"},
        "text_cfg": _TEXT,
    },
    "eva02_clip": {
        "model_cfg": _MODEL,
        "vision_cfg": _TIMM_VISION,
        "text_cfg": _TEXT | {"hf_tokenizer_name"},
    },
    "siglip": {
        "model_cfg": _MODEL | {"init_logit_bias"},
        "vision_cfg": _TIMM_VISION,
        "text_cfg": _TEXT | {"hf_tokenizer_name", "act_kwargs"},
    },
}
_KNOWN["pe_clip"] = _KNOWN["eva02_clip"]
_ONLY: dict[str, dict[tuple[str, str], object]] = {
    "clip": {
        ("vision_cfg", "pool_type"): "tok",
        ("vision_cfg", "pos_embed_type"): "learnable",
        ("text_cfg", "pool_type"): "argmax",
    },
    "eva02_clip": {
        ("vision_cfg", "timm_pool"): "token",
        ("text_cfg", "pool_type"): "argmax",
    },
    "pe_clip": {
        ("vision_cfg", "timm_pool"): "map",
        ("text_cfg", "pool_type"): "argmax",
    },
    "siglip": {
        ("vision_cfg", "timm_pool"): "map",
        ("vision_cfg", "timm_proj"): "none",
        ("text_cfg", "pool_type"): "last",
        ("text_cfg", "no_causal_mask"): True,
        ("text_cfg", "proj_bias"): True,
        ("text_cfg", "norm_kwargs"): {"eps": 1e-6},
        ("text_cfg", "tokenizer_kwargs"): {"clean": "canonicalize"},
    },
}
# Of those the ones that open_clip would take to be another where they are not said.
_NEEDED: dict[str, set[str]] = {
    "clip": set(),
    "eva02_clip": {"timm_pool"},
    "pe_clip": {"timm_pool"},
    "siglip": {"timm_pool", "timm_proj", "pool_type", "no_causal_mask", "norm_kwargs"},
}


def open_clip_kind(settings: Mapping[str, Any], source: str) -> str:
    """The model type of an ``open_clip_config.json``, all of whose settings are looked at.

    Args:
        settings: the file's.
        source: what it is called in errors.

    Raises:
        MasqclipError: a tower computes in another way than those that are read; the message names
            the setting.
    """
    model, vision, text = open_clip_parts(settings, source)
    kind = timm_kind(vision.get("timm_model_name"), source) or "clip"
    for name, part in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        _check(kind, name, part, source)
    return kind


def open_clip_parts(settings: Mapping[str, Any], source: str) -> OpenClipParts:
    """The parts of an ``open_clip_config.json``: the model's, and its two towers'.

    Raises:
        MasqclipError: one is not there.
    """
    model = _part(settings, "model_cfg", source)
    return model, _part(model, "vision_cfg", source), _part(model, "text_cfg", source)


def timm_kind(name: object, source: str) -> str | None:
    """The model type of a CLIP whose picture tower has a name of timm's.

    Args:
        name: of the tower; None where it is not timm's.
        source: of the name, for the errors.

    Raises:
        MasqclipError: no such tower is read.
    """
    if not name:
        return None
    text = str(name)
    for kind, pattern in _TIMM.items():
        if pattern.fullmatch(text):
            return kind
    naflex = "which is a NaFlex of any picture size and " if text.startswith("naflex") else "which "
    raise MasqclipError(
        f"{source!r} says timm_model_name = {text[:60]!r} (vision_cfg), {naflex}is not supported: "
        f"{_USE}"
    )


def _part(document: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    part = document.get(name)
    if not isinstance(part, dict):
        raise MasqclipError(f"{source!r} describes no CLIP: there is no {name} in it")
    return part


def _check(kind: str, part: str, settings: dict[str, Any], source: str) -> None:
    """Refuse a tower that would not compute as its kind's."""
    only = {name: value for (place, name), value in _ONLY[kind].items() if place == part}
    for name, value in settings.items():
        if name in _KNOWN[kind][part] or not value or value == only.get(name):
            continue
        raise _refused(name, value, part, source)
    for name in _NEEDED[kind] & only.keys():
        if settings.get(name) != only[name]:
            raise _refused(name, settings.get(name), part, source)
    if isinstance(settings.get("layers"), list):
        raise MasqclipError(f"{source!r} describes a ResNet CLIP: use one with a ViT")
    if settings.get("act_kwargs") not in (None, {}, {"approximate": "tanh"}):
        raise _refused("act_kwargs", settings["act_kwargs"], part, source)


def _refused(name: str, value: object, part: str, source: str) -> MasqclipError:
    return MasqclipError(
        f"{source!r} says {name[:60]} = {str(value)[:60]!r} ({part}), which is not supported: "
        f"{_USE}"
    )
