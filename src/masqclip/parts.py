"""A model out of parts that exist already: any CLIP, any universal segmenter, a MasQ add-on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from masqclip.encoding import set_size
from masqclip.hub import find_weights
from masqclip.hub.local import origin
from masqclip.hub.registry import published_size
from masqclip.model import MasQClipModel
from masqclip.options import check_size
from masqclip.proposals.adapters import load_proposer
from masqclip.proposals.picture_settings import picture_settings
from masqclip.towers.loading import load_clip_and_tokenizer
from masqclip.towers.normalisation import clip_normalisation
from masqclip.weights.preprocessing import read_object, read_preprocessing


def join_parts(
    clip: str | Path,
    proposer: str | Path,
    queries: str | Path | None = None,
    *,
    size: str | int | tuple[int, int] | None = None,
) -> tuple[MasQClipModel, CLIPTokenizer]:
    """Load parts and join them, in float32 on the CPU; see `Segmenter.from_parts`.

    Raises:
        MasqclipError: a part is not there, of no known kind, or does not fit.
    """
    edges = (None, None) if size is None else check_size(size, what="size")
    clip_folder = find_weights(clip, what="CLIP")
    proposer_folder = find_weights(proposer, what="proposer")
    # A size that is given whole counts even where the folder's own cannot be followed.
    whole = (edges[0], edges[1]) if edges[0] and edges[1] else None
    settings = parts_settings(clip_folder, proposer_folder, size=whole)
    loaded, tokenizer = load_clip_and_tokenizer(clip_folder)
    model = MasQClipModel.from_parts(loaded, load_proposer(proposer_folder), **settings)
    if size is not None:
        set_size(model.config, size)
    if queries is not None:
        model.load_queries(queries)
    return model, tokenizer


def parts_settings(
    clip: Path, proposer: Path, *, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """What the folders of two parts say of how each sees pictures, as `MasQClipConfig` has it.

    Args:
        clip, proposer: the folders.
        size: (shortest, longest) edge in pixels in place of what is told or known.

    Raises:
        MasqclipError: a part asks for what is not done here.
    """
    published = size or _published_size(proposer)
    return {**picture_settings(proposer, published=published), **clip_normalisation(clip)}


def _published_size(folder: Path) -> tuple[int, int] | None:
    """The size at which a proposer's figures were published, where the registry knows it."""
    config = read_object(folder, "config.json")
    labels = config.get("id2label") if config.get("model_type") == "mask2former" else None
    told, _ = read_preprocessing(folder)
    count = len(labels) if isinstance(labels, dict) else None
    return published_size(origin(folder), told.get("size"), count)
