"""The service as people start it, and what the tests of it share: see `conftest.py`."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from forked import MASQCLIP, Forked

EXAMPLES = Path(__file__).parents[2] / "examples"

Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@dataclass
class Server:
    """A running `masqclip serve`."""

    url: str
    process: subprocess.Popen[bytes] | Forked


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(log: Path, *options: str, program: bool = False) -> Server:
    """Start the service, forked or as the program that people start; wait until it is ready."""
    port = free_port()
    words = ["serve", "--port", str(port), *options]
    process: subprocess.Popen[bytes] | Forked
    if program:
        command = [sys.executable, "-m", "masqclip.cli.main", *words]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
    else:
        process = Forked(MASQCLIP, *words, out=log)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180  # loading a model takes long on a busy machine
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return Server(url, process)
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the service did not start:\n{log.read_text()}")
