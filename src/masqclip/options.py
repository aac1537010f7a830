"""The options of a call, checked before any work is done: one function for each kind.

The library, the command line, the service and jobs all ask here, so that a mistake is told in the
same words everywhere; `what` is what the caller calls the option.
"""

from __future__ import annotations

from typing import TypeGuard, get_args

import numpy as np

from masqclip.clip.name_limits import closest, shown
from masqclip.errors import MasqclipError
from masqclip.result import Task

#: What a `Segmenter` can be asked for.
TASKS: tuple[Task, ...] = get_args(Task)
#: The largest edges that a `MasQClipConfig` takes, in pixels.
MAX_SHORTEST, MAX_LONGEST = 2_048, 4_096


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


def check_size(value: object, *, what: str = "size") -> tuple[int, int | None] | None:
    """The size at which a proposer sees pictures: (shortest, longest) edge in pixels.

    Args:
        value: ``"800:1333"``, ``"800"``, a number, or two; None passes. A longest edge that is not
            given (None) keeps the model's own proportion.
        what: what the caller calls it.

    Raises:
        MasqclipError: it is none.
    """
    if value is None:
        return None
    given: object = value.split(":") if isinstance(value, str) else value
    edges = [_whole(edge) for edge in (given if isinstance(given, list | tuple) else [given])]
    shortest, longest = (*edges, None)[:2] if 1 <= len(edges) <= 2 else (None, None)
    if shortest is not None and 1 <= shortest <= MAX_SHORTEST:
        if len(edges) == 1:
            return shortest, None
        if longest is not None and shortest <= longest <= MAX_LONGEST:
            return shortest, longest
    raise MasqclipError(
        f"{what} {_written(value)}: give the shorter side in pixels, such as 800, or it and the "
        f"longest, 800:1333 (at most {MAX_SHORTEST} and {MAX_LONGEST})"
    )


def _whole(value: object) -> int | None:
    """A whole number, or the digits of one."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    return None


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float | np.integer | np.floating)


def _written(value: object) -> str:
    return f"{value:g}" if _is_number(value) else shown(value)
