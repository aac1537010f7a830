"""The service's own routes against the `Segmenter` that they share, and every way to be refused."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import tempfile
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from running import Serving

from masqclip import Segmenter
from masqclip.data.label_maps import rgb_to_ids
from masqclip.data.rle import decode_rle

NAMES = "rocket, tulip, car, snake, stuff: sand"


def picture(width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    side = (60_000).to_bytes(4, "big")
    header = chunk(b"IHDR", side + side + b"\x08\x02\x00\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(b"\0" * 9))
        + chunk(b"IEND", b"")
    )


def assert_problem(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert set(document) == {"type", "title", "status", "detail"}
    for word in words:
        assert word in document["detail"]


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_answers_equal_the_segmenters(
    serving: Serving, segmenter: Segmenter, beach: bytes, task: Any
) -> None:
    expected = segmenter(beach, NAMES, task, min_score=0.2)
    wish = {"vocabulary": NAMES, "task": task, "min_score": 0.2}

    async def run() -> None:
        async with serving() as client:
            form = {key: str(value) for key, value in wish.items()}
            once = await client.post("/v1/segment", files={"image": beach}, data=form)
            image = (await client.post("/v1/images", files={"image": beach})).json()
            kept = await client.post(f"/v1/images/{image['id']}/segment", json=wish)
            drawn = await client.post(
                f"/v1/images/{image['id']}/segment", json=wish, headers={"Accept": "image/png"}
            )
        assert (image["width"], image["height"]) == (512, 512)
        assert once.content == kept.content
        document = once.json()
        for segment in document["segments"]:
            assert len(segment.pop("colour")) == 7
        assert document == json.loads(json.dumps(expected.to_json()))
        assert len(document["segments"]) >= 4
        overlay = np.asarray(Image.open(io.BytesIO(drawn.content)))
        np.testing.assert_array_equal(overlay, np.asarray(expected.plot()))

    asyncio.run(run())


def test_a_panoptic_png_holds_the_same_ids_as_the_masks(serving: Serving, beach: bytes) -> None:
    async def run() -> None:
        async with serving() as client:
            image = (await client.post("/v1/images", files={"image": beach})).json()
            path, wish = f"/v1/images/{image['id']}/segment", {"vocabulary": NAMES}
            masks = (await client.post(path, json=wish)).json()
            accept = {"Accept": 'image/png; profile="panoptic"'}
            answer = await client.post(path, json=wish, headers=accept)
            things = await client.post(path, json={**wish, "task": "instance"}, headers=accept)
            text = await client.post(path, json=wish, headers={"Accept": "text/html"})
        assert answer.headers["content-type"] == "image/png"
        ids = rgb_to_ids(np.asarray(Image.open(io.BytesIO(answer.content))))
        for segment in masks["segments"]:
            np.testing.assert_array_equal(ids == segment["id"], decode_rle(segment["segmentation"]))
        assert_problem(things, 406, "panoptic")
        assert_problem(text, 406, "image/png")

    asyncio.run(run())


def test_together_or_alone_the_answers_are_the_same(serving: Serving) -> None:
    """Many at once, in batches; then each by itself on a service that makes none."""
    pictures = [picture(seed=seed) for seed in range(6)]

    async def ask(client: httpx.AsyncClient, data: bytes) -> bytes:
        form = {"vocabulary": "car, tulip", "min_score": "0"}
        return (await client.post("/v1/segment", files={"image": data}, data=form)).content

    async def run() -> None:
        async with serving() as client:
            together = await asyncio.gather(*(ask(client, data) for data in pictures))
            batches = (await client.get("/metrics")).text
        async with serving(batch_size=1) as client:
            alone = [await ask(client, data) for data in pictures]
        for one, other in zip(together, alone, strict=True):
            first, second = json.loads(one), json.loads(other)
            assert [s["name"] for s in first["segments"]] == [s["name"] for s in second["segments"]]
            for a, b in zip(first["segments"], second["segments"], strict=True):
                assert a["score"] == pytest.approx(b["score"], abs=2e-4)
        assert 'masqclip_batch_size_bucket{le="1.0"} 7.0' not in batches

    asyncio.run(run())


def test_a_vocabulary_is_written_in_many_ways_but_never_read_from_a_file(
    serving: Serving, tmp_path: Any
) -> None:
    secret = tmp_path / "names.txt"
    secret.write_text("car\ntulip\n")
    ways: list[Any] = [
        "car, stuff: sand",
        ["car", "stuff: sand"],
        {"car": ["car", "taxi"], "sand": []},
        "car, taxi\nstuff: sand",
        "stickers",
    ]

    async def run() -> None:
        async with serving() as client:
            image = (await client.post("/v1/images", files={"image": picture()})).json()
            path = f"/v1/images/{image['id']}/segment"
            for way in ways:
                answer = await client.post(path, json={"vocabulary": way})
                assert answer.status_code == 200, answer.text
                assert "car" in answer.json()["vocabulary"]
            answer = await client.post(path, json={"vocabulary": str(secret)})
            assert answer.json()["vocabulary"] == [str(secret)]
            for bad in ("", "car, car", [], ["car", ""], 7):
                assert_problem(await client.post(path, json={"vocabulary": bad}), 422)
            assert_problem(await client.post(path, json={"vocabulary": "a", "task": "x"}), 422)
            assert_problem(await client.post(path, json={"vocabulary": "a", "words": 1}), 422)
            assert_problem(await client.post(path, content=b"{"), 422)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"", 422, id="0 bytes"),
        pytest.param(b"no picture at all", 422, id="text"),
        pytest.param(picture(200, 200)[:4000], 422, id="cut short"),
        pytest.param(bomb(), 422, id="bomb"),
        pytest.param(b"%PDF-1.7\n", 422, id="document"),
        pytest.param(b"x" * 1_200_000, 413, id="too large"),
    ],
)
def test_bad_pictures_are_refused_and_the_next_good_one_is_taken(
    serving: Serving, data: bytes, status: int
) -> None:
    async def run() -> None:
        async with serving(max_upload_bytes=1_000_000) as client:
            for path in ("/v1/images", "/v1/segment"):
                form = {"vocabulary": "car"} if path == "/v1/segment" else {}
                files = {"image": ("a.png", data)}
                assert_problem(await client.post(path, files=files, data=form), status)
            raw = await client.post(
                "/v1/images", content=data, headers={"Content-Type": "image/png"}
            )
            assert_problem(raw, status)
            assert_problem(await client.post("/v1/images", json={"image": "x"}), 415)
            broken = {"Content-Type": "multipart/form-data; boundary=x"}
            assert_problem(await client.post("/v1/images", content=b"abc", headers=broken), 400)
            good = await client.post("/v1/images", files={"image": picture()})
            assert good.status_code == 201

    asyncio.run(run())


def test_a_body_is_counted_whatever_it_announces(serving: Serving) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 50_000_000:
            sent += 100_000
            yield b"x" * 100_000

    async def run() -> None:
        async with serving(max_upload_bytes=1_000_000) as client:
            headers = {"Content-Type": "image/png"}
            answer = await client.post("/v1/images", content=endless(), headers=headers)
            assert_problem(answer, 413, "1 MB")
            headers = {"Content-Type": "application/json"}
            answer = await client.post("/v1/predict", content=endless(), headers=headers)
            assert_problem(answer, 413)

    asyncio.run(run())


def test_too_many_pixels(serving: Serving) -> None:
    async def run() -> None:
        async with serving(max_pixels=1000) as client:
            answer = await client.post("/v1/images", files={"image": picture()})
            assert_problem(answer, 422, "1,200 pixels")

    asyncio.run(run())


def test_the_store_is_bounded_and_pictures_can_be_forgotten(serving: Serving) -> None:
    async def upload(client: httpx.AsyncClient, seed: int) -> str:
        answer = await client.post("/v1/images", files={"image": picture(seed=seed)})
        return str(answer.json()["id"])

    async def run() -> None:
        async with serving() as client:
            one = await upload(client, 0)
            size = client.app.state.engine.store.bytes  # type: ignore[attr-defined]
            again = await upload(client, 0)
            assert again != one  # nobody gets at another's upload by having the same file
            assert len(client.app.state.engine.store) == 1  # type: ignore[attr-defined]
            assert (await client.delete(f"/v1/images/{again}")).status_code == 204
            assert (await client.get(f"/v1/images/{one}")).status_code == 200
        async with serving(store_bytes=2 * size) as client:
            first, second = await upload(client, 0), await upload(client, 1)
            await client.get(f"/v1/images/{first}")  # used, so that the second one leaves
            third = await upload(client, 2)
            found = [(await client.get(f"/v1/images/{key}")).status_code
                     for key in (first, second, third)]  # fmt: skip
            assert found == [200, 404, 200]
            assert (await client.delete(f"/v1/images/{first}")).status_code == 204
            wish = {"vocabulary": "car"}
            gone = await client.post(f"/v1/images/{first}/segment", json=wish)
            assert_problem(gone, 404, "upload it again")
            assert_problem(await client.delete(f"/v1/images/{first}"), 404)

    asyncio.run(run())


def test_when_too_many_wait_the_next_is_told_when_to_come_back(serving: Serving) -> None:
    async def run() -> None:
        async with serving(max_requests=2) as client:
            answers = await asyncio.gather(
                *(
                    client.post("/v1/images", files={"image": picture(300, 300, seed)})
                    for seed in range(6)
                )
            )
            refused = [answer for answer in answers if answer.status_code != 201]
            assert len(answers) - len(refused) >= 2
            assert refused
            for answer in refused:
                assert_problem(answer, 429, "try again")
                assert int(answer.headers["retry-after"]) >= 1
            later = await client.post("/v1/images", files={"image": picture()})
            assert later.status_code == 201

    asyncio.run(run())


def test_a_slow_machine_takes_in_less(serving: Serving) -> None:
    async def run() -> None:
        async with serving(max_wait=5.0) as client:
            client.app.state.engine._encode_seconds = 6.0  # type: ignore[attr-defined]
            jobs = [
                client.post("/v1/images", files={"image": picture(300, 300, seed)})
                for seed in range(3)
            ]
            statuses = sorted(answer.status_code for answer in await asyncio.gather(*jobs))
            assert statuses == [201, 429, 429]

    asyncio.run(run())


def test_a_deadline_is_kept(serving: Serving) -> None:
    async def run() -> None:
        async with serving(deadline=0.001) as client:
            answer = await client.post("/v1/images", files={"image": picture(400, 400)})
            assert_problem(answer, 504, "0.001 s")
            assert client.app.state.engine._pending == 0  # type: ignore[attr-defined]

    asyncio.run(run())


def test_with_a_token_only_who_has_it_is_served(serving: Serving) -> None:
    ways = [
        {"Authorization": "Bearer secret"},
        {"Authorization": "Basic dXNlcjpzZWNyZXQ="},
        {"Token": "secret"},
    ]

    async def run() -> None:
        async with serving(token="secret") as client:
            for path in ("/", "/static/main.js", "/healthz", "/readyz", "/health"):
                assert (await client.get(path)).status_code == 200
            wrong = [{}, {"Authorization": "Bearer other"}, {"Authorization": "Basic ?"}]
            for headers in wrong:
                assert_problem(await client.get("/v1/models", headers=headers), 401, "token")
            assert_problem(await client.get("/metrics"), 401)
            for headers in ways:
                assert (await client.get("/v1/models", headers=headers)).status_code == 200

    asyncio.run(run())


def test_other_origins_are_let_in_only_when_named(serving: Serving) -> None:
    async def run() -> None:
        origin = {"Origin": "https://tool.example"}
        async with serving() as client:
            answer = await client.get("/v1/models", headers=origin)
            assert "access-control-allow-origin" not in answer.headers
        async with serving(cors_origins=("https://tool.example",), token="x") as client:
            asked = {**origin, "Access-Control-Request-Method": "POST"}
            answer = await client.options("/v1/images", headers=asked)
            assert answer.headers["access-control-allow-origin"] == "https://tool.example"

    asyncio.run(run())


def test_nothing_of_a_user_reaches_the_disk_or_the_log(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a temporary file")

    for name in ("NamedTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    big = picture(900, 900)  # well over the megabyte at which forms go to the disk by default

    async def run() -> str:
        async with serving() as client:
            with caplog.at_level(logging.INFO, "masqclip.serve"):
                image = await client.post("/v1/images", files={"image": ("private.png", big)})
                assert image.status_code == 201, image.text
                key = str(image.json()["id"])
                await client.post(f"/v1/images/{key}/segment", json={"vocabulary": "secretword"})
                return key

    key = asyncio.run(run())
    told = caplog.text
    assert "POST /v1/images/{image_id}/segment 200" in told
    assert not [word for word in (key, "private", "secretword") if word in told]


def test_state_and_models(serving: Serving) -> None:
    async def run() -> None:
        async with serving() as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            model = (await client.get("/v1/models")).json()["data"]["masqclip-mini"]
            assert "no photographs" in model["summary"]
            lists = {
                entry["name"]: entry for entry in (await client.get("/v1/vocabularies")).json()
            }
            assert len(lists["stickers"]["stuff"]) == 12
            for entry in lists.values():
                assert set(entry["synonyms"]) == {*entry["things"], *entry["stuff"]}
            page = await client.get("/")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            metrics = (await client.get("/metrics")).text
            assert 'masqclip_requests_total{route="/v1/models",status="200"} 1.0' in metrics
            assert_problem(await client.get("/nowhere"), 404)
            assert_problem(await client.put("/v1/models"), 405)
            client.app.state.ready = False  # type: ignore[attr-defined]
            assert_problem(await client.get("/readyz"), 503)

    asyncio.run(run())
