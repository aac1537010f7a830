"""How pictures are normalised for a CLIP, from the files beside its weights.

LAION's ViT-L/14 was trained with a mean of 0.5, as others were; a CLIP that is fed with another one
still names things, only worse. Size and crop of such a file are not followed: the whole frame is
what a masked CLIP sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

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

_BICUBIC = 3  # of Pillow's filters
_MEAN: Channels = tuple(OPENAI_CLIP_MEAN)
_STD: Channels = tuple(OPENAI_CLIP_STD)


class ClipNormalisation(TypedDict):
    """Settings of `MasQClipConfig`, of RGB values in 0..1."""

    clip_mean: Channels
    clip_std: Channels


#: Of OpenAI's CLIPs, and of every one that does not say another.
OPENAI: ClipNormalisation = {"clip_mean": _MEAN, "clip_std": _STD}


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
    """How pictures are normalised for the CLIP in a folder; as OpenAI's where nothing is said.

    What open_clip wrote counts before what was written when a CLIP was converted from it.

    Raises:
        MasqclipError: a file is damaged, or asks for what is not done here; the message names it.
    """
    trained = read_object(folder, OPEN_CLIP_CONFIG).get("preprocess_cfg")
    if trained is not None:
        return _of_open_clip(trained, repr(str(folder / OPEN_CLIP_CONFIG)))
    told, source = read_preprocessing(folder)
    if told.get("resample") not in (None, _BICUBIC):
        raise _refused(source, "resample", told["resample"], str(_BICUBIC))
    if flag(told, "do_flip_channel_order", False, source=source):
        raise MasqclipError(f"{source} says do_flip_channel_order: a CLIP reads RGB here")
    mean, std = normalisation(told, mean=_MEAN, std=_STD, source=source)
    return {"clip_mean": mean, "clip_std": std}


def _as_preprocessing(found: ClipNormalisation, image_size: int) -> dict[str, Any]:
    square = {"height": image_size, "width": image_size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image_size},
        "resample": _BICUBIC,
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
    if told.get("interpolation") not in (None, "bicubic"):
        raise _refused(source, "interpolation", told["interpolation"], "bicubic")
    values = [
        default if told.get(name) is None else channels(told[name], name=name, source=source)
        for name, default in (("mean", _MEAN), ("std", _STD))
    ]
    return {"clip_mean": values[0], "clip_std": values[1]}


def _refused(source: str, name: str, value: object, ours: str) -> MasqclipError:
    return MasqclipError(
        f"{source} says {name} = {str(value)[:40]}: a CLIP's pictures are resized bicubically here "
        f"({ours}); if that will do, write so into the file"
    )
