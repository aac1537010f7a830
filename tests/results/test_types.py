"""What types a user's program sees: none of the public calls is `Any`, and each is what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CALLS = HERE / "typed_calls.py"
# NumPy's own alias of arrays of any shape.
_SHAPE = "tuple[Any, ...], "


@pytest.fixture(scope="module")
def revealed() -> dict[int, str]:
    """The type that mypy tells for each line of the calls.

    Stand-ins of libraries that have no types, or are heavy, show that theirs are handed on.
    """
    api = pytest.importorskip("mypy.api")
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.chdir(ROOT)
        patched.setenv("MYPYPATH", f"{HERE / 'stubs'}:{ROOT / 'src'}")
        # The checks' own cache: torch is not read again.
        out, problems, status = api.run(["--config-file", "pyproject.toml", str(CALLS)])
    assert status == 0, out + problems
    found = re.findall(r'typed_calls\.py:(\d+): note: Revealed type is "(.*)"$', out, re.MULTILINE)
    return {int(line): told.replace(_SHAPE, "") for line, told in found}


def asked() -> dict[int, str]:
    """The line of each `reveal_type`, and what its comment says."""
    lines = enumerate(CALLS.read_text("utf-8").splitlines(), start=1)
    return {
        number: line.rpartition("  # ")[2] for number, line in lines if "    reveal_type(" in line
    }


def test_every_call_has_the_type_that_it_says(revealed: dict[int, str]) -> None:
    expected = asked()
    assert expected.keys() == revealed.keys()
    assert len(expected) > 100
    wrong = {
        line: (said, revealed[line])
        for line, said in expected.items()
        if not all(word in revealed[line] for word in re.findall(r"\w+", said))
    }
    assert wrong == {}


def test_none_is_any(revealed: dict[int, str]) -> None:
    lines = CALLS.read_text("utf-8").splitlines()
    untyped = {lines[n - 1].strip(): told for n, told in revealed.items() if "Any" in told}
    assert untyped == {}
