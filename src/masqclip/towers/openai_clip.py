"""OpenAI's CLIP checkpoints, whole or the vision tower alone, to transformers' `CLIPModel`.

- open_clip names its ViT towers in the same way; some of its models put ``text.`` before the text
  tower. `CLIPModel`'s own names are known here as well, for files without a configuration.
- Names are mapped by the tables below and nothing is skipped in silence: an unknown or a missing
  name is an error, except `NOT_NEEDED`.
- ``in_proj_weight`` holds query, key and value stacked; projections are stored transposed.
- Shapes give every size but the number of attention heads and the activation, which are arguments
  here (with the published heads by default).
- A MasQCLIP checkpoint holds such a vision tower with a query projection for mask class tokens in
  each block (``attn.new_q_proj``) and, beside it, the learned ``mask_embeddings``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import CLIPConfig, CLIPVisionConfig

from masqclip.errors import MasqclipError
from masqclip.weights.rules import QKV, StateDict, below, count, linear, rename

#: OpenAI's export writes three numbers into its archive, older transformers the positions' indices.
NOT_NEEDED = (
    "input_resolution",
    "context_length",
    "vocab_size",
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)

HEAD_WIDTH = 64
# Towers whose heads are wider: sixteen have ViT-H, ViT-g and ViT-bigG, the SigLIPs so400m and giant
# with the words of both (1152), and PE-Core G.
_WIDE_HEADS = {
    "vision": dict.fromkeys((1152, 1280, 1408, 1536, 1664), 16),
    "text": {1152: 16},
}

#: One residual block: the same in both towers, and in the words of a SigLIP.
BLOCK_RULES = (
    {
        "attn.in_proj_weight": f"self_attn.{QKV}_proj.weight",
        "attn.in_proj_bias": f"self_attn.{QKV}_proj.bias",
    }
    | linear("attn.out_proj", "self_attn.out_proj")
    | linear("ln_1", "layer_norm1")
    | linear("mlp.c_fc", "mlp.fc1")
    | linear("mlp.c_proj", "mlp.fc2")
    | linear("ln_2", "layer_norm2")
)

_VISION_RULES = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre.weight": "vision_model.pre_layrnorm.weight",  # transformers' spelling
    "ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "ln_post.weight": "vision_model.post_layernorm.weight",
    "ln_post.bias": "vision_model.post_layernorm.bias",
    "proj": "visual_projection.weight",
}

_TEXT_RULES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}

_TRANSPOSED = ("visual_projection.weight", "text_projection.weight")


@dataclass(frozen=True)
class VisionTower:
    """A converted vision tower, and what MasQCLIP adds to one (absent in a plain CLIP).

    Attributes:
        config: transformers' configuration of the tower.
        state_dict: ``vision_model.*`` and ``visual_projection.weight``, named as in `CLIPModel`
            and `CLIPVisionModelWithProjection`.
        query_projections: weight [D, D] and bias [D] of each block's new query projection, first
            block first; empty in a plain CLIP.
        mask_embedding: the mask class token's learned embedding [D], or None.
    """

    config: CLIPVisionConfig
    state_dict: StateDict
    query_projections: list[tuple[Tensor, Tensor]]
    mask_embedding: Tensor | None


def openai_clip_to_transformers(
    state_dict: Mapping[str, Tensor],
    *,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    activation: str = "quick_gelu",
) -> tuple[CLIPConfig, StateDict]:
    """A whole CLIP (``visual.*``, ``transformer.*``, ...) as configuration and `CLIPModel` weights.

    Args:
        state_dict: as OpenAI or open_clip names it; not changed. Numbers keep their type.
        vision_heads: attention heads of the vision tower; None = the published ones.
        text_heads: attention heads of the text tower; None = width / 64.
        activation: ``quick_gelu`` in OpenAI's, MetaCLIP's and DFN's towers, ``gelu`` in LAION's.

    Raises:
        MasqclipError: not a ViT CLIP in OpenAI's format; the message names the tensor.
    """
    vision = vision_tower_to_transformers(state_dict, prefix="visual.", heads=vision_heads)
    if vision.query_projections or vision.mask_embedding is not None:
        raise MasqclipError("this is a MasQCLIP, not a plain CLIP: convert its vision tower alone")
    converted = vision.state_dict | text_tower_to_transformers(state_dict)
    return _config(converted, vision_heads, text_heads, activation), converted


def text_tower_to_transformers(state_dict: Mapping[str, Tensor]) -> StateDict:
    """OpenAI's text tower with its projection and ``logit_scale``, whatever the tower beside it.

    Args:
        state_dict: a whole CLIP; not changed. Names may have ``text.`` before them.

    Raises:
        MasqclipError: not a text tower in OpenAI's format; the message names the tensor.
    """
    rest = {
        name.removeprefix("text."): tensor
        for name, tensor in state_dict.items()
        if not name.startswith("visual.") and name not in NOT_NEEDED
    }
    return _rename(rest, _TEXT_RULES, "text_model.encoder.layers")


def huggingface_clip(
    state_dict: Mapping[str, Tensor],
    *,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    activation: str = "quick_gelu",
) -> tuple[CLIPConfig, StateDict]:
    """A CLIP that has `CLIPModel`'s names already. Arguments and errors as above."""
    tensors = {name: tensor for name, tensor in state_dict.items() if name not in NOT_NEEDED}
    table: dict[str, str] = {}
    for rules, tower in ((_VISION_RULES, "vision_model"), (_TEXT_RULES, "text_model")):
        layers = f"{tower}.encoder.layers"
        blocks = count(tensors, rf"{tower}\.encoder\.layers\.(\d+)\.")
        for target in _block_table(dict(rules), layers, blocks).values():
            for letter in "qkv" if QKV in target else ("",):
                name = target.replace(QKV, letter)
                table[name] = name
    converted = rename(tensors, table, what="a CLIP in transformers' format")
    return _config(converted, vision_heads, text_heads, activation), converted


def _config(
    converted: StateDict, vision_heads: int | None, text_heads: int | None, activation: str
) -> CLIPConfig:
    vision = _vision_config(converted, vision_heads, activation)
    return CLIPConfig(
        text_config=text_tower_config(converted, text_heads, activation),
        vision_config=vision.to_dict(),
        projection_dim=vision.projection_dim,
    )


def text_tower_config(converted: StateDict, heads: int | None, activation: str) -> dict[str, Any]:
    """The settings of transformers' `CLIPTextConfig` for a tower under its names.

    Args:
        converted: from `text_tower_to_transformers`.
        heads: attention heads; None = width / 64.
        activation: as in `openai_clip_to_transformers`.
    """
    vocabulary, width = converted["text_model.embeddings.token_embedding.weight"].shape
    return {
        "hidden_size": width,
        "intermediate_size": _mlp_width(converted, "text_model"),
        "num_hidden_layers": _num_layers(converted, "text_model"),
        "num_attention_heads": attention_heads(width, heads, what="text"),
        "max_position_embeddings": len(
            converted["text_model.embeddings.position_embedding.weight"]
        ),
        "vocab_size": vocabulary,
        "projection_dim": len(converted["text_projection.weight"]),
        "hidden_act": activation,
        # OpenAI's last two tokens. With the true end token transformers pools at its first
        # occurrence, which is OpenAI's argmax over the ids.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


def vision_tower_to_transformers(
    state_dict: Mapping[str, Tensor],
    *,
    prefix: str = "masqclip.visual.",
    heads: int | None = None,
) -> VisionTower:
    """The vision tower below `prefix`, and MasQCLIP's additions where there are any.

    Args:
        state_dict: any checkpoint that holds the tower; not changed. What lies outside `prefix`
            is left alone, but for ``mask_embeddings`` beside the tower.
        prefix: what the tower's names begin with.
        heads: attention heads; None = the published ones.

    Raises:
        MasqclipError: there is no ViT tower in OpenAI's format below `prefix`.
    """
    tower = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }
    if "class_embedding" not in tower:
        hint = "it is a ResNet CLIP" if "layer1.0.conv1.weight" in tower else "is it a CLIP?"
        raise MasqclipError(f"there is no OpenAI ViT tower below {prefix!r}: {hint}")
    queries = {name: tower.pop(name) for name in list(tower) if ".attn.new_q_proj." in name}
    converted = _rename(tower, _VISION_RULES, "vision_model.encoder.layers", prefix)
    num_layers = _num_layers(converted, "vision_model")
    beside = prefix.removesuffix("visual.") + "mask_embeddings"
    return VisionTower(
        config=_vision_config(converted, heads, "quick_gelu"),
        state_dict=converted,
        query_projections=_query_projections(queries, num_layers),
        mask_embedding=state_dict.get(beside),
    )


def _vision_config(converted: StateDict, heads: int | None, activation: str) -> CLIPVisionConfig:
    patches = converted["vision_model.embeddings.patch_embedding.weight"]  # [D, 3, P, P]
    grid = square_side(len(converted["vision_model.embeddings.position_embedding.weight"]) - 1)
    width, patch_size = patches.shape[0], patches.shape[-1]
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=_mlp_width(converted, "vision_model"),
        num_hidden_layers=_num_layers(converted, "vision_model"),
        num_attention_heads=attention_heads(width, heads, what="vision"),
        image_size=grid * patch_size,
        patch_size=patch_size,
        projection_dim=len(converted["visual_projection.weight"]),
        hidden_act=activation,
    )


def _rename(
    tensors: Mapping[str, Tensor], rules: Mapping[str, str], layers: str, prefix: str = ""
) -> StateDict:
    """All tensors under transformers' names.

    Args:
        tensors: OpenAI's names, blocks as ``transformer.resblocks.N.*``.
        rules: the table for what is outside the blocks.
        layers: transformers' name of the list of blocks.
        prefix: what stands before OpenAI's names in the file.

    Raises:
        MasqclipError: a name without a rule, or a rule without its tensor.
    """
    blocks = count(tensors, r"transformer\.resblocks\.(\d+)\.")
    table = _block_table(dict(rules), layers, blocks)
    renamed = rename(tensors, table, what="a CLIP in OpenAI's format", prefix=prefix)
    return {
        name: tensor.T.contiguous() if name in _TRANSPOSED else tensor
        for name, tensor in renamed.items()
    }


def _block_table(table: dict[str, str], layers: str, blocks: int) -> dict[str, str]:
    """A tower's table with those of its blocks added."""
    for i in range(max(1, blocks)):
        table |= below(f"transformer.resblocks.{i}.", BLOCK_RULES, f"{layers}.{i}.")
    return table


def _query_projections(
    queries: Mapping[str, Tensor], num_layers: int
) -> list[tuple[Tensor, Tensor]]:
    if not queries:
        return []
    names = [f"transformer.resblocks.{i}.attn.new_q_proj" for i in range(num_layers)]
    for name in names:
        for part in ("weight", "bias"):
            if f"{name}.{part}" not in queries:
                raise MasqclipError(f"the MasQCLIP tower has no tensor '{name}.{part}'")
    return [(queries[f"{name}.weight"], queries[f"{name}.bias"]) for name in names]


def _num_layers(converted: Mapping[str, Tensor], tower: str) -> int:
    return sum(
        name.startswith(f"{tower}.encoder.layers.") and name.endswith(".layer_norm1.bias")
        for name in converted
    )


def _mlp_width(converted: Mapping[str, Tensor], tower: str) -> int:
    return len(converted[f"{tower}.encoder.layers.0.mlp.fc1.bias"])


def square_side(patches: int) -> int:
    """How many patches stand in a row of a square of them.

    Raises:
        MasqclipError: there is no such square.
    """
    side = math.isqrt(patches)
    if side * side != patches:
        raise MasqclipError(f"the positional embedding has {patches} patches, not a square")
    return side


def attention_heads(width: int, heads: int | None, *, what: str) -> int:
    """The heads of a tower.

    Args:
        width: of the tower.
        heads: as told; None = the published ones.
        what: ``vision`` or ``text``, for the errors.

    Raises:
        MasqclipError: they do not divide the width.
    """
    heads = heads if heads is not None else _WIDE_HEADS[what].get(width, width // HEAD_WIDTH)
    if heads < 1 or width % heads:
        raise MasqclipError(
            f"the {what} tower is {width} wide and cannot have {heads} attention heads: "
            f"give {what}_heads (--{what}-heads)"
        )
    return heads
