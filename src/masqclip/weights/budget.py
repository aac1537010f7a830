"""How much memory a file may ask for: what it holds, and a little more."""

from __future__ import annotations

from pickle import UnpicklingError

# Tied weights are one storage under two names; more than that nobody writes.
_TIMES = 4
_SLACK = 16_000_000


class Budget:
    """Counts the bytes of the tensors that a file describes, which may share what it holds.

    Args:
        file_bytes: of the file.
    """

    def __init__(self, file_bytes: int) -> None:
        self._left = _TIMES * file_bytes + _SLACK

    def spend(self, size: int) -> None:
        """Count a tensor of `size` bytes.

        Raises:
            pickle.UnpicklingError: all of them are far larger than the file.
        """
        self._left -= size
        if self._left < 0:
            raise UnpicklingError("its tensors are many times larger than the file itself")
