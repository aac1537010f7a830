"""How a process that trains on a CPU holds its memory."""

from __future__ import annotations

import ctypes
import sys

if sys.platform != "win32":
    import resource

#: Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def peak_memory() -> int:
    """The most bytes that this process has held so far; 0 where the system does not say."""
    most = 0
    if sys.platform != "win32":
        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return most


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, for the next step, instead of giving it back to the system.

    A step frees what it computed, and the next one takes as much again. What was given back comes
    page by page, each filled with zeros first: a tenth of the time of a large batch of small
    pictures. The process holds no more than at its peak. Another C library goes on as it does.

    Returns:
        Whether this one is glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS; Windows
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
