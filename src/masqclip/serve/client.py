"""A client of the service: pictures up, segments and masks back. Needs httpx, but no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError, require

Names = str | list[str] | dict[str, str | list[str]]

_ID = re.compile("[0-9a-f]{32}")


class Client:
    """Talks to a running service.

        with Client("http://127.0.0.1:8000") as client:
            picture = client.upload("beach.png")
            found = client.segment(picture, "rocket, tulip, stuff: sand")
            mask = client.mask(found["segments"][0])

    Args:
        url: where the service is.
        token: what it asks for, if it does.
        timeout: seconds to wait for an answer.

    Raises:
        MasqclipError: httpx is not installed (extra ``serve``), or no address or token of these
            letters can be sent.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", *, token: str = "", timeout: float = 60.0
    ) -> None:
        httpx: Any = require("httpx", extra="serve", purpose="the client")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url, self._network_error = url, httpx.HTTPError
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise MasqclipError(
                f"the address {url!r} or its token cannot be sent: {error}"
            ) from error

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def upload(self, picture: str | Path | bytes) -> str:
        """Send a picture's file (a path, or its bytes); returns its identifier."""
        document = self._call("POST", "/v1/images", files={"image": _read(picture)}).json()
        return str(document["id"])

    def segment(
        self,
        picture: str | Path | bytes,
        vocabulary: Names,
        task: str = "panoptic",
        **options: Any,
    ) -> dict[str, Any]:
        """Find what names describe.

        Args:
            picture: an identifier from `upload`, or a path or bytes, which are then sent first.
            vocabulary: the names, or an identifier from `make_vocabulary`; see the service's
                documentation.
            task: ``instance``, ``semantic`` or ``panoptic``.
            options: ``min_score``, ``stuff``, ``things``, ``distractors``, ``join``.

        Returns:
            The answer: ``segments`` and more.

        Raises:
            MasqclipError: whatever the service refuses, in its own words.
        """
        answer = self._segment(picture, vocabulary, task, options, "application/json")
        document: dict[str, Any] = answer.json()
        return document

    def overlay(
        self,
        picture: str | Path | bytes,
        vocabulary: Names,
        task: str = "panoptic",
        **options: Any,
    ) -> bytes:
        """The picture with its masks drawn over it, as a PNG file. Arguments as in `segment`."""
        content: bytes = self._segment(picture, vocabulary, task, options, "image/png").content
        return content

    def make_vocabulary(self, vocabulary: Names | Path | None = None, **options: Any) -> str:
        """Keep a vocabulary at the service, for examples to be added; returns its identifier.

        Args:
            vocabulary: names, or the path of a saved vocabulary.
            options: ``examples``, ``join``, ``stuff``, ``things``, ``distractors``.
        """
        wish: dict[str, Any] = {**options}
        if isinstance(vocabulary, Path):
            try:
                wish["vocabulary"] = json.loads(_read(vocabulary))
            except ValueError as error:
                raise MasqclipError(f"{vocabulary}: no JSON ({error})") from error
        elif vocabulary is not None:
            wish["vocabulary"] = vocabulary
        return str(self._send("POST", "/v1/vocabularies", wish).json()["id"])

    def add_example(
        self,
        vocabulary: str,
        name: str,
        picture: str | Path | bytes,
        *,
        segment: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Put something that a picture shows into a vocabulary that is kept.

        Args:
            vocabulary: an identifier from `make_vocabulary`.
            name: what results call it.
            picture: as in `segment`.
            segment: of an earlier answer about the picture. In its place:
            options: ``box``, ``point`` or ``segmentation``; and ``prompts``, ``stuff``,
                ``distractor``.

        Returns:
            What the vocabulary holds then: ``categories`` and ``distractors``, with ``examples``.
        """
        example = {"name": name, "image": self._key(picture), **options}
        if segment is not None:
            example["segmentation"] = segment["segmentation"]
        return self._change(vocabulary, {"add": [example]})

    def remove_example(self, vocabulary: str, example: str) -> dict[str, Any]:
        """Take an example, by its identifier, out of a vocabulary; returns as `add_example`."""
        return self._change(vocabulary, {"remove": [example]})

    def vocabulary(self, vocabulary: str) -> dict[str, Any]:
        """What a vocabulary that is kept holds."""
        document: dict[str, Any] = self._call("GET", f"/v1/vocabularies/{vocabulary}").json()
        return document

    def save_vocabulary(self, vocabulary: str, path: str | Path) -> None:
        """Write a vocabulary that is kept as a file, which the command line and Python read."""
        Path(path).write_bytes(self._call("GET", f"/v1/vocabularies/{vocabulary}/file").content)

    def forget_vocabulary(self, vocabulary: str) -> None:
        """Remove a vocabulary from the service."""
        self._call("DELETE", f"/v1/vocabularies/{vocabulary}")

    def models(self) -> dict[str, Any]:
        """The models that the service has, by name."""
        document: dict[str, Any] = self._call("GET", "/v1/models").json()["data"]
        return document

    @staticmethod
    def mask(segment: dict[str, Any]) -> np.ndarray:
        """A segment's mask, [H,W] bool."""
        return decode_rle(segment["segmentation"])

    def _segment(
        self,
        picture: str | Path | bytes,
        vocabulary: Names,
        task: str,
        options: dict[str, Any],
        accept: str,
    ) -> Any:
        wish = {"vocabulary": vocabulary, "task": task, **options}
        return self._send("POST", f"/v1/images/{self._key(picture)}/segment", wish, accept)

    def _key(self, picture: str | Path | bytes) -> str:
        """A picture's identifier, after it was sent if it is none."""
        known = isinstance(picture, str) and _ID.fullmatch(picture)
        return str(picture) if known else self.upload(picture)

    def _change(self, vocabulary: str, change: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = self._send(
            "PATCH", f"/v1/vocabularies/{vocabulary}", change
        ).json()
        return document

    def _send(
        self, method: str, path: str, wish: dict[str, Any], accept: str = "application/json"
    ) -> Any:
        headers = {"Accept": accept, "Content-Type": "application/json"}
        # In ASCII: what no file can hold is for the service to refuse.
        return self._call(method, path, content=json.dumps(wish), headers=headers)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
        except self._network_error as error:
            raise MasqclipError(f"{self._url} cannot be reached: {error}") from error
        if answer.is_success:
            return answer
        try:
            detail = answer.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = answer.reason_phrase
        raise MasqclipError(f"{self._url} answers {answer.status_code}: {detail}")


def _read(picture: str | Path | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no name of any file
        reason = getattr(error, "strerror", None) or error
        raise MasqclipError(f"{picture}: cannot be read ({reason})") from error
