"""Stands in for what a verb calls, and notes what it was called with."""

from __future__ import annotations

from typing import Any


class Heard:
    """Anything that can be called: notes the arguments and gives `answer`.

    Attributes:
        calls: the arguments of every call, those by position first.
    """

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.calls.append((given, named))
        return self.answer

    @property
    def only(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the one call that there was."""
        (call,) = self.calls
        return call
