"""docs/checkpoints.md names every tensor of every system's file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small import joined

from masqclip.baselines.loading import SYSTEMS

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()


def documented() -> re.Pattern[str]:
    """What matches a name of the page's first table: N is a number, * the rest of a name."""
    names = []
    for row in re.findall(r"^\| (`.*?) \|", PAGE.split("\n## ")[0], re.MULTILINE):
        for name in re.findall(r"`(.*?)`", row):
            names.append(names[-1].rpartition(".")[0] + name if name[0] == "." else name)
    marks = {".": r"\.", "N": r"\d+", "*": ".+"}
    return re.compile("|".join(re.sub(r"[.*]|\bN\b", lambda m: marks[m[0]], n) for n in names))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_tensor_is_documented(system: str) -> None:
    known = documented()
    assert [n for n in joined(SYSTEMS[system]).state_dict() if not known.fullmatch(n)] == []
    assert f"`{system}`" in PAGE
