"""A CLIP by name: transformers' `CLIPModel` from a folder or the Hub."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPModel

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights, quiet_transformers


def load_clip(name_or_path: str | Path) -> CLIPModel:
    """Load a CLIP in float32.

    Args:
        name_or_path: a folder, a name of the registry, or the Hub's owner/name.

    Raises:
        MasqclipError: there is none, or it is no CLIP of ViT towers.
    """
    folder = find_weights(name_or_path, what="CLIP")
    try:
        with quiet_transformers():
            clip, report = CLIPModel.from_pretrained(
                str(folder), dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # whatever is wrong with files that somebody gave
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MasqclipError(
            f"no CLIP can be loaded from {str(name_or_path)!r}: {reason}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise MasqclipError(
            f"no CLIP can be loaded from {str(name_or_path)!r}: there is no tensor {missing[0]!r}"
        )
    return clip
