"""The program that people start: the documented commands, bad uploads, and an orderly end."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from running import EXAMPLES, Server, start_server

from forked import MASQCLIP, run
from masqclip import MasqclipError, Segmenter
from masqclip.serve import Client

GUIDE = Path(__file__).parents[2] / "docs" / "serving.md"
BLOCKS = re.findall(r"```bash\n(curl.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:40])
def test_documented_commands_work(block: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "beach.png").write_bytes((EXAMPLES / "beach.png").read_bytes())
    script = "set -euo pipefail\n" + block.replace("http://127.0.0.1:8000", server.url)
    script = re.sub(
        r"^curl |\(curl ", lambda match: match[0] + "--fail-with-body ", script, flags=re.M
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in re.findall(r"(?:-o|>) (\S+\.png)", block):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_there_are_documented_commands() -> None:
    assert len(BLOCKS) >= 5
    assert len(PYTHON) == 1


def test_the_documented_client_works(
    server: Server, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beach.png").write_bytes((EXAMPLES / "beach.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    exec(PYTHON[0].replace("http://127.0.0.1:8000", server.url), space)
    expected = segmenter(EXAMPLES / "beach.png", "rocket, tulip, stuff: sand")
    assert space["found"]["segments"][0]["name"] == expected.segments[0].name  # type: ignore[index]
    np.testing.assert_array_equal(space["mask"], expected.segments[0].mask)
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_the_client_tells_what_the_service_says(server: Server, tmp_path: Path) -> None:
    with Client(server.url, timeout=120) as client:
        assert "masqclip-mini" in client.models()
        for picture, word in ((b"nothing", "not a picture"), (tmp_path / "none.png", "none.png")):
            with pytest.raises(MasqclipError, match=word):
                client.segment(picture, "cat")
    with Client("http://127.0.0.1:1") as client, pytest.raises(MasqclipError, match="reached"):
        client.models()


def test_fifty_megabytes_of_text_are_refused_and_the_service_goes_on(server: Server) -> None:
    text = b"lorem ipsum " * (50_000_000 // 12)
    try:
        answer = httpx.post(f"{server.url}/v1/images", files={"image": text}, timeout=120)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
    except httpx.WriteError:
        pass  # it hung up on us, having answered: no need to take 50 MB
    assert httpx.get(f"{server.url}/readyz").status_code == 200


async def _keep_asking(url: str, picture: bytes, outcomes: list[str]) -> None:
    async with httpx.AsyncClient(timeout=60, headers={"Connection": "close"}) as client:
        while True:
            try:
                answer = await client.post(
                    f"{url}/v1/segment", files={"image": picture}, data={"vocabulary": "car"}
                )
                outcomes.append(str(answer.status_code))
            except httpx.ConnectError:
                return  # no longer accepted
            except httpx.TransportError as error:
                outcomes.append(repr(error))


def test_sigterm_under_load_loses_no_accepted_request(tmp_path: Path) -> None:
    server = start_server(tmp_path / "log.txt", program=True)
    picture = (EXAMPLES / "beach.png").read_bytes()
    outcomes: list[str] = []

    async def ask() -> None:
        asking = [
            asyncio.create_task(_keep_asking(server.url, picture, outcomes)) for _ in range(8)
        ]
        while len(outcomes) < 8:
            await asyncio.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*asking)

    started = time.monotonic()
    asyncio.run(ask())
    assert server.process.wait(60) == 0
    assert time.monotonic() - started < 60
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in log
    # What the service took in stands in its log. A connection that the system had queued when the
    # service stopped listening is reset: nobody took that one in.
    assert outcomes.count("200") == log.count("POST /v1/segment 200")
    assert log.count("POST /v1/segment") == outcomes.count("200")
    assert {outcome.partition("(")[0] for outcome in outcomes} <= {"200", "ReadError"}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--port", "70000"], "--port"),
        (["--threads", "0"], "--threads"),
        (["--batch-size", "0"], "--batch-size"),
        (["--deadline", "0"], "--deadline"),
        (["--label-studio-url", "studio"], "--label-studio-url"),
        (["--model", "nowhere", "--port", "18765"], "nowhere"),
    ],
)
def test_a_mistake_is_told_in_one_line(options: list[str], word: str, tmp_path: Path) -> None:
    done = run(MASQCLIP, "serve", *options, scratch=tmp_path)
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count("\n") == 1
