"""Words and pictures as clients send them: forms, JSON, base64, and letters that are none."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from running import Serving

from masqclip.clip.category import Category
from masqclip.clip.saved_vocabulary import to_json
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.serve import Client
from masqclip.serve.labels import asked_labels
from masqclip.serve.names_request import NamesRequest
from masqclip.serve.problems import Problem
from masqclip.serve.settings import ServeSettings
from masqclip.serve.uploads import from_data_uri
from masqclip.serve.x_anylabeling import read_prompt

HALF = "\ud800"


def names_of(serving: Serving, beach: bytes, **fields: Any) -> Any:
    """The vocabulary of the answer to a form, or the detail of its refusal."""

    async def run() -> httpx.Response:
        async with serving() as client:
            return await client.post("/v1/segment", files={"image": beach}, data=fields)

    answer = asyncio.run(run())
    assert answer.status_code in (200, 422), answer.text
    document = answer.json()
    return document["vocabulary"] if answer.status_code == 200 else document["detail"]


@pytest.mark.parametrize(
    ("vocabulary", "names"),
    [
        (["car", "rocket"], ["car", "rocket"]),
        (["car, tulip", "rocket\nsand, beach", "", '["a, b"]'],
         ["car", "tulip", "rocket", "sand", "a, b"]),
        ('["traffic light, red", "car"]', ["traffic light, red", "car"]),
        ('{"car": ["car", "taxi"], "sand": "beach, dune"}', ["car", "sand"]),
        ('{"0": "car", "1": "sand"}', ["car", "sand"]),
        ("car, dog\n", ["car", "dog"]),
        ("TCP/IP", ["TCP/IP"]),
        ("/etc/hostname", ["/etc/hostname"]),
        ("names.txt", ["names.txt"]),
    ],
)  # fmt: skip
def test_the_words_of_a_form(
    serving: Serving, beach: bytes, vocabulary: Any, names: list[str]
) -> None:
    assert names_of(serving, beach, vocabulary=vocabulary) == names


def test_repeated_fields_are_joined_or_refused(serving: Serving, beach: bytes) -> None:
    words = {"vocabulary": "car, sand, sky"}
    assert names_of(serving, beach, **words, stuff=["sand", "sky"]) == ["car", "sand", "sky"]
    told = names_of(serving, beach, **words, stuff=["sand", "wet sky"])
    assert "the stuff name 'wet sky' is not in the vocabulary" in told
    assert "twice" in names_of(serving, beach, vocabulary=["car", "car"])
    assert "task: the form holds it 2 times" in names_of(
        serving, beach, **words, task=["semantic", "instance"]
    )
    assert "empty" in names_of(serving, beach, vocabulary=["", " "])
    assert "this service takes" in names_of(serving, beach, vocabulary=["ade20k-847"] * 9)


def test_several_texts_lose_nothing() -> None:
    mean = (2.0, 2.0, 0.5)
    saved = Vocabulary(
        (Category("mug", min_score=0.4),), calibration=mean, parents=(("mug", "cup"),)
    )
    texts = ("animal > dog, cat", json.dumps(to_json(saved.document())))
    words = NamesRequest.from_texts(texts).words(9)
    assert words.paths == (("animal", "dog"), ("animal", "cat"), ("cup", "mug"))
    assert (words.calibration, words.categories[2].min_score) == (mean, 0.4)
    for texts in (("car", "everything"), ("everything", "car")):
        with pytest.raises(MasqclipError, match="'everything' is no list of names"):
            NamesRequest.from_texts(texts).words(9)


@pytest.mark.parametrize("path", ["/v1/images/{id}/segment", "/v1/predict", "/predict"])
def test_half_characters_are_refused_everywhere(serving: Serving, beach: bytes, path: str) -> None:
    picture = "data:image/png;base64," + base64.b64encode(beach).decode()
    config = (
        '<View><Image name="i" value="$p"/><BrushLabels name="l" toName="i">'
        f'<Label value="{HALF}"/></BrushLabels></View>'
    )
    bodies: list[dict[str, Any]] = [
        {"vocabulary": f"car{HALF}"}, {"vocabulary": [f"car{HALF}"]}, {"vocabulary": {HALF: []}},
        {"vocabulary": {"car": [HALF]}}, {"vocabulary": "car", "stuff": HALF}, {HALF: 1},
        {"vocabulary": "car", "distractors": [HALF]}, {"vocabulary": "car", "task": HALF},
        {"vocabulary": json.dumps([HALF])},
    ]  # fmt: skip
    if path == "/v1/predict":
        bodies = [{"image": picture, "params": {"text_prompt": HALF}}, {"image": HALF}]
    elif path == "/predict":
        bodies = [{"tasks": [{"data": {"p": picture}}], "label_config": config}]

    async def run() -> None:
        async with serving() as client:
            key = (await client.post("/v1/images", files={"image": beach})).json()["id"]
            for body in bodies:
                answer = await client.post(
                    path.format(id=key),
                    content=json.dumps(body),
                    headers={"Content-Type": "application/json"},
                )
                assert answer.status_code == 422, (body, answer.text)

    asyncio.run(run())


def test_half_characters_of_settings_and_clients_are_one_line() -> None:
    for setting in ("token", "label_studio_token"):
        for value in (HALF, "\u00e9", "a\nb"):
            with pytest.raises(MasqclipError, match="ASCII"):
                ServeSettings(**{setting: value})
    assert ServeSettings(token="a-Z_9 +/=").token
    for make in (lambda: Client(HALF), lambda: Client(token=HALF), lambda: Client().upload(HALF)):
        with pytest.raises(MasqclipError, match="cannot be"):
            make()
    with Client("http://127.0.0.1:9") as client, pytest.raises(MasqclipError, match="reached"):
        client.segment("0" * 32, HALF)


def test_base64_in_the_ways_it_is_written() -> None:
    data = bytes(range(256)) + b"\xfb\xff\xfe"
    code = base64.b64encode(data + b"1").decode()
    address = base64.urlsafe_b64encode(data + b"1").decode()
    for text in (
        code, address, code.rstrip("="), address.rstrip("="),
        base64.encodebytes(data + b"1").decode(),
        "\r\n".join(code[i : i + 76] for i in range(0, len(code), 76)), f"  {code}\n",
    ):  # fmt: skip
        for head in (
            "",
            "data:image/png;base64,",
            "DATA:;charset=utf-8;BASE64,",
            "data:;base64,\n",
        ):
            assert from_data_uri(head + text) == data + b"1"
    assert from_data_uri("data:image/png;base64," + code.replace("+", "%2B")) == data + b"1"
    for broken in ("a", "???", "aaaa=aaaa", "data:image/svg+xml,<svg/>", "http://x/a,b", HALF):
        with pytest.raises(Problem, match="base64"):
            from_data_uri(broken)


def test_a_heic_picture_is_called_one(serving: Serving) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200

    async def run() -> str:
        async with serving() as client:
            files = {"image": ("photo.jpg", heic)}
            answer = await client.post("/v1/images", files=files)
            assert answer.status_code == 422
            return str(answer.json()["detail"])

    assert "HEIC" in asyncio.run(run())


@pytest.mark.parametrize(
    ("typed", "labels"),
    [
        ("rocket,,tulip", ["rocket", "tulip"]),
        (" ,rocket, tulip ,", ["rocket", "tulip"]),
        ("rocket.tulip", ["rocket", "tulip"]),
        ("rocket . tulip .", ["rocket", "tulip"]),
        ("rocket. tulip", ["rocket", "tulip"]),
        ("rocket . tulip, car.", ["rocket", "tulip", "car"]),
        ("rocket\r\ntulip;\n\ncar", ["rocket", "tulip", "car"]),
        ("rocket\uff0ctulip\u3001car\uff1bsnake", ["rocket", "tulip", "car", "snake"]),
        ("Rocket, rocket, ROCKET", ["Rocket"]),
        ("yellow  sand, stuff: sand, Background", ["yellow  sand", "stuff: sand"]),
        ("St. Bernard, U.S. flag, 1.5 l bottle", ["St. Bernard", "U.S. flag", "1.5 l bottle"]),
        ('"Node.js", "traffic light, red"', ["Node.js", "traffic light, red"]),
        ('"a.b". car', ["a.b", "car"]),
        ('car. "traffic, light"', ["car", "traffic, light"]),
        ('stuff: "sand, wet", 19" rack', ["stuff: sand, wet", '19" rack']),
        ("TCP/IP, ./x.txt", ["TCP/IP", "./x.txt"]),
    ],
)
def test_a_prompt_is_read_as_people_type_it(typed: str, labels: list[str]) -> None:
    assert list(read_prompt(typed)) == labels


def test_labels_that_clip_reads_alike_are_asked_for_once() -> None:
    written = ["R&D", "sand", "R&amp;D", "\uff33and", "stuff: SAND", "\uff22ackground", "t - shirt"]
    assert asked_labels([*written, "T-Shirt"], what="a label") == ("R&D", "sand", "t - shirt")


@pytest.mark.parametrize(
    ("fields", "accept", "status", "told"),
    [
        ({"vocabulary": "car, " + "word " * 90}, "*/*", 422, "tokens long"),
        ({"vocabulary": "car"}, "text/html", 406, "accepted are"),
        ({"vocabulary": "car", "task": "instance"}, 'image/png;profile="panoptic"', 406, "no map"),
    ],
)
def test_a_bad_wish_costs_no_encoding(
    serving: Serving, beach: bytes, monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, str], accept: str, status: int, told: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("masqclip.serve.engine.Engine.open", None)

    async def run() -> httpx.Response:
        async with serving() as client:
            return await client.post(
                "/v1/segment", files={"image": beach}, data=fields, headers={"Accept": accept}
            )

    answer = asyncio.run(run())
    assert (answer.status_code, told in answer.text) == (status, True)
