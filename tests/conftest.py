"""What holds for every test: one thread of arithmetic a process.

The models of the tests are so small that threads cost them more than they bring, and the tests
run in as many processes as there are cores. torch reads this once, when it is imported; programs
that the tests start inherit it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
