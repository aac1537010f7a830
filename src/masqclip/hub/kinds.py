"""What kind of model a folder's settings describe, before any weight is fetched or read.

Several families have CLIP's tensor names and other words, or a proposer's name and another way of
proposing: they would load, and what they say would be garbage. Each is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub.local import OPEN_CLIP_CONFIG
from masqclip.hub.open_clip_kinds import open_clip_kind

#: transformers' model types that each part may be of.
TYPES: Mapping[str, tuple[str, ...]] = {
    "clip": ("clip", "siglip", "metaclip_2", "tipsv2", "eva02_clip", "pe_clip"),
    "proposer": ("mask2former", "maskformer", "oneformer", "eomt", "sam"),
    "model": ("masqclip",),
}
#: Whatever of those it may be.
ANY = "model, CLIP or proposer"
# What people call the kinds that are given most by mistake; others are called by their model_type.
_NAMES = {
    "align": "ALIGN",
    "altclip": "AltCLIP",
    "blip": "BLIP",
    "chinese_clip": "Chinese-CLIP",
    "clip": "CLIP",
    "clip_text_model": "text tower of a CLIP alone",
    "clip_vision_model": "vision tower of a CLIP alone",
    "clipseg": "CLIPSeg",
    "conditional_detr": "Conditional DETR",
    "deformable_detr": "Deformable DETR",
    "detr": "DETR",
    "dinov2": "DINOv2",
    "dinov3_vit": "DINOv3",
    "edgetam": "EdgeTAM",
    "eomt": "EoMT",
    "eomt_dinov3": "EoMT of DINOv3",
    "eva02_clip": "EVA02-CLIP",
    "flava": "FLAVA",
    "grounding-dino": "Grounding DINO",
    "groupvit": "GroupViT",
    "jina_clip": "Jina CLIP",
    "mask2former": "Mask2Former",
    "maskformer": "MaskFormer",
    "masqclip": "whole model of this package",
    "metaclip_2": "MetaCLIP 2",
    "mobileclip": "MobileCLIP",
    "oneformer": "OneFormer",
    "owlv2": "OWLv2",
    "owlvit": "OWL-ViT",
    "pe_clip": "PE-Core",
    "sam": "SAM",
    "sam2": "SAM 2",
    "sam2_video": "SAM 2",
    "sam3": "SAM 3",
    "sam3_video": "SAM 3",
    "sam_hq": "SAM-HQ",
    "segformer": "SegFormer",
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2 of any picture size (NaFlex)",
    "tipsv2": "TIPS v2",
    "upernet": "UPerNet",
    "xclip": "X-CLIP",
}
# What to use in place of a kind that is refused.
_INSTEAD = {
    "siglip2": "a SigLIP 2 of one picture size, such as google/siglip2-large-patch16-384 "
    "(model_type 'siglip')",
}


def check_kind(folder: Path, *, what: str, name: str) -> None:
    """Refuse a folder whose settings describe something else.

    Args:
        folder: with its settings; its weights are not looked at.
        what: what it should be, a key of `TYPES` in any letter case, or `ANY`; others are not
            checked.
        name: what the folder is called.

    Raises:
        MasqclipError: it is of another type; the line names both.
    """
    wanted = TYPES.get(what.lower())
    if what == ANY:
        wanted = tuple(kind for kinds in TYPES.values() for kind in kinds)
    if wanted is None:
        return
    open_clip = folder / OPEN_CLIP_CONFIG
    if not (folder / "config.json").is_file():
        if "clip" in what.lower() and open_clip.is_file():
            open_clip_kind(_document(open_clip), f"the open_clip_config.json of {name!r}")
            return
        raise MasqclipError(f"{name!r} is no {what}: its folder holds no config.json")
    kind = str(_document(folder / "config.json").get("model_type"))
    if kind not in wanted:
        raise MasqclipError(
            f"{name!r} is {kind_in_words(kind)}, and a {what} here is of the type "
            f"{' or '.join(wanted)}{_elsewhere(kind)}"
            + (f": use {instead}" if (instead := instead_of(kind)) else "")
        )


def kind_in_words(model_type: str) -> str:
    """``a SigLIP (model_type 'siglip')``."""
    known = _NAMES.get(model_type, model_type[:60])
    article = "an" if known[:1] in "AEIOaeio" else "a"
    return f"{article} {known} (model_type {model_type[:60]!r})"


def instead_of(model_type: str) -> str | None:
    """What to use in place of a kind that is refused, where something comes near it."""
    return _INSTEAD.get(model_type)


def _elsewhere(kind: str) -> str:
    """What else a model of that type can be used for."""
    for part, types in TYPES.items():
        if kind in types:
            return "; it is a " + ("whole model: give it as --model" if part == "model" else part)
    return ""


def _document(file: Path) -> dict[str, Any]:
    document = read_json(file, what="the file")
    return document if isinstance(document, dict) else {}
