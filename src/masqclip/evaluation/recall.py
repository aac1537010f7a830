"""How many annotated masks some proposal covers: the quick look at a proposer while it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from masqclip.data.coco import Sample, Samples
from masqclip.data.transforms import normalise, pad
from masqclip.proposals.base import Proposals


@torch.inference_mode()
def recall(
    proposer: nn.Module,
    dataset: Samples,
    *,
    images: int = 200,
    batch_size: int = 16,
    threshold: float = 0.5,
    min_score: float = 0.0,
) -> dict[str, float]:
    """Class-agnostic recall of all proposals, things and stuff apart.

    Args:
        proposer: returns `Proposals`; its training mode is put back afterwards.
        dataset: held-out pictures with masks; each is padded, not resized.
        images: the first so many pictures.
        batch_size: pictures at a time.
        threshold: IoU from which a mask counts as found.
        min_score: proposals with a lower object score do not count.

    Returns:
        ``things``, ``stuff``, ``all``: the share of masks found; ``iou_things``, ``iou_stuff``:
        the mean IoU of each mask's best proposal; ``proposals``: the mean number of proposals with
        an object score above one half. A share of nothing is NaN.
    """
    was_training = proposer.training
    proposer.eval()
    device = next(proposer.parameters()).device
    best: dict[bool, list[float]] = {True: [], False: []}
    confident = pictures = 0
    size = min(images, len(dataset))
    for first in range(0, size, batch_size):
        samples = [dataset[i] for i in range(first, min(first + batch_size, size))]
        pixels, pixel_mask = _frame(samples)
        pixel_mask = pixel_mask.to(device)
        proposals: Proposals = proposer(normalise(pixels.to(device), pixel_mask), pixel_mask)
        scores = proposals.object_logits.float().softmax(-1)[..., 0]
        confident += int((scores > 0.5).sum())
        pictures += len(samples)
        logits = nn.functional.interpolate(
            proposals.mask_logits.float(),
            size=pixel_mask.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        for sample, score, mask_logits in zip(samples, scores, logits, strict=True):
            height, width = sample.image.shape[:2]
            found = mask_logits[score >= min_score, :height, :width] > 0
            overlaps = _best_iou(found, torch.from_numpy(sample.masks).to(device))
            for thing, iou in zip(sample.is_thing.tolist(), overlaps.tolist(), strict=True):
                best[thing].append(iou)
    proposer.train(was_training)
    return {
        "things": _share(best[True], threshold),
        "stuff": _share(best[False], threshold),
        "all": _share(best[True] + best[False], threshold),
        "iou_things": _mean(best[True]),
        "iou_stuff": _mean(best[False]),
        "proposals": confident / max(1, pictures),
    }


def _frame(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Pictures zero-padded to one frame whose sides are multiples of 32."""
    images = [torch.from_numpy(sample.image.transpose(2, 0, 1).copy()) for sample in samples]
    height, width = (
        -(-max(int(image.shape[axis]) for image in images) // 32) * 32 for axis in (1, 2)
    )
    padded = [pad(image, image.new_zeros((0, *image.shape[1:])), height, width) for image in images]
    return torch.stack([p[0] for p in padded]), torch.stack([p[2] for p in padded])


def _best_iou(proposals: Tensor, masks: Tensor) -> Tensor:
    """[Q, H, W] and [N, H, W] bool -> the best IoU for each of the N masks."""
    if len(proposals) == 0:
        return torch.zeros(len(masks))
    first, second = proposals.flatten(1).float(), masks.flatten(1).float()
    overlap = first @ second.T
    union = first.sum(1, keepdim=True) + second.sum(1) - overlap
    return (overlap / union.clamp(min=1)).amax(0)


def _share(values: list[float], threshold: float) -> float:
    return _mean([float(value >= threshold) for value in values])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
