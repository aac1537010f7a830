"""Running the service until it is told to stop, and stopping without losing a request."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

#: Seconds in which accepted requests are finished after SIGTERM; then they are given up.
GRACE_SECONDS = 8


def run_app(app: FastAPI, *, host: str, port: int) -> None:
    """Serve an app; returns after SIGINT or SIGTERM, when all that was accepted is answered."""
    _log_to_stderr()
    gc.freeze()  # what is loaded stays: no collection need look at it, the last one included
    # uvicorn raises a signal that it handled once more when it is done, so that a process dies as
    # people expect. An orderly end is a success, though, for whoever supervises the service.
    signal.signal(signal.SIGTERM, _end)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    uvicorn.Server(config).run()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("masqclip.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
