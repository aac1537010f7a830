"""Pictures from addresses: what is fetched, and what of a server's tricks is refused."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from masqclip.data import web_pictures
from masqclip.data.web_pictures import fetch_picture, is_web_address, web_stem
from masqclip.errors import MasqclipError

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """A server of this machine, whose answers a test gives."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    def give(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        """Have a path answer so; headers with ``_`` for ``-``. Returns its address."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in ({"Content-Length": str(len(body))} | sent).items():
                if value:
                    handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer
        return self.address + path


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append((self.path, dict(self.headers)))
            with contextlib.suppress(OSError):  # whoever asked went away
                web.answers[self.path](self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        web = Web(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield web
        http.shutdown()


@pytest.fixture
def web(server: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.answers.clear()
    server.asked.clear()
    return server


def refusal(address: str, **options: float) -> str:
    with pytest.raises(MasqclipError) as caught:
        fetch_picture(address, **options)  # type: ignore[arg-type]
    said = str(caught.value)
    assert said.startswith(f"{address}: ")
    assert "\n" not in said
    return said.removeprefix(f"{address}: ")


def test_the_bytes_of_an_address(web: Web) -> None:
    assert fetch_picture(web.give("/a.png", b"abc" * 100_000)) == b"abc" * 100_000
    ((path, headers),) = web.asked
    assert path == "/a.png"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("masqclip/")
    assert not {"Cookie", "Authorization"} & headers.keys()
    assert fetch_picture(web.give("/b", b"x", Content_Length="")) == b"x", "no length is told"


def test_letters_of_any_script_and_blanks(web: Web) -> None:
    web.give("/K%C3%A4se%20%E6%9C%A8.png?size=a%20b", b"x")
    assert fetch_picture(f"{web.address}/K\u00e4se \u6728.png?size=a b") == b"x"
    assert fetch_picture(f"{web.address}/K%C3%A4se%20%E6%9C%A8.png?size=a%20b#part") == b"x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_address_that_leads_on(web: Web, status: int) -> None:
    web.give("/b/c.png", b"x")
    web.give("/b/one", status=status, Location="c.png")
    assert fetch_picture(web.give("/a", status=status, Location="/b/one")) == b"x"


@pytest.mark.parametrize(
    ("onward", "said"),
    [
        ("file:///etc/passwd", "leads to file:///etc/passwd, which is no http or https address"),
        ("ftp://127.0.0.1/a", "which is no http or https address"),
        ("data:image/png;base64,AAAA", "which is no http or https address"),
        ("//user:secret@127.0.0.1/", "which holds a user or password"),
        ("http://[::1/", "names no host"),
        ("http://:80/a.png", "names no host"),
        ("/" + "a" * 5000, "an address of more than 4096 letters"),
        ("/a", "leads to more than 5 other addresses"),
        ("", "the server answers 302"),
    ],
)
def test_where_an_address_may_not_lead(web: Web, onward: str, said: str) -> None:
    assert said in refusal(web.give("/a", b"x" * 99, 302, Location=onward))


def test_the_body_of_what_leads_on_is_never_read(web: Web) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/b")
        handler.end_headers()
        for _ in range(2000):
            handler.wfile.write(b"x" * 1_000_000)

    web.answers["/a"] = endless
    web.give("/b", b"x")
    started = time.monotonic()
    assert fetch_picture(f"{web.address}/a") == b"x"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"status": 404}, "the server answers 404 (Not Found): check the address"),
        ({"status": 500}, "the server answers 500"),
        ({"status": 304}, "the server answers 304"),
        ({"Content_Type": "text/html; charset=utf-8"}, "a page for people, not a picture"),
        ({"Content_Encoding": "gzip"}, "comes compressed, unasked"),
        ({"Content_Length": "2000000"}, "larger than the limit of 1 MB"),
        ({"Content_Length": "90"}, "broke off after 3 of 90 bytes"),
    ],
)
def test_what_is_no_picture(web: Web, options: dict[str, object], said: str) -> None:
    address = web.give("/a", b"abc", **options)  # type: ignore[arg-type]
    assert said in refusal(address, max_bytes=1_000_000)


def test_a_body_without_end_is_cut(web: Web) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 100_000)

    web.answers["/a"] = endless
    assert "larger than the limit of 1 MB" in refusal(f"{web.address}/a", max_bytes=1_000_000)


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_server_that_drips_is_left_alone(web: Web, where: str) -> None:
    stopped = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if where == "body":
            handler.send_response(200)
            handler.end_headers()
        while not stopped.wait(0.05):
            handler.wfile.write(b"x" if where == "body" else b"HTTP/1.1 200"[:1])
            handler.wfile.flush()

    web.answers["/a"] = drip
    started = time.monotonic()
    assert "takes longer than 0.5 seconds" in refusal(f"{web.address}/a", seconds=0.5)
    assert time.monotonic() - started < 5
    stopped.set()


def test_a_server_that_is_silent(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_pictures, "PATIENCE", 0.3)
    woken = threading.Event()
    web.answers["/a"] = lambda handler: woken.wait(10) and None
    assert "no answer for 0.3 seconds" in refusal(f"{web.address}/a")
    woken.set()


def test_a_host_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be fetched (Connection refused)" in refusal(f"http://127.0.0.1:{port}/a.png")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://a/b.png", "is no http or https address"),
        ("http://", "names no host"),
        ("http://a:port/", "names no host"),
        ("http://[a/", "names no host"),
        ("http://a/\u200bb\x07", "names no host"),
        ("http://me:secret@a/b.png", "holds a user or password, which are not sent"),
        ("http://a/" + "b" * 4096, "of more than 4096 letters"),
    ],
)
def test_what_is_no_address(address: str, said: str) -> None:
    assert said in refusal(address)


@pytest.mark.parametrize(
    ("address", "stem"),
    [
        ("https://a.org/x/cat.jpg", "cat"),
        ("https://a.org/x/cat.jpg?size=2#b", "cat"),
        ("https://a.org/photo%20of%20K%C3%A4se.tar.png", "photo of K\u00e4se.tar"),
        ("https://a.org/x/", "x"),
        ("https://a.org:80", "a.org"),
        ("https://a.org/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://a.org/%00%1b.png", "a.org"),
        ("https://a.org/.hidden", "hidden"),
        ("https://a.org/a%5C%3A%2A%3F%22b.png", "a_b"),
        ("https://a.org/" + "c" * 300 + ".png", "c" * 100),
    ],
)
def test_what_results_are_called_after(address: str, stem: str) -> None:
    assert web_stem(address) == stem


def test_what_looks_like_an_address() -> None:
    assert is_web_address("HTTPS://a.org")
    assert not any(map(is_web_address, ("http:/a", "a/http://b", "ftp://a", "", "httpx://a")))
