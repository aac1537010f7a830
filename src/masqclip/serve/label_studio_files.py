"""Pictures of Label Studio's tasks: where they are, who is asked for them, and with which token.

A task holds an address in Label Studio itself (an upload, a local file, a link of its that leads to
a store), a file of a store (``s3://``, ``gs://``, ``azure-blob://``), which Label Studio resolves,
or the address of a store, signed for a while.

Asked are the Label Studio that the operator named, the hosts of stores that he named, and the
stores of the three clouds, by https, whose names nobody else can let point anywhere. A redirect is
an address like any other. No other host is asked, whatever a task says; so nothing of a private
network is that the operator did not name. The token goes to Label Studio only, and no further once
it has led elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool

from masqclip.serve.problems import Problem
from masqclip.serve.settings import ServeSettings
from masqclip.serve.uploads import from_data_uri

MAX_REDIRECTS = 5
#: Of an address; what is signed has some hundred characters, what Label Studio resolves more.
MAX_CHARACTERS = 20_000
_REDIRECTS = (301, 302, 303, 307, 308)
_STORE_SCHEMES = ("s3://", "gs://", "azure-blob://")
# S3 in all of its spellings (of a region, dualstack, accelerated, in China), Google's, Azure's.
_CLOUD_STORES = re.compile(
    r"(?:.+\.)?s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?"
    r"|(?:.+\.)?storage\.googleapis\.com"
    r"|[a-z0-9-]+\.blob\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)"
)
# Seconds before its end at which a token for a while is renewed.
_SPARE_SECONDS = 30.0
_TOKEN_BYTES = 100_000


class TaskPictures:
    """Fetches the pictures of tasks.

    Args:
        settings: the service's, which name the Label Studio, its token and its stores.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        home = httpx.URL(settings.label_studio_url) if settings.label_studio_url else None
        self._prefix = "" if home is None else home.path.rstrip("/")
        self._home = home and home.copy_with(path=f"{self._prefix}/", query=None, fragment=None)
        self._stores = {store.lower() for store in settings.label_studio_storage}
        self._token = _Token(settings.label_studio_token)

    async def get(self, address: Any, task_id: Any) -> bytes:
        """The file behind a task's picture.

        Args:
            address: as the task has it.
            task_id: of the task, by which Label Studio resolves files of stores.

        Raises:
            Problem: 413, the file is too large; 422, there is no address, its host is not asked,
                or there is no file.
        """
        if not isinstance(address, str) or not address.strip():
            raise Problem(422, "tasks: a task has no picture under the name that the interface has")
        address = address.strip()
        if address[:5].lower() == "data:":  # schemes are written in any case
            return await run_in_threadpool(from_data_uri, address)
        if self._home is None:
            raise Problem(
                422,
                "tasks: pictures are not fetched: start the service with --label-studio-url, or "
                "give data: addresses",
            )
        seconds = self._settings.deadline
        try:
            async with asyncio.timeout(seconds), httpx.AsyncClient(timeout=seconds) as client:
                return await self._fetch(client, self._target(address, task_id))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise Problem(422, f"tasks: a picture cannot be fetched ({reason:.200})") from error

    def _target(self, address: str, task_id: Any) -> httpx.URL:
        """The address that is asked first."""
        assert self._home is not None
        if len(address) > MAX_CHARACTERS:
            raise Problem(422, f"tasks: a picture's address has over {MAX_CHARACTERS:,} characters")
        if address.startswith(_STORE_SCHEMES):
            if not isinstance(task_id, int | str) or not re.fullmatch(r"\d{1,20}", str(task_id)):
                raise Problem(422, "tasks: a file of a store, but no id of the task to resolve it")
            code = base64.urlsafe_b64encode(address.encode()).decode()
            address = f"/tasks/{task_id}/presign/?fileuri={code}"
        elif re.match(r"/?upload/", address):
            address = "/data/" + address.removeprefix("/")
        elif address.startswith("storage-data/"):
            address = "/" + address
        if address.startswith("/") and not address.startswith(("//", f"{self._prefix}/")):
            address = self._prefix + address
        return self._home.join(address)

    async def _fetch(self, client: httpx.AsyncClient, url: httpx.URL) -> bytes:
        at_home, renewed, again = True, False, self._as_stored_upload(url)
        for _ in range(MAX_REDIRECTS + 3):  # a renewed token and an upload's other address count
            at_home = at_home and self._is_home(url)
            self._check_host(url)
            headers = {"User-Agent": "masqclip"}
            if at_home:
                headers |= await self._authorization(client)
            request = client.build_request("GET", url, headers=headers)
            answer = await client.send(request, stream=True, follow_redirects=False)
            client.cookies.clear()  # a session of one port is none of another's
            try:
                status = answer.status_code
                if status in _REDIRECTS:
                    url = url.join(answer.headers.get("location", ""))
                    if at_home and self._is_home(url) and "/user/login" in url.path:
                        raise _no_access(302)
                elif status == 401 and at_home and not renewed and self._token.expire():
                    renewed = True
                elif status in (400, 404) and at_home and again is not None:
                    url, again = again, None
                elif status in (401, 403) and at_home:
                    raise _no_access(status)
                elif status != 200:
                    who = "Label Studio" if at_home else url.host
                    raise Problem(422, f"tasks: {who} answers {status} for a file")
                else:
                    return await self._read(answer)
            finally:
                await answer.aclose()
        raise Problem(422, f"tasks: a picture's address leads on more than {MAX_REDIRECTS} times")

    async def _read(self, answer: httpx.Response) -> bytes:
        chunks, size = [], 0
        async for chunk in answer.aiter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._settings.max_upload_bytes:
                raise Problem(413, "tasks: a picture is larger than this service takes")
        return b"".join(chunks)

    def _is_home(self, url: httpx.URL) -> bool:
        home = self._home
        return home is not None and _origin(url) == _origin(home) and not url.userinfo

    def _check_host(self, url: httpx.URL) -> None:
        """Refuse an address that is not asked."""
        if self._is_home(url):
            return
        named = {url.host, url.netloc.decode("ascii", "replace")} & self._stores
        cloud = url.scheme == "https" and url.port is None and _CLOUD_STORES.fullmatch(url.host)
        if url.scheme in ("http", "https") and not url.userinfo and (named or cloud):
            return
        raise Problem(
            422,
            f"tasks: a picture lies outside the Label Studio of --label-studio-url, at "
            f"{url.host or url.scheme!r:.100}: name its host with --label-studio-storage",
        )

    def _as_stored_upload(self, url: httpx.URL) -> httpx.URL | None:
        """The other address of an upload, which it has where uploads are kept in a store."""
        head = f"{self._prefix}/data/"
        if not self._is_home(url) or not url.path.startswith(f"{head}upload/"):
            return None
        file = url.path.removeprefix(head)
        return url.copy_with(
            path=f"{self._prefix}/storage-data/uploaded/", params={"filepath": file}
        )

    async def _authorization(self, client: httpx.AsyncClient) -> dict[str, str]:
        assert self._home is not None
        return await self._token.headers(client, self._home.join("api/token/refresh/"))


class _Token:
    """A token of Label Studio: an old one as it is, a personal one for which it gives others.

    Args:
        value: as the operator gave it.
    """

    def __init__(self, value: str) -> None:
        self._value = value
        self._kind = _claims(value).get("token_type")
        self._legacy = not _claims(value)
        self._access, self._ends = "", 0.0
        self._lock = asyncio.Lock()

    async def headers(self, client: httpx.AsyncClient, refresh: httpx.URL) -> dict[str, str]:
        """What says who asks.

        Args:
            client: asks.
            refresh: the address at which Label Studio gives tokens for a while.

        Raises:
            Problem: 422, it gives none.
        """
        if not self._value:
            return {}
        if self._legacy:
            return {"Authorization": f"Token {self._value}"}
        if self._kind != "refresh":
            return {"Authorization": f"Bearer {self._value}"}
        async with self._lock:  # one renewal for all who wait
            if not self._access or time.time() > self._ends - _SPARE_SECONDS:
                self._access = await self._renewed(client, refresh)
                ends = _claims(self._access).get("exp")
                self._ends = float(ends) if isinstance(ends, int | float) else time.time() + 60
            return {"Authorization": f"Bearer {self._access}"}

    def expire(self) -> bool:
        """Forget the token for a while, which was refused; whether there was one."""
        had, self._access = bool(self._access), ""
        return had

    async def _renewed(self, client: httpx.AsyncClient, refresh: httpx.URL) -> str:
        request = client.build_request("POST", refresh, json={"refresh": self._value})
        answer = await client.send(request, stream=True, follow_redirects=False)
        try:
            content = b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > _TOKEN_BYTES:
                    break
            document = json.loads(content) if answer.status_code == 200 else {}
        except (ValueError, RecursionError):
            document = {}
        finally:
            await answer.aclose()
        access = document.get("access") if isinstance(document, dict) else None
        if isinstance(access, str) and access.isascii() and access.isprintable() and access:
            return access
        raise Problem(
            422,
            f"tasks: Label Studio answers {answer.status_code} to the token of "
            "LABEL_STUDIO_API_KEY: make a new one in its account settings",
        )


def _claims(token: str) -> dict[str, Any]:
    """What a JSON Web Token says of itself; empty of what is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _no_access(status: int) -> Problem:
    return Problem(
        422,
        f"tasks: Label Studio answers {status} for a file: set LABEL_STUDIO_API_KEY to a token of "
        "somebody who may see it",
    )
