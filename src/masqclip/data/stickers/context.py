"""Things in context: some prefer some stuff, and kinds keep together (the second world)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from masqclip.data.stickers.worlds import HOMES

_COMPANY = 0.35  # share of things that are of the group of the one before
_AT_HOME = 0.5  # share of the others that are drawn among those at home on some stuff of the scene


class Ground(Protocol):
    """Where which stuff lies in a scene (`scenes.Plan`)."""

    @property
    def stuff(self) -> list[int]: ...

    @property
    def borders(self) -> list[tuple[float, float, float, float]]: ...

    @property
    def vertical(self) -> bool: ...


class Context:
    """Draws the things of a scene.

    Args:
        names: those that may be drawn.
        groups: which group each is of.
        stuff: the world's list of stuff.
    """

    def __init__(
        self, names: Sequence[str], groups: Mapping[str, str], stuff: Sequence[str]
    ) -> None:
        self._names, self._groups, self._stuff = list(names), groups, stuff
        self._of_group: dict[str, list[str]] = {}
        for name in names:
            self._of_group.setdefault(groups[name], []).append(name)
        self._at_home = [[name for name in names if kind in HOMES[groups[name]]] for kind in stuff]

    def draw(self, chance: random.Random, count: int, stuff: Sequence[int]) -> list[str]:
        """So many things for a scene with this stuff."""
        home = [name for kind in stuff for name in self._at_home[kind]]
        things: list[str] = []
        for _ in range(count):
            if things and chance.random() < _COMPANY:
                things.append(chance.choice(self._of_group[self._groups[things[-1]]]))
            elif home and chance.random() < _AT_HOME:
                things.append(chance.choice(home))
            else:
                things.append(chance.choice(self._names))
        return things

    def bring_home(
        self,
        boxes: Sequence[tuple[float, float, float]],
        things: Sequence[str],
        ground: Ground,
    ) -> list[tuple[float, float, float]]:
        """Exchange places of equal rights: who is away from home takes the place of another who
        would not mind. Sizes stay with their places."""
        kinds = [self._stuff[_stuff_at(ground, y, x)] for y, x, _ in boxes]
        boxes = list(boxes)
        for i, thing in enumerate(things):
            home = HOMES[self._groups[thing]]
            if kinds[i] in home:
                continue
            for k, other in enumerate(things):
                if kinds[k] in home and kinds[k] not in HOMES[self._groups[other]]:
                    boxes[i], boxes[k] = boxes[k], boxes[i]
                    kinds[i], kinds[k] = kinds[k], kinds[i]
                    break
        return boxes


def _stuff_at(ground: Ground, y: float, x: float) -> int:
    """Which stuff lies at a place."""
    down, along = (x, y) if ground.vertical else (y, x)
    found = ground.stuff[0]
    for kind, (level, depth, waves, phase) in zip(ground.stuff[1:], ground.borders, strict=True):
        if down > level + depth * math.sin(along * waves + phase):
            found = kind
    return found
