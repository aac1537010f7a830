"""Examples out of a picture: a mask, or the proposal that fits a box or a point, as a category.

What a mask is called by is `masqclip.clip.examples`; here it is taken from an encoded picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from masqclip.clip.examples import Examples, ExampleSpace, as_half
from masqclip.clip.mask_coverage import Masks
from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import load_builtin
from masqclip.data.bit_masks import mask_box
from masqclip.decoding.instance import instance_mask
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.given_masks import embed_given_masks
from masqclip.model import MasQClipModel
from masqclip.proposals.base import object_log_scores

Box = Sequence[float]
Point = Sequence[float]

_MANY_WORDS = "coco-panoptic"  # that every CLIP of photographs knows

_SIDE = 256  # pixels of the longer side at which masks are compared
_OWN = 0.5  # a proposal that covers an example so well (IoU) is the example, not what is about it
_LEAST_FIT = 0.3  # IoU of a proposal's box with the one that was drawn
_THUMBNAIL = 64


@torch.inference_mode()
def example_space(
    text: TextEncoder, known: Iterable[str] | None, logit_scale: float, *, model: str
) -> ExampleSpace:
    """Where words and masks lie for a CLIP.

    Args:
        text: its words.
        known: those that it has read, if they are few enough to be told.
        logit_scale: of the model.
        model: what it is called.
    """
    words = sorted(known) if known is not None else load_builtin(_MANY_WORDS).names
    many = F.normalize(text.embed_strings(words), dim=-1).cpu()
    mean = many.mean(dim=0)
    spread = float((many - mean).norm(dim=-1).mean())
    return ExampleSpace(model, text.probe(), mean.numpy(), spread, logit_scale)


def fitting_mask(
    encoded: EncodedImage, *, box: Box | None = None, point: Point | None = None
) -> NDArray[np.bool_]:
    """The mask of the proposal that fits a box or a point best.

    Args:
        encoded: the picture.
        box: (x0, y0, x1, y1) in pixels of the picture: the proposal whose own box is most like it.
        point: (x, y): of the proposals that cover it, the likeliest object.

    Returns:
        [H,W] at the picture's size.

    Raises:
        MasqclipError: they are not within the picture, or no proposal fits.
    """
    small, scale = _small_masks(encoded)
    scores = object_log_scores(encoded.object_logits).exp().float().cpu()
    if box is not None:
        told = _numbers(box, 4, what="box", of="x0, y0, x1, y1")
        x0, y0, x1, y1 = told
        height, width = encoded.image.height, encoded.image.width
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise MasqclipError(
                f"the box {_listed(told)} is none of a picture of {width} x {height} pixels: give "
                "x0, y0, x1, y1 with x0 < x1 and y0 < y1"
            )
        fits = _box_ious(small > 0, torch.tensor(told) * scale)
        # Of proposals that fit alike, such as one thing's twice, the likelier object.
        best = int((fits + 0.05 * scores).argmax())
        if float(fits[best]) < _LEAST_FIT:
            raise MasqclipError(
                f"no proposal fits the box {_listed(told)}: draw it closer about one thing, or "
                "give a mask"
            )
    elif point is not None:
        told = _numbers(point, 2, what="point", of="x, y")
        x, y = told
        if not (0 <= x < encoded.image.width and 0 <= y < encoded.image.height):
            raise MasqclipError(
                f"the point {_listed(told)} is outside of the picture of {encoded.image.width} x "
                f"{encoded.image.height} pixels"
            )
        row, column = (
            min(int(v * scale), s - 1) for v, s in zip((y, x), small.shape[1:], strict=True)
        )
        heights = small[:, row, column]
        if not bool((heights > 0).any()):
            raise MasqclipError(
                f"no proposal covers the point {_listed(told)}: choose another, or give a mask"
            )
        best = int((scores * (heights > 0) * heights.sigmoid()).argmax())
    else:
        raise MasqclipError("give a mask, a box or a point that shows the example")
    return instance_mask(encoded.masks, best).cpu().numpy()


def make_examples(
    model: MasQClipModel,
    space: ExampleSpace,
    encoded: EncodedImage,
    masks: Masks,
) -> Examples:
    """Examples of masks on one picture.

    Args:
        model: that encoded the picture.
        space: of its CLIP.
        encoded: the picture.
        masks: [N,H,W] at its size, as in `Segmenter.embed_masks`.

    Raises:
        MasqclipError: there is no mask, one is empty, or they are not of the picture's size.
    """
    embeddings = embed_given_masks(model, encoded, masks).cpu()
    drawn = [np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask) > 0 for mask in masks]
    for number, mask in enumerate(drawn, start=1):
        if not mask.any():
            raise MasqclipError(f"mask {number} is empty: an example shows something")
    return Examples(
        space,
        as_half(embeddings.numpy()),
        as_half(_context(encoded, drawn).numpy()),
        tuple(_thumbnail(encoded.image.pixels, mask) for mask in drawn),
    )


def _context(encoded: EncodedImage, drawn: Sequence[NDArray[np.bool_]]) -> Tensor:
    """[E]: what masks of the picture look like in general, those of the examples left out."""
    small, _ = _small_masks(encoded)
    found = (small > 0).flatten(1).float()
    weights = object_log_scores(encoded.object_logits).exp().float().cpu()
    for mask in drawn:
        image = Image.fromarray(mask).convert("L")
        size = (small.shape[2], small.shape[1])
        shown = np.asarray(image.resize(size, Image.Resampling.BOX)) > 127
        own = torch.from_numpy(shown).flatten().float()
        shared = found @ own
        weights = weights * (shared <= _OWN * (found.sum(1) + own.sum() - shared))
    units = F.normalize(encoded.mask_embeddings.float().cpu(), dim=-1)
    # A picture of nothing else says nothing of what masks look like.
    return (units * weights[:, None]).sum(0) / weights.sum().clamp(min=1e-6)


def _small_masks(encoded: EncodedImage) -> tuple[Tensor, float]:
    """Mask logits [Q,h,w] on the CPU, and what a pixel of the picture measures there."""
    height, width = encoded.image.height, encoded.image.width
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    source = replace(encoded.masks, output_size=size)
    return source.rows(0, size[0]).cpu(), scale


def _box_ious(masks: Tensor, box: Tensor) -> Tensor:
    """IoU [Q] of the boxes of masks [Q,h,w] with a box; 0 of an empty mask."""
    left, top, right, bottom = box.tolist()
    area = (right - left) * (bottom - top)
    fits = []
    for mask in masks.numpy():
        x0, y0, x1, y1 = mask_box(mask)
        shared = max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, bottom) - max(y0, top))
        fits.append(shared / ((x1 - x0) * (y1 - y0) + area - shared))
    return torch.tensor(fits)


def _numbers(given: Sequence[float], count: int, *, what: str, of: str) -> list[float]:
    try:
        numbers = [float(value) for value in given]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise MasqclipError(f"the {what} is {given!r:.80}: give {count} numbers, {of}")
    return numbers


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in numbers)


def _thumbnail(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bytes:
    """What the mask shows, with a little of what is about it, as a JPEG."""
    left, top, right, bottom = mask_box(mask)
    margin = 2 + max(bottom - top, right - left) // 10
    box = (max(0, left - margin), max(0, top - margin), right + margin, bottom + margin)
    part = Image.fromarray(pixels[box[1] : box[3], box[0] : box[2]])
    part.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    part.save(file, "JPEG", quality=80)
    return file.getvalue()
