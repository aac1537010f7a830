"""The service in this process, and once as the program that people start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from running import EXAMPLES, Server, Serving, start_server

from masqclip import Segmenter
from masqclip.serve.app import create_app
from masqclip.serve.settings import ServeSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start_server(tmp_path_factory.mktemp("serve") / "log.txt")
    yield started
    started.process.terminate()
    assert started.process.wait(60) == 0


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def page(browser: Browser, server: Server, complaints: list[str]) -> Iterator[Page]:
    """A page that fails the test when it complains, or asks another host for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    opened = context.new_page()
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    opened.on(
        "request",
        lambda request: (
            complaints.append(request.url)
            if not request.url.startswith((server.url, "blob:", "data:"))
            else None
        ),
    )
    opened.goto(server.url)
    yield opened
    context.close()
    assert complaints == []
