"""Running the service until it is told to stop, and stopping without losing a request."""

from __future__ import annotations

import gc
import os
import signal
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from masqclip.serve.connections import affordable_connections, bounded_protocol
from masqclip.serve.logs import log_to_stderr

#: Seconds in which accepted requests are finished after SIGTERM; then they are given up.
GRACE_SECONDS = 7
#: Seconds after which the process ends whatever its threads do.
LAST_SECONDS = 8.5


class _Server(uvicorn.Server):
    """uvicorn's, which ends in time even when a thread does not."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            # An interpreter waits for its threads, and one may be in the middle of a long picture.
            timer = threading.Timer(LAST_SECONDS, os._exit, (0,))
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)


def run_app(app: FastAPI, *, host: str, port: int, max_connections: int) -> None:
    """Serve an app; returns after SIGINT or SIGTERM, when all that was accepted is answered."""
    log_to_stderr()
    gc.freeze()  # what is loaded stays: no collection need look at it, the last one included
    # uvicorn raises a signal that it handled once more when it is done, so that a process dies as
    # people expect. An orderly end is a success, though, for whoever supervises the service.
    signal.signal(signal.SIGTERM, _end)
    connections, backlog = affordable_connections(max_connections)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=bounded_protocol(connections, backlog),
        ws="none",
        backlog=backlog,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    _Server(config).run()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
