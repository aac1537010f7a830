"""Which proposers there are, and how one is built, or loaded, by its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.hub.kinds import kind_in_words
from masqclip.proposals.eomt import EomtProposer
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.proposals.sam import SamProposer
from masqclip.proposals.segmenters import (
    MaskFormerProposer,
    OneFormerProposer,
    SegmenterProposer,
)
from masqclip.weights.configs import build_config
from masqclip.weights.model_kinds import model_type_of

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
    adapter = ADAPTERS.get(proposer_type)
    if adapter is None:
        raise MasqclipError(
            f"no proposer of type {proposer_type!r} is known: it is one of {', '.join(ADAPTERS)}"
        )
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
    kind = model_type_of(folder, name=name_or_path)
    if kind not in ADAPTERS:
        known = "a Mask2Former, MaskFormer, OneFormer, EoMT or SAM"
        raise MasqclipError(
            f"{str(name_or_path)!r} is {kind_in_words(kind)}, which proposes no masks here: use "
            + ("it as --model" if kind == "masqclip" else known)
        )
    return ADAPTERS[kind].from_pretrained(folder)
