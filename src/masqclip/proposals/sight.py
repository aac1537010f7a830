"""How a model sees pictures: the edges that they are resized by, the frames that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from masqclip.configuration import check_pictures
from masqclip.errors import MasqclipError
from masqclip.weights.preprocessing import Channels


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
