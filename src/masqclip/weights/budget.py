"""How much a file may ask for, in memory and in copying: what it holds, and a little more."""

from __future__ import annotations

from pickle import UnpicklingError

# Tied weights are one storage under two names; more than that nobody writes.
_TIMES = 4
_SLACK = 16_000_000


class Budget:
    """Counts the bytes of what a file describes, which may share what it holds.

    Args:
        file_bytes: of the file.
    """

    def __init__(self, file_bytes: int) -> None:
        self._left = _TIMES * file_bytes + _SLACK

    def spend(self, size: int) -> None:
        """Count something of `size` bytes.

        Raises:
            pickle.UnpicklingError: all of it is far larger than the file.
        """
        self._left -= size
        if self._left < 0:
            raise UnpicklingError("what it describes is many times larger than the file itself")
