"""What proposers that take words are asked for, where somebody knows better than their own words.

Words are token ids of OpenAI's CLIP, as the proposers' text encoders read them. What is asked holds
in the thread that asked, and in no other: threads may share a proposer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

#: The token ids of a word or phrase, with those of its beginning and end.
Prompt = Sequence[int]

_asked: ContextVar[Sequence[Prompt] | None] = ContextVar("asked", default=None)


@contextmanager
def asking(prompts: Sequence[Prompt] | None) -> Iterator[None]:
    """Have proposers that take words look for these, within this; None leaves them their own."""
    token = _asked.set(prompts)
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> Sequence[Prompt] | None:
    """What is asked for here, if somebody asks for anything."""
    return _asked.get()
