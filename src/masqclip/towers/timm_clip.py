"""CLIPs whose picture tower is one of timm's, by its names: EVA02-CLIP, PE-Core, SigLIP.

open_clip writes them as ``visual.trunk.*``, with its own text tower below ``text.``. EVA02-CLIP and
PE-Core were first published under names of their own, which are known as well. Names are mapped by
the tables below, and nothing is skipped in silence but EVA02's tables of rotary positions, which
follow from sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from masqclip.errors import MasqclipError
from masqclip.towers.eva02 import Eva02ClipConfig
from masqclip.towers.openai_clip import (
    attention_heads,
    square_side,
    text_tower_config,
    text_tower_to_transformers,
)
from masqclip.towers.pe import PeClipConfig
from masqclip.towers.timm_siglip import siglip_to_transformers
from masqclip.weights.rules import QKV, StateDict, below, count, linear, rename

TRUNK = "visual.trunk."
_FIRST = "visual."
_TOWER = "vision_model."
_POOLING_HEADS = 8  # of every published PE-Core
#: Tables that the first EVA02-CLIPs hold and nobody needs.
ROTARY_TABLE = re.compile(r"visual\.(trunk\.)?(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)$")

_NORMS = linear("norm1", "norm1") | linear("norm2", "norm2")
_EVA02 = (
    {
        "cls_token": "vision_model.embeddings.class_embedding",
        "pos_embed": "vision_model.embeddings.position_embedding",
    }
    | linear("patch_embed.proj", "vision_model.embeddings.patch_embedding")
    | linear("norm", "vision_model.norm")
    | linear("head", "visual_projection")
)
_EVA02_BLOCK = (
    _NORMS
    | linear("attn.q_proj", "attention.q_proj")
    | {"attn.k_proj.weight": "attention.k_proj.weight"}
    | linear("attn.v_proj", "attention.v_proj")
    | linear("attn.norm", "attention.norm")
    | linear("attn.proj", "attention.out_proj")
    | linear("mlp.fc1_g", "mlp.gate")
    | linear("mlp.fc1_x", "mlp.up")
    | linear("mlp.norm", "mlp.norm")
    | linear("mlp.fc2", "mlp.down")
)
_FIRST_EVA02_BLOCK = (
    _NORMS
    | {f"attn.{part}_proj.weight": f"attention.{part}_proj.weight" for part in "qkv"}
    | {f"attn.{part}_bias": f"attention.{part}_proj.bias" for part in "qv"}
    | linear("attn.inner_attn_ln", "attention.norm")
    | linear("attn.proj", "attention.out_proj")
    | linear("mlp.w1", "mlp.gate")
    | linear("mlp.w2", "mlp.up")
    | linear("mlp.ffn_ln", "mlp.norm")
    | linear("mlp.w3", "mlp.down")
)

_PE = (
    {
        "pos_embed": "vision_model.embeddings.position_embedding",
        "patch_embed.proj.weight": "vision_model.embeddings.patch_embedding.weight",
        "attn_pool.latent": "vision_model.pool.probe",
    }
    | linear("norm_pre", "vision_model.pre_norm")
    | linear("norm", "vision_model.pool.pre_norm")
    | linear("attn_pool.q", "vision_model.pool.attention.q_proj")
    | linear("attn_pool.kv", "vision_model.pool.attention.kv_proj")
    | linear("attn_pool.proj", "vision_model.pool.attention.out_proj")
    | linear("attn_pool.norm", "vision_model.pool.norm")
    | linear("attn_pool.mlp.fc1", "vision_model.pool.mlp.fc1")
    | linear("attn_pool.mlp.fc2", "vision_model.pool.mlp.fc2")
    | linear("head", "visual_projection")
)
_PE_BLOCK = (
    _NORMS
    | linear("attn.qkv", f"attention.{QKV}_proj")
    | linear("attn.proj", "attention.out_proj")
    | linear("mlp.fc1", "mlp.fc1")
    | linear("mlp.fc2", "mlp.fc2")
)
_FIRST_PE = (
    {
        "positional_embedding": "vision_model.embeddings.position_embedding",
        "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "attn_pool.probe": "vision_model.pool.probe",
        "attn_pool.attn.in_proj_weight": f"vision_model.pool.attention.{QKV}_proj.weight",
        "attn_pool.attn.in_proj_bias": f"vision_model.pool.attention.{QKV}_proj.bias",
        "proj": "visual_projection.weight",
    }
    | linear("ln_pre", "vision_model.pre_norm")
    | linear("ln_post", "vision_model.pool.pre_norm")
    | linear("attn_pool.attn.out_proj", "vision_model.pool.attention.out_proj")
    | linear("attn_pool.layernorm", "vision_model.pool.norm")
    | linear("attn_pool.mlp.c_fc", "vision_model.pool.mlp.fc1")
    | linear("attn_pool.mlp.c_proj", "vision_model.pool.mlp.fc2")
)
_FIRST_PE_BLOCK = (
    linear("ln_1", "norm1")
    | linear("ln_2", "norm2")
    | {
        "attn.in_proj_weight": f"attention.{QKV}_proj.weight",
        "attn.in_proj_bias": f"attention.{QKV}_proj.bias",
    }
    | linear("attn.out_proj", "attention.out_proj")
    | linear("mlp.c_fc", "mlp.fc1")
    | linear("mlp.c_proj", "mlp.fc2")
)


def timm_clip_kind(names: Iterable[str]) -> str | None:
    """The model type of a CLIP with one of these picture towers; None where it has another.

    Args:
        names: of its tensors.

    Raises:
        MasqclipError: it is another of timm's, or another EVA-CLIP.
    """
    known = set(names)
    tower = TRUNK if any(name.startswith(TRUNK) for name in known) else _FIRST
    block = f"{tower}blocks.0.attn."
    if f"{block}q_proj.weight" in known and f"{tower}cls_token" in known:
        return "eva02_clip"
    if f"{_FIRST}attn_pool.probe" in known:
        return "pe_clip"
    if f"{TRUNK}attn_pool.latent" in known:
        return "pe_clip" if f"{TRUNK}norm_pre.weight" in known else "siglip"
    if f"{_FIRST}blocks.0.attn.q_bias" in known:
        raise MasqclipError(
            "it is an EVA-CLIP with queries, keys and values in one projection (EVA01, or "
            "EVA02-E), which is not supported: use an EVA02-CLIP B or L"
        )
    if tower == TRUNK:
        raise MasqclipError(
            "its picture tower is one of timm's that is not supported: EVA02-CLIP, PE-Core and "
            "SigLIP are"
        )
    return None


def timm_clip_to_model(
    kind: str,
    state_dict: Mapping[str, Tensor],
    *,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    activation: str | None = None,
) -> tuple[Any, StateDict]:
    """Such a CLIP as the configuration and weights of its family's model.

    Args:
        kind: from `timm_clip_kind`.
        state_dict: not changed. Numbers keep their type.
        vision_heads, text_heads: attention heads; None = the published ones.
        activation: of a SigLIP's text tower; None = the published one. The others' is ``gelu``.

    Raises:
        MasqclipError: a tensor is unknown or missing; the message names it.
    """
    if kind == "siglip":
        return siglip_to_transformers(
            state_dict, vision_heads=vision_heads, text_heads=text_heads, activation=activation
        )
    convert = _eva02 if kind == "eva02_clip" else _pe
    vision = convert(state_dict)
    config_class: Any = Eva02ClipConfig if kind == "eva02_clip" else PeClipConfig
    words = text_tower_to_transformers(state_dict)
    config = config_class(
        vision_config=_sizes(vision, vision_heads, kind),
        text_config=text_tower_config(words, text_heads, "gelu"),
        projection_dim=len(vision["visual_projection.weight"]),
    )
    return config, vision | words


def _eva02(state_dict: Mapping[str, Tensor]) -> StateDict:
    first = f"{TRUNK}cls_token" not in state_dict
    block = _FIRST_EVA02_BLOCK if first else _EVA02_BLOCK
    prefix = _FIRST if first else TRUNK
    kept = {name: t for name, t in state_dict.items() if not ROTARY_TABLE.match(name)}
    return _renamed(kept, _EVA02, block, prefix, "blocks", what="an EVA02-CLIP")


def _pe(state_dict: Mapping[str, Tensor]) -> StateDict:
    if f"{_FIRST}attn_pool.probe" not in state_dict:
        token = {"cls_token": "vision_model.embeddings.class_embedding"}
        table = (token if f"{TRUNK}cls_token" in state_dict else {}) | _PE
        found = _renamed(state_dict, table, _PE_BLOCK, TRUNK, "blocks", what="a PE-Core")
        for part in ("weight", "bias"):
            pair = found.pop(f"vision_model.pool.attention.kv_proj.{part}").chunk(2)
            for letter, tensor in zip("kv", pair, strict=True):
                found[f"vision_model.pool.attention.{letter}_proj.{part}"] = tensor
        return found
    token = {"class_embedding": "vision_model.embeddings.class_embedding"}
    table = (token if f"{_FIRST}class_embedding" in state_dict else {}) | _FIRST_PE
    blocks = "transformer.resblocks"
    found = _renamed(state_dict, table, _FIRST_PE_BLOCK, _FIRST, blocks, what="a PE-Core")
    projection = found["visual_projection.weight"].T.contiguous()
    bias = torch.zeros(len(projection), dtype=projection.dtype)  # which it has in timm
    return found | {"visual_projection.weight": projection, "visual_projection.bias": bias}


def _renamed(
    state_dict: Mapping[str, Tensor],
    table: Mapping[str, str],
    block: Mapping[str, str],
    prefix: str,
    blocks: str,
    *,
    what: str,
) -> StateDict:
    """The picture tower's tensors under our names, without the axes of one entry in front."""
    tower = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(_FIRST)  # so that one beside the trunk is unknown
    }
    rules = dict(table)
    for i in range(max(1, count(tower, rf"{re.escape(blocks)}\.(\d+)\."))):
        rules |= below(f"{blocks}.{i}.", block, f"{_TOWER}layers.{i}.")
    found = rename(tower, rules, what=what, prefix=prefix)
    for name, axes in (
        ("embeddings.class_embedding", 1),
        ("embeddings.position_embedding", 2),
        ("pool.probe", 1),
    ):
        if f"{_TOWER}{name}" in found:
            tensor = found[f"{_TOWER}{name}"]
            found[f"{_TOWER}{name}"] = tensor.reshape(tensor.shape[-axes:])
    return found


def _sizes(vision: StateDict, heads: int | None, kind: str) -> dict[str, Any]:
    """The picture tower's settings, from the shapes of its tensors."""
    embeddings = f"{_TOWER}embeddings."
    width, _, _, patch_size = vision[f"{embeddings}patch_embedding.weight"].shape
    class_token = f"{embeddings}class_embedding" in vision
    side = square_side(len(vision[f"{embeddings}position_embedding"]) - class_token)
    inner = "mlp.gate" if kind == "eva02_clip" else "mlp.fc1"
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": len(vision[f"{_TOWER}layers.0.{inner}.bias"]),
        "num_hidden_layers": count(vision, r"vision_model\.layers\.(\d+)\."),
        "num_attention_heads": attention_heads(width, heads, what="vision"),
        "image_size": side * patch_size,
        "patch_size": patch_size,
    }
    if kind == "eva02_clip":
        return sizes
    return sizes | {
        "class_token": class_token,
        "pooling_heads": _POOLING_HEADS,
        "pooling_intermediate_size": len(vision[f"{_TOWER}pool.mlp.fc1.bias"]),
    }
