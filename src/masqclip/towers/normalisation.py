"""How pictures are normalised for a CLIP, from the files beside its weights.

LAION's ViT-L/14 was trained with a mean of 0.5, as others were; a CLIP that is fed with another one
still names things, only worse. Size and crop of such a file are not followed: the whole frame is
what a masked CLIP sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from masqclip.errors import MasqclipError
from masqclip.hub.local import OPEN_CLIP_CONFIG
from masqclip.weights.preprocessing import (
    PREPROCESSING,
    Channels,
    channels,
    flag,
    normalisation,
    read_object,
    read_preprocessing,
)

Resample = Literal["bicubic", "bilinear"]
_FILTERS: dict[object, Resample] = {2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
_NAMES: dict[object, Resample] = {"bilinear": "bilinear", "bicubic": "bicubic"}
_MEAN: Channels = tuple(OPENAI_CLIP_MEAN)
_STD: Channels = tuple(OPENAI_CLIP_STD)


class ClipNormalisation(TypedDict):
    """Settings of `MasQClipConfig`, of RGB values in 0..1; bicubic goes without saying."""

    clip_mean: Channels
    clip_std: Channels
    clip_resample: NotRequired[Resample]


#: Of OpenAI's CLIPs, and of every one that does not say another.
OPENAI: ClipNormalisation = {"clip_mean": _MEAN, "clip_std": _STD}
# Of families that were trained with others, by transformers' model type, where a folder says none.
_UNSAID: dict[object, ClipNormalisation] = {
    "siglip": {"clip_mean": (0.5, 0.5, 0.5), "clip_std": (0.5, 0.5, 0.5)},
    "pe_clip": {
        "clip_mean": (0.5, 0.5, 0.5), "clip_std": (0.5, 0.5, 0.5), "clip_resample": "bilinear",
    },
    "tipsv2": {
        "clip_mean": (0.0, 0.0, 0.0), "clip_std": (1.0, 1.0, 1.0), "clip_resample": "bilinear",
    },
}  # fmt: skip


def write_normalisation(folder: Path, found: ClipNormalisation, image_size: int) -> None:
    """Write it beside a CLIP's weights, as transformers and `clip_normalisation` read it.

    Args:
        folder: of the CLIP.
        found: mean and deviation.
        image_size: the side of the square that the CLIP sees, in pixels.
    """
    document = json.dumps(_as_preprocessing(found, image_size), indent=2)
    (folder / PREPROCESSING).write_text(f"{document}\n", encoding="utf-8")


def clip_normalisation(folder: Path) -> ClipNormalisation:
    """How pictures are normalised for the CLIP in a folder; as its family's where nothing is said.

    What open_clip wrote counts before what was written when a CLIP was converted from it.

    Raises:
        MasqclipError: a file is damaged, or asks for what is not done here; the message names it.
    """
    trained = read_object(folder, OPEN_CLIP_CONFIG).get("preprocess_cfg")
    if trained is not None:
        return _of_open_clip(trained, repr(str(folder / OPEN_CLIP_CONFIG)))
    told, source = read_preprocessing(folder)
    usual = usual_normalisation(read_object(folder, "config.json").get("model_type"))
    if not told:
        return usual
    resample = _resample(told, "resample", _FILTERS, usual, source)
    if flag(told, "do_flip_channel_order", False, source=source):
        raise MasqclipError(f"{source} says do_flip_channel_order: a CLIP reads RGB here")
    mean, std = normalisation(told, mean=usual["clip_mean"], std=usual["clip_std"], source=source)
    return _settings(mean, std, resample)


def usual_normalisation(model_type: object) -> ClipNormalisation:
    """How pictures are normalised for the CLIPs of a family, where nothing is said."""
    return _UNSAID.get(model_type, OPENAI)


def _as_preprocessing(found: ClipNormalisation, image_size: int) -> dict[str, Any]:
    square = {"height": image_size, "width": image_size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image_size},
        "resample": 2 if found.get("clip_resample") == "bilinear" else 3,
        "do_center_crop": True,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(found["clip_mean"]),
        "image_std": list(found["clip_std"]),
    }


def _of_open_clip(told: Any, source: str) -> ClipNormalisation:
    if not isinstance(told, dict):
        raise MasqclipError(f"{source} has a preprocess_cfg that is no object of settings")
    resample = _resample(told, "interpolation", _NAMES, OPENAI, source)
    values = [
        default if told.get(name) is None else channels(told[name], name=name, source=source)
        for name, default in (("mean", _MEAN), ("std", _STD))
    ]
    return _settings(values[0], values[1], resample)


def _settings(mean: Channels, std: Channels, resample: Resample) -> ClipNormalisation:
    found: ClipNormalisation = {"clip_mean": mean, "clip_std": std}
    return found if resample == "bicubic" else {**found, "clip_resample": resample}


def _resample(
    told: dict[str, Any],
    name: str,
    known: dict[object, Resample],
    usual: ClipNormalisation,
    source: str,
) -> Resample:
    """How pictures are resized, as a file says it."""
    value = told.get(name)
    if value is None:
        return usual.get("clip_resample", "bicubic")
    if not isinstance(value, int | str) or isinstance(value, bool) or value not in known:
        ours = " or ".join(f"{method} ({number})" for number, method in known.items())
        raise MasqclipError(
            f"{source} says {name} = {str(value)[:40]}: a CLIP's pictures are resized {ours} "
            "here; if that will do, write so into the file"
        )
    return known[value]
