"""Mask2Former's loss for class-agnostic masks (Cheng et al., 2022), shared by teacher and student.

Each layer's proposals are matched one to one with the annotated masks (Hungarian), and the matched
ones learn "object" and their mask, all others "no object". Masks are compared on points: uniform
ones for the matching, mostly uncertain ones for the loss.

- A batch is matched and compared as tensors padded to the largest number of masks, not image by
  image; pictures without any mask are ordinary.
- The layers of one step share their matching points, so targets are sampled once.
- Each picture has random points of its own seed, and means are taken over counts of the whole batch
  (`mask_counts`), so a part of a batch has its share of the batch's loss (see `stage.py`).

Shapes: `B` images, `N` annotated masks (padded), `Q` proposals, `P` points, `M` matched pairs,
`H W` the frame, `h w` the proposals' masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from masqclip.proposals.base import Proposals

#: A number of points, and for each matched mask so many random ones: [M, P, 2].
PointDraw = Callable[[int], Tensor]


@dataclass(frozen=True)
class CriterionSettings:
    """Weights and points of the loss; the defaults are the published ones.

    Attributes:
        class_weight: of the cross entropy "object or not", in loss and matching.
        mask_weight: of the masks' binary cross entropy, in loss and matching.
        dice_weight: of the masks' Dice loss, in loss and matching.
        no_object_weight: of unmatched proposals within the cross entropy.
        num_points: points a mask is compared on.
        oversample_ratio: random points drawn, as a multiple, to find the uncertain ones among.
        importance_ratio: the share of points that are the most uncertain; the rest are random.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_ratio: float = 0.75


def mask_counts(
    masks: Sequence[Tensor], num_queries: int, settings: CriterionSettings
) -> dict[str, Tensor]:
    """What the means of `mask_losses` are taken over.

    Args:
        masks: as there.
        num_queries: proposals a picture.
        settings: as there.

    Returns:
        ``masks``: annotated masks; ``objects``: the weight of all proposals in the cross entropy.
    """
    matched = sum(min(len(found), num_queries) for found in masks)
    rest = len(masks) * num_queries - matched
    objects = matched + settings.no_object_weight * rest
    device = masks[0].device
    return {
        "masks": torch.tensor(sum(map(len, masks)), dtype=torch.float32, device=device),
        "objects": torch.tensor(objects, dtype=torch.float32, device=device),
    }


def mask_losses(
    layers: Sequence[Proposals],
    masks: Sequence[Tensor],
    settings: CriterionSettings,
    *,
    seeds: Sequence[int],
    totals: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The loss over all decoder layers (deep supervision).

    Args:
        layers: proposals after each layer, the final ones last.
        masks: for each picture its annotated masks [G, H, W] bool; G may be zero.
        settings: weights and points.
        seeds: of each picture's points.
        totals: `mask_counts` of the whole batch that these pictures are a part of; of the pictures
            themselves unless given.

    Returns:
        ``loss``: the weighted sum over layers, which is minimised; ``object``, ``mask`` and
        ``dice``: the final layer's, unweighted. All are shares of the whole batch's.
    """
    counts = [len(found) for found in masks]
    if totals is None:
        totals = mask_counts(masks, layers[0].object_logits.shape[1], settings)
    targets = pad_sequence(list(masks), batch_first=True)
    if targets.shape[1] == 0:  # a batch without any mask: one of padding, which is never matched
        targets = targets.new_zeros((len(counts), 1, *targets.shape[2:]))
    chances = [torch.Generator(targets.device).manual_seed(seed) for seed in seeds]
    points = draw_points(chances, [1] * len(counts), settings.num_points)
    sampled_targets = sample_points(targets.float(), points)
    num_masks = totals["masks"].clamp(min=1)
    total: Tensor | float = 0.0
    parts: dict[str, Tensor] = {}
    for layer in layers:
        mask_logits, object_logits = layer.mask_logits.float(), layer.object_logits.float()
        with torch.no_grad():
            costs = matching_costs(
                sample_points(mask_logits, points), object_logits, sampled_targets, settings
            )
            pairs = match(costs, counts)
        matched = torch.zeros(object_logits.shape[:2], dtype=torch.long, device=targets.device)
        matched[pairs[0], pairs[1]] = 1
        # Class 0 is "object", the last one "no object".
        weights = object_logits.new_tensor([1.0, settings.no_object_weight])
        object_losses = F.cross_entropy(
            object_logits.flatten(0, 1), 1 - matched.view(-1), weights, reduction="sum"
        )
        parts["object"] = object_losses / totals["objects"]
        mask_sum, dice_sum = pair_losses(
            mask_logits[pairs[0], pairs[1]],
            targets[pairs[0], pairs[2]],
            partial(draw_points, chances, pairs[0].bincount(minlength=len(counts)).tolist()),
            settings,
        )
        parts["mask"], parts["dice"] = mask_sum / num_masks, dice_sum / num_masks
        total = (
            total
            + settings.class_weight * parts["object"]
            + settings.mask_weight * parts["mask"]
            + settings.dice_weight * parts["dice"]
        )
    assert isinstance(total, Tensor)
    return {"loss": total} | {name: value.detach() for name, value in parts.items()}


def matching_costs(
    point_logits: Tensor, object_logits: Tensor, targets: Tensor, settings: CriterionSettings
) -> Tensor:
    """What it costs to match each proposal with each annotated mask.

    Args:
        point_logits: [B, Q, P] mask logits at the points.
        object_logits: [B, Q, 2].
        targets: [B, N, P] annotated masks at the same points, 0..1.
        settings: the weights.

    Returns:
        [B, Q, N].
    """
    objectness = object_logits.softmax(-1)[..., :1]
    return mask_costs(point_logits, targets, settings) - settings.class_weight * objectness


def mask_costs(point_logits: Tensor, targets: Tensor, settings: CriterionSettings) -> Tensor:
    """The part of `matching_costs` that masks have in it, [B, Q, N]; arguments as there."""
    points = point_logits.shape[-1]
    inside = targets.transpose(1, 2)
    # BCE against target t is softplus(x) - x t: one matrix product for all pairs.
    cross_entropy = (
        F.softplus(point_logits).sum(-1, keepdim=True) - point_logits @ inside
    ) / points
    probabilities = point_logits.sigmoid()
    overlap = probabilities @ inside
    sizes = probabilities.sum(-1, keepdim=True) + targets.sum(-1).unsqueeze(1)
    dice = 1 - (2 * overlap + 1) / (sizes + 1)
    return settings.mask_weight * cross_entropy + settings.dice_weight * dice


def match(costs: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Match each picture's annotations with proposals at the least total cost.

    Args:
        costs: [B, Q, N]; a cost that is not finite is matched last.
        counts: how many annotations each of the B pictures has.

    Returns:
        Picture, proposal and annotation of each pair, [M] int64 each.
    """
    largest = torch.finfo(torch.float32).max
    table = torch.nan_to_num(costs.float(), largest, largest, largest).cpu().numpy()
    triples = [
        (picture, proposal, annotation)
        for picture, count in enumerate(counts)
        for proposal, annotation in zip(
            *linear_sum_assignment(table[picture, :, :count]), strict=True
        )
    ]
    pairs = torch.tensor(triples, dtype=torch.long, device=costs.device).view(-1, 3)
    return pairs[:, 0], pairs[:, 1], pairs[:, 2]


def pair_losses(
    logits: Tensor, targets: Tensor, draw: PointDraw, settings: CriterionSettings
) -> tuple[Tensor, Tensor]:
    """Summed BCE and Dice loss of matched masks [M, h, w] and [M, H, W], on points."""
    if len(logits) == 0:
        return logits.sum(), logits.sum()
    with torch.no_grad():
        points = _uncertain_points(logits, draw, settings)
        labels = sample_points(targets[:, None].float(), points)[:, 0]
    values = sample_points(logits[:, None], points)[:, 0]
    cross_entropy = F.binary_cross_entropy_with_logits(values, labels, reduction="none").mean(-1)
    probabilities = values.sigmoid()
    overlap = 2 * (probabilities * labels).sum(-1)
    dice = 1 - (overlap + 1) / (probabilities.sum(-1) + labels.sum(-1) + 1)
    return cross_entropy.sum(), dice.sum()


def _uncertain_points(logits: Tensor, draw: PointDraw, settings: CriterionSettings) -> Tensor:
    """Points [M, P, 2] for masks [M, h, w]: those with logits nearest zero, and random ones."""
    uncertain = int(settings.importance_ratio * settings.num_points)
    candidates = draw(int(settings.oversample_ratio * settings.num_points))
    distance = sample_points(logits[:, None], candidates)[:, 0].abs()
    nearest = distance.topk(uncertain, dim=1, largest=False, sorted=False).indices
    chosen = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, draw(settings.num_points - uncertain)], dim=1)


def draw_points(chances: Sequence[torch.Generator], counts: Sequence[int], points: int) -> Tensor:
    """Uniform points [sum(counts), P, 2] in 0..1: `counts` says for how many masks a picture's."""
    drawn = [
        torch.rand(count, points, 2, generator=chance, dtype=torch.float32, device=chance.device)
        for chance, count in zip(chances, counts, strict=True)
    ]
    return torch.cat(drawn)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps [B, C, H, W] at points [B, P, 2] in 0..1 (x, y) -> [B, C, P]."""
    return F.grid_sample(maps, 2 * points[:, None] - 1, align_corners=False)[:, :, 0]
