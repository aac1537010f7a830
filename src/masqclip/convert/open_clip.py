"""A folder of open_clip: its configuration says what shapes of tensors do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPConfig

from masqclip.convert.checkpoint import read_state_dict
from masqclip.convert.openai_clip import openai_clip_to_transformers
from masqclip.convert.rules import StateDict
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub.kinds import check_open_clip
from masqclip.hub.local import WEIGHTS
from masqclip.weights.folders import inside

CONFIG = "open_clip_config.json"
_HEAD_WIDTH = 64


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is one of open_clip, and not of transformers (many are both)."""
    return (folder / CONFIG).is_file() and not any(
        (folder / name).is_file()
        for file in WEIGHTS["config.json"]
        for name in (file, f"{file}.index.json")
    )


def read_open_clip(folder: Path) -> tuple[CLIPConfig, StateDict]:
    """A CLIP of open_clip, as transformers' `CLIPModel` has it.

    Args:
        folder: with ``open_clip_config.json`` and the weights.

    Raises:
        MasqclipError: its towers are not CLIP's own, or a file is damaged.
    """
    document = read_json(inside(folder, CONFIG), what="the configuration")
    settings: dict[str, Any] = document if isinstance(document, dict) else {}
    check_open_clip(settings, name=str(folder))
    for name in WEIGHTS[CONFIG]:
        if (folder / name).is_file():
            break
    else:
        raise MasqclipError(f"the folder {str(folder)!r} holds no {' or '.join(WEIGHTS[CONFIG])}")
    model = settings["model_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    width, heads = vision.get("width", 768), text.get("heads", 8)
    head_width = vision.get("head_width", _HEAD_WIDTH)
    if not all(type(number) is int and number > 0 for number in (width, heads, head_width)):
        raise MasqclipError(f"{str(folder / CONFIG)!r} has sizes that are none")
    return openai_clip_to_transformers(
        read_state_dict(inside(folder, name)),
        vision_heads=width // head_width,
        text_heads=heads,
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
    )
