"""A CLIP by name: transformers' `CLIPModel` from a folder or the Hub, and how it sees pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import CLIPModel

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.hub.kinds import check_kind
from masqclip.weights.folders import inside, load_model
from masqclip.weights.processors import normalisation, processor_document


def load_clip(name_or_path: str | Path) -> CLIPModel:
    """Load a CLIP in float32.

    Args:
        name_or_path: a folder, a name of the registry, or the Hub's owner/name.

    Raises:
        MasqclipError: there is none, or it is no CLIP of ViT towers.
    """
    folder = find_weights(name_or_path, what="CLIP")
    try:
        if os.path.lexists(folder / "config.json"):
            inside(folder, "config.json")
        check_kind(folder, what="CLIP", name=str(name_or_path))
        clip, missing = load_model(CLIPModel, folder)
    except MasqclipError as error:
        raise MasqclipError(f"no CLIP can be loaded from {str(name_or_path)!r}: {error}") from error
    if missing:
        raise MasqclipError(
            f"no CLIP can be loaded from {str(name_or_path)!r}: there is no tensor {min(missing)!r}"
        )
    return clip


def clip_settings(folder: Path) -> dict[str, Any]:
    """``clip_mean`` and ``clip_std`` of `MasQClipConfig`, as a CLIP's folder says them.

    CLIPs were trained with different ones: OpenAI's own, or 0.5. Where the folder says nothing,
    nothing is returned, and OpenAI's stay.

    Args:
        folder: with ``preprocessor_config.json``, ``processor_config.json`` or
            ``open_clip_config.json``.

    Raises:
        MasqclipError: what they say are no numbers.
    """
    source = f"the image processor of {str(folder)!r}"
    told = processor_document(folder)
    if not told and os.path.lexists(folder / "open_clip_config.json"):
        document = read_json(inside(folder, "open_clip_config.json"), what="the file")
        found = document.get("preprocess_cfg") if isinstance(document, dict) else None
        found = found if isinstance(found, dict) else {}
        told = {"image_mean": found.get("mean"), "image_std": found.get("std")}
    pixels = normalisation(told, source=source, scale=1 / 255)
    return {name.replace("pixel", "clip"): value for name, value in pixels.items()}
