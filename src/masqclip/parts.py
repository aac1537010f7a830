"""A model out of parts that exist already: any CLIP, any universal segmenter, a MasQ add-on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPModel, CLIPTokenizer

from masqclip.clip.loading import clip_settings, load_clip
from masqclip.clip.tokenizer import load_tokenizer
from masqclip.clip.tokenizer_files import has_tokenizer
from masqclip.convert.open_clip import is_open_clip, read_open_clip
from masqclip.data.json_files import read_json
from masqclip.encoding import resize_input
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.hub.local import origin
from masqclip.hub.registry import published_size
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import load_proposer
from masqclip.proposals.picture_settings import picture_settings
from masqclip.weights.folders import check_fits
from masqclip.weights.processors import processor_document

_OPENAI_TOKENS = 49_408


def join_parts(
    clip: str | Path,
    proposer: str | Path,
    queries: str | Path | None = None,
    *,
    size: tuple[int, int | None] | None = None,
) -> tuple[MasQClipModel, CLIPTokenizer]:
    """Load parts and join them, in float32 on the CPU; see `Segmenter.from_parts`.

    Args:
        clip, proposer, queries: see there.
        size: (shortest, longest) edge of pictures, in place of the proposer's own.

    Raises:
        MasqclipError: a part is not there, of no known kind, or does not fit.
    """
    clip_folder = find_weights(clip, what="CLIP")
    proposer_folder = find_weights(proposer, what="proposer")
    settings = parts_settings(clip_folder, proposer_folder, sized=size is not None)
    tower = load_any_clip(clip_folder)
    tokenizer = clip_tokenizer(clip_folder, tower)
    model = MasQClipModel.from_parts(tower, load_proposer(proposer_folder), **settings)
    if size is not None:
        resize_input(model.config, size)
    if queries is not None:
        model.load_queries(queries)
    return model, tokenizer


def parts_settings(clip: Path, proposer: Path, *, sized: bool = False) -> dict[str, Any]:
    """What the folders of two parts say of how each sees pictures, as `MasQClipConfig` has it.

    Args:
        clip, proposer: the folders.
        sized: whether a size is asked for, so that the proposer may do without one.

    Raises:
        MasqclipError: a part asks for what is not done here.
    """
    told = picture_settings(proposer, published=_published(proposer), sized=sized)
    return clip_settings(clip) | told


def load_any_clip(folder: Path) -> CLIPModel:
    """The CLIP in a folder of transformers', or of open_clip, in float32.

    Raises:
        MasqclipError: it is none of ViT towers, or damaged.
    """
    if not is_open_clip(folder):
        return load_clip(folder)
    config, weights = read_open_clip(folder)
    check_fits(CLIPModel, config, weights, source=f"the folder {str(folder)!r}")
    model = CLIPModel(config).float()
    model.load_state_dict(weights)
    return model.eval()


def clip_tokenizer(folder: Path, clip: CLIPModel) -> CLIPTokenizer:
    """A CLIP's own tokenizer; OpenAI's, where its folder has none and it has as many tokens.

    Raises:
        MasqclipError: it has none and reads others, so that its words would be garbage.
    """
    if has_tokenizer(folder):
        return load_tokenizer(folder)
    if (count := clip.config.text_config.vocab_size) != _OPENAI_TOKENS:
        raise MasqclipError(
            f"the CLIP {str(folder)!r} reads {count:,} tokens and its folder holds no tokenizer: "
            "put its tokenizer.json there"
        )
    return load_tokenizer()


def _published(folder: Path) -> tuple[int, int] | None:
    """The size at which a proposer's figures were published, if it is known."""
    document = read_json(folder / "config.json", what="the file")
    document = document if isinstance(document, dict) else {}
    labels = document.get("id2label")
    return published_size(
        origin(folder),
        processor_document(folder).get("size"),
        len(labels)
        if isinstance(labels, dict) and document.get("model_type") == "mask2former"
        else None,
    )
