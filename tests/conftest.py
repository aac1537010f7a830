"""What holds for all tests: a process of its own share, with nothing to clean up twice."""

from __future__ import annotations

import gc
import os

# Models this small are slower with several threads, and tests run in a process a core. torch reads
# it when it is imported; programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imports make a million objects that live to the end: the collector is to leave them alone.
gc.disable()


def pytest_collection_finish() -> None:
    """Put aside what imports made, for good, and collect what tests make."""
    gc.freeze()
    gc.enable()
