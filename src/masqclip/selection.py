"""Which of a picture's segments a key picks: by place, by name, or by a truth for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.name_limits import few_names, shown
from masqclip.errors import MasqclipError


class Column(Protocol):
    """What NumPy makes an array of: a tensor, a column of a table."""

    def __array__(self) -> NDArray[np.generic]:
        """Its values."""


Selection = (
    slice
    | str
    | Sequence[int]
    | Sequence[bool]
    | Sequence[str]
    | NDArray[np.bool_]
    | NDArray[np.integer]
    | Column
)
"""A slice, a name, or a list, array, tensor or column of places, names or truths."""

_PICKS = "give a place, a slice, a name, or a list of places, names or truths"


def single_place(key: object) -> int | None:
    """The place that a key is, if it is a number: Python's, NumPy's, or an array of no axes."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key)
    if getattr(key, "ndim", None) != 0:
        return None
    values = _values(key)
    return int(values) if values is not None and values.dtype.kind in "iu" else None


def picked_place(place: int, count: int) -> int:
    """A place among so many segments; a negative one counts from the end.

    Raises:
        IndexError: there is no such place.
    """
    if -count <= place < count:
        return place
    there = f"the places are 0 to {count - 1}" if count else "there is none"
    raise IndexError(f"there is no segment {place}: {there}")


def picked_places(key: object, labels: Sequence[str], names: Sequence[str]) -> list[int]:
    """The places of the segments that a key picks, in the key's order; those of a name in theirs.

    Args:
        key: see `Selection`.
        labels: the name of each segment.
        names: the vocabulary.

    Raises:
        IndexError: there is no such place.
        MasqclipError: a name is none of the vocabulary, there are not as many truths as segments,
            or the key is nothing of these.
    """
    if isinstance(key, slice):
        return list(range(len(labels)))[key]
    if isinstance(key, str):
        key = [key]
    many = isinstance(key, Sequence) and not isinstance(key, bytes)
    values = _values(key) if many or hasattr(key, "__array__") else None
    if values is None or values.ndim != 1:
        what = f"an array {values.shape}" if values is not None else shown(key)
        raise MasqclipError(f"{what} picks no segments: {_PICKS}")
    entries = key if isinstance(key, Sequence) else values.tolist()
    if entries and all(isinstance(value, str) for value in entries):
        asked = {str(value) for value in entries}
        if unknown := sorted(asked.difference(names)):
            raise MasqclipError(
                f"{shown(unknown[0])} is not in the vocabulary of this result: {few_names(names)}"
            )
        return [place for place, label in enumerate(labels) if label in asked]
    if values.size and values.dtype.kind not in "biu":
        raise MasqclipError(f"{shown(key)} picks no segments: {_PICKS}")
    if values.dtype == bool:
        if len(values) != len(labels):
            raise MasqclipError(
                f"{len(values)} truths do not fit {len(labels)} segments: give one for each"
            )
        return [int(place) for place in np.flatnonzero(values)]
    return [picked_place(int(place), len(labels)) for place in values]


def _values(key: object) -> NDArray[np.generic] | None:
    """A key's entries as an array; None where they are none."""
    try:
        values = np.asarray(key)
        # A column that may have gaps holds objects.
        return np.asarray(values.tolist()) if values.dtype == object else values
    except (TypeError, ValueError, RuntimeError):  # several lengths; a tensor of a GPU
        return None
