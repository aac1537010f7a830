"""Small CLIPs whose weights follow from names, and what timm and open_clip answer with them.

`tests/references/record_towers.py` made the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from masqclip.towers.families import family_of
from masqclip.towers.timm_clip import timm_clip_kind, timm_clip_to_model
from tower_recipe import weights

DATA = Path(__file__).parents[1] / "data" / "towers"
#: The families that have rotary positions, and all.
ROTARY = ("eva02", "pe", "pe-giant")
RECORDED = (*ROTARY, "siglip")
TEXTS = (1, 3, 6)


def recorded(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights under open_clip's names, and the answers."""
    with safe_open(DATA / f"{name}.safetensors", "pt") as file:
        shapes = json.loads(file.metadata()["shapes"])
        answers = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return weights(shapes), answers


def model_of(name: str, given: dict[str, Tensor] | None = None) -> Any:
    """Our model of those weights, or of the given ones."""
    given = recorded(name)[0] if given is None else given
    kind = timm_clip_kind(given)
    assert kind is not None
    config, found = timm_clip_to_model(
        kind, given, vision_heads=2, text_heads=2, activation="gelu_pytorch_tanh"
    )
    model = family_of(kind).model_class(config)
    model.load_state_dict(found, strict=True)
    return model.eval()


def size_of(name: str) -> tuple[int, int]:
    """(height, width) of the pictures that an answer is of."""
    rows, columns = name.removeprefix("image-").split("x")
    return int(rows), int(columns)
