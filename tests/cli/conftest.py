"""What tests of the command line share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from straw_calls import Calls, straw_module


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """The segmenter is one of straw, and the folder an empty one."""
    seen = Calls()
    monkeypatch.setitem(sys.modules, "masqclip.segmenter", straw_module(seen))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return seen
