"""The service's log: to stderr, and never more lines a second than somebody could want to read."""

from __future__ import annotations

import logging
import sys
import time

#: Lines a second in the long run, and at once.
LINES_A_SECOND = 50.0
LINES_AT_ONCE = 500.0


class RateLimit(logging.Filter):
    """Leaves out lines beyond a rate, and says how many when there is room again."""

    def __init__(self) -> None:
        super().__init__()
        self._room, self._last, self._left_out = LINES_AT_ONCE, time.monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        now = time.monotonic()
        self._room = min(LINES_AT_ONCE, self._room + (now - self._last) * LINES_A_SECOND)
        self._last = now
        if self._room < 1:
            self._left_out += 1
            return False
        self._room -= 1
        if self._left_out:
            record.msg = f"{record.getMessage()} (before it, {self._left_out} lines are left out)"
            record.args, self._left_out = None, 0
        return True


def log_to_stderr() -> None:
    """Send the lines of the service, of uvicorn and of asyncio to stderr, within the rate."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(RateLimit())
    for name in ("masqclip.serve", "uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
