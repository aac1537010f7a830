"""The options of a call, checked before any work is done: one function for each kind.

The library, the command line, the service and jobs all ask here, so that a mistake is told in the
same words everywhere; `what` is what the caller calls the option.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard, get_args

import numpy as np

from masqclip.clip.name_limits import closest, shown
from masqclip.errors import MasqclipError
from masqclip.result import Task

if TYPE_CHECKING:
    from masqclip.clip.vocabulary import Vocabulary

#: What a `Segmenter` can be asked for.
TASKS: tuple[Task, ...] = get_args(Task)


def check_countable(words: Vocabulary, task: Task) -> None:
    """Refuse to look for instances where all names are regions, which have none.

    Raises:
        MasqclipError: all are, and the task is ``instance``.
    """
    if task == "instance" and len(words.counted.stuff_ids) == len(words.categories):
        raise MasqclipError(
            f"{', '.join(words.names)[:200]}: regions only, of which the task instance finds none: "
            "ask for the task semantic or panoptic, or have them counted (--things)"
        )


def check_task(value: object) -> Task:
    """The task, if it is one.

    Raises:
        MasqclipError: it is none; the message names the nearest.
    """
    for task in TASKS:
        if isinstance(value, str) and value == task:
            return task
    near = closest(value.strip().lower(), TASKS, cutoff=0.5) if isinstance(value, str) else None
    meant = "" if near is None else f" (did you mean {near!r}?)"
    raise MasqclipError(f"task {shown(value)}: give 'instance', 'semantic' or 'panoptic'{meant}")


def check_share(value: object, *, what: str) -> float:
    """A number from 0 to 1, such as a least score; numpy's are numbers too.

    Raises:
        MasqclipError: it is no number (a string, true or false, an array), or not within 0 and 1.
    """
    # Of NaN no comparison holds.
    if _is_number(value) and 0 <= value <= 1:
        return float(value)
    raise MasqclipError(f"{what} {_written(value)}: give a number from 0 to 1")


def check_count(value: object, *, what: str) -> int:
    """A whole number, 1 or more.

    Raises:
        MasqclipError: it is something else.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise MasqclipError(f"{what} {_written(value)}: give 1 or more")


def check_size(value: object, *, what: str) -> tuple[int, int | None]:
    """The edges in pixels that pictures are resized by: the shorter, and the longer at most.

    Args:
        value: a number, two of them, or ``"800"`` or ``"800:1333"``.
        what: what the caller calls it.

    Returns:
        (shortest, longest); longest None where only one is given.

    Raises:
        MasqclipError: it is something else, or no machine takes pictures of that size.
    """
    from masqclip.configuration import LARGEST_SHORTEST_EDGE, LARGEST_SIZE

    edges: list[object]
    if isinstance(value, str):
        edges = [int(part) if re.fullmatch(r"[0-9]{1,6}", part) else 0 for part in value.split(":")]
    else:
        edges = list(value) if isinstance(value, list | tuple) else [value]
    if not 1 <= len(edges) <= 2 or not all(
        isinstance(edge, int | np.integer) and not isinstance(edge, bool) and 1 <= edge <= most
        for edge, most in zip(edges, (LARGEST_SHORTEST_EDGE, LARGEST_SIZE), strict=False)
    ):
        raise MasqclipError(
            f"{what} {shown(value)}: give the shorter side in pixels (1 to "
            f"{LARGEST_SHORTEST_EDGE}), or SHORTEST:LONGEST (to {LARGEST_SIZE}), such as 800:1333"
        )
    shortest, longest = (*(int(edge) for edge in edges), None)[:2]  # type: ignore[call-overload]
    if longest is not None and longest < shortest:
        raise MasqclipError(f"{what} {shown(value)}: the longer side cannot be the shorter one")
    return shortest, longest


def longest_edge(shortest: int, own: tuple[int, int], *, what: str) -> int:
    """The most of the longer side that keeps a model's own ratio to the shorter one.

    Args:
        shortest: what the shorter side is to be.
        own: the model's own (shortest, longest).
        what: what the caller calls the option.

    Raises:
        MasqclipError: that is more than any machine takes.
    """
    from masqclip.configuration import LARGEST_SIZE

    longest = max(1, round(shortest * own[1] / own[0]))
    if longest > LARGEST_SIZE:
        raise MasqclipError(
            f"{what} {shortest}: with this model's own ratio the longer side may be {longest} "
            f"pixels, more than {LARGEST_SIZE}: give {shortest}:LONGEST"
        )
    return longest


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float | np.integer | np.floating)


def _written(value: object) -> str:
    return f"{value:g}" if _is_number(value) else shown(value)
