"""detectron2's Mask2Former to transformers': the proposer of every MasQCLIP, and the zoo's models.

- Names are mapped by the tables below; every size comes from a shape. Nothing is skipped in
  silence: an unknown or a missing name is an error, but for what `NOT_NEEDED` lists.
- The result has the names of the Hub's files, which `from_pretrained` reads in every version.
- The backbone is a ResNet (`resnet.py`) or a Swin (`swin.py`).
- transformers counts the learned queries themselves as a decoder layer: ten for the published nine.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import Mask2FormerConfig, ResNetConfig, SwinConfig

from masqclip.convert.resnet import resnet_backbone, widen
from masqclip.convert.swin import is_swin, swin_backbone
from masqclip.proposals.mask2former import mask2former_config
from masqclip.weights.rules import QKV, StateDict, below, count, linear, rename

#: The loss's weights of the classes.
NOT_NEEDED = ("criterion.empty_weight",)

_WHAT = "a Mask2Former of detectron2"
_HEAD = "sem_seg_head."
_MODEL = "model.pixel_level_module."
_LEVELS, _POINTS = 3, 4  # of the pixel decoder's deformable attention, in every published model

_DEFORMABLE_LAYER = (
    linear("self_attn.sampling_offsets", "self_attn.sampling_offsets")
    | linear("self_attn.attention_weights", "self_attn.attention_weights")
    | linear("self_attn.value_proj", "self_attn.value_proj")
    | linear("self_attn.output_proj", "self_attn.output_proj")
    | linear("norm1", "self_attn_layer_norm")
    | linear("linear1", "fc1")
    | linear("linear2", "fc2")
    | linear("norm2", "final_layer_norm")
)

# One layer of the decoder, whose three parts stand in three lists: {i} is its number in them.
_SELF, _CROSS, _FFN = (
    f"transformer_{part}_layers." + "{i}." for part in ("self_attention", "cross_attention", "ffn")
)
_DECODER_LAYER = (
    {
        f"{_SELF}self_attn.in_proj_weight": f"self_attn.{QKV}_proj.weight",
        f"{_SELF}self_attn.in_proj_bias": f"self_attn.{QKV}_proj.bias",
        f"{_CROSS}multihead_attn.in_proj_weight": "cross_attn.in_proj_weight",
        f"{_CROSS}multihead_attn.in_proj_bias": "cross_attn.in_proj_bias",
    }
    | linear(f"{_SELF}self_attn.out_proj", "self_attn.out_proj")
    | linear(f"{_SELF}norm", "self_attn_layer_norm")
    | linear(f"{_CROSS}multihead_attn.out_proj", "cross_attn.out_proj")
    | linear(f"{_CROSS}norm", "cross_attn_layer_norm")
    | linear(f"{_FFN}linear1", "fc1")
    | linear(f"{_FFN}linear2", "fc2")
    | linear(f"{_FFN}norm", "final_layer_norm")
)


def mask2former_to_transformers(
    state_dict: Mapping[str, Tensor],
) -> tuple[Mask2FormerConfig, StateDict]:
    """A Mask2Former of detectron2 as configuration and weights, named as in the Hub's files.

    Args:
        state_dict: ``backbone.*``, ``sem_seg_head.*`` and perhaps ``criterion.*``; not changed.

    Raises:
        MasqclipError: not such a model; the message names the tensor.
    """
    tensors = {
        # The first release called the learned queries so.
        name.replace("predictor.static_query", "predictor.query_feat"): tensor
        for name, tensor in state_dict.items()
        if name not in NOT_NEEDED
    }
    head = {name: tensor for name, tensor in tensors.items() if not name.startswith("backbone.")}
    backbone = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    decoder_layers = count(head, rf"{_HEAD}predictor\.transformer_[a-z_]+_layers\.(\d+)\.")
    encoder_layers = count(head, rf"{_HEAD}pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.")
    converted = rename(head, _head_table(encoder_layers, decoder_layers), what=_WHAT)
    backbone_config: SwinConfig | ResNetConfig
    if is_swin(backbone):
        backbone_config, weights = swin_backbone(backbone)
    else:
        backbone_config, weights = resnet_backbone(backbone)
        _widen_inputs(converted, backbone_config)
    pixel_decoder = f"{_MODEL}decoder."
    offsets = len(converted[f"{pixel_decoder}encoder.layers.0.self_attn.sampling_offsets.bias"])
    queries, width = converted["model.transformer_module.queries_features.weight"].shape
    config = mask2former_config(
        {
            "backbone_config": backbone_config.to_dict(),
            "feature_size": len(converted[f"{pixel_decoder}input_projections.0.0.bias"]),
            "mask_feature_size": len(converted[f"{pixel_decoder}mask_projection.bias"]),
            "hidden_dim": width,
            "encoder_feedforward_dim": len(converted[f"{pixel_decoder}encoder.layers.0.fc1.bias"]),
            "dim_feedforward": len(converted["model.transformer_module.decoder.layers.0.fc1.bias"]),
            "num_attention_heads": offsets // (2 * _LEVELS * _POINTS),
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers + 1,
            "num_queries": queries,
            "num_labels": len(converted["class_predictor.bias"]) - 1,
        }
    )
    # The loss is no part of a proposer, but transformers keeps its weights in the model.
    empty_weight = torch.ones(len(converted["class_predictor.bias"]))
    empty_weight[-1] = config.no_object_weight
    named = {f"{_MODEL}encoder.{name}": tensor for name, tensor in weights.items()}
    return config, named | converted | {"criterion.empty_weight": empty_weight}


def _head_table(encoder_layers: int, decoder_layers: int) -> dict[str, str]:
    """Pixel decoder and predictor."""
    source, target = f"{_HEAD}pixel_decoder.", f"{_MODEL}decoder."
    table = {f"{source}transformer.level_embed": f"{target}level_embed"}
    for i in range(_LEVELS):
        for part in (0, 1):
            table |= linear(
                f"{source}input_proj.{i}.{part}", f"{target}input_projections.{i}.{part}"
            )
    for i in range(encoder_layers):
        table |= below(
            f"{source}transformer.encoder.layers.{i}.",
            _DEFORMABLE_LAYER,
            f"{target}encoder.layers.{i}.",
        )
    table |= linear(f"{source}mask_features", f"{target}mask_projection")
    for name in ("adapter_1", "layer_1"):
        table[f"{source}{name}.weight"] = f"{target}{name}.0.weight"
        table |= linear(f"{source}{name}.norm", f"{target}{name}.1")
    source, target = f"{_HEAD}predictor.", "model.transformer_module."
    for i in range(decoder_layers):
        layer = {name.replace("{i}", str(i)): renamed for name, renamed in _DECODER_LAYER.items()}
        table |= below(source, layer, f"{target}decoder.layers.{i}.")
    table |= linear(f"{source}decoder_norm", f"{target}decoder.layernorm")
    table |= {
        f"{source}query_feat.weight": f"{target}queries_features.weight",
        f"{source}query_embed.weight": f"{target}queries_embedder.weight",
        f"{source}level_embed.weight": f"{target}level_embed.weight",
    }
    table |= linear(f"{source}class_embed", "class_predictor")
    for i in range(3):
        table |= linear(
            f"{source}mask_embed.layers.{i}",
            f"{target}decoder.mask_predictor.mask_embedder.{i}.0",
        )
    return table


def _widen_inputs(converted: StateDict, config: ResNetConfig) -> None:
    """Let what reads the backbone read as many channels as it has (see `resnet.py`)."""
    first, *others = config.hidden_sizes
    inputs = {f"{_MODEL}decoder.adapter_1.0.weight": first} | {
        f"{_MODEL}decoder.input_projections.{i}.0.weight": channels
        for i, channels in enumerate(reversed(others))
    }
    for name, channels in inputs.items():
        converted[name] = widen(converted[name], channels, dim=1)
