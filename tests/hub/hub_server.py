"""A small server that speaks the Hub's routes, and misbehaves where a test asks for it.

GET  /api/models/OWNER/NAME                  names, sizes and digests of all files
HEAD, GET /OWNER/NAME/resolve/REV/FILE       a small file, or the way to a large one
GET  /store/DIGEST                           the bytes of a large file; honours Range
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants

LARGE = 1_000  # bytes: what is larger lies in the store, under its SHA-256
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has, and what was asked of it.

    Attributes:
        repositories: owner/name -> file -> bytes.
        gated: repositories for those with the token "let-me-in".
        gated_status: what others are answered with: 401 without a token, 403 with another.
        cut: file -> bytes after which its connection breaks; each break counts down `breaks`.
        breaks: how many connections still break.
        wrong: files that come with another content.
        page: everything is answered with a proxy's page.
        status: everything is answered with that status.
        delay: seconds before each answer.
        asked: method, path and range of every request.
        served: bytes of large files that were sent.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    gated_status: int = 403
    cut: dict[str, int] = field(default_factory=dict)
    breaks: int = 0
    wrong: set[str] = field(default_factory=set)
    page: bool = False
    status: int = 0
    delay: float = 0.0
    pace: float = 0.0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    served: int = 0
    url: str = ""

    def files(self) -> list[str]:
        """The large files that were asked for, in order, each once."""
        names = {self._digest(name): name for name in self.all_files()}
        found = [names.get(path.removeprefix("/store/")) for _, path, _ in self.asked]
        return list(dict.fromkeys(name for name in found if name))

    def all_files(self) -> Iterator[str]:
        for files in self.repositories.values():
            yield from files

    def _digest(self, name: str) -> str:
        for files in self.repositories.values():
            if name in files:
                return hashlib.sha256(files[name]).hexdigest()
        return ""

    def content(self, digest: str) -> tuple[str, bytes] | None:
        """The large file of a digest."""
        for files in self.repositories.values():
            for name, content in files.items():
                if hashlib.sha256(content).hexdigest() == digest:
                    return name, content
        return None


def blob(content: bytes) -> str:
    """git's digest of a file."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve a hub for the block; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = urlsplit(self.path).path
            hub.asked.append((self.command, path, self.headers.get("Range") or ""))
            time.sleep(hub.delay)
            if hub.page:
                page = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
                self._send(200, page, body, {"Content-Type": "text/html"})
            elif hub.status:
                self._send(hub.status, b"{}", body, {})
            elif path.startswith("/api/models/"):
                self._model(path.removeprefix("/api/models/"), body)
            elif path.startswith("/store/"):
                self._store(path.removeprefix("/store/"), body)
            else:
                self._resolve(path, body)

        def _model(self, name: str, body: bool) -> None:
            files = hub.repositories.get("/".join(name.split("/")[:2]))
            if files is None:
                self._refuse(401, "RepoNotFound", body)
                return
            siblings = []
            for file, content in files.items():
                entry: dict[str, Any] = {"rfilename": file, "size": len(content)}
                entry["blobId"] = blob(content)
                if len(content) > LARGE:
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
                siblings.append(entry)
            document = {"id": name, "modelId": name, "sha": REVISION, "siblings": siblings,
                        "private": False, "gated": "manual" if name in hub.gated else False,
                        "tags": [], "downloads": 0, "likes": 0}  # fmt: skip
            self._send(200, json.dumps(document).encode(), body, {})

        def _resolve(self, path: str, body: bool) -> None:
            owner, name, _, _, *rest = path.strip("/").split("/")
            repository, file = f"{owner}/{name}", "/".join(rest)
            if repository in hub.gated and "let-me-in" not in (
                self.headers.get("Authorization") or ""
            ):
                self._refuse(hub.gated_status, "GatedRepo", body)
                return
            content = hub.repositories.get(repository, {}).get(file)
            if content is None:
                self._refuse(404, "EntryNotFound", body)
            elif len(content) > LARGE:
                digest = hashlib.sha256(content).hexdigest()
                headers = {
                    "Location": f"{hub.url}/store/{digest}",
                    "X-Repo-Commit": REVISION,
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(len(content)),
                }
                self._send(302, b"", body, headers)
            else:
                headers = {"ETag": f'"{blob(content)}"', "X-Repo-Commit": REVISION}
                self._send(200, self._changed(file, content), body, headers)

        def _store(self, digest: str, body: bool) -> None:
            found = hub.content(digest)
            if found is None:
                self._refuse(404, "EntryNotFound", body)
                return
            file, content = found
            content = self._changed(file, content)
            start = int(
                (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0]
            )
            headers = {"ETag": f'"{digest}"'}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            part = content[start:]
            if file in hub.cut and hub.breaks > 0:
                hub.breaks -= 1
                self._send(206 if start else 200, part, False, headers, length=len(part))
                self.wfile.write(part[: hub.cut[file]])
                hub.served += min(len(part), hub.cut[file])
                self.wfile.flush()
                self.close_connection = True
                return
            if hub.pace and body:
                self._send(206 if start else 200, part, False, headers, length=len(part))
                for place in range(0, len(part), 4096):
                    self.wfile.write(part[place : place + 4096])
                    hub.served += len(part[place : place + 4096])
                    time.sleep(hub.pace)
                return
            self._send(206 if start else 200, part, body, headers)
            hub.served += len(part) if body else 0

        @staticmethod
        def _changed(file: str, content: bytes) -> bytes:
            return content[:-1] + bytes([content[-1] ^ 1]) if file in hub.wrong else content

        def _refuse(self, status: int, code: str, body: bool) -> None:
            self._send(status, b"{}", body, {"X-Error-Code": code, "X-Error-Message": code})

        def _send(
            self, status: int, content: bytes, body: bool, headers: dict[str, str],
            *, length: int | None = None,
        ) -> None:  # fmt: skip
            self.send_response(status)
            headers = {"Content-Type": "application/json"} | headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield hub.url
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def own_hub(home: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that is served and asked in place of the Hub; cache and settings are below `home`."""
    served = Hub()
    with serving(served) as address:
        patch.setenv("HF_ENDPOINT", address)
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
            patch.delenv(variable, raising=False)
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_CACHE_HOME", str(home / "state"))
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served
