"""The service in this process, and once as the program that people start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from masqclip import Segmenter
from masqclip.serve.app import create_app
from masqclip.serve.settings import ServeSettings

EXAMPLES = Path(__file__).parents[2] / "examples"

Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


@pytest.fixture(scope="session")
def beach() -> bytes:
    return (EXAMPLES / "beach.png").read_bytes()


@pytest.fixture
def serving(segmenter: Segmenter) -> Serving:
    """A client of a service with these settings, in this process."""

    @asynccontextmanager
    async def start(**settings: object) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(segmenter, ServeSettings(**settings))  # type: ignore[arg-type]
        # What is raised in the service is answered as a problem, not raised in the test.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            client.app = app  # type: ignore[attr-defined]
            yield client

    return start


@dataclass
class Server:
    """A running `masqclip serve`."""

    url: str
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(log: Path, *options: str) -> Server:
    """Start the program and wait until it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "masqclip.cli.main", "serve", "--port", str(port), *options]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=dict(os.environ))
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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start_server(tmp_path_factory.mktemp("serve") / "log.txt")
    yield started
    started.process.terminate()
    assert started.process.wait(60) == 0
