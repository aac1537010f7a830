"""The authors' MaskCLIP checkpoints (Ding, Wang, Tu, ICML 2023) to `MaskClipModel`.

Such a checkpoint is laid out as a MasQCLIP's: the proposer, and CLIP's vision tower with what was
learned in it (``maskclip.*``), which stayed frozen otherwise and is compared with the CLIP given.

- The layout is that of the published code (mlpc-ucsd/MaskCLIP, commit 43049d1), which tests with
  the published file.
- What is learned is called ``added_params`` there. Convolutions of a patch's size and stride, and
  of 1x1, are linear layers here: the same numbers in the same order.
- The proposer has no class head. Here it gets one of zeros, which a MaskCLIP never asks.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import CLIPConfig

from masqclip.baselines.maskclip import MaskClipModel, places
from masqclip.configuration import MasQClipConfig
from masqclip.convert.masqclip import joined_parts
from masqclip.errors import MasqclipError
from masqclip.towers.openai_clip import VisionTower, vision_tower_to_transformers
from masqclip.weights.rules import StateDict, in_float32, linear, rename

_PREFIX = "maskclip."
_VISUAL = f"{_PREFIX}visual."
_LEARNED = "added_params."
_PREDICTOR = "sem_seg_head.predictor."
_LAYERS = "vision_model.encoder.layers"


def frozen_tower(state_dict: Mapping[str, Tensor], *, heads: int | None = None) -> VisionTower:
    """The CLIP vision tower of a MaskCLIP, without its learned parts.

    Raises:
        MasqclipError: it is not whole, or there is something else beside it.
    """
    for name in state_dict:
        elsewhere = name.startswith(_PREFIX) and not name.startswith(_VISUAL)
        if elsewhere or ".attn.new_q_proj." in name:  # which a MasQCLIP has
            raise MasqclipError(f"not a MaskCLIP: unknown tensor {name!r}")
    frozen = {name: tensor for name, tensor in state_dict.items() if _LEARNED not in name}
    return vision_tower_to_transformers(frozen, prefix=_VISUAL, heads=heads)


def maskclip_to_model(
    state_dict: Mapping[str, Tensor],
    clip_config: CLIPConfig,
    clip_weights: Mapping[str, Tensor],
    *,
    heads: int | None = None,
) -> tuple[MasQClipConfig, StateDict]:
    """A MaskCLIP of the authors, joined with its CLIP, as `MaskClipModel`'s own.

    Args:
        state_dict: the checkpoint; not changed.
        clip_config: of the CLIP that it was trained on.
        clip_weights: `CLIPModel`'s, of the same.
        heads: attention heads of the vision tower; None = the published ones.

    Returns:
        The configuration, and the weights in float32.

    Raises:
        MasqclipError: a tensor is missing or unknown, or the CLIP is another one.
    """
    tower = frozen_tower(state_dict, heads=heads)
    proposer = {name: t for name, t in state_dict.items() if not name.startswith(_PREFIX)}
    proposer_config, weights = joined_parts(
        tower, _with_class_head(proposer), clip_weights, what="MaskCLIP"
    )
    config = MasQClipConfig(
        clip_config=clip_config.to_dict(),
        proposer_config=proposer_config,
        system=MaskClipModel.system,
        # As on ADE20K, where the published model is tested.
        shortest_edge=640,
        longest_edge=2560,
        object_threshold=0.3,
        overlap_threshold=0.5,
    )
    weights |= _learned(state_dict, tower) | _own_queries(tower)
    return config, in_float32(weights)


def _with_class_head(proposer: Mapping[str, Tensor]) -> StateDict:
    """A proposer with a head of zeros for one class and none, where it has no class head."""
    whole = dict(proposer)
    queries = whole.get(f"{_PREDICTOR}query_feat.weight")
    if queries is not None and f"{_PREDICTOR}class_embed.weight" not in whole:
        whole[f"{_PREDICTOR}class_embed.weight"] = queries.new_zeros(2, queries.shape[1])
        whole[f"{_PREDICTOR}class_embed.bias"] = queries.new_zeros(2)
    return whole


def _learned(state_dict: Mapping[str, Tensor], tower: VisionTower) -> StateDict:
    """The relative mask attentions, convolutions as linear layers."""
    table: dict[str, str] = {}
    for i, block in enumerate(places(tower.config.num_hidden_layers)):
        attention = f"transformer.resblocks.{block}.attn."
        table |= linear(f"transformer.conv1_{_LEARNED}{i}", f"attention.{i}.shape")
        table |= linear(f"{attention}q_prime_norm_added_params", f"attention.{i}.norm")
        table |= linear(f"{attention}k_prime_proj_weight_added_params", f"attention.{i}.key")
        table |= linear(f"transformer.conv3_{_LEARNED}{i}", f"attention.{i}.refine")
    given = {
        name.removeprefix(_VISUAL): tensor
        for name, tensor in state_dict.items()
        if name.startswith(_VISUAL) and _LEARNED in name
    }
    learned = rename(given, table, what="a MaskCLIP", prefix=_VISUAL)
    width, patch = tower.config.hidden_size, tower.config.patch_size
    shapes = {"shape": (width, 1, patch, patch), "refine": (patch * patch, width, 1, 1)}
    for source, target in table.items():
        *_, part, kind = target.split(".")
        if part in shapes and kind == "weight":
            if learned[target].shape != shapes[part]:
                raise MasqclipError(
                    f"not a MaskCLIP: the tensor '{_VISUAL}{source}' is "
                    f"{tuple(learned[target].shape)}, and the tower asks for {shapes[part]}"
                )
            learned[target] = learned[target].flatten(1)
    return learned


def _own_queries(tower: VisionTower) -> StateDict:
    """CLIP's query projections and class position: a MaskCLIP's mask class tokens have no other."""
    frozen = tower.state_dict
    queries = {
        f"queries.projections.{i}.{part}": frozen[f"{_LAYERS}.{i}.self_attn.q_proj.{part}"].clone()
        for i in range(tower.config.num_hidden_layers)
        for part in ("weight", "bias")
    }
    positions = frozen["vision_model.embeddings.position_embedding.weight"]
    return queries | {"queries.embedding": positions[0].clone()}
