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

#: transformers' model types that each part may be of.
TYPES: Mapping[str, tuple[str, ...]] = {
    "clip": ("clip",),
    "proposer": ("mask2former", "maskformer", "oneformer", "eomt", "sam"),
    "model": ("masqclip",),
}
#: Whatever of those it may be.
ANY = "model, CLIP or proposer"
# What people take for one of those, and how it differs.
_OTHERS = {
    "metaclip_2": "a MetaCLIP 2, whose words are tokens of another vocabulary (XLM-RoBERTa)",
    "siglip": "a SigLIP, which has no class token and scores with a sigmoid",
    "siglip2": "a SigLIP 2, which has no class token and scores with a sigmoid",
    "chinese_clip": "a Chinese-CLIP, whose text tower is a BERT",
    "altclip": "an AltCLIP, whose text tower is an XLM-RoBERTa",
    "clipseg": "a CLIPSeg, which segments by itself and has decoders beside a CLIP",
    "align": "an ALIGN, whose towers are an EfficientNet and a BERT",
    "blip": "a BLIP, which is no pair of a picture's and a text's tower",
    "owlvit": "an OWL-ViT, a detector",
    "owlv2": "an OWLv2, a detector",
    "x_clip": "an X-CLIP, which reads videos",
    "xclip": "an X-CLIP, which reads videos",
    "sam2": "a SAM 2, whose memory for videos is not supported",
    "sam2_video": "a SAM 2, whose memory for videos is not supported",
    "sam3": "a SAM 3, which is asked with words itself",
    "sam3_video": "a SAM 3, which is asked with words itself",
    "sam_hq": "a SAM-HQ, whose high-quality token is not supported",
    "eomt_dinov3": "an EoMT on DINOv3, whose published weights are differences to gated ones",
    "detr": "a DETR, whose masks come of boxes",
    "segformer": "a SegFormer, which has a class for each pixel and no masks of objects",
    "upernet": "a UPerNet, which has a class for each pixel and no masks of objects",
    "clip_vision_model": "the vision tower of a CLIP alone",
    "clip_text_model": "the text tower of a CLIP alone",
}
_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")


def check_kind(folder: Path, *, what: str, name: str) -> None:
    """Refuse a folder whose settings describe something else.

    Args:
        folder: with its settings; its weights are not looked at.
        what: what it should be, a key of `TYPES` in any letter case; others are not checked.
        name: what the folder is called.

    Raises:
        MasqclipError: it is of another type; the line names both.
    """
    wanted = TYPES.get(what.lower())
    if what == ANY:
        wanted = tuple(kind for kinds in TYPES.values() for kind in kinds)
    if wanted is None:
        return
    if not (folder / "config.json").is_file():
        if "clip" in what.lower() and (folder / "open_clip_config.json").is_file():
            check_open_clip(_document(folder / "open_clip_config.json"), name=name)
            return
        raise MasqclipError(f"{name!r} is no {what}: its folder holds no config.json")
    kind = model_type(folder)
    if kind not in wanted:
        raise MasqclipError(
            f"{name!r} is {_OTHERS.get(kind, f'of the type {kind[:60]!r}')}: "
            f"a {what} here is of the type {' or '.join(wanted)}{_elsewhere(kind)}"
        )
    if kind == "clip":
        _check_tokenizer(folder, name)


def model_type(folder: Path) -> str:
    """The ``model_type`` in a folder's ``config.json``."""
    return str(_document(folder / "config.json").get("model_type"))


def check_open_clip(settings: Mapping[str, Any], *, name: str) -> None:
    """Refuse a model of open_clip whose towers are not CLIP's own.

    Args:
        settings: its ``open_clip_config.json``.
        name: what the model is called.

    Raises:
        MasqclipError: a tower is another library's, or trained otherwise.
    """
    model = settings.get("model_cfg")
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    text = model.get("text_cfg") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vision, dict) or not isinstance(text, dict):
        raise MasqclipError(f"{name!r} has an open_clip_config.json without towers")
    if "timm_model_name" in vision or not isinstance(vision.get("layers"), int):
        tower = str(vision.get("timm_model_name") or "a convolutional network")[:60]
        raise MasqclipError(
            f"{name!r} is a CLIP of open_clip whose vision tower is {tower}: only OpenAI's "
            "plain ViT is supported"
        )
    if "hf_model_name" in text or "hf_tokenizer_name" in text:
        reader = str(text.get("hf_model_name") or text.get("hf_tokenizer_name"))[:60]
        raise MasqclipError(
            f"{name!r} is a CLIP of open_clip whose text side is {reader}: only OpenAI's "
            "text tower and tokenizer are supported"
        )
    odd = sorted({"attentional_pool", "no_ln_pre", "final_ln_after_pool", "pool_type"} & {
        key for key, value in vision.items() if value not in (None, False, "tok")
    })  # fmt: skip
    odd += sorted({"no_causal_mask", "pool_type", "embed_cls"} & {
        key for key, value in text.items() if value not in (None, False, "argmax")
    })  # fmt: skip
    if odd or (model.get("custom_text") and "siglip" in str(settings).lower()):
        raise MasqclipError(
            f"{name!r} is a CLIP of open_clip built in another way "
            f"({', '.join(odd) or 'SigLIP'}): only OpenAI's architecture is supported"
        )


def _check_tokenizer(folder: Path, name: str) -> None:
    """A text tower understands the tokens it was trained with, and no others."""
    if not (folder / "tokenizer_config.json").is_file():
        return
    reader = _document(folder / "tokenizer_config.json").get("tokenizer_class")
    if isinstance(reader, str) and reader not in _TOKENIZERS:
        raise MasqclipError(
            f"{name!r} reads words with {reader[:60]!r}: only CLIP's own tokenizer is supported"
        )


def _elsewhere(kind: str) -> str:
    """What else a model of that type can be used for."""
    for part, types in TYPES.items():
        if kind in types:
            return "; it is a " + ("whole model: give it as --model" if part == "model" else part)
    return ""


def _document(file: Path) -> dict[str, Any]:
    document = read_json(file, what="the file")
    return document if isinstance(document, dict) else {}
