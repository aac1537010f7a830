"""Proposers that the stages of training can train: what they need of one, beyond proposing.

The paper trains two families, Mask2Former and Mask R-CNN. Here they are Mask2Former and MaskFormer:
Mask R-CNN needs operators on regions (RoIAlign, non-maximum suppression) that none of this
package's dependencies has. Another family fits once it says what `TrainableProposer` asks for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, ResNetBackbone, ResNetConfig

from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.proposals.base import Proposals
from masqclip.proposals.segmenters import SegmenterProposer, object_logits
from masqclip.weights.folders import load_model
from masqclip.weights.tensor_files import error_line


class TrainableProposer(SegmenterProposer, ABC):
    """A proposer that learns; its backbone may come pretrained.

    Args:
        config: the architecture; `num_labels=1` for a class-agnostic model.
        freeze_batch_norm: keep the backbone's batch norms, gain, bias and statistics, as they are
            while training, which is how an ImageNet backbone is fine-tuned (detectron2's frozen
            batch norm). Off for training from scratch.
    """

    def __init__(self, config: PreTrainedConfig, *, freeze_batch_norm: bool = False) -> None:
        super().__init__(config)
        self.freeze_batch_norm = freeze_batch_norm

    def adopt(self, segmenter: PreTrainedModel) -> None:
        """See `SegmenterProposer`."""
        super().adopt(segmenter)
        self.freeze_batch_norm = False

    @abstractmethod
    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> Proposals:
        """Propose masks for [B, 3, H, W] normalised pixels; `pixel_mask` is not needed."""

    @abstractmethod
    def layer_proposals(self, pixel_values: Tensor) -> list[Proposals]:
        """What every read-out of the decoder proposes, the final one last, for deep supervision."""

    @property
    @abstractmethod
    def num_queries(self) -> int:
        """Proposals a picture."""

    @property
    def backbone(self) -> nn.Module:
        """The part that may come pretrained and then learns at a lower rate."""
        return self.segmenter.model.pixel_level_module.encoder

    @property
    def freeze_batch_norm(self) -> bool:
        """Whether the backbone's batch norms are constants."""
        return self._freeze_batch_norm

    @freeze_batch_norm.setter
    def freeze_batch_norm(self, frozen: bool) -> None:
        self._freeze_batch_norm = frozen
        for norm in self._batch_norms():
            norm.requires_grad_(not frozen)
        self.train(self.training)

    def _batch_norms(self) -> list[nn.BatchNorm2d]:
        return [child for child in self.backbone.modules() if isinstance(child, nn.BatchNorm2d)]

    def load_backbone(self, name_or_path: str | Path) -> None:
        """Start the backbone from a ResNet's weights, such as ``microsoft/resnet-50``.

        Raises:
            MasqclipError: there is no ResNet of this size.
        """
        folder = find_weights(name_or_path, what="backbone")
        try:
            source, missing = load_model(ResNetBackbone, folder)
            if missing:
                raise MasqclipError(f"there is no tensor {min(missing)!r}")
            self.backbone.load_state_dict(source.state_dict())
        except (MasqclipError, RuntimeError) as error:
            raise MasqclipError(
                f"the backbone cannot start from {str(name_or_path)!r}: {error_line(error)}"
            ) from error

    def train(self, mode: bool = True) -> Self:
        """Switch between training and inference; frozen batch norms stay in inference."""
        super().train(mode)
        if self.freeze_batch_norm:
            for norm in self._batch_norms():
                # Again, as somebody may have said since that everything is to learn.
                norm.eval().requires_grad_(False)
        return self

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        freeze_batch_norm: bool = False,
    ) -> Self:
        """Load a model of this kind, of any number of classes; see `SegmenterProposer`."""
        proposer = super().from_pretrained(name_or_path, dtype=dtype)
        proposer.freeze_batch_norm = freeze_batch_norm
        return proposer


def read_outs(output: Any) -> list[Proposals]:
    """The proposals of an output of transformers: of the earlier read-outs, and of the last one."""
    return [
        Proposals(
            mask_logits=layer["masks_queries_logits"],
            object_logits=object_logits(layer["class_queries_logits"]),
        )
        for layer in [*output.auxiliary_logits, output]
    ]


_STAGES = ("stage1", "stage2", "stage3", "stage4")


def resnet50() -> ResNetConfig:
    """The published backbone."""
    return ResNetConfig(out_features=list(_STAGES))


def small_resnet(widths: Sequence[int], depths: Sequence[int]) -> ResNetConfig:
    """The miniatures' backbone.

    Args:
        widths: channels of the four stages (strides 4, 8, 16, 32).
        depths: basic blocks of each stage.
    """
    return ResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=list(widths),
        depths=list(depths),
        layer_type="basic",
        out_features=list(_STAGES),
    )
