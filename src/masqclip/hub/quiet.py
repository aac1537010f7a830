"""Holding back what transformers says of its own accord."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Quiet:
    """How many are at work that want transformers quiet, and what the first of them found set."""

    lock = threading.Lock()
    holders = 0
    level = 0
    bars = False


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back transformers' progress bars and advice: what matters is said by our own errors.

    The settings are the process's: of threads that overlap, the first changes them and the last
    puts them back.
    """
    from transformers.utils import logging

    with _Quiet.lock:
        if _Quiet.holders == 0:
            _Quiet.level, _Quiet.bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        _Quiet.holders += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.holders -= 1
            if _Quiet.holders == 0:
                logging.set_verbosity(_Quiet.level)
                if _Quiet.bars:
                    logging.enable_progress_bar()
