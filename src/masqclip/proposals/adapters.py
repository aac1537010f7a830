"""Which proposers there are, and how one is built, or loaded, by its type."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.proposals.eomt import EomtProposer
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.proposals.sam import SamProposer
from masqclip.proposals.segmenters import (
    MaskFormerProposer,
    OneFormerProposer,
    SegmenterProposer,
)
from masqclip.weights.configs import build_config
from masqclip.weights.folders import inside

#: By transformers' model type, which is also a model's `proposer_type`.
ADAPTERS: dict[str, type[SegmenterProposer]] = {
    "mask2former": Mask2FormerProposer,
    "maskformer": MaskFormerProposer,
    "oneformer": OneFormerProposer,
    "eomt": EomtProposer,
    "sam": SamProposer,
}


def build_proposer(proposer_type: str, config: dict[str, Any]) -> SegmenterProposer:
    """A proposer of random weights, of the architecture that a dictionary describes.

    Raises:
        MasqclipError: there is no such type.
    """
    adapter = _adapter(proposer_type)
    described = build_config(
        adapter.config_class,
        config,
        source="the model's proposer_config",
        extra=adapter.own_settings,
    )
    return adapter(described)


def load_proposer(name_or_path: str | Path) -> SegmenterProposer:
    """Load a proposer of any known type.

    Args:
        name_or_path: a folder, a name of the registry, or the Hub's owner/name.

    Raises:
        MasqclipError: nothing is there, or it is of no known type.
    """
    folder = find_weights(name_or_path, what="proposer")
    return _adapter(str(_document(folder, "config.json").get("model_type"))).from_pretrained(folder)


def picture_settings(folder: Path) -> dict[str, Any]:
    """How pictures are resized and normalised for a proposer, as `MasQClipConfig` says it.

    What the folder's ``preprocessor_config.json`` leaves open, or all where there is none, is left
    out, and so stays as published for Mask2Former.
    """
    told = _document(folder, "preprocessor_config.json")
    settings: dict[str, Any] = {}
    size = told.get("size")
    if isinstance(size, int):  # older files: the shorter side, and the longest beside it
        size = {"shortest_edge": size, "longest_edge": told.get("max_size", size)}
    if isinstance(size, dict) and (longest := size.get("longest_edge") or size.get("height")):
        settings["longest_edge"] = longest
        settings["shortest_edge"] = size.get("shortest_edge") or longest
    for name, key in (("pixel_mean", "image_mean"), ("pixel_std", "image_std")):
        if isinstance(told.get(key), list):
            # What is no number is refused with the rest of the settings (`MasQClipConfig`).
            settings[name] = tuple(
                255 * value if isinstance(value, (int, float)) else value for value in told[key]
            )
    return settings


def _adapter(proposer_type: str) -> type[SegmenterProposer]:
    try:
        return ADAPTERS[proposer_type]
    except KeyError:
        raise MasqclipError(
            f"no proposer of type {proposer_type!r} is known: it is one of {', '.join(ADAPTERS)}"
        ) from None


def _document(folder: Path, name: str) -> dict[str, Any]:
    if not os.path.lexists(folder / name):
        return {}
    document = read_json(inside(folder, name), what="the file")
    return document if isinstance(document, dict) else {}
