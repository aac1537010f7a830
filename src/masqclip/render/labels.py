"""Where the label of a segment goes, and how it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from masqclip.render.distances import distances
from masqclip.render.lettering import Lettering
from masqclip.render.palette import Colour, ink_on, mix

Rectangle = tuple[int, int, int, int]

# The most of the frame's width that one label takes.
_WIDEST = 0.45
# Masks are looked at no larger than this when a place inside them is sought.
_SEARCH_EDGE = 160
# A label that would hide more of its segment than this stands beside it instead.
_HIDES_TOO_MUCH = 0.3
# How much longer than wide a canvas is, and how long, that letters still grow with.
_SLENDER, _LARGEST = 8, 8000
# Steps, of half a label each way, to try around the best place, the nearest first: [N, 2].
_LATTICE = np.array(
    sorted(
        ((across, down) for across in range(-8, 9) for down in range(-24, 25)),
        key=lambda at: (at[0] * at[0] + at[1] * at[1], at),
    )
)


def scale_edge(size: tuple[int, int]) -> int:
    """The side, in pixels, that lettering and lines are in proportion to.

    The longer side of a canvas, but of a narrow one no more than a few times the shorter: letters
    and lines for 30,000 pixels would not fit into ten.
    """
    return min(max(size), _SLENDER * min(size), _LARGEST)


@dataclass(frozen=True)
class Label:
    """A text in its box: the box in pixels of the canvas (x1, y1 exclusive) and its colour."""

    text: str
    box: Rectangle
    colour: Colour


class LabelLayout:
    """Finds places for labels in one frame, each as free of the earlier ones as it can be.

    Args:
        size: (width, height) of the canvas in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        edge = scale_edge(size)
        self.lettering = Lettering(round(8 + 0.011 * edge))
        self._pad = (max(3, round(0.006 * edge)), max(2, round(0.004 * edge)))
        self.height = self.lettering.height + 2 * self._pad[1]
        self.gap = max(2, round(0.004 * edge))
        self._taken: list[Rectangle] = []

    def place(
        self,
        name: str,
        score: str,
        colour: Colour,
        mask: NDArray[np.bool_],
        box: Rectangle,
    ) -> Label | None:
        """Place the label of one segment and keep its place from the later ones.

        Args:
            name: the segment's name; shortened with an ellipsis where it is too wide.
            score: what stands behind the name, or an empty string.
            colour: the box's colour.
            mask: [h, w] bool, the segment within its box, at any scale.
            box: where that box lies on the canvas.

        Returns:
            The label; None where the frame has no room for one.
        """
        text = self._fitted(name, score)
        width = round(self.lettering.width(text)) + 2 * self._pad[0]
        frame_width, frame_height = self.size
        if not text or width > frame_width or self.height > frame_height:
            return None
        best: Rectangle | None = None
        least = 0
        for centres in self._centres(mask, box, width):
            places = self._framed(centres, width)
            overlaps = _shared(places, np.array(self._taken).reshape(-1, 4), self.gap)
            number = int(overlaps.argmin())
            if best is None or overlaps[number] < least:
                x0, y0, x1, y1 = places[number].tolist()
                best, least = (x0, y0, x1, y1), int(overlaps[number])
            if least == 0:
                break
        if best is None:
            return None
        self._taken.append(best)
        return Label(text, best, colour)

    def draw(self, canvas: Image.Image, label: Label) -> None:
        """Draw a placed label on the canvas."""
        pen = ImageDraw.Draw(canvas)
        x0, y0, x1, y1 = label.box
        radius = max(2, self.height // 5)
        # A rim keeps the box apart from a mask of its own colour.
        edge = mix(label.colour, (0, 0, 0), 0.45)
        pen.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius, fill=label.colour, outline=edge)
        at = (x0 + self._pad[0], y0 + self._pad[1])
        self.lettering.draw(pen, at, label.text, ink_on(label.colour))

    def _fitted(self, name: str, score: str) -> str:
        """The name, shortened until it fits with its score; without the score if that is needed."""
        limit = max(_WIDEST * self.size[0], 6.0 * self.height) - 2 * self._pad[0]
        limit = min(limit, self.size[0] - 2 * self._pad[0])
        shown = self.lettering.fitted(name, limit, f" {score}") if score else ""
        return shown or self.lettering.fitted(name, limit)

    def _framed(self, centres: NDArray[np.float64], width: int) -> NDArray[np.int64]:
        """Boxes [N, 4] of a label around points [N, 2], pushed into the frame."""
        size = np.array([width, self.height])
        corners = np.rint(centres - size / 2).astype(np.int64)
        corners = corners.clip(0, np.array(self.size) - size)
        return np.concatenate([corners, corners + size], axis=1)

    def _centres(
        self, mask: NDArray[np.bool_], box: Rectangle, width: int
    ) -> Iterator[NDArray[np.float64]]:
        """Points [N, 2] to try as the label's centre, the best first; the last ones are many."""
        x0, y0, x1, y1 = box
        step = self.height + self.gap
        middle = (x0 + x1) / 2
        covered = min(width, x1 - x0) * min(self.height, y1 - y0)
        shown = mask.mean() * (x1 - x0) * (y1 - y0)
        beside = [
            (middle, y0 - step / 2),
            (middle, y1 + step / 2),
            (x1 + (width / 2 + self.gap), (y0 + y1) / 2),
            (x0 - (width / 2 + self.gap), (y0 + y1) / 2),
        ]
        # Places that would be pushed back over the segment by the frame are of no use.
        beside = [
            (x, y)
            for x, y in beside
            if step / 2 <= y <= self.size[1] - step / 2
            and (y < y0 or y > y1 or width / 2 <= x <= self.size[0] - width / 2)
        ]
        inside = interior_points(mask, box, 6)
        hides = covered > _HIDES_TOO_MUCH * shown
        near = beside + inside if hides else inside + beside
        if near:
            yield np.array(near)
        if inside:
            yield np.array(inside[0]) + _LATTICE * np.array([width / 2 + self.gap, step / 2])


def interior_points(
    mask: NDArray[np.bool_], box: Rectangle, count: int
) -> list[tuple[float, float]]:
    """The points of a mask farthest from its border, each away from the earlier ones.

    Args:
        mask: [h, w] bool, at any scale.
        box: where the mask lies on the canvas; the points are given in its coordinates.
        count: how many points at most.

    Returns:
        (x, y) on the canvas, the most interior first; none for an empty mask.
    """
    stride = -(-max(mask.shape) // _SEARCH_EDGE)
    small = mask[::stride, ::stride]
    if not small.any():
        small = _shrunk(mask, stride)  # thinner than the stride
    if not small.any():
        return []
    # The frame counts as a border too: a label in a corner is further from it than its mask.
    depth = distances(np.pad(small, 1))[1:-1, 1:-1]
    scale_x = (box[2] - box[0]) / mask.shape[1]
    scale_y = (box[3] - box[1]) / mask.shape[0]
    rows, columns = np.ogrid[: small.shape[0], : small.shape[1]]
    points: list[tuple[float, float]] = []
    for _ in range(count):
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        reach = float(depth[row, column])
        if reach <= 0:
            break
        x = box[0] + (int(column) * stride + 0.5 * min(stride, mask.shape[1])) * scale_x
        y = box[1] + (int(row) * stride + 0.5 * min(stride, mask.shape[0])) * scale_y
        points.append((x, y))
        depth[(rows - row) ** 2 + (columns - column) ** 2 <= max(reach, 2.0) ** 2] = 0
    return points


def _shrunk(mask: NDArray[np.bool_], stride: int) -> NDArray[np.bool_]:
    """A mask a stride smaller, true where anything is in a block of stride x stride pixels."""
    rows = np.arange(0, mask.shape[0], stride)
    columns = np.arange(0, mask.shape[1], stride)
    by_row = np.logical_or.reduceat(mask, rows, axis=0)
    return np.logical_or.reduceat(by_row, columns, axis=1)


def _shared(places: NDArray[np.int64], taken: NDArray[np.int64], gap: int) -> NDArray[np.int64]:
    """The area in pixels that boxes [N, 4], grown by a gap, share with others [M, 4]: sums [N]."""
    ours, theirs = places[:, None], taken[None]
    lower = np.maximum(ours[..., :2] - gap, theirs[..., :2])
    upper = np.minimum(ours[..., 2:] + gap, theirs[..., 2:])
    return (upper - lower).clip(0).prod(-1).sum(-1)
