"""How a model sees pictures: the edges that they are resized by, the frames that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

from masqclip.configuration import check_pictures
from masqclip.errors import MasqclipError
from masqclip.weights.preprocessing import Channels


class Edges(Protocol):
    """The edges of `Sight`, also of a model's configuration."""

    @property
    def shortest_edge(self) -> int: ...
    @property
    def longest_edge(self) -> int: ...


@dataclass(frozen=True)
class Sight:
    """How one of several proposers sees pictures; settings as in `MasQClipConfig`."""

    shortest_edge: int = 800
    longest_edge: int = 1333
    size_divisor: int = 32
    pixel_mean: Channels = (123.675, 116.28, 103.53)
    pixel_std: Channels = (58.395, 57.12, 57.375)

    @classmethod
    def of(cls, values: Mapping[str, Any], *, source: str) -> Self:
        """A sight from a file.

        Raises:
            MasqclipError: it is none; the message names the setting.
        """
        if unknown := values.keys() - asdict(cls()).keys():
            raise MasqclipError(f"{source} has an unknown setting {str(min(unknown))[:40]!r}")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        sight = cls(**given)
        try:
            check_pictures(**asdict(sight))
        except MasqclipError as error:
            raise MasqclipError(f"{source}: {error}") from error
        return sight

    def described(self) -> dict[str, Any]:
        """As a file has it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the padded frame for a picture of that size."""
        step = self.size_divisor
        return -(-height // step) * step, -(-width // step) * step


def resized_size(height: int, width: int, config: Edges) -> tuple[int, int]:
    """(height, width) to which a model resizes a picture, its aspect kept; at least one pixel.

    To the pixel as published (detectron2's resize by the shortest edge): the order of operations is
    its own, and halves are rounded up.
    """
    shortest, longest = config.shortest_edge, config.longest_edge
    scale = shortest / min(height, width)
    tall, wide = (shortest, scale * width) if height < width else (scale * height, shortest)
    if max(tall, wide) > longest:
        shrink = longest / max(tall, wide)
        tall, wide = tall * shrink, wide * shrink
    return max(1, int(tall + 0.5)), max(1, int(wide + 0.5))
