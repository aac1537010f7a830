"""Automatic masks: what a promptable segmenter (SAM, SAM 2) says to every point of a grid.

Every point of a grid over the picture is a prompt with three answers. Those that the model itself
thinks good (its predicted IoU) and that hardly change when the threshold moves (stability) are
kept, best first, unless they overlap a better one. The predicted IoU is the probability of being an
object. The picture is encoded once; points go through the decoder some at a time.

The settings are attributes of the configuration, where a model wants others than published:
``points_per_side``, ``min_predicted_iou``, ``min_stability``, ``max_overlap``, ``num_proposals``.

Shapes: `N` candidates, `Q` proposals, `P` points, `s` = a quarter of the square that is seen.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from masqclip.proposals.base import Proposals
from masqclip.proposals.overlaps import best, scores_to_logits
from masqclip.proposals.progress import tell
from masqclip.proposals.segmenters import SegmenterProposer
from masqclip.proposals.square import fitted_size, from_square, picture_size, to_square

#: What the published automatic masks of SAM are made with; a family says what is otherwise.
SETTINGS: Mapping[str, float] = {
    "points_per_side": 32,
    "min_predicted_iou": 0.88,
    "min_stability": 0.95,
    "max_overlap": 0.7,
    "num_proposals": 100,
}
POINTS_AT_ONCE = 64
_STABILITY_OFFSET = 1.0
_PADDING = (0.0, 0.0, 0.0)  # these models pad after they have normalised


class GridProposer(SegmenterProposer):
    """Masks of everything under a grid of points, at most `num_proposals` a picture.

    This takes minutes on a CPU; `progress.listening` hears how many points are done.
    """

    own_settings = tuple(SETTINGS)
    sees_square = True
    #: The published settings of the family.
    settings: ClassVar[Mapping[str, float]] = SETTINGS
    #: Whether pictures are stretched over the square, or fitted into it.
    stretch: ClassVar[bool] = False

    def adopt(self, segmenter: PreTrainedModel) -> None:
        """See `SegmenterProposer`; settings that the configuration lacks are the published ones."""
        for name, value in self.settings.items():
            if not hasattr(segmenter.config, name):
                setattr(segmenter.config, name, value)
        super().adopt(segmenter)

    @property
    @abstractmethod
    def side(self) -> int:
        """The square that the model sees, in pixels."""

    @abstractmethod
    def encode(self, squares: Tensor) -> list[Any]:
        """What the decoder reads of each picture, given as squares [B, 3, S, S]."""

    @abstractmethod
    def answer(self, encoded: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks [3 P, s, s] for each point [P, 2] (x, y), and their predicted IoU [3 P]."""

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`. Places that no mask takes score as "no object"."""
        squares = to_square(pixel_values, pixel_mask, self.side, _PADDING, stretch=self.stretch)
        masks, logits = [], []
        for i, (encoded, inside) in enumerate(zip(self.encode(squares), pixel_mask, strict=True)):
            found, scores = self._everything(encoded, picture_size(inside), (i, len(squares)))
            masks.append(from_square(found, inside, self.side, stretch=self.stretch))
            logits.append(scores)
        return Proposals(torch.stack(masks), torch.stack(logits))

    def _everything(
        self, encoded: Any, size: tuple[int, int], turn: tuple[int, int] = (0, 1)
    ) -> tuple[Tensor, Tensor]:
        """The best masks [Q, s, s] of one picture, and their object logits [Q, 2].

        `turn`: which picture of how many this is, for telling how far the batch is.
        """
        config = self.config
        masks, scores = [], []
        fitted = fitted_size(*size, self.side, stretch=self.stretch)
        parameter = next(self.segmenter.parameters())
        points = grid(config.points_per_side, fitted).to(parameter.device, parameter.dtype)
        done, (before, pictures) = 0, turn
        for some in points.split(POINTS_AT_ONCE):
            logits, predicted = self.answer(encoded, some)
            good = (predicted >= config.min_predicted_iou) & (
                stability(logits) >= config.min_stability
            )
            masks.append(logits[good])
            scores.append(predicted[good])
            done += len(some)
            tell(before * len(points) + done, pictures * len(points))
        found = torch.cat(scores)
        return best(
            torch.cat(masks),
            found,
            scores_to_logits(found).to(found.dtype),
            max_overlap=config.max_overlap,
            count=int(config.num_proposals),
        )


def stability(mask_logits: Tensor) -> Tensor:
    """[N]: the IoU of each mask [N, s, s] cut a little higher with itself cut a little lower."""
    high = (mask_logits > _STABILITY_OFFSET).flatten(1).sum(dim=1)
    low = (mask_logits > -_STABILITY_OFFSET).flatten(1).sum(dim=1)
    return high / low.clamp(min=1)


def grid(points_per_side: int, size: tuple[int, int]) -> Tensor:
    """[P, 2] (x, y): the middles of a grid's cells over a picture of that (height, width)."""
    height, width = size
    middles = (torch.arange(points_per_side, dtype=torch.float32) + 0.5) / points_per_side
    rows, columns = torch.meshgrid(middles * height, middles * width, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)
