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
    "proposer": (
        *("mask2former", "maskformer", "oneformer", "eomt", "eomt_dinov3"),
        *("sam", "sam2", "sam2_video", "sam3", "sam3_video"),
    ),
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
    "d_fine": "D-FINE",
    "dab-detr": "DAB-DETR",
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
    "mm-grounding-dino": "MM Grounding DINO",
    "metaclip_2": "MetaCLIP 2",
    "mobileclip": "MobileCLIP",
    "omdet-turbo": "OmDet-Turbo",
    "oneformer": "OneFormer",
    "owlv2": "OWLv2",
    "owlvit": "OWL-ViT",
    "pe_clip": "PE-Core",
    "rt_detr": "RT-DETR",
    "rt_detr_v2": "RT-DETR v2",
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
    "table-transformer": "Table Transformer",
    "xclip": "X-CLIP",
    "yolos": "YOLOS",
}
#: What proposers here are, as people call them.
PROPOSERS = "Mask2Former, MaskFormer, OneFormer, EoMT, SAM, SAM 2 or SAM 3"
# Detectors, by model type.
_DETECTORS = frozenset(
    {"conditional_detr", "d_fine", "dab-detr", "deformable_detr", "detr", "grounding-dino"}
    | {"mm-grounding-dino", "omdet-turbo", "owlv2", "owlvit", "rt_detr", "rt_detr_v2"}
    | {"table-transformer", "yolos"}
)
# Backbones that are not made of what torch and transformers have.
_BACKBONES = {
    "dinat": "the compiled attention of the package natten",
    "nat": "the compiled attention of the package natten",
    "timm_backbone": "the package timm",
    "timm_wrapper": "the package timm",
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
    document = _document(folder / "config.json")
    kind = str(document.get("model_type"))
    seeming = kind in TYPES["proposer"] or kind in _DETECTORS or kind.startswith("edgetam")
    if what.lower() == "proposer" or (what == ANY and seeming):
        check_proposer(document, name=name)
        return
    if kind not in wanted:
        raise MasqclipError(
            f"{name!r} is {kind_in_words(kind)}, and a {what} here is of the type "
            f"{' or '.join(wanted)}{_elsewhere(kind)}"
            + (f": use {instead}" if (instead := instead_of(kind)) else "")
        )


def check_proposer(document: Mapping[str, Any], *, name: str) -> None:
    """Refuse settings of what makes no masks here, before any weight is fetched or read.

    Args:
        document: a ``config.json``.
        name: what its folder is called.

    Raises:
        MasqclipError: the line says what it is, and what can be used.
    """
    kind = str(document.get("model_type"))
    which = f"{name!r} is {kind_in_words(kind)}"
    if kind not in TYPES["proposer"]:
        segments = "Segmentation" in str(document.get("architectures"))
        if kind == "masqclip":
            reason, remedy = "which proposes no masks here", "use it as --model"
        elif kind in _DETECTORS and not segments:
            reason, remedy = "which makes boxes and no masks", f"use a {PROPOSERS}"
        elif kind.startswith("edgetam"):
            reason, remedy = f"which needs {_BACKBONES['timm_wrapper']}", f"use a {PROPOSERS}"
        else:
            reason, remedy = "which proposes no masks here", f"use a {PROPOSERS}"
        elsewhere = "" if kind == "masqclip" else _elsewhere(kind)
        raise MasqclipError(f"{which}, {reason}: {remedy}{elsewhere}")
    backbone = document.get("backbone_config")
    part = str(backbone.get("model_type")) if isinstance(backbone, Mapping) else None
    if part in _BACKBONES:
        raise MasqclipError(
            f"{which} with a backbone of the type {part!r}, which needs {_BACKBONES[part]}: use "
            "one with a Swin or ResNet backbone"
        )


def kind_in_words(model_type: str) -> str:
    """``a SigLIP (model_type 'siglip')``."""
    known = _NAMES.get(model_type, model_type[:60])
    article = "an" if known[:1] in "AEIOaeio" or known.startswith("RT") else "a"
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
