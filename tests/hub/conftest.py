"""A hub of our own, which a test fills and asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, own_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that is served, with a cache and a home of its own."""
    with own_hub(tmp_path, monkeypatch) as served:
        yield served
