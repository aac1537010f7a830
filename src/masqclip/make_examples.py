"""Examples out of a picture: a mask, or the proposal that fits a box or a point, as a category.

What a mask is called by is `masqclip.clip.examples`; here it is taken from an encoded picture.
Free of torch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from masqclip.clip.examples import Examples, ExampleSpace, as_half
from masqclip.clip.name_encoder import NameEncoder
from masqclip.clip.vocabulary import load_builtin
from masqclip.data.bit_masks import mask_box
from masqclip.errors import MasqclipError
from masqclip.picture import Encoded, Masks

Box = Sequence[float]
Point = Sequence[float]

_MANY_WORDS = "coco-panoptic"  # that every CLIP of photographs knows

_SIDE = 256  # pixels of the longer side at which masks are compared
_OWN = 0.5  # a proposal that covers an example so well (IoU) is the example, not what is about it
_LEAST_FIT = 0.3  # IoU of a proposal's box with the one that was drawn
_THUMBNAIL = 64


def example_space(
    text: NameEncoder, known: Iterable[str] | None, logit_scale: float, *, model: str
) -> ExampleSpace:
    """Where words and masks lie for a CLIP.

    Args:
        text: its words.
        known: those that it has read, if they are few enough to be told.
        logit_scale: of the model.
        model: what it is called.
    """
    words = sorted(known) if known is not None else load_builtin(_MANY_WORDS).names
    many = text.unit(text.string_rows(words))
    mean = many.mean(axis=0)
    spread = float(np.linalg.norm(many - mean, axis=-1).mean())
    return ExampleSpace(model, text.probe(), mean, spread, logit_scale)


def fitting_mask(
    encoded: Encoded, *, box: Box | None = None, point: Point | None = None
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
    scores = encoded.object_scores()
    if box is not None:
        told = _numbers(box, 4, what="box", of="x0, y0, x1, y1")
        x0, y0, x1, y1 = told
        height, width = encoded.image.height, encoded.image.width
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise MasqclipError(
                f"the box {_listed(told)} is none of a picture of {width} x {height} pixels: give "
                "x0, y0, x1, y1 with x0 < x1 and y0 < y1"
            )
        fits = _box_ious(small > 0, [edge * scale for edge in told])
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
        if not (heights > 0).any():
            raise MasqclipError(
                f"no proposal covers the point {_listed(told)}: choose another, or give a mask"
            )
        best = int((scores * (heights > 0) / (1 + np.exp(-heights.clip(0)))).argmax())
    else:
        raise MasqclipError("give a mask, a box or a point that shows the example")
    return encoded.proposed_mask(best)


def make_examples(
    embed: Callable[[Encoded, Masks], NDArray[np.float32]],
    space: ExampleSpace,
    encoded: Encoded,
    masks: Masks,
) -> Examples:
    """Examples of masks on one picture.

    Args:
        embed: gives masks on a picture their embeddings, [N,E] of length one.
        space: of the CLIP that does so.
        encoded: the picture.
        masks: [N,H,W] at its size, as in `Segmenter.embed_masks`.

    Raises:
        MasqclipError: there is no mask, one is empty, or they are not of the picture's size.
    """
    embeddings = embed(encoded, masks)
    drawn = [np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask) > 0 for mask in masks]
    for number, mask in enumerate(drawn, start=1):
        if not mask.any():
            raise MasqclipError(f"mask {number} is empty: an example shows something")
    return Examples(
        space,
        as_half(embeddings),
        as_half(_context(encoded, drawn)),
        tuple(_thumbnail(encoded.image.pixels, mask) for mask in drawn),
    )


def _context(encoded: Encoded, drawn: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """[E]: what masks of the picture look like in general, those of the examples left out."""
    small, _ = _small_masks(encoded)
    found = (small > 0).reshape(len(small), small.shape[1] * small.shape[2]).astype(np.float32)
    weights = encoded.object_scores()
    for mask in drawn:
        image = Image.fromarray(mask).convert("L")
        size = (small.shape[2], small.shape[1])
        shown = np.asarray(image.resize(size, Image.Resampling.BOX)) > 127
        own = shown.ravel().astype(np.float32)
        shared = found @ own
        weights = weights * (shared <= _OWN * (found.sum(1) + own.sum() - shared))
    units = encoded.directions()
    # A picture of nothing else says nothing of what masks look like.
    return (units * weights[:, None]).sum(0) / max(weights.sum(), np.float32(1e-6))


def _small_masks(encoded: Encoded) -> tuple[NDArray[np.float32], float]:
    """Mask logits [Q,h,w], and what a pixel of the picture measures there."""
    height, width = encoded.image.height, encoded.image.width
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return encoded.masks_at(size), scale


def _box_ious(masks: NDArray[np.bool_], box: Sequence[float]) -> NDArray[np.float32]:
    """IoU [Q] of the boxes of masks [Q,h,w] with a box; 0 of an empty mask."""
    left, top, right, bottom = box
    area = (right - left) * (bottom - top)
    fits = []
    for mask in masks:
        x0, y0, x1, y1 = mask_box(mask)
        shared = max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, bottom) - max(y0, top))
        fits.append(shared / ((x1 - x0) * (y1 - y0) + area - shared))
    return np.array(fits, np.float32)


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
