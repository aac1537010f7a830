"""What a model makes of held-out pictures, on one page, to look at while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import Samples
from masqclip.data.files import write_atomically
from masqclip.data.label_maps import png_bytes
from masqclip.data.transforms import normalise, pad
from masqclip.proposals.base import Proposals
from masqclip.render.overlay import draw_overlay
from masqclip.render.sheet import contact_sheet
from masqclip.result import Task
from masqclip.segment import Segment
from masqclip.segmenter import Segmenter

PICTURES = 12
_FRAME = 32  # sides that proposers take are multiples of this


def write_proposal_sheet(
    proposer: nn.Module, dataset: Samples, path: Path, *, min_score: float = 0.5
) -> None:
    """Draw what a proposer takes for objects over the first pictures of a dataset.

    Args:
        proposer: returns `Proposals`; in inference mode.
        dataset: held-out pictures.
        path: the PNG to write.
        min_score: proposals with a lower object score are not drawn.
    """
    device = next(proposer.parameters()).device
    drawn, captions = [], []
    for index in range(min(PICTURES, len(dataset))):
        sample = dataset[index]
        image = torch.from_numpy(sample.image.transpose(2, 0, 1).copy()).to(device)
        masks, scores = _propose(proposer, image)
        segments = [
            Segment(id=i + 1, name=f"{i}", class_id=0, score=score, thing=True, mask=mask.numpy())
            for i, (mask, score) in enumerate(zip(masks, scores.tolist(), strict=True))
            if score >= min_score
        ]
        drawn.append(draw_overlay(sample.image, segments, labels=False))
        captions.append(f"{len(segments)} objects, {len(sample.masks)} annotated")
    _write(path, drawn, captions)


def write_overlay_sheet(
    segmenter: Segmenter, names: Vocabulary, data: Samples, path: Path, *, task: Task = "panoptic"
) -> None:
    """Draw what a model finds and how it names it over the first pictures of a dataset.

    Args:
        segmenter: the model.
        names: what to look for.
        data: held-out pictures.
        path: the PNG to write.
        task: see `Segmenter`.
    """
    drawn, captions = [], []
    for index in range(min(PICTURES, len(data))):
        found: Any = segmenter(data[index].image, names, task)
        drawn.append(found.plot())
        captions.append(found.summary())
    _write(path, drawn, captions)


@torch.inference_mode()
def _propose(proposer: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Masks [Q,H,W] bool and object scores [Q] for an image [3,H,W], on the CPU."""
    height, width = image.shape[1:]
    frame = [-(-side // _FRAME) * _FRAME for side in (height, width)]
    pixels, _, inside = pad(image, image.new_zeros((0, height, width)).bool(), *frame)
    found: Proposals = proposer(normalise(pixels[None], inside[None]), inside[None])
    logits = F.interpolate(
        found.mask_logits.float(), size=frame, mode="bilinear", align_corners=False
    )
    scores = found.object_logits.float().softmax(-1)[0, :, 0]
    return (logits[0, :, :height, :width] > 0).cpu(), scores.cpu()


def _write(path: Path, pictures: list[Image.Image], captions: list[str]) -> None:
    write_atomically(path, png_bytes(contact_sheet(pictures, captions, cell=320)))
