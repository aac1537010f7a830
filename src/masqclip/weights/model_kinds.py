"""What a folder of transformers' holds, by the kind that its ``config.json`` names.

A model of another kind may have the tensors' names of one that is supported, load, and answer
nonsense. So a kind is looked at before any weight is read, and another one is refused by its name.
"""

from __future__ import annotations

from pathlib import Path

from masqclip.errors import MasqclipError
from masqclip.weights.preprocessing import read_object

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
    "sam": "SAM",
    "sam2": "SAM 2",
    "sam2_video": "SAM 2",
    "sam3": "SAM 3",
    "sam3_video": "SAM 3",
    "sam_hq": "SAM-HQ",
    "segformer": "SegFormer",
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2",
    "upernet": "UPerNet",
    "xclip": "X-CLIP",
}


def model_type_of(folder: Path, *, name: str | Path) -> str:
    """The model type in a folder's ``config.json``.

    Args:
        folder: of a model.
        name: what the user calls it, for the errors.

    Raises:
        MasqclipError: there is none.
    """
    if not (folder / "config.json").exists():
        raise MasqclipError(f"{str(name)!r} holds no model: there is no config.json in it")
    kind = read_object(folder, "config.json").get("model_type")
    if not isinstance(kind, str) or not kind:
        raise MasqclipError(
            f"{str(name)!r} does not say what it is: its config.json has no model_type"
        )
    return kind


def kind_in_words(model_type: str) -> str:
    """``a SigLIP (model_type 'siglip')``."""
    known = _NAMES.get(model_type, model_type[:60])
    article = "an" if known[:1] in "AEIOaeio" else "a"
    return f"{article} {known} (model_type {model_type[:60]!r})"
