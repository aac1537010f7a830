"""A CLIP by name: transformers' `CLIPModel` from a folder or the Hub."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPModel

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.weights.folders import load_model


def load_clip(name_or_path: str | Path) -> CLIPModel:
    """Load a CLIP in float32.

    Args:
        name_or_path: a folder, a name of the registry, or the Hub's owner/name.

    Raises:
        MasqclipError: there is none, or it is no CLIP of ViT towers.
    """
    folder = find_weights(name_or_path, what="CLIP")
    try:
        clip, missing = load_model(CLIPModel, folder)
    except MasqclipError as error:
        raise MasqclipError(f"no CLIP can be loaded from {str(name_or_path)!r}: {error}") from error
    if missing:
        raise MasqclipError(
            f"no CLIP can be loaded from {str(name_or_path)!r}: there is no tensor {min(missing)!r}"
        )
    return clip
