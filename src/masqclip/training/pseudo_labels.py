"""What a teacher adds to a dataset's annotations, as COCO JSON to look at before distilling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from masqclip.data.open_coco import CocoMasks
from masqclip.data.transforms import jittered_size, normalise
from masqclip.decoding.masks import ResizedMasks
from masqclip.errors import MasqclipError
from masqclip.proposals.trainable import TrainableProposer
from masqclip.result import Segmentation
from masqclip.segment import Segment
from masqclip.training.distill import instances, select_masks
from masqclip.training.framing import augment, stack, tensors
from masqclip.training.settings import DistillSettings


@torch.inference_mode()
def pseudo_labels(
    teacher: TrainableProposer,
    dataset: CocoMasks,
    settings: DistillSettings,
    *,
    device: torch.device | str = "cpu",
    report: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The masks that distillation would train on beside the annotations, without augmentation.

    Each picture is framed as the settings say, jitter at a scale of one; masks come back at its
    own size.

    Args:
        teacher: a proposer in inference.
        dataset: the annotated pictures; those that cannot be read are left out.
        settings: thresholds and frame size.
        device: where to run.
        report: called with the number of pictures done, after each.

    Returns:
        A COCO instances document with one category, "object", and a ``score`` in each annotation.
    """
    teacher.to(device)
    plain = replace(settings, min_scale=1.0, max_scale=1.0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in range(len(dataset)):
        if report is not None:
            report(row + 1)
        try:
            sample = dataset[row]
        except MasqclipError:
            continue
        height, width = sample.image.shape[:2]
        picture, annotated = tensors(sample)
        unused = torch.Generator()  # at a scale of exactly one nothing is drawn that matters
        framed = augment(picture, annotated[:0], plain, unused, mirror=False)
        pixels, _, inside = stack([framed])
        proposals = teacher(normalise(pixels.to(device), inside.to(device)))
        size = (framed[0].shape[-2], framed[0].shape[-1])
        if settings.augmentation == "jitter":  # whose padding is part of the frame
            size = jittered_size(height, width, settings.image_size, 1.0)
        frame = (pixels.shape[-2], pixels.shape[-1])
        masks = ResizedMasks(proposals.mask_logits[0].float(), frame, size, (height, width))
        found = instances(masks, proposals.object_logits[0])
        kept = select_masks(
            annotated.to(device),
            found.masks,
            found.scores,
            settings.score_threshold,
            settings.dice_threshold,
        )
        images.append(dataset.entry(row) | {"height": height, "width": width})
        segments = [
            Segment(id=0, name="object", class_id=0, score=score, thing=True, mask=mask)
            for mask, score in zip(
                found.masks[kept].cpu().numpy(), found.scores[kept].tolist(), strict=True
            )
        ]
        result = Segmentation(sample.image, "instance", ("object",), tuple(segments))
        for entry in result.to_coco(sample.image_id, category_ids=[1]):
            annotations.append(entry | {"id": len(annotations) + 1, "iscrowd": 0})
    return {
        "info": {"description": "masks that a teacher found beside the annotated ones"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
