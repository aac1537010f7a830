"""What is written under a scene."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal


def scene_captions(
    seen: Sequence[tuple[str, bool, int]],
    chance: random.Random,
    *,
    style: Literal["sentence", "names", "both"],
    name_stuff: bool,
) -> tuple[str, ...]:
    """What is written under a scene: a plain sentence, bare names, or both.

    Names stand in the order of their areas, largest first, things before stuff.

    Args:
        seen: of each region its name, whether it is a thing, and its area.
        chance: draws the wording.
        style: a plain sentence, bare names, or both.
        name_stuff: bare names are those of the stuff too, wherever there is a thing.
    """
    things: dict[str, int] = {}
    for name, thing, _ in sorted(seen, key=lambda region: -region[2]):
        if thing:
            things[name] = things.get(name, 0) + 1
    stuff = [name for name, thing, _ in seen if not thing]
    names = (*things, *stuff) if name_stuff or not things else tuple(things)
    if style == "names":
        return names
    chance.shuffle(stuff)
    parts = [_counted(name, count) for name, count in things.items()]
    opening = chance.choice(("a photo of ", "a picture of ", "there is ", "", "we see "))
    sentence = opening + _listed(parts or ["nothing"])
    if stuff and (not things or chance.random() < 0.8):
        sentence += chance.choice((" on ", " and ", " with ", ", ")) + _listed(stuff)
    return (sentence,) if style == "sentence" else (sentence, *names)


def _counted(name: str, count: int) -> str:
    article = "an" if name[0] in "aeiou" else "a"
    words = ("two", "three", "four", "five", "six")
    return f"{article} {name}" if count == 1 else f"{words[min(count, 6) - 2]} {name}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
