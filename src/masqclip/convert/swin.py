"""detectron2's Swin, as Mask2Former has it, to transformers' Swin backbone.

Depths, heads, the window and all widths come from shapes. The index tables of relative positions
and, in shifted windows, the attention masks are computed, not learned, and not needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import Tensor
from transformers import SwinConfig

from masqclip.weights.rules import QKV, StateDict, below, count, linear, rename

_WHAT = "a Swin of detectron2"
_NOT_NEEDED = (".attn.relative_position_index", ".attn_mask")
_STAGES = 4

_BLOCK = (
    linear("norm1", "layernorm_before")
    | {
        "attn.relative_position_bias_table": "attention.self.relative_position_bias_table",
        "attn.qkv.weight": f"attention.self.{QKV}.weight",
        "attn.qkv.bias": f"attention.self.{QKV}.bias",
    }
    | linear("attn.proj", "attention.output.dense")
    | linear("norm2", "layernorm_after")
    | linear("mlp.fc1", "intermediate.dense")
    | linear("mlp.fc2", "output.dense")
)
_LETTERS = {"self.q.": "self.query.", "self.k.": "self.key.", "self.v.": "self.value."}


def is_swin(backbone: Iterable[str]) -> bool:
    """Whether the names below ``backbone.`` are those of a Swin."""
    return any(name.startswith("backbone.patch_embed.") for name in backbone)


def swin_backbone(backbone: Mapping[str, Tensor]) -> tuple[SwinConfig, StateDict]:
    """Configuration and weights (named as in the Hub's files) of a Swin below ``backbone.``.

    Raises:
        MasqclipError: it is not such a Swin; the message names the tensor.
    """
    tensors = {name: tensor for name, tensor in backbone.items() if not name.endswith(_NOT_NEEDED)}
    depths = [count(tensors, rf"backbone\.layers\.{s}\.blocks\.(\d+)\.") for s in range(_STAGES)]
    renamed = rename(tensors, _table(depths), what=_WHAT)
    converted = {}
    for name, tensor in renamed.items():
        for letter, word in _LETTERS.items():
            name = name.replace(letter, word)
        converted[name] = tensor
    tables = [
        converted[f"encoder.layers.{s}.blocks.0.attention.self.relative_position_bias_table"]
        for s in range(_STAGES)
    ]  # [(2 W - 1)^2, heads]
    patches = converted["embeddings.patch_embeddings.projection.weight"]
    hidden = len(converted["encoder.layers.0.blocks.0.intermediate.dense.bias"])
    config = SwinConfig(
        embed_dim=len(patches),
        patch_size=patches.shape[-1],
        depths=depths,
        num_heads=[table.shape[1] for table in tables],
        window_size=(math.isqrt(len(tables[0])) + 1) // 2,
        mlp_ratio=hidden / len(patches),
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return config, converted


def _table(depths: list[int]) -> dict[str, str]:
    table = linear("backbone.patch_embed.proj", "embeddings.patch_embeddings.projection")
    table |= linear("backbone.patch_embed.norm", "embeddings.norm")
    for stage, depth in enumerate(depths):
        source, target = f"backbone.layers.{stage}.", f"encoder.layers.{stage}."
        for i in range(max(1, depth)):
            table |= below(f"{source}blocks.{i}.", _BLOCK, f"{target}blocks.{i}.")
        if stage + 1 < _STAGES:
            reduction = "downsample.reduction.weight"
            table[f"{source}{reduction}"] = f"{target}{reduction}"
            table |= linear(f"{source}downsample.norm", f"{target}downsample.norm")
        table |= linear(f"backbone.norm{stage}", f"hidden_states_norms.stage{stage + 1}")
    return table
