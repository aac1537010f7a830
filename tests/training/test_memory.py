"""Memory that a step frees is there for the next one, and is not taken page by page again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from masqclip.training.memory import keep_freed_memory

#: Pages of 64 MiB that are taken and given back, the second time round.
PAGES = """
import resource
import numpy as np
from masqclip.training.memory import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = np.ones(8 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def has_mallopt() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not has_mallopt(), reason="is about glibc")
@pytest.mark.parametrize("keep", [False, True])
def test_pages_are_taken_once(keep: bool) -> None:
    code = PAGES.format(keep=keep)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Huge pages may make a few of many, on machines that have them.
    assert int(run.stdout) < 5 if keep else int(run.stdout) >= 30


def test_another_c_library_goes_on_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: object) -> object:
        raise TypeError("no library without a name")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not keep_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
