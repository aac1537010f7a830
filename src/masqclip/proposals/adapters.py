"""Which proposers there are, and how one is built, or loaded, by its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.hub.kinds import check_proposer, kind_in_words
from masqclip.proposals.eomt import EomtDinov3Proposer, EomtProposer
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
from masqclip.proposals.sam import Sam2Proposer, SamProposer
from masqclip.proposals.sam3 import Sam3Proposer
from masqclip.proposals.segmenters import ModelProposer, OneFormerProposer, SegmenterProposer
from masqclip.proposals.sight import Sight
from masqclip.proposals.trainable import TrainableProposer
from masqclip.proposals.union import MOST_PARTS, UNION, UnionProposer
from masqclip.weights.configs import build_config
from masqclip.weights.model_kinds import model_type_of
from masqclip.weights.preprocessing import read_object

#: By transformers' model type, which is also a model's `proposer_type`.
ADAPTERS: dict[str, type[SegmenterProposer]] = {
    "mask2former": Mask2FormerProposer,
    "maskformer": MaskFormerProposer,
    "oneformer": OneFormerProposer,
    "eomt": EomtProposer,
    "eomt_dinov3": EomtDinov3Proposer,
    "sam": SamProposer,
    "sam2": Sam2Proposer,
    "sam3": Sam3Proposer,
}
# Folders of models of videos, whose image's half is read.
_VIDEOS: dict[str, type[SegmenterProposer]] = {
    "sam2_video": Sam2Proposer,
    "sam3_video": Sam3Proposer,
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


def build_proposer(proposer_type: str, config: dict[str, Any]) -> ModelProposer:
    """A proposer of random weights, of the architecture that a dictionary describes.

    Raises:
        MasqclipError: there is no such type.
    """
    if proposer_type == UNION:
        return _build_union(config)
    return _build(proposer_type, config, source="the model's proposer_config")


def _build(proposer_type: str, config: Any, *, source: str) -> SegmenterProposer:
    adapter = ADAPTERS.get(proposer_type)
    if adapter is None:
        raise MasqclipError(
            f"no proposer of type {proposer_type[:60]!r} is known: it is one of "
            f"{', '.join(ADAPTERS)}, or {UNION}"
        )
    described = build_config(
        adapter.config_class, config, source=source, extra=adapter.own_settings
    )
    return adapter(described)


def _build_union(config: Mapping[str, Any]) -> UnionProposer:
    """A union, whose parts are described each by itself."""
    described, most = config.get("parts"), config.get("max_overlap")
    if not isinstance(described, list) or not 2 <= len(described) <= MOST_PARTS:
        raise MasqclipError(
            f"the model's proposer_config describes no union: it has 2 to {MOST_PARTS} parts"
        )
    if isinstance(most, bool) or not isinstance(most, int | float) or not 0 <= most <= 1:
        raise MasqclipError(
            f"the model's proposer_config has max_overlap = {str(most)[:40]}: it is a number from "
            "0 to 1"
        )
    parts, sights = [], []
    for number, part in enumerate(described, start=1):
        source = f"part {number} of the model's proposer_config"
        if not isinstance(part, Mapping) or not isinstance(part.get("sight"), Mapping):
            raise MasqclipError(f"{source} describes no proposer and how it sees pictures")
        kind = str(part.get("proposer_type"))
        parts.append(_build(kind, part.get("proposer_config"), source=source))
        sights.append(Sight.of(part["sight"], source=source))
    return UnionProposer(parts, sights, max_overlap=most)


def load_proposer(name_or_path: str | Path) -> SegmenterProposer:
    """Load a proposer of any known type.

    Args:
        name_or_path: a folder, a name of the registry, or the Hub's owner/name.

    Raises:
        MasqclipError: nothing is there, or it is of no known type.
    """
    folder = find_weights(name_or_path, what="proposer")
    kind = model_type_of(folder, name=name_or_path)
    check_proposer(read_object(folder, "config.json"), name=str(name_or_path))
    return (ADAPTERS | _VIDEOS)[kind].from_pretrained(folder)


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
