"""Which families of CLIPs there are, and how the towers of a model of each are found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CLIPModel, MetaClip2Model, SiglipModel, Tipsv2Model

from masqclip.errors import MasqclipError
from masqclip.towers.clip import ClipTower, ClipWords, MetaClip2Tower, small_clip
from masqclip.towers.eva02 import Eva02ClipModel, Eva02Tower
from masqclip.towers.pe import PeClipModel, PeTower
from masqclip.towers.piece_tokenizers import (
    check_ended_pieces,
    check_pieces,
    metaclip2_tokenizer,
    siglip_tokenizer,
    tips_tokenizer,
)
from masqclip.towers.pretrainable import Contrast, SmallSizes
from masqclip.towers.siglip import SiglipTower, SiglipWords, small_siglip
from masqclip.towers.tips import TipsTower, TipsWords, tips_scale
from masqclip.towers.tokenizer import check_tokenizer, load_tokenizer, tower_tokenizer
from masqclip.towers.tower import Tower, Words
from masqclip.weights.configs import build_config

# What OpenAI, the makers of SigLIP and those of TIPS put names into, where they put out figures.
_OPENAI_TEMPLATES = ("a photo of a {}.",)
_SIGLIP_TEMPLATES = ("This is a photo of {}.",)
_TIPS_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of a {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "a photo of many {}.",
    "a photo of {}s.",
)


def _anything(config: Any, tokenizer: Any) -> None:
    pass


def _exponential(clip: Any) -> float:
    return float(clip.logit_scale.detach().exp())


@dataclass(frozen=True)
class Family:
    """A family of CLIPs.

    Attributes:
        name: what it is called here.
        model_class: of both towers, with a `config_class`.
        tower, words: views of a model of that class, as masks and vocabularies need them.
        contrast: how it was trained to tell pictures and texts apart, and is.
        largest_scale: what its learned temperature is held below.
        small: the configuration of a small one to pretrain; None where there is none.
        load_tokenizer: the tokenizer of a model's folder, of which the word tower's settings are
            given.
        fits: refuses a tokenizer that cannot be the word tower's; takes the word tower's
            configuration and the tokenizer.
        templates: that its own makers put names into.
        scale: what a model of the class has learned to multiply cosines by.
    """

    name: str
    model_class: Any
    tower: Callable[[Any], Tower]
    words: Callable[[Any, Any], Words]
    contrast: Contrast = "softmax"
    largest_scale: float = 100.0
    small: Callable[[SmallSizes], Any] | None = None
    load_tokenizer: Callable[[Path, Any], Any] = tower_tokenizer
    fits: Callable[[Any, Any], None] = _anything
    templates: tuple[str, ...] = _OPENAI_TEMPLATES
    scale: Callable[[Any], float] = _exponential


#: By the model type, as transformers has it, which stands in the ``clip_config`` of a model.
FAMILIES: Mapping[str, Family] = {
    "clip": Family("clip", CLIPModel, ClipTower, ClipWords, small=small_clip, fits=check_tokenizer),
    "siglip": Family(
        "siglip",
        SiglipModel,
        SiglipTower,
        SiglipWords,
        contrast="sigmoid",
        largest_scale=math.inf,
        small=small_siglip,
        load_tokenizer=siglip_tokenizer,
        fits=check_pieces,
        templates=_SIGLIP_TEMPLATES,
    ),
    "metaclip_2": Family(
        "metaclip_2",
        MetaClip2Model,
        MetaClip2Tower,
        ClipWords,
        load_tokenizer=metaclip2_tokenizer,
        fits=check_ended_pieces,
    ),
    "tipsv2": Family(
        "tips",
        Tipsv2Model,
        TipsTower,
        TipsWords,
        largest_scale=math.inf,
        load_tokenizer=tips_tokenizer,
        fits=check_pieces,
        templates=_TIPS_TEMPLATES,
        scale=tips_scale,
    ),
    "eva02_clip": Family("eva02", Eva02ClipModel, Eva02Tower, ClipWords, fits=check_tokenizer),
    "pe_clip": Family("pe", PeClipModel, PeTower, ClipWords, fits=check_tokenizer),
}


def family_of(model_type: object) -> Family:
    """The family of a model type.

    Raises:
        MasqclipError: there is none.
    """
    found = FAMILIES.get(str(model_type))
    if found is None:
        raise MasqclipError(
            f"no CLIP of the type {str(model_type)[:60]!r} is known: it is one of "
            f"{', '.join(FAMILIES)}"
        )
    return found


def read_clip_config(described: Mapping[str, Any], *, source: str) -> Any:
    """A CLIP's configuration, of whatever family, from a dictionary.

    Raises:
        MasqclipError: it is of no known family, or a value is out of its bounds.
    """
    family = family_of(described.get("model_type", "clip"))
    return build_config(family.model_class.config_class, described, source=source)


def build_clip(described: Mapping[str, Any], *, source: str) -> Any:
    """A CLIP of random weights. Arguments and errors as in `read_clip_config`."""
    config = read_clip_config(described, source=source)
    return family_of(config.model_type).model_class(config)


def tower_of(clip: nn.Module) -> Tower:
    """The tower of a CLIP that reads pictures."""
    model: Any = clip
    return family_of(model.config.model_type).tower(clip)


def words_of(clip: nn.Module, tokenizer: Any) -> Words:
    """The tower of a CLIP that reads words, with its tokenizer.

    Raises:
        MasqclipError: the tokenizer cannot be the tower's.
    """
    model: Any = clip
    family = family_of(model.config.model_type)
    family.fits(model.config.text_config, tokenizer)
    return family.words(clip, tokenizer)


def learned_scale(clip: nn.Module) -> dict[str, float]:
    """How a CLIP has learned to score cosines, as `MasQClipConfig` has it."""
    model: Any = clip
    family = family_of(model.config.model_type)
    learned = {"logit_scale": min(family.largest_scale, family.scale(model))}
    if family.contrast == "sigmoid":
        learned["logit_bias"] = float(model.logit_bias.detach())
    return learned


def folder_tokenizer(folder: Path, clip: nn.Module) -> Any:
    """The tokenizer that a whole model's folder holds for its CLIP.

    Args:
        folder: of the model.
        clip: the model's.

    Raises:
        MasqclipError: there is none, it is damaged, or it is not the CLIP's.
    """
    model: Any = clip
    if model.config.model_type == "clip":
        return load_tokenizer(folder)
    return family_of(model.config.model_type).load_tokenizer(folder, model.config.text_config)
