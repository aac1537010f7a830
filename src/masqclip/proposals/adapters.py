"""Which proposers there are, and how one is built, or loaded, by its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.hub.kinds import kind_in_words
from masqclip.proposals.eomt import EomtProposer
from masqclip.proposals.mask2former import (
    Mask2FormerProposer,
    miniature_mask2former_config,
    resnet50_mask2former_config,
)
from masqclip.proposals.maskformer import (
    MaskFormerProposer,
    miniature_maskformer_config,
    resnet50_maskformer_config,
)
from masqclip.proposals.sam import SamProposer
from masqclip.proposals.segmenters import OneFormerProposer, SegmenterProposer
from masqclip.proposals.trainable import TrainableProposer
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

#: By transformers' model type, of those, what can be trained.
TRAINABLE: dict[str, type[TrainableProposer]] = {
    kind: adapter for kind, adapter in ADAPTERS.items() if issubclass(adapter, TrainableProposer)
}

#: What a proposer that starts at random can be: `TeacherSettings.architecture`.
ARCHITECTURES: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "resnet50": resnet50_mask2former_config,
    "miniature": miniature_mask2former_config,
    "maskformer": resnet50_maskformer_config,
    "miniature-maskformer": miniature_maskformer_config,
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


def load_trainable(name_or_path: str | Path) -> TrainableProposer:
    """Load a proposer to train, or to go on from. Argument as in `load_proposer`.

    Raises:
        MasqclipError: nothing is there, or it is of a type that cannot be trained here.
    """
    folder = find_weights(name_or_path, what="proposer")
    kind = model_type_of(folder, name=name_or_path)
    if kind not in TRAINABLE:
        raise MasqclipError(
            f"{str(name_or_path)!r} is {kind_in_words(kind)}, which cannot be trained here: use a "
            "Mask2Former or a MaskFormer"
        )
    return TRAINABLE[kind].from_pretrained(folder)
