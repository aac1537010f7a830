"""Parts of a list of classes that have averages of their own: base, novel, things, stuff."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from masqclip.data.class_lists import ClassEntry

Groups = Mapping[str, Collection[int]]


def split_groups(classes: Sequence[ClassEntry]) -> dict[str, list[int]]:
    """Positions of the classes of each split, for instance ``base`` and ``novel``."""
    splits = sorted({entry.split for entry in classes if entry.split})
    return {s: [i for i, entry in enumerate(classes) if entry.split == s] for s in splits}


def thing_groups(classes: Sequence[ClassEntry]) -> dict[str, list[int]]:
    """Positions of ``things`` and ``stuff``; nothing where the publisher does not tell them."""
    if all(entry.thing is None for entry in classes):
        return {}
    return {
        name: [i for i, entry in enumerate(classes) if (entry.thing is not False) is thing]
        for name, thing in (("things", True), ("stuff", False))
    }


def all_groups(classes: Sequence[ClassEntry]) -> dict[str, list[int]]:
    """Splits, things and stuff; and ``base things`` where a split has stuff as well.

    Stuff is the easier to name: where only one split has any, splits compare by their things.
    """
    groups = split_groups(classes)
    for split, positions in list(groups.items()):
        things = [i for i in positions if classes[i].thing is not False]
        if len(things) < len(positions):
            groups[f"{split} things"] = things
    return groups | thing_groups(classes)


def group_means(name: str, values: NDArray[np.float64], groups: Groups) -> dict[str, float]:
    """The mean over all classes as ``name``, and over each group as ``name GROUP``.

    Args:
        name: of the figure.
        values: one a class; NaN = the class does not count.
        groups: positions of the classes of each group.
    """
    means = {name: mean(values)}
    for group, positions in groups.items():
        means[f"{name} {group}"] = mean(values[list(positions)])
    return means


def mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN if that is nothing."""
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if counted.size else float("nan")
