"""The authors' MasQCLIP checkpoints to `MasQClipModel`.

Such a checkpoint holds the proposer (``backbone.*``, ``sem_seg_head.*``), CLIP's vision tower and
what MasQ-Tuning learned in it (``masqclip.*``), but no text tower: that comes with the CLIP it was
tuned on. Because the tower stayed frozen, that CLIP can be told by its numbers, bit by bit.

In the published code the learned embedding and the class token's position embedding are one
storage, so tuning moved both. The checkpoint's own tower is therefore what is used, and the
comparison passes over that one row where it equals the learned embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig

from masqclip.configuration import MasQClipConfig
from masqclip.convert.mask2former import mask2former_to_transformers
from masqclip.errors import MasqclipError
from masqclip.towers.openai_clip import VisionTower, vision_tower_to_transformers
from masqclip.weights.rules import StateDict, in_float32

_PREFIX = "masqclip."
_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_CLASS_WEIGHTS = "criterion.empty_weight"

# The OpenAI CLIPs that the published code can be tuned on, by width, blocks, patch and input size.
_PUBLISHED_CLIPS = {
    (1024, 24, 14, 336): "openai/clip-vit-large-patch14-336",
    (1024, 24, 14, 224): "openai/clip-vit-large-patch14",
    (768, 12, 16, 224): "openai/clip-vit-base-patch16",
    (768, 12, 32, 224): "openai/clip-vit-base-patch32",
}


@dataclass(frozen=True)
class Setting:
    """A published experiment, told by its number of classes, and how it resizes pictures."""

    name: str
    shortest_edge: int
    longest_edge: int


# By the number of classes and background, which is the length of the loss's weights.
_SETTINGS = {
    66: Setting("base-novel setting, COCO instances, 65 classes", 800, 1333),
    134: Setting("cross-dataset setting, COCO panoptic, 133 classes", 640, 2560),
}
_UNKNOWN = Setting("no published setting", 800, 1333)


def setting_of(state_dict: Mapping[str, Tensor]) -> Setting:
    """The published setting that a checkpoint belongs to."""
    weights = state_dict.get(_CLASS_WEIGHTS)
    return _UNKNOWN if weights is None else _SETTINGS.get(len(weights), _UNKNOWN)


def vision_tower(state_dict: Mapping[str, Tensor], *, heads: int | None = None) -> VisionTower:
    """The CLIP vision tower of a MasQCLIP, with its learned parts.

    Raises:
        MasqclipError: the tower or a learned part is missing; the message names the tensor.
    """
    tower = vision_tower_to_transformers(state_dict, prefix=f"{_PREFIX}visual.", heads=heads)
    if not tower.query_projections:
        first = f"{_PREFIX}visual.transformer.resblocks.0.attn.new_q_proj.weight"
        raise MasqclipError(f"not a MasQCLIP, or cut short: there is no tensor {first!r}")
    if tower.mask_embedding is None:
        raise MasqclipError(
            f"not a MasQCLIP, or cut short: there is no tensor '{_PREFIX}mask_embeddings'"
        )
    return tower


def published_clip(tower: VisionTower) -> str | None:
    """The Hub's name of the OpenAI CLIP that has a tower of these sizes."""
    config = tower.config
    return _PUBLISHED_CLIPS.get(
        (config.hidden_size, config.num_hidden_layers, config.patch_size, config.image_size)
    )


def masqclip_to_model(
    state_dict: Mapping[str, Tensor],
    clip_config: CLIPConfig,
    clip_weights: Mapping[str, Tensor],
    *,
    heads: int | None = None,
) -> tuple[MasQClipConfig, StateDict]:
    """A MasQCLIP of the authors, joined with its CLIP, as `MasQClipModel`'s own.

    Args:
        state_dict: the checkpoint; not changed.
        clip_config: of the CLIP that it was tuned on.
        clip_weights: `CLIPModel`'s, of the same.
        heads: attention heads of the vision tower; None = the published ones.

    Returns:
        The configuration, and the weights in float32.

    Raises:
        MasqclipError: a tensor is missing or unknown, or the CLIP is another one.
    """
    tower = vision_tower(state_dict, heads=heads)
    assert tower.mask_embedding is not None
    proposer = {name: t for name, t in state_dict.items() if not name.startswith(_PREFIX)}
    proposer_config, weights = joined_parts(tower, proposer, clip_weights, what="MasQCLIP")
    strange = [
        name
        for name in state_dict
        if name.startswith(_PREFIX)
        and not name.startswith((f"{_PREFIX}visual.", f"{_PREFIX}mask_embeddings"))
    ]
    if strange:
        raise MasqclipError(f"not a MasQCLIP: unknown tensor {strange[0]!r}")
    setting = setting_of(state_dict)
    config = MasQClipConfig(
        clip_config=clip_config.to_dict(),
        proposer_config=proposer_config,
        shortest_edge=setting.shortest_edge,
        longest_edge=setting.longest_edge,
    )
    for i, (weight, bias) in enumerate(tower.query_projections):
        weights |= {
            f"queries.projections.{i}.weight": weight,
            f"queries.projections.{i}.bias": bias,
        }
    weights["queries.embedding"] = tower.mask_embedding
    return config, in_float32(weights)


def joined_parts(
    tower: VisionTower,
    proposer: Mapping[str, Tensor],
    clip_weights: Mapping[str, Tensor],
    *,
    what: str,
) -> tuple[dict[str, Any], StateDict]:
    """What a checkpoint of the authors shares with every model of ours: a CLIP and a proposer.

    Args:
        tower: the checkpoint's vision tower.
        proposer: its other tensors.
        clip_weights: `CLIPModel`'s, of the CLIP that it was trained on.
        what: what the checkpoint is, for errors.

    Returns:
        The proposer's configuration, and the weights of both by our names.

    Raises:
        MasqclipError: a tensor of the proposer is missing or unknown, or the CLIP is another one.
    """
    check_same_tower(tower, clip_weights, what=what)
    config, found = mask2former_to_transformers(proposer)
    weights = {f"clip.{name}": t for name, t in (dict(clip_weights) | tower.state_dict).items()}
    weights |= {f"proposer.segmenter.{name}": t for name, t in found.items()}
    return config.to_dict(), weights


def check_same_tower(tower: VisionTower, clip_weights: Mapping[str, Tensor], *, what: str) -> None:
    """Compare a model's frozen tower with a CLIP's, bit by bit.

    Args:
        tower: the model's.
        clip_weights: the CLIP's.
        what: the model is, for the errors.

    Raises:
        MasqclipError: they differ; the message names the first tensor that does.
    """
    for name, frozen in tower.state_dict.items():
        given = clip_weights.get(name)
        if given is None or given.shape != frozen.shape:
            raise MasqclipError(
                f"this {what} was not tuned on the CLIP given: its "
                f"{name!r} is {tuple(frozen.shape)}, the CLIP's is "
                f"{'missing' if given is None else tuple(given.shape)}"
            )
        same = given.float() == frozen.float()
        own = tower.mask_embedding
        if name == _POSITIONS and own is not None and torch.equal(frozen[0], own):
            same = same[1:]
        if not same.all():
            raise MasqclipError(
                f"this {what} was not tuned on the CLIP given: the numbers of {name!r} differ"
            )
