"""Requests at random: whatever comes, the answer is one of the documented ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from http_requests import cases

from masqclip import Segmenter
from masqclip.serve.app import create_app
from masqclip.serve.security import SECURITY_HEADERS

PICTURE = Path(__file__).parents[2] / "examples" / "beach.png"
DOCUMENTED = {
    200, 201, 204, 206, 304, 400, 401, 403, 404, 405, 406, 408, 413, 415, 416, 421, 422, 429,
}  # fmt: skip


def test_made_up_requests_get_documented_answers() -> None:
    picture = PICTURE.read_bytes()
    app = create_app(Segmenter.from_pretrained("masqclip-mini", device="cpu"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def run() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            identifier = (await client.post("/v1/images", files={"image": picture})).json()["id"]
            for case in cases(7, 250, picture=picture, identifier=identifier):
                answer = await client.request(
                    case.method, case.path, headers=case.headers, content=case.body
                )
                told = f"{case.name} {case.method} {case.path}: {answer.status_code}"
                assert answer.status_code in DOCUMENTED, told
                if answer.status_code >= 400 and answer.status_code != 416:
                    assert answer.headers["content-type"] == "application/problem+json", told
                for name in SECURITY_HEADERS:
                    assert name in answer.headers, told

    asyncio.run(run())
