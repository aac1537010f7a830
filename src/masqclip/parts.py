"""A model out of parts that exist already: any CLIP, any universal segmenter, a MasQ add-on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from masqclip.encoding import resize_model
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.hub.local import origin
from masqclip.hub.registry import published_size
from masqclip.model import MasQClipModel
from masqclip.options import check_size
from masqclip.proposals.adapters import load_proposer
from masqclip.proposals.picture_settings import picture_settings
from masqclip.proposals.segmenters import ModelProposer, SegmenterProposer
from masqclip.proposals.sight import Sight
from masqclip.proposals.union import MOST_PARTS, UnionProposer, common_settings
from masqclip.towers.loading import load_clip_and_tokenizer
from masqclip.towers.normalisation import clip_normalisation
from masqclip.weights.preprocessing import read_object, read_preprocessing


def join_parts(
    clip: str | Path,
    proposer: str | Path | Sequence[str | Path],
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
    folders = [find_weights(one, what="proposer") for one in several(proposer)]
    # A size that is given whole counts even where the folder's own cannot be followed.
    whole = (edges[0], edges[1]) if edges[0] and edges[1] else None
    settings = [parts_settings(clip_folder, folder, size=whole) for folder in folders]
    loaded, tokenizer = load_clip_and_tokenizer(clip_folder)
    joined, common = join_proposers([load_proposer(folder) for folder in folders], settings)
    model = MasQClipModel.from_parts(loaded, joined, **common)
    if size is not None:
        resize_model(model, size)
    if queries is not None:
        model.load_queries(queries)
    return model, tokenizer


def several(proposer: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The proposers that are named, one or several.

    Raises:
        MasqclipError: there are none, or too many.
    """
    named = [proposer] if isinstance(proposer, str | Path) else list(proposer)
    if not 1 <= len(named) <= MOST_PARTS:
        raise MasqclipError(f"{len(named)} proposers are named: give 1 to {MOST_PARTS}")
    return named


def join_proposers(
    proposers: Sequence[SegmenterProposer], settings: Sequence[dict[str, Any]]
) -> tuple[ModelProposer, dict[str, Any]]:
    """One proposer of one or several, and how a model with it sees pictures.

    Args:
        proposers: each of them.
        settings: of `MasQClipConfig`, for a model with each alone (`parts_settings`).
    """
    if len(proposers) == 1:
        return proposers[0], settings[0]
    names = Sight().described()
    sights = [
        Sight(**{name: value for name, value in each.items() if name in names}) for each in settings
    ]
    squares = [proposer.sees_square for proposer in proposers]
    common = settings[0] | common_settings(sights, squares)
    return UnionProposer(proposers, sights), common


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
