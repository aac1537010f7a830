"""How a benchmark tells a mistake: as `masqclip` does, in one line and with exit code 2."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from masqclip.cli.console import print_error
from masqclip.errors import MasqclipError, storage_error


@contextmanager
def mistakes_told() -> Iterator[None]:
    """End the process with a line about a mistake, a Ctrl-C, or a disk that refuses something.

    Raises:
        SystemExit: with code 2; 130 after a Ctrl-C, as a shell has it.
    """
    try:
        yield
    except MasqclipError as error:
        print_error(str(error))
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        print_error("interrupted; the files written so far are complete", kind="")
        raise SystemExit(130) from error
    except OSError as error:
        if (told := storage_error(error)) is None:
            raise
        print_error(told)
        raise SystemExit(2) from error


def check_count(option: str, value: float, least: int) -> None:
    """Refuse a number that an option cannot be.

    Raises:
        MasqclipError: it is less than its least.
    """
    if not value >= least:
        raise MasqclipError(f"{option} {value:g}: give {least} or more")


def check_minutes(minutes: float) -> None:
    """Refuse a time that is none or has no end.

    Raises:
        MasqclipError: it is such a time.
    """
    if not 0 < minutes < math.inf:
        raise MasqclipError(f"--minutes {minutes:g}: give more than 0")
