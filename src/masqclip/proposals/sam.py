"""SAM (Kirillov et al., 2023) as a proposer: its automatic masks, from a grid of points.

Every point of a grid over the picture is a prompt with three answers. Those that SAM itself thinks
good (its predicted IoU) and that hardly change when the threshold moves (stability) are kept, best
first, unless they overlap a better one. The predicted IoU is the probability of being an object.

The settings are the published ones, and attributes of the configuration where a model wants others:
``points_per_side``, ``min_predicted_iou``, ``min_stability``, ``max_overlap``, ``num_proposals``.

Shapes: `N` candidates, `Q` proposals, `s` = a quarter of the square that SAM sees.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel, SamConfig, SamModel

from masqclip.proposals.base import Proposals
from masqclip.proposals.progress import tell
from masqclip.proposals.segmenters import SegmenterProposer
from masqclip.proposals.square import OUTSIDE, fitted_size, from_square, picture_size, to_square

_SETTINGS = {
    "points_per_side": 32,
    "min_predicted_iou": 0.88,
    "min_stability": 0.95,
    "max_overlap": 0.7,
    "num_proposals": 100,
}
_POINTS_AT_ONCE = 64
_STABILITY_OFFSET = 1.0
_MEAN = (0.0, 0.0, 0.0)  # SAM pads after it has normalised


class SamProposer(SegmenterProposer):
    """SAM's masks of everything under a grid of points, at most `num_proposals` a picture.

    This takes minutes on a CPU; `progress.listening` hears how many points are done.
    """

    config_class = SamConfig
    segmenter_class = SamModel
    own_settings = tuple(_SETTINGS)

    def adopt(self, segmenter: PreTrainedModel) -> None:
        """See `SegmenterProposer`; settings that the configuration lacks are the published ones."""
        for name, value in _SETTINGS.items():
            if not hasattr(segmenter.config, name):
                setattr(segmenter.config, name, value)
        super().adopt(segmenter)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`. Places that no mask takes score as "no object"."""
        side = self.config.vision_config.image_size
        squares = to_square(pixel_values, pixel_mask, side, _MEAN)
        embeddings = self.segmenter.get_image_embeddings(squares)
        masks, logits = [], []
        for i, (embedding, inside) in enumerate(zip(embeddings, pixel_mask, strict=True)):
            turn = (i, len(embeddings))
            found, scores = self._everything(embedding[None], picture_size(inside), turn)
            masks.append(from_square(found, inside, side))
            logits.append(torch.stack([scores.log(), (-scores).log1p()], dim=-1))
        return Proposals(torch.stack(masks), torch.stack(logits))

    def _everything(
        self, embedding: Tensor, size: tuple[int, int], turn: tuple[int, int] = (0, 1)
    ) -> tuple[Tensor, Tensor]:
        """The best masks [Q, s, s] of one picture, and their predicted IoU [Q] in 0..1.

        `turn`: which picture of how many this is, for telling how far the batch is.
        """
        config = self.config
        masks, scores = [], []
        points = _grid(config.points_per_side, size, config.vision_config.image_size)
        done, (before, pictures) = 0, turn
        for some in points.to(embedding).split(_POINTS_AT_ONCE):
            answer = self.segmenter(
                image_embeddings=embedding, input_points=some[None, :, None], multimask_output=True
            )
            predicted = answer.iou_scores.flatten()
            logits = answer.pred_masks.flatten(0, 2)
            good = (predicted >= config.min_predicted_iou) & (
                stability(logits) >= config.min_stability
            )
            masks.append(logits[good])
            scores.append(predicted[good])
            done += len(some)
            tell(before * len(points) + done, pictures * len(points))
        candidates, predicted = torch.cat(masks), torch.cat(scores)
        kept = suppress(candidates > 0, predicted, config.max_overlap)[: config.num_proposals]
        missing = config.num_proposals - len(kept)
        nothing = candidates.new_full((missing, *candidates.shape[1:]), OUTSIDE)
        return (
            torch.cat([candidates[kept], nothing]),
            torch.cat([predicted[kept], predicted.new_zeros(missing)]).clamp(1e-6, 1 - 1e-6),
        )


def stability(mask_logits: Tensor) -> Tensor:
    """[N]: the IoU of each mask [N, s, s] cut a little higher with itself cut a little lower."""
    high = (mask_logits > _STABILITY_OFFSET).flatten(1).sum(dim=1)
    low = (mask_logits > -_STABILITY_OFFSET).flatten(1).sum(dim=1)
    return high / low.clamp(min=1)


def suppress(masks: Tensor, scores: Tensor, max_overlap: float) -> Tensor:
    """Greedy suppression of masks that repeat a better one.

    Args:
        masks: [N, s, s] bool.
        scores: [N].
        max_overlap: the largest IoU with a better mask that is kept.

    Returns:
        The indices of what is kept, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    flat = masks[order].flatten(1).float()
    area = flat.sum(dim=1)
    shared = flat @ flat.T
    overlap = shared / (area[:, None] + area[None, :] - shared).clamp(min=1)
    kept: list[int] = []
    for index, row in enumerate((overlap > max_overlap).cpu()):
        if not row[kept].any():
            kept.append(index)
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def _grid(points_per_side: int, size: tuple[int, int], side: int) -> Tensor:
    """[P, 2] (x, y) in the square's pixels: the middles of a grid's cells over the picture."""
    height, width = fitted_size(*size, side)
    middles = (torch.arange(points_per_side, dtype=torch.float32) + 0.5) / points_per_side
    rows, columns = torch.meshgrid(middles * height, middles * width, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)
