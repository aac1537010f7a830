"""Masks drawn over the picture they belong to.

Everything is done with 8-bit masks inside the box of one segment at a time, and there in tiles, so
that a picture of 50 megapixels with a hundred segments needs little more memory than the picture
itself, and time for those tiles only in which there is something of a segment.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from masqclip.data.named_masks import NamedMask
from masqclip.errors import MasqclipError
from masqclip.render.labels import LabelLayout, Rectangle, scale_edge
from masqclip.render.lettering import can_write
from masqclip.render.palette import Colour, instance_colour, mix, vocabulary_colours

# Pictures smaller than this along their long edge are enlarged by a whole number first.
SMALL_EDGE = 384
# Pixels a side of what is drawn at once.
TILE = 1024
_MAX_THREADS = 4
# Stuff is tinted with this share of the opacity of things.
_STUFF_SHARE = 0.6
# How many names are told of that are numbers; a number is a place in the vocabulary.
_TOLD = 30
_BLACK: Colour = (12, 12, 16)
_WHITE: Colour = (255, 255, 255)


def draw_overlay(
    image: NDArray[np.uint8],
    segments: Sequence[NamedMask],
    *,
    names: Sequence[str] = (),
    opacity: float = 0.55,
    labels: bool = True,
    scores: bool = True,
) -> Image.Image:
    """Draw segments over their picture.

    Stuff lies below things and is tinted more lightly; things have a contour. Small segments lie
    over large ones. The same input always gives the same pixels, but for letters that only a font
    of the system has: the package's own have Latin, Greek, Cyrillic, Hebrew, Arabic and Devanagari.

    Args:
        image: [H, W, 3] uint8 RGB.
        segments: what to draw; empty ones are left out.
        names: the vocabulary, by which colours are chosen (`vocabulary_colours`) and names are
            numbered; the segments' own names unless given.
        opacity: how much of the colour of a thing covers the picture, 0 to 1.
        labels: whether to write the names. One whose letters no font has is written as its number,
            "#1" for the vocabulary's first: `overlay_notes` says so.
        scores: whether the labels hold the scores.

    Returns:
        An RGB picture: of the same size, or enlarged by the whole number that brings its long edge
        to 384 pixels or more.

    Raises:
        MasqclipError: the picture, the opacity or the size of a mask is not as said above.
    """
    _check(image, opacity)
    height, width = image.shape[:2]
    factor = -(-SMALL_EDGE // max(height, width))
    canvas = Image.fromarray(np.ascontiguousarray(image))
    if factor > 1:
        canvas = canvas.resize((width * factor, height * factor), Image.Resampling.LANCZOS)
    # Stuff first, then things; among either the largest first. Sorting is stable.
    shown = [segment for segment in segments if segment.area > 0]
    coloured = list(zip(shown, segment_colours(shown, names), strict=True))
    coloured.sort(key=lambda pair: (pair[0].thing, -pair[0].area))
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for segment, colour in coloured:
            _draw_mask(pool, canvas, segment, colour, factor=factor, opacity=opacity)
    if labels:
        _draw_labels(canvas, coloured, _all_names(shown, names), factor=factor, scores=scores)
    return canvas


def overlay_notes(segments: Sequence[NamedMask], names: Sequence[str] = ()) -> tuple[str, ...]:
    """What is to be said beside an overlay: which names stand in it as numbers, if any do.

    Args:
        segments: of one picture.
        names: their vocabulary; the segments' own names unless given.
    """
    drawn = {segment.name for segment in segments if segment.area > 0}
    return _number_notes(_all_names(segments, names), drawn)


def numbering_notes(names: Sequence[str]) -> tuple[str, ...]:
    """The same of many overlays, before it is known what they hold."""
    return _number_notes(_all_names((), names), names)


def _number_notes(names: Sequence[str], drawn: Collection[str]) -> tuple[str, ...]:
    numbers = [
        f"#{number} {name}"
        for number, name in enumerate(names, start=1)
        if name in drawn and not can_write(name)
    ]
    if not numbers:
        return ()
    more = f" and {len(numbers) - _TOLD} more" if len(numbers) > _TOLD else ""
    return (
        "no font here has the letters of some names, which are numbers in the overlay: "
        f"{', '.join(numbers[:_TOLD])}{more}; install a font that has them, such as Noto Sans",
    )


def _check(image: NDArray[np.uint8], opacity: object) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise MasqclipError(
            f"cannot draw on an array of shape {tuple(image.shape)} and type {image.dtype}: "
            "give an RGB picture, [H, W, 3] uint8"
        )
    if not isinstance(opacity, int | float | np.floating) or not 0 <= opacity <= 1:
        raise MasqclipError(f"opacity is {opacity!r}: give a number from 0 to 1")


def _mask_of(segment: NamedMask, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of a segment, which may be made at every look, for a picture of (width, height)."""
    mask = segment.mask
    if mask.shape != size[::-1]:
        raise MasqclipError(
            f"the mask of {segment.name!r} has the shape {tuple(mask.shape)}, the picture "
            f"{size[::-1]}: give both at the same size"
        )
    return mask


def segment_colours(segments: Sequence[NamedMask], names: Sequence[str] = ()) -> list[Colour]:
    """One colour per segment: that of its name, varied from one segment of a name to the next.

    Args:
        segments: of one picture.
        names: their vocabulary; the segments' own names unless given.
    """
    colours = vocabulary_colours(_all_names(segments, names))
    seen: Counter[str] = Counter()
    found = []
    for segment in segments:
        found.append(instance_colour(colours[segment.name], seen[segment.name]))
        seen[segment.name] += 1
    return found


def _all_names(segments: Sequence[NamedMask], names: Sequence[str]) -> list[str]:
    """The names of a vocabulary, and those of segments that it does not have, each once."""
    return list(dict.fromkeys((*names, *(segment.name for segment in segments))))


def _box_of(segment: NamedMask, size: tuple[int, int], margin: int = 0) -> Rectangle:
    """The box, grown by a margin and cut to a frame of (width, height)."""
    x0, y0, x1, y1 = segment.box
    return (
        max(x0 - margin, 0),
        max(y0 - margin, 0),
        min(x1 + margin, size[0]),
        min(y1 + margin, size[1]),
    )


def _draw_mask(
    pool: Executor,
    canvas: Image.Image,
    segment: NamedMask,
    colour: Colour,
    *,
    factor: int,
    opacity: float,
) -> None:
    size = (canvas.width // factor, canvas.height // factor)
    mask = _mask_of(segment, size)
    line = max(1.0, scale_edge(canvas.size) / 420)
    margin = int(np.ceil(3 * line / factor)) + 1
    box = _box_of(segment, size, margin)
    share = opacity if segment.thing else opacity * _STUFF_SHARE

    def draw(tile: Rectangle) -> None:
        # Around a tile as much as the blur reaches, so that no tile shows in the picture.
        outer = _grown(tile, margin + 8, box)
        crop = mask[outer[1] : outer[3], outer[0] : outer[2]]
        if not crop.any():
            return
        left, top, right, bottom = (side * factor for side in tile)
        if crop.all():
            _tint_whole(canvas, (left, top, right, bottom), colour, share)
            return
        area = Image.fromarray(crop.astype(np.uint8) * np.uint8(255))
        if factor > 1:
            larger = (area.width * factor, area.height * factor)
            # Bicubic and a steep ramp about one half: smooth outlines instead of stairs.
            area = area.resize(larger, Image.Resampling.BICUBIC).point(_ramp(96, 160))
        x, y = left - outer[0] * factor, top - outer[1] * factor
        inner, at = (x, y, x + right - left, y + bottom - top), (left, top)
        canvas.paste(colour, at, _scaled(_part(area, inner), share))
        if segment.thing:
            _draw_border(canvas, area, inner, at, line, colour)

    # Tiles share no pixel, and Pillow works outside the interpreter's lock.
    tiles = list(_tiles(box))
    for _ in pool.map(draw, tiles) if len(tiles) > 1 else map(draw, tiles):
        pass


def _tint_whole(canvas: Image.Image, box: Rectangle, colour: Colour, share: float) -> None:
    """Lay a colour over all of a box: what a mask of one value does, in a third of the time."""
    canvas.paste(canvas.crop(box).point(_tinted(colour, round(255 * share))), box)


@cache
def _tinted(colour: Colour, cover: int) -> list[int]:
    """A table for each channel's 256 values: a colour that covers so many 255ths of them."""
    sums = (
        value * (255 - cover) + channel * cover + 128 for channel in colour for value in range(256)
    )
    return [((total >> 8) + total) >> 8 for total in sums]  # by 255, rounded


def _draw_border(
    canvas: Image.Image,
    area: Image.Image,
    inner: Rectangle,
    at: tuple[int, int],
    line: float,
    colour: Colour,
) -> None:
    """Draw the contour of the part `inner` of an area, which lies at `at` on the canvas.

    It is dark outside and light inside.
    """
    # A blurred mask tells how far a pixel is from the border: near one half, on it.
    soft = _part(area.filter(ImageFilter.GaussianBlur(line)), inner)
    own = _part(area, inner)
    outside = ImageChops.multiply(ImageChops.invert(own), soft.point(_ramp(10, 110)))
    canvas.paste(_BLACK, at, _scaled(outside, 0.75))
    inside = ImageChops.multiply(own, soft.point(_ramp(250, 215)))
    canvas.paste(mix(colour, _WHITE, 0.6), at, inside)


def _part(area: Image.Image, inner: Rectangle) -> Image.Image:
    return area if inner == (0, 0, *area.size) else area.crop(inner)


def _tiles(box: Rectangle) -> Iterator[Rectangle]:
    """Parts of a box, none of them larger than `TILE` each way."""
    x0, y0, x1, y1 = box
    for top in range(y0, y1, TILE):
        for left in range(x0, x1, TILE):
            yield left, top, min(left + TILE, x1), min(top + TILE, y1)


def _grown(tile: Rectangle, margin: int, box: Rectangle) -> Rectangle:
    """A tile with a margin, within its box."""
    return (
        max(tile[0] - margin, box[0]),
        max(tile[1] - margin, box[1]),
        min(tile[2] + margin, box[2]),
        min(tile[3] + margin, box[3]),
    )


@cache
def _ramp(zero: int, full: int) -> list[int]:
    """A table of 256 values: 0 at one grey value, 255 at another, straight between."""
    return [round(255 * min(max((v - zero) / (full - zero), 0.0), 1.0)) for v in range(256)]


def _scaled(mask: Image.Image, share: float) -> Image.Image:
    return mask.point([round(value * share) for value in range(256)])


def _draw_labels(
    canvas: Image.Image,
    coloured: Sequence[tuple[NamedMask, Colour]],
    names: Sequence[str],
    *,
    factor: int,
    scores: bool,
) -> None:
    layout = LabelLayout(canvas.size)
    placed = []
    # Small things have few places, large stuff has many: the last drawn choose first.
    for segment, colour in reversed(coloured):
        size = (canvas.width // factor, canvas.height // factor)
        x0, y0, x1, y1 = _box_of(segment, size)
        if x1 <= x0 or y1 <= y0:
            continue
        label = layout.place(
            segment.name if can_write(segment.name) else f"#{names.index(segment.name) + 1}",
            f"{segment.score:.2f}" if scores else "",
            colour,
            segment.mask[y0:y1, x0:x1],
            (x0 * factor, y0 * factor, x1 * factor, y1 * factor),
        )
        if label is not None:
            placed.append(label)
    for label in reversed(placed):
        layout.draw(canvas, label)
