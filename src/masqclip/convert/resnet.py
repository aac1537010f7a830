"""detectron2's ResNet of bottlenecks to transformers' ResNet backbone.

- The stride stands in the 3x3 convolution, as in torchvision's ResNets and all published models.
- detectron2's frozen batch norm is four tensors and the usual epsilon: what transformers' batch
  norm computes in inference.
- transformers' bottlenecks are a quarter as wide as their output. Where they are wider than that,
  zero channels widen the output: they stay zero in every layer and change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import ResNetConfig

from masqclip.errors import MasqclipError
from masqclip.weights.rules import StateDict, below, count, rename

_WHAT = "a ResNet of detectron2"
_STAGES = 4
_LARGEST_SCALE = 16  # of the output: what is added is zero, and takes memory all the same

_CONVOLUTION = {"weight": "convolution.weight"} | {
    f"norm.{part}": f"normalization.{part}"
    for part in ("weight", "bias", "running_mean", "running_var")
}
_BLOCK_PART = re.compile(r"encoder\.stages\.(\d+\.layers\.\d+)\.(layer\.[02]|shortcut)\.(\w+\.\w+)")


def resnet_backbone(backbone: Mapping[str, Tensor]) -> tuple[ResNetConfig, StateDict]:
    """Configuration and weights (`ResNetBackbone`'s names) of a ResNet below ``backbone.``.

    Raises:
        MasqclipError: it is not such a ResNet; the message names the tensor.
    """
    depths = [count(backbone, rf"backbone\.res{2 + s}\.(\d+)\.") for s in range(_STAGES)]
    converted = rename(backbone, _table(depths), what=_WHAT)
    bottleneck = len(converted["encoder.stages.0.layers.0.layer.0.convolution.weight"])
    width = len(converted["encoder.stages.0.layers.0.layer.2.convolution.weight"])
    if width > 4 * bottleneck or width < 1 or 4 * bottleneck % width:
        raise MasqclipError(
            f"the ResNet's bottlenecks are {bottleneck} of {width} channels wide, and transformers "
            "has no such ResNet: a quarter is the least"
        )
    if (scale := 4 * bottleneck // width) > _LARGEST_SCALE:
        raise MasqclipError(
            f"the ResNet's bottlenecks are {bottleneck} of {width} channels wide: no model's are "
            f"more than {_LARGEST_SCALE // 4} times as wide as their output"
        )
    _widen_outputs(converted, scale)
    config = ResNetConfig(
        embedding_size=len(converted["embedder.embedder.convolution.weight"]),
        hidden_sizes=[
            len(converted[f"encoder.stages.{s}.layers.0.layer.2.convolution.weight"])
            for s in range(_STAGES)
        ],
        depths=depths,
        layer_type="bottleneck",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    # transformers keeps a count of the batches that a norm has seen in training: none.
    counts = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(0)
        for name in converted
        if name.endswith("running_var")
    }
    return config, converted | counts


def widen(tensor: Tensor, size: int, *, dim: int = 0, value: float = 0.0) -> Tensor:
    """A tensor made `size` long in `dim` by appending `value`; itself where it is."""
    missing = size - tensor.shape[dim]
    if missing <= 0:
        return tensor
    shape = [*tensor.shape]
    shape[dim] = missing
    return torch.cat([tensor, tensor.new_full(shape, value)], dim=dim)


def _table(depths: list[int]) -> dict[str, str]:
    table = below("backbone.stem.conv1.", _CONVOLUTION, "embedder.embedder.")
    for stage, depth in enumerate(depths):
        for i in range(max(1, depth)):
            source, target = f"backbone.res{stage + 2}.{i}.", f"encoder.stages.{stage}.layers.{i}."
            if i == 0:
                table |= below(f"{source}shortcut.", _CONVOLUTION, f"{target}shortcut.")
            for n in range(3):
                table |= below(f"{source}conv{n + 1}.", _CONVOLUTION, f"{target}layer.{n}.")
    return table


def _widen_outputs(weights: StateDict, scale: int) -> None:
    """Make the output of every block, and the input of the next, `scale` times as wide."""
    for name, tensor in weights.items():
        if not (match := _BLOCK_PART.fullmatch(name)):
            continue
        block, part, kind = match.groups()
        # The first block reads the stem, which stays as wide as it is.
        if kind == "convolution.weight" and part != "layer.2" and block != "0.layers.0":
            tensor = widen(tensor, scale * tensor.shape[1], dim=1)
        if part != "layer.0":
            value = 1.0 if kind.endswith("running_var") else 0.0
            tensor = widen(tensor, scale * len(tensor), value=value)
        weights[name] = tensor
