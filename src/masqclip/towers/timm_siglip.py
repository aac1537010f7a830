"""SigLIPs as open_clip writes them, with timm's picture tower, to transformers' `SiglipModel`.

Most of timm's towers compute with the exact GELU, where transformers' own files say the tanh
approximation that their authors trained with: the numbers here are open_clip's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import SiglipConfig

from masqclip.errors import MasqclipError
from masqclip.towers.openai_clip import BLOCK_RULES, attention_heads, square_side
from masqclip.weights.rules import QKV, StateDict, below, count, linear, rename

_TRUNK, _WORDS = "visual.trunk.", "text."
_LAYERS = "vision_model.encoder.layers"
_TEXT_LAYERS = "text_model.encoder.layers"
# timm's towers with the approximation: those that came with SigLIP 2 alone, by their width and
# patch size, and one by its width and picture size.
_APPROXIMATE, _LARGE = {(768, 32), (1152, 16), (1536, 16)}, (1024, 512)
# The words of SigLIP 2 have it, too; they are told by their number of tokens.
_SECOND = 256_000

_VISION = (
    {
        "pos_embed": "vision_model.embeddings.position_embedding.weight",
        "attn_pool.latent": "vision_model.head.probe",
    }
    | linear("patch_embed.proj", "vision_model.embeddings.patch_embedding")
    | linear("norm", "vision_model.post_layernorm")
    | linear("attn_pool.q", "vision_model.head.attention.q")
    | linear("attn_pool.kv", "vision_model.head.attention.kv")
    | linear("attn_pool.proj", "vision_model.head.attention.out_proj")
    | linear("attn_pool.norm", "vision_model.head.layernorm")
    | linear("attn_pool.mlp.fc1", "vision_model.head.mlp.fc1")
    | linear("attn_pool.mlp.fc2", "vision_model.head.mlp.fc2")
)
_BLOCK = (
    linear("norm1", "layer_norm1")
    | linear("norm2", "layer_norm2")
    | linear("attn.qkv", f"self_attn.{QKV}_proj")
    | linear("attn.proj", "self_attn.out_proj")
    | linear("mlp.fc1", "mlp.fc1")
    | linear("mlp.fc2", "mlp.fc2")
)
_TEXT = (
    {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    | linear("ln_final", "text_model.final_layer_norm")
    | linear("text_projection", "text_model.head")
)
_SCALES = {"logit_scale": "logit_scale", "logit_bias": "logit_bias"}


def siglip_to_transformers(
    state_dict: Mapping[str, Tensor],
    *,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    activation: str | None = None,
) -> tuple[SiglipConfig, StateDict]:
    """A whole SigLIP as configuration and `SiglipModel` weights.

    Args:
        state_dict: as open_clip names it; not changed. Numbers keep their type.
        vision_heads, text_heads: attention heads; None = the published ones.
        activation: of the text tower, ``gelu`` or ``gelu_pytorch_tanh``; None = the published one.

    Raises:
        MasqclipError: a tensor is unknown or missing; the message names it.
    """
    parts: dict[str, dict[str, Tensor]] = {_TRUNK: {}, _WORDS: {}, "": {}}
    for name, tensor in state_dict.items():
        prefix = next(prefix for prefix in parts if name.startswith(prefix))
        parts[prefix][name.removeprefix(prefix)] = tensor
    vision = _renamed(parts, _TRUNK, _VISION, "blocks", _BLOCK, _LAYERS)
    text = _renamed(parts, _WORDS, _TEXT, "transformer.resblocks", BLOCK_RULES, _TEXT_LAYERS)
    scales = rename(parts[""], _SCALES, what="a SigLIP")
    for part in ("weight", "bias"):
        head = "vision_model.head.attention."
        query, others = (vision.pop(f"{head}{name}.{part}") for name in ("q", "kv"))
        vision[f"{head}in_proj_{part}"] = torch.cat([query, others])
    positions = "vision_model.embeddings.position_embedding.weight"
    vision[positions] = vision[positions][0]
    found = vision | text | {name: tensor.reshape(1) for name, tensor in scales.items()}
    config = SiglipConfig(
        vision_config=_vision_sizes(found, vision_heads),
        text_config=_text_sizes(found, text_heads, activation),
    )
    if config.text_config.projection_size != config.vision_config.hidden_size:
        raise MasqclipError(
            f"its words are {config.text_config.projection_size} numbers and its pictures "
            f"{config.vision_config.hidden_size}: it is no SigLIP"
        )
    return config, found


def _renamed(
    parts: Mapping[str, Mapping[str, Tensor]],
    prefix: str,
    table: Mapping[str, str],
    blocks: str,
    block: Mapping[str, str],
    layers: str,
) -> StateDict:
    rules = dict(table)
    for i in range(max(1, count(parts[prefix], rf"{blocks}\.(\d+)\."))):
        rules |= below(f"{blocks}.{i}.", block, f"{layers}.{i}.")
    return rename(parts[prefix], rules, what="a SigLIP of open_clip", prefix=prefix)


def _vision_sizes(found: StateDict, heads: int | None) -> dict[str, Any]:
    width, _, _, patch_size = found["vision_model.embeddings.patch_embedding.weight"].shape
    side = square_side(len(found["vision_model.embeddings.position_embedding.weight"]))
    size = side * patch_size
    approximate = (width, patch_size) in _APPROXIMATE or (width, size) == _LARGE
    return {
        "hidden_size": width,
        "intermediate_size": len(found[f"{_LAYERS}.0.mlp.fc1.bias"]),
        "num_hidden_layers": count(found, r"vision_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": attention_heads(width, heads, what="vision"),
        "image_size": size,
        "patch_size": patch_size,
        "hidden_act": "gelu_pytorch_tanh" if approximate else "gelu",
    }


def _text_sizes(found: StateDict, heads: int | None, activation: str | None) -> dict[str, Any]:
    tokens, width = found["text_model.embeddings.token_embedding.weight"].shape
    if activation is None:
        activation = "gelu_pytorch_tanh" if tokens == _SECOND else "gelu"
    return {
        "hidden_size": width,
        "intermediate_size": len(found[f"{_TEXT_LAYERS}.0.mlp.fc1.bias"]),
        "num_hidden_layers": count(found, r"text_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": attention_heads(width, heads, what="text"),
        "max_position_embeddings": len(found["text_model.embeddings.position_embedding.weight"]),
        "vocab_size": tokens,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0 if tokens == _SECOND else 1,
        "projection_size": len(found["text_model.head.weight"]),
        "hidden_act": activation,
    }
