"""How `masqclip segment` sums up failures, and hints at commas."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from masqclip.cli.segment import _summary
from masqclip.cli.sources import hint_at_commas
from masqclip.errors import MasqclipError


@pytest.mark.parametrize(
    ("failed", "total", "read", "said"),
    [
        (5, 6, True, "5 of 6 pictures could not be read: 0, 1, 2, 3, 4; the other 1 in out"),
        (6, 6, False, "6 of 6 pictures could not be segmented: 0, 1, 2, 3, 4, ..."),
    ],
)
def test_five_failures_are_named(failed: int, total: int, read: bool, said: str) -> None:
    names = [str(n) for n in range(failed)]
    failures: Any = SimpleNamespace(names=names, total=total, read=read)
    assert _summary(failures, Path("out")) == said


@pytest.mark.parametrize("source", ["a.png", "a/b", "a*"])
def test_what_looks_like_a_path_is_no_name(source: str) -> None:
    error = MasqclipError("gone")
    assert hint_at_commas(source, error) is error
    assert "-v 'cat, dog'" in str(hint_at_commas("dog", error))
