"""Labels of annotation tools: looked for as names, and given back letter by letter.

A tool knows its labels as they are written. ``yellow  sand`` is asked for as "yellow sand" and
``stuff: sand`` as the region "sand", but both come back as they were. What two labels would ask for
in common, and what CLIP reads alike ("Sand", "sand"), the first of them gets. A label for the
background is not asked for: it is what no other label wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from masqclip.clip.name_items import BACKGROUND, read_name
from masqclip.clip.name_limits import DEFAULT_LIMITS
from masqclip.data.clip_text import reading


def asked_labels(written: Sequence[str], *, what: str) -> tuple[str, ...]:
    """The labels that are looked for, without blank ones and the background.

    As a list they are a vocabulary, in which a segment's class_id is its label's place.

    Args:
        written: as the tool wrote them.
        what: what one of them is called in errors.

    Raises:
        MasqclipError: a label is too long, or holds what is no part of words.
    """
    kept: dict[str, str] = {}
    for label in written:
        if label.strip():
            name = reading(read_name(label, what=what, limits=DEFAULT_LIMITS).name)
            if name != BACKGROUND:
                kept.setdefault(name, label)
    return tuple(kept.values())
