"""Several proposers at once: the union of their masks, each thing once.

Every part sees the picture in its own way: normalised as its own files say, and at its own size.
What it finds is sampled at the pixels of one frame, where the masks of all meet. Of masks that
repeat one another, whoever made them, the one with the best object score stays.

The frame has the largest edges of the parts, and holds values of 0 to 1 that each part normalises.

Shapes: `B` pictures, `Q` proposals of all parts together, `H W` the frame, `h w` = `H/4 W/4`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from masqclip.data.frames import resized_size
from masqclip.proposals.base import Proposals, object_log_scores
from masqclip.proposals.overlaps import best
from masqclip.proposals.segmenters import ModelProposer, SegmenterProposer
from masqclip.proposals.sight import Sight
from masqclip.proposals.square import from_frame, picture_size
from masqclip.weights.configs import describe

UNION = "union"
MOST_PARTS = 8
#: Two segmenters' masks of one thing nearly always have a larger IoU, and a part and its whole, or
#: two neighbours, a smaller one; it is SAM's own for masks of different points.
MAX_OVERLAP = 0.7


class UnionConfig(PreTrainedConfig):
    """What a union consists of.

    Args:
        parts: of each ``proposer_type``, ``proposer_config`` and ``sight`` (`Sight`).
        max_overlap: the largest IoU with a better mask that is kept.
    """

    model_type = UNION

    def __init__(
        self,
        *,
        parts: Sequence[Mapping[str, Any]] = (),
        max_overlap: float = MAX_OVERLAP,
        **kwargs: Any,
    ) -> None:
        self.parts = [dict(part) for part in parts]
        self.max_overlap = max_overlap
        super().__init__(**kwargs)


class UnionProposer(ModelProposer):
    """The masks of several proposers.

    Args:
        parts: the proposers.
        sights: how each sees pictures.
        max_overlap: the largest IoU with a better mask that is kept.
    """

    def __init__(
        self,
        parts: Sequence[SegmenterProposer],
        sights: Sequence[Sight],
        *,
        max_overlap: float = MAX_OVERLAP,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.sights = list(sights)
        self.max_overlap = max_overlap
        for part, sight in zip(parts, sights, strict=True):
            part.black = tuple(
                -mean / std for mean, std in zip(sight.pixel_mean, sight.pixel_std, strict=True)
            )

    @property
    def takes_words(self) -> bool:
        """See `ModelProposer`: whether a part does."""
        return any(part.takes_words for part, _ in self._pairs())

    @property
    def config(self) -> UnionConfig:
        """What it consists of."""
        return UnionConfig(
            parts=[
                {
                    "proposer_type": part.config.model_type,
                    "proposer_config": describe(part.config),
                    "sight": sight.described(),
                }
                for part, sight in self._pairs()
            ],
            max_overlap=self.max_overlap,
        )

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        """What the parts hold twice."""
        return {
            f"parts.{i}.{name}": f"parts.{i}.{source}"
            for i, (part, _) in enumerate(self._pairs())
            for name, source in part.all_tied_weights_keys.items()
        }

    def follow(self, shortest_edge: int, longest_edge: int) -> None:
        """See `ModelProposer`; parts that see one square go on to do so."""
        self.sights = [
            replace(sight, shortest_edge=shortest_edge, longest_edge=longest_edge)
            for sight in self.sights
        ]

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`.

        Args:
            pixel_values: [B, 3, H, W] RGB in 0..1, zero where `pixel_mask` is false.
            pixel_mask: [B, H, W] bool, true where the picture is.
        """
        found = [self._ask(*pair, pixel_values, pixel_mask) for pair in self._pairs()]
        masks = torch.cat([proposals.mask_logits for proposals in found], dim=1)
        logits = torch.cat([proposals.object_logits for proposals in found], dim=1)
        scores = object_log_scores(logits.float()).nan_to_num(-torch.inf, neginf=-torch.inf)
        kept = [
            best(*each, max_overlap=self.max_overlap, count=masks.shape[1])
            for each in zip(masks, scores, logits, strict=True)
        ]
        return Proposals(*(torch.stack(values) for values in zip(*kept, strict=True)))

    def _pairs(self) -> list[tuple[SegmenterProposer, Sight]]:
        return list(zip(self.parts, self.sights, strict=True))  # type: ignore[arg-type]

    def _ask(
        self, part: SegmenterProposer, sight: Sight, pixel_values: Tensor, pixel_mask: Tensor
    ) -> Proposals:
        """What a part proposes, at the pixels of the common frame."""
        mean = torch.tensor(sight.pixel_mean, device=pixel_values.device).view(3, 1, 1)
        std = torch.tensor(sight.pixel_std, device=pixel_values.device).view(3, 1, 1)
        dtype = next(part.parameters()).dtype
        normalised = (255 * pixel_values.float() - mean) / std * pixel_mask.unsqueeze(1)
        if part.sees_square:
            return part(normalised.to(dtype), pixel_mask)
        sizes = [picture_size(inside) for inside in pixel_mask]
        seen = [resized_size(*size, sight) for size in sizes]
        frames = [sight.frame(*size) for size in seen]
        if seen == sizes and set(frames) == {tuple(pixel_mask.shape[1:])}:
            return part(normalised.to(dtype), pixel_mask)
        answers: dict[int, tuple[Tensor, Tensor]] = {}
        for frame in dict.fromkeys(frames):
            members = [i for i, other in enumerate(frames) if other == frame]
            pixels = normalised.new_zeros(len(members), 3, *frame)
            inside = pixel_mask.new_zeros(len(members), *frame)
            for row, i in enumerate(members):
                (height, width), (tall, wide) = sizes[i], seen[i]
                picture = normalised[i : i + 1, :, :height, :width]
                pixels[row, :, :tall, :wide] = F.interpolate(
                    picture, size=(tall, wide), mode="bilinear", antialias=True
                )[0]
                inside[row, :tall, :wide] = True
            told = part(pixels.to(dtype), inside)
            for row, i in enumerate(members):
                masks = from_frame(told.mask_logits[row], pixel_mask[i], size=seen[i], frame=frame)
                answers[i] = (masks, told.object_logits[row])
        ordered = [answers[i] for i in range(len(frames))]
        return Proposals(*(torch.stack(values) for values in zip(*ordered, strict=True)))


def common_settings(sights: Sequence[Sight], squares: Sequence[bool]) -> dict[str, Any]:
    """How a model of `MasQClipConfig` sees pictures for a union whose parts see them so.

    Args:
        sights: of the parts.
        squares: which parts see one square, whatever the frame's multiple is.
    """
    return {
        "shortest_edge": max(sight.shortest_edge for sight in sights),
        "longest_edge": max(sight.longest_edge for sight in sights),
        "size_divisor": max(
            (s.size_divisor for s, square in zip(sights, squares, strict=True) if not square),
            default=32,
        ),
        "pixel_mean": (0.0, 0.0, 0.0),
        "pixel_std": (255.0, 255.0, 255.0),
    }
