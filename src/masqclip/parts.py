"""A model out of parts that exist already: any CLIP, any universal segmenter, a MasQ add-on."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizer

from masqclip.clip.loading import load_clip
from masqclip.clip.tokenizer import load_tokenizer
from masqclip.clip.tokenizer_files import has_tokenizer
from masqclip.hub import find_weights
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import load_proposer
from masqclip.proposals.picture_settings import picture_settings


def join_parts(
    clip: str | Path, proposer: str | Path, queries: str | Path | None = None
) -> tuple[MasQClipModel, CLIPTokenizer]:
    """Load parts and join them, in float32 on the CPU; see `Segmenter.from_parts`.

    Raises:
        MasqclipError: a part is not there, of no known kind, or does not fit.
    """
    clip_folder = find_weights(clip, what="CLIP")
    proposer_folder = find_weights(proposer, what="proposer")
    tokenizer = load_tokenizer(clip_folder if has_tokenizer(clip_folder) else None)
    model = MasQClipModel.from_parts(
        load_clip(clip_folder), load_proposer(proposer_folder), **picture_settings(proposer_folder)
    )
    if queries is not None:
        model.load_queries(queries)
    return model, tokenizer
