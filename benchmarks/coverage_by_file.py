"""A pytest plugin for `mutants.py`: which test files run which lines, and how long each takes.

Writes ``$MASQCLIP_COVERAGE/PROCESS.json``: per test file its seconds, and per line of the package
the test files that ran it. What runs on import belongs to no test file.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

import masqclip

_ROOT = Path(masqclip.__file__).parent
_measured = coverage.Coverage(data_file=None, source=[str(_ROOT)])
_seconds: dict[str, float] = defaultdict(float)


def pytest_configure() -> None:
    """Begin to measure."""
    _measured.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Put down to its file what a test runs, its fixtures included."""
    file = item.location[0]
    begun = time.monotonic()
    _measured.switch_context(file)
    outcome = yield
    _measured.switch_context("")
    _seconds[file] += time.monotonic() - begun
    return outcome


def pytest_sessionfinish() -> None:
    """Write what was measured."""
    _measured.stop()
    data = _measured.get_data()
    lines = {
        str(Path(file).relative_to(_ROOT)): {
            str(line): sorted(filter(None, contexts))
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    out = Path(os.environ["MASQCLIP_COVERAGE"]) / f"{os.getpid()}.json"
    out.write_text(json.dumps({"seconds": _seconds, "lines": lines}))
