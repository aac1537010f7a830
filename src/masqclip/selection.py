"""Which of a picture's segments a key picks: by place, by name, or by a truth for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.name_limits import few_names, shown
from masqclip.errors import MasqclipError

Selection = (
    slice
    | str
    | Sequence[int]
    | Sequence[bool]
    | Sequence[str]
    | NDArray[np.bool_]
    | NDArray[np.integer]
)
"""A slice, a name, or a list or array of places, names or truths."""

_PICKS = "give a place, a slice, a name, or a list of places, names or truths"


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
    if not isinstance(key, Sequence | np.ndarray) or isinstance(key, bytes):
        raise MasqclipError(f"{shown(key)} picks no segments: {_PICKS}")
    if len(key) and all(isinstance(value, str) for value in key):
        asked = {str(value) for value in key}
        if unknown := sorted(asked.difference(names)):
            raise MasqclipError(
                f"{shown(unknown[0])} is not in the vocabulary of this result: {few_names(names)}"
            )
        return [place for place, label in enumerate(labels) if label in asked]
    try:
        places = np.asarray(key)
    except ValueError:  # lists of several lengths
        places = np.zeros((0, 0))
    if places.ndim != 1 or (places.size and places.dtype.kind not in "biu"):
        what = f"an array {key.shape}" if isinstance(key, np.ndarray) else shown(key)
        raise MasqclipError(f"{what} picks no segments: {_PICKS}")
    if places.dtype == bool:
        if len(places) != len(labels):
            raise MasqclipError(
                f"{len(places)} truths do not fit {len(labels)} segments: give one for each"
            )
        return [int(place) for place in np.flatnonzero(places)]
    return [picked_place(int(place), len(labels)) for place in places]
