"""Where tasks' pictures are: uploads, local files, stores behind redirects; and who gets tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from running import Serving
from studio_requests import label_studio_request, predicted

from masqclip.serve.label_studio_files import MAX_REDIRECTS, TaskPictures
from masqclip.serve.problems import Problem
from masqclip.serve.settings import ServeSettings

HOME = "http://studio:8080"
FILE = b"a file"
# Of each cloud, as its own tools sign: the signature is of every letter of the query.
SIGNED = {
    "s3": "https://bucket.s3.eu-west-1.amazonaws.com/a%20b/c.png?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIA%2F20261130%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20261130T150000Z"
    "&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=0a1b",
    "gs": "https://storage.googleapis.com/bucket/a%20b/c.png?X-Goog-Algorithm=GOOG4-RSA-SHA256"
    "&X-Goog-Credential=me%40project.iam.gserviceaccount.com%2F20261130%2Fauto%2Fstorage"
    "%2Fgoog4_request&X-Goog-Expires=3600&X-Goog-SignedHeaders=host&X-Goog-Signature=0a1b",
    "azure-blob": "https://account.blob.core.windows.net/container/a%20b/c.png?se=2026-11-30T16%3A00"
    "%3A00Z&sp=r&sv=2025-05-05&sr=b&sig=a%2Bb%2Fc%3D",
}


def jwt(**claims: Any) -> str:
    parts = [json.dumps({"alg": "HS256", "typ": "JWT"}), json.dumps(claims), "signed"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


REFRESH = jwt(token_type="refresh", exp=8_000_000_000)


class Studio:
    """A Label Studio with its stores, and what they were asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.token = "Token key"
        self.given = 0
        self.life = 300.0
        self.leads: dict[str, str] = {}
        self.content = FILE

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        url = request.url
        if url.host != "studio":
            found = str(url) in SIGNED.values() or url.host in ("minio", "cdn.example.org")
            return httpx.Response(200 if found else 403, content=self.content)
        if url.path == "/api/token/refresh/":
            if request.method != "POST" or json.loads(request.content) != {"refresh": REFRESH}:
                return httpx.Response(401, json={"detail": "no"})
            self.given += 1
            ends = time.time() + self.life
            access = jwt(token_type="access", exp=ends, jti=self.given)
            self.token = f"Bearer {access}"
            return httpx.Response(200, json={"access": access})
        if request.headers.get("authorization") != self.token:
            return httpx.Response(401, json={"detail": "no"})
        if str(url) in self.leads or url.path in self.leads:
            location = self.leads.get(str(url)) or self.leads[url.path]
            return httpx.Response(303, headers={"location": location})
        if url.path == "/tasks/7/presign/":
            (code,) = parse_qs(url.query.decode())["fileuri"]
            scheme, _, rest = base64.urlsafe_b64decode(code).decode().partition("://")
            assert rest == "bucket/a b/c.png"
            return httpx.Response(303, headers={"location": SIGNED[scheme]})
        query = url.query.decode()
        found = (url.path, query) in (
            ("/data/upload/3/a b.png", ""),
            ("/data/local-files/", "d=photos/a%20b.png"),
            ("/storage-data/uploaded/", "filepath=upload%2F3%2Fkept.png"),
            ("/tasks/7/resolve/", "fileuri=abc"),
        )
        return httpx.Response(200 if found else 404, content=self.content)


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    made, real = Studio(), httpx.AsyncClient
    monkeypatch.setattr(
        "masqclip.serve.label_studio_files.httpx.AsyncClient",
        lambda **options: real(
            transport=options.pop("transport", httpx.MockTransport(made)), **options
        ),
    )
    yield made
    # Whatever was asked: a token is Label Studio's own.
    for request in made.asked:
        if str(request.url).startswith(f"{HOME}/"):
            continue
        assert "authorization" not in request.headers
        assert "cookie" not in request.headers
        assert REFRESH.encode() not in request.content


def pictures(**settings: Any) -> TaskPictures:
    given = {"label_studio_url": HOME, "label_studio_token": "key", **settings}
    return TaskPictures(ServeSettings(**given))


def got(address: Any, task_id: Any = 7, **settings: Any) -> bytes:
    return asyncio.run(pictures(**settings).get(address, task_id))


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("/data/upload/3/a%20b.png", ["/data/upload/3/a%20b.png"]),
        ("/upload/3/a%20b.png", ["/data/upload/3/a%20b.png"]),
        ("upload/3/a b.png", ["/data/upload/3/a%20b.png"]),
        (f"{HOME}/data/upload/3/a%20b.png", ["/data/upload/3/a%20b.png"]),
        ("/data/local-files/?d=photos/a%20b.png", ["/data/local-files/?d=photos/a%20b.png"]),
        (
            "/data/upload/3/kept.png",
            [
                "/data/upload/3/kept.png",
                "/storage-data/uploaded/?filepath=upload%2F3%2Fkept.png",
            ],
        ),
        (
            "/storage-data/uploaded/?filepath=upload%2F3%2Fkept.png",
            ["/storage-data/uploaded/?filepath=upload%2F3%2Fkept.png"],
        ),
        ("/tasks/7/resolve/?fileuri=abc", ["/tasks/7/resolve/?fileuri=abc"]),
        (f"{HOME}/tasks/7/resolve/?fileuri=abc", ["/tasks/7/resolve/?fileuri=abc"]),
    ],
)
def test_label_studios_own_files(address: str, asked: list[str], studio: Studio) -> None:
    assert got(address) == FILE
    assert [str(request.url) for request in studio.asked] == [HOME + path for path in asked]
    assert {request.headers["authorization"] for request in studio.asked} == {"Token key"}


def test_a_picture_in_the_address_itself_asks_nobody(studio: Studio) -> None:
    code = base64.b64encode(FILE).decode()
    for address in (f"data:image/png;base64,{code}", f" DATA:;base64,{code}\n"):
        assert got(address) == FILE
        assert got(address, label_studio_url="") == FILE
    assert studio.asked == []


@pytest.mark.parametrize("scheme", SIGNED)
def test_stores_are_resolved_by_label_studio(scheme: str, studio: Studio) -> None:
    address = f"{scheme}://bucket/a b/c.png"
    code = base64.urlsafe_b64encode(address.encode()).decode()
    for number in (7, "7"):
        assert got(address, number) == FILE
        first, second = studio.asked[-2:]
        assert str(first.url) == f"{HOME}/tasks/7/presign/?fileuri={code}"
        assert str(second.url) == SIGNED[scheme]  # letter by letter, or the signature is none
    for number in (None, "7/../8", True, 1.5):
        with pytest.raises(Problem, match="no id of the task"):
            got(address, number)


@pytest.mark.parametrize("scheme", SIGNED)
def test_signed_addresses_in_tasks_are_fetched_as_they_are(scheme: str, studio: Studio) -> None:
    assert got(SIGNED[scheme]) == FILE
    assert [str(request.url) for request in studio.asked] == [SIGNED[scheme]]


def test_redirects_of_label_studio_are_followed_where_they_may_be(studio: Studio) -> None:
    studio.leads = {"/x": SIGNED["s3"], "/y": "/x", "/in": "http://minio:9000/b/c.png?X-Amz-A=1"}
    assert got("/y") == FILE
    with pytest.raises(Problem, match="at 'minio': name its host with --label-studio-storage"):
        got("/in")
    assert [request.url.host for request in studio.asked] == ["studio"] * 2 + [
        "bucket.s3.eu-west-1.amazonaws.com",
        "studio",
    ]
    for named in ("minio:9000", "minio", "MINIO"):
        assert got("/in", label_studio_storage=(named,)) == FILE
    with pytest.raises(Problem, match="name its host"):
        got("/in", label_studio_storage=("minio:9001",))


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/x.png",
        "http://[::1]/x.png",
        "http://localhost/x.png",
        "//evil/x",
        "file:///etc/passwd",
        "ftp://studio/x",
        "http://studio:8081/x",
        "https://studio:8080/x",
        "http://me:secret@studio:8080/x",
        "http://studio:8080@evil/x",
        "http://studio:8080\\@evil/x",
        # Stores by http or at another port may be anybody's, as are names that look like theirs.
        "http://bucket.s3.amazonaws.com/x",
        "https://bucket.s3.amazonaws.com:8443/x",
        "https://s3.amazonaws.com.evil.org/x",
        "https://evil-s3.amazonaws.com.evil.org/x",
        "https://ec2-1-2-3-4.compute-1.amazonaws.com/x",
        "https://evilstorage.googleapis.com/x",
        "https://a.b.blob.core.windows.net/x",
        "https://blob.core.windows.net.evil.org/x",
        "https://example.org/x.png",
    ],
)
def test_nobody_else_is_asked(address: str, studio: Studio) -> None:
    with pytest.raises(Problem) as refused:
        got(address)
    assert refused.value.status_code == 422
    assert studio.asked == []
    studio.leads = {"/x": address}  # nor where Label Studio, or a store, leads there
    with pytest.raises(Problem):
        got("/x")
    assert [str(request.url) for request in studio.asked] == [f"{HOME}/x"]


def test_a_store_that_leads_back_gets_no_token_for_it(studio: Studio) -> None:
    asked: list[str] = []

    def store(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("authorization", ""))
        if request.url.host == "minio":
            return httpx.Response(302, headers={"location": f"{HOME}/api/users"})
        if request.url.path == "/api/users":
            return httpx.Response(401)
        return httpx.Response(302, headers={"location": "http://minio/x"})

    studio.__class__ = type(
        "Leading", (Studio,), {"__call__": lambda self, request: store(request)}
    )
    with pytest.raises(Problem, match="answers 401 for a file"):
        got("/x", label_studio_storage=("minio",))
    assert asked == ["Token key", "", ""]


def test_redirects_end(studio: Studio) -> None:
    studio.leads = {"/x": "/x"}
    with pytest.raises(Problem, match=f"leads on more than {MAX_REDIRECTS} times"):
        got("/x")
    assert len(studio.asked) <= MAX_REDIRECTS + 3
    studio.leads = {"/x": "/user/login/?next=/x"}
    with pytest.raises(Problem, match="answers 302 for a file: set LABEL_STUDIO_API_KEY"):
        got("/x")


def test_sizes_are_bounded_wherever_a_file_lies(studio: Studio) -> None:
    studio.content = b"0" * 1000
    for address in (SIGNED["gs"], "s3://bucket/a b/c.png", "/upload/3/a b.png"):
        assert len(got(address, max_upload_bytes=1000)) == 1000
        with pytest.raises(Problem) as refused:
            got(address, max_upload_bytes=999)
        assert refused.value.status_code == 413


# Tokens


def test_a_personal_token_is_given_for_one_of_a_while(studio: Studio) -> None:
    held = pictures(label_studio_token=REFRESH)

    async def run() -> None:
        found = await asyncio.gather(*(held.get("upload/3/a b.png", 7) for _ in range(5)))
        assert found == [FILE] * 5

    asyncio.run(run())
    assert studio.given == 1
    assert [str(request.url) for request in studio.asked].count(f"{HOME}/api/token/refresh/") == 1
    files = [request for request in studio.asked if request.method == "GET"]
    assert {request.headers["authorization"] for request in files} == {studio.token}
    studio.token = "Bearer revoked"  # one that is refused before its end is given for another
    assert asyncio.run(held.get("upload/3/a b.png", 7)) == FILE
    assert studio.given == 2
    assert asyncio.run(held.get("upload/3/a b.png", 7)) == FILE
    assert studio.given == 2


def test_a_token_that_ends_soon_is_given_for_another(studio: Studio) -> None:
    studio.life = 20.0
    held = pictures(label_studio_token=REFRESH)
    for number in (1, 2):
        assert asyncio.run(held.get("upload/3/a b.png", 7)) == FILE
        assert studio.given == number


def test_other_tokens_go_as_they_are(studio: Studio) -> None:
    access = jwt(token_type="access", exp=8_000_000_000)
    for token, sent in ((access, f"Bearer {access}"), ("a" * 40, "Token " + "a" * 40)):
        studio.token = sent
        assert got("upload/3/a b.png", label_studio_token=token) == FILE
    assert studio.given == 0


@pytest.mark.parametrize(
    "token", ["", "wrong", jwt(token_type="refresh", exp=1), "a.b.c", "..", "a..c"]
)
def test_a_refused_token_is_told(token: str, studio: Studio) -> None:
    with pytest.raises(Problem, match="LABEL_STUDIO_API_KEY") as refused:
        got("upload/3/a b.png", label_studio_token=token)
    assert refused.value.status_code == 422
    assert token == "" or token not in refused.value.detail
    assert len(studio.asked) == 1


def test_a_renewal_is_not_led_elsewhere(studio: Studio) -> None:
    def lead(self: Studio, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(307, headers={"location": "http://minio/take"})

    studio.__class__ = type("Leading", (Studio,), {"__call__": lead})
    with pytest.raises(Problem, match="Label Studio answers 307 to the token"):
        got("upload/3/a b.png", label_studio_token=REFRESH, label_studio_storage=("minio",))
    assert [str(request.url) for request in studio.asked] == [f"{HOME}/api/token/refresh/"]


# All the way


def test_tasks_of_every_storage_are_answered(
    serving: Serving, beach: bytes, studio: Studio
) -> None:
    studio.content = beach
    addresses = [
        "/data/upload/3/a%20b.png", "/data/local-files/?d=photos/a%20b.png",
        "/data/upload/3/kept.png", f"{HOME}/tasks/7/resolve/?fileuri=abc",
        *(f"{scheme}://bucket/a b/c.png" for scheme in SIGNED), *SIGNED.values(),
        "http://cdn.example.org/x.png", "http://elsewhere/x.png",
    ]  # fmt: skip
    body = label_studio_request("x")
    body["tasks"] = [{**body["tasks"][0], "data": {"picture": a}} for a in addresses]
    settings = {
        "label_studio_url": HOME, "label_studio_token": REFRESH,
        "label_studio_storage": ("cdn.example.org",),
    }  # fmt: skip
    results = asyncio.run(predicted(serving, body, **settings))
    assert [set(result) for result in results[:-1]] == [set(results[0])] * (len(addresses) - 1)
    assert results[0]["result"]
    assert all(result == results[0] for result in results[:-1])
    assert "'elsewhere'" in results[-1]["error"]


@pytest.mark.parametrize("host", ["http://minio", "minio/bucket", "", "a b", "minio:port", "*"])
def test_a_storage_is_a_host(host: str) -> None:
    with pytest.raises(ValueError, match="--label-studio-storage"):
        ServeSettings(label_studio_storage=(host,))
