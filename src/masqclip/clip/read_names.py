"""What is read of a name: one that is too long, or cannot be read, is refused. Free of torch."""

from __future__ import annotations

from masqclip.clip.name_limits import check_writable, shown
from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError

# Ten times what any tower reads: cleaning and tokenising take 150 bytes for each character.
MAX_TEXT_CHARACTERS = 10_000


def read_text(text: str) -> str:
    """What CLIP reads of a text (`masqclip.data.clip_text.reading`), if it can be read.

    Raises:
        MasqclipError: as in `check_text`.
    """
    return reading(check_text(text))


def check_text(text: str) -> str:
    """A text as it is written, if it can be read.

    Raises:
        MasqclipError: it is far longer than any tower reads, or holds what no tokenizer takes.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise MasqclipError(
            f"the name {shown(text)} has {len(text):,} characters, more than the limit of "
            f"{MAX_TEXT_CHARACTERS:,}: shorten it"
        )
    if not text.isprintable():
        check_writable(text, what=f"the name {shown(text)}")
    return text


def too_long(text: str, length: int, limit: int) -> MasqclipError:
    """The error for a text of `length` tokens where the tower reads `limit`."""
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return MasqclipError(
        f"the name {shown!r} is {length} tokens long and this CLIP reads at most {limit}, start "
        "and end tokens included: shorten it"
    )
