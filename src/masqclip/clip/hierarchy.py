"""What is a kind of what: a tree above the names of a vocabulary, and nothing more.

A name's parent is another name, which may be looked for itself or only stand for its children. A
mask that is a dog is an animal: at a level of the tree, all that is below one name counts together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from masqclip.clip.name_limits import shown
from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError

_DEEPEST = 32


def spelled_alike(
    parents: Sequence[tuple[str, str]], names: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """Parents in which what CLIP reads alike is one name: "Dog > pug" is about "dog".

    Args:
        parents: pairs of a name and what it is a kind of.
        names: whose spelling counts; else the first one does.
    """
    if not parents:
        return ()
    spelling = {reading(name): name for name in names}

    def spelled(name: str) -> str:
        return spelling.setdefault(reading(name), name)

    return tuple(dict.fromkeys((spelled(name), spelled(parent)) for name, parent in parents))


def check_parents(parents: Sequence[tuple[str, str]]) -> None:
    """Refuse what is no tree.

    Raises:
        MasqclipError: a name has two parents, is above itself, or lies too deep.
    """
    above: dict[str, str] = {}
    for name, parent in parents:
        if above.setdefault(name, parent) != parent:
            raise MasqclipError(
                f"{shown(name)} is said to be a kind of {shown(above[name])} and of "
                f"{shown(parent)}: say one"
            )
    depths: dict[str, int] = {}
    for name in above:
        seen: dict[str, None] = {}
        at = name
        while at in above and at not in depths:
            if at in seen:
                circle = " > ".join([*reversed([*seen, at])][:6])
                raise MasqclipError(f"the hierarchy goes around in a circle: {circle}")
            seen[at] = None
            at = above[at]
        deep = depths.get(at, 0)
        for below in reversed(seen):
            depths[below] = deep = deep + 1
        if deep > _DEEPEST:
            raise MasqclipError(
                f"{shown(name)} lies {deep:,} levels below {shown(path_of(name, above)[0])}: the "
                f"hierarchy may have {_DEEPEST}"
            )


def path_of(name: str, above: Mapping[str, str]) -> tuple[str, ...]:
    """What a name is a kind of, the widest first, and itself."""
    path = [name]
    while path[-1] in above:
        path.append(above[path[-1]])
    return tuple(reversed(path))


def groups_at(paths: Sequence[tuple[str, ...]], level: int) -> list[tuple[str, list[int]]]:
    """The names of a level, and the places of what is below each.

    Args:
        paths: of each category (`path_of`).
        level: 0 = the widest names. A category that lies less deep stands for itself.

    Raises:
        MasqclipError: the level is no whole number of 0 or more.
    """
    whole = isinstance(level, int | np.integer) and not isinstance(level, bool)
    if not whole or level < 0:
        raise MasqclipError(f"level {shown(level)}: give 0 for the widest names, or 1, 2 ...")
    groups: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        groups.setdefault(path[min(level, len(path) - 1)], []).append(place)
    return list(groups.items())
