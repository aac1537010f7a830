"""How far a slow proposer is with a batch, told to whoever listens.

A listener is heard in the thread that set it, and in no other: threads may share a proposer. Nobody
listens unless asked to, and results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called with (done, total), in the proposer's own steps.
Listener = Callable[[int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have proposers that run in this thread, within this, tell how far they are."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(done: int, total: int) -> None:
    """So many steps of a batch are done; a compiled model tells nothing."""
    import torch  # the command line sets a listener before it loads libraries

    if torch.compiler.is_compiling():
        return
    listener = _listener.get()
    if listener is not None:
        listener(done, total)
