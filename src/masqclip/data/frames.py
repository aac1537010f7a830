"""How large a model sees a picture: the edges that it is resized by. Free of torch."""

from __future__ import annotations

from typing import Protocol


class Edges(Protocol):
    """Settings of a model, or of one of several proposers; see `MasQClipConfig`."""

    @property
    def shortest_edge(self) -> int: ...
    @property
    def longest_edge(self) -> int: ...


def resized_size(height: int, width: int, edges: Edges) -> tuple[int, int]:
    """(height, width) to which a model resizes a picture, its aspect kept; at least one pixel.

    To the pixel as published (detectron2's resize by the shortest edge): the order of operations is
    its own, and halves are rounded up.
    """
    shortest, longest = edges.shortest_edge, edges.longest_edge
    scale = shortest / min(height, width)
    tall, wide = (shortest, scale * width) if height < width else (scale * height, shortest)
    if max(tall, wide) > longest:
        shrink = longest / max(tall, wide)
        tall, wide = tall * shrink, wide * shrink
    return max(1, int(tall + 0.5)), max(1, int(wide + 0.5))
