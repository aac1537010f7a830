"""A place for the tests of the command line to stand in."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder with one of pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("photos/more").mkdir(parents=True)
    Image.new("RGB", (4, 3)).save("photos/a.png")
    Image.new("RGB", (4, 3)).save("photos/more/b.png")
    # Models of straw are not looked for before they are loaded.
    monkeypatch.setattr("masqclip.hub.find_model", lambda name, **_: Path(name))
