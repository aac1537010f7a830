"""Universal segmenters of transformers as proposers: what is common to all of them.

A segmenter names its masks from a list of its own. As a proposer it is asked one thing only: how
likely a mask is any of its classes, against "no object". The logit of "any of them" is the
log-sum-exp of theirs, so published models propose as they are, without being retrained.

Shapes: `B` images, `Q` queries, `H W` the padded frame, `h w` = `H/4 W/4`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import (
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    PreTrainedConfig,
    PreTrainedModel,
)

from masqclip.data.files import shared
from masqclip.data.transforms import PIXEL_MEAN, PIXEL_STD
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights, quiet_transformers
from masqclip.proposals.base import Proposals
from masqclip.weights.folders import FolderPart, load_model
from masqclip.weights.preprocessing import read_object

# What no mask depends on, and files that were written by earlier versions lack: Swin's last norm,
# which a backbone does not read, the loss's weights, and how many batches a norm has seen.
_UNREAD = re.compile(r"\.swin\.layernorm\.|\bcriterion\.|\.num_batches_tracked$")


class ModelProposer(nn.Module, ABC):
    """A proposer that a model of this package has as its part: one segmenter, or several."""

    #: What a black pixel is once it is normalised; a model sets its own (`MasQClipModel`).
    black: tuple[float, ...] = tuple(-m / s for m, s in zip(PIXEL_MEAN, PIXEL_STD, strict=True))

    @property
    def takes_words(self) -> bool:
        """Whether it looks for what words name (`words.asking`)."""
        return False

    @property
    @abstractmethod
    def config(self) -> Any:
        """The architecture; its `model_type` is the model's `proposer_type`."""

    @property
    @abstractmethod
    def all_tied_weights_keys(self) -> dict[str, str]:
        """What is held twice: transformers asks a model's children, but not theirs."""

    @abstractmethod
    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`."""

    def follow(self, shortest_edge: int, longest_edge: int) -> None:
        """Pictures are seen by these edges from now on, in pixels; most see what they are given."""


class SegmenterProposer(ModelProposer):
    """A proposer around one of transformers' models, which is its `segmenter`.

    Args:
        config: the architecture, whose weights start at random.
    """

    config_class: ClassVar[Any]
    segmenter_class: ClassVar[Any]
    #: Settings in the configuration that the proposer reads and transformers' class does not know.
    own_settings: ClassVar[tuple[str, ...]] = ()
    #: Whether frames of any size become one square.
    sees_square: ClassVar[bool] = False
    #: By model type, where the segmenter is a part of a larger model's folder: which.
    within: ClassVar[Mapping[str, FolderPart]] = {}

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        with quiet_transformers():
            self.adopt(self.segmenter_class(config))

    def adopt(self, segmenter: PreTrainedModel) -> None:
        """Make a segmenter this proposer's own."""
        self.segmenter = segmenter

    @property
    def config(self) -> Any:
        """The architecture, as transformers writes it to `config.json`."""
        return self.segmenter.config

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        """What the segmenter holds twice."""
        tied = self.segmenter.all_tied_weights_keys
        return {f"segmenter.{name}": f"segmenter.{source}" for name, source in tied.items()}

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`."""
        output = self.segmenter(pixel_values=pixel_values)
        return Proposals(
            mask_logits=output.masks_queries_logits,
            object_logits=object_logits(output.class_queries_logits),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, readable by transformers itself."""
        with shared(folder):
            self.segmenter.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, dtype: torch.dtype = torch.float32
    ) -> Self:
        """Load a model of this kind, of any number of classes, from a folder or the Hub.

        Args:
            name_or_path: a folder, a name of the registry, or the Hub's owner/name.
            dtype: of the parameters.

        Raises:
            MasqclipError: the model there is another one, or nothing is there.
        """
        kind = cls.segmenter_class.__name__
        folder = find_weights(name_or_path, what="proposer")
        try:
            segmenter, lacking = load_model(
                cls.segmenter_class,
                folder,
                dtype=dtype,
                extra=cls.own_settings,
                part=cls.within.get(str(read_object(folder, "config.json").get("model_type"))),
            )
        except MasqclipError as error:
            raise MasqclipError(
                f"no {kind} can be loaded from {str(name_or_path)!r}: {error}"
            ) from error
        if missing := sorted(key for key in lacking if not _UNREAD.search(key)):
            raise MasqclipError(
                f"no {kind} can be loaded from {str(name_or_path)!r}: there is no tensor "
                f"{missing[0]!r}"
            )
        proposer = cls.__new__(cls)
        nn.Module.__init__(proposer)
        proposer.adopt(segmenter)
        return proposer


class OneFormerProposer(SegmenterProposer):
    """OneFormer (Jain et al., 2023), asked for its panoptic task."""

    config_class = OneFormerConfig
    segmenter_class = OneFormerForUniversalSegmentation

    # "the task is panoptic" in the tokens of CLIP's byte-pair encoding, which OneFormer reads.
    TASK = (49406, 518, 10549, 533, 1072, 24755, 49407)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`."""
        size = (len(pixel_values), self.config.task_seq_len)
        task = torch.zeros(size, dtype=torch.float32, device=pixel_values.device)
        task[:, : len(self.TASK)] = task.new_tensor(self.TASK)
        output = self.segmenter(
            pixel_values=pixel_values, task_inputs=task, pixel_mask=pixel_mask.long()
        )
        return Proposals(
            mask_logits=output.masks_queries_logits,
            object_logits=object_logits(output.class_queries_logits),
        )


def object_logits(class_logits: Tensor) -> Tensor:
    """[B, Q, K + 1] class logits, "no object" last -> [B, Q, 2] (object, no object)."""
    if class_logits.shape[-1] == 2:
        return class_logits
    anything = class_logits[..., :-1].logsumexp(dim=-1)
    return torch.stack([anything, class_logits[..., -1]], dim=-1)
