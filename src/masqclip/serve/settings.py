"""What an operator decides about a service: bounds, secrets, and which strangers may call."""

from __future__ import annotations

import re
from dataclasses import dataclass

from masqclip.errors import MasqclipError


@dataclass(frozen=True)
class ServeSettings:
    """The service's bounds; every one of them can be given on the command line.

    Attributes:
        max_requests: requests that may be waiting or worked on; the next one is answered 429.
        max_wait: seconds of work that may be waiting, as measured lately; likewise 429.
        batch_size: pictures that go through the model together at most; 1 = no micro-batching.
        deadline: seconds after which a request that is not done is answered 504.
        max_upload_bytes: the largest request body with a picture; 413 beyond it.
        max_text_bytes: the largest request body without one; likewise 413.
        buffer_bytes: bodies of all requests together that are not answered yet; beyond it the
            largest unfinished one is given up (429).
        min_rate: bytes a second at which a body must come; 408 below it.
        max_connections: connections at a time; beyond it the one that has waited the longest
            without asking anything is closed.
        max_pixels: the largest picture.
        read_seconds: processor time in which a picture must be decoded; 422 beyond it.
        max_names: names of one request, distractors included.
        store_bytes: memory for encoded pictures, of which the least recently used leave first.
        max_vocabularies: vocabularies that are kept; likewise.
        vocabulary_bytes: memory for them; likewise.
        vocabulary_seconds: how long one is kept that nobody asks for.
        max_examples: examples of one vocabulary.
        token: what clients must send; empty = nothing.
        cors_origins: pages of other origins that browsers may let in.
        allowed_hosts: names that the service is known by, beside addresses in figures and
            localhost; ``*`` = any.
        label_studio_url: the Label Studio whose pictures are fetched; empty = none are.
        label_studio_token: what is sent to it, and to nobody else.
        label_studio_storage: hosts, with a port where it is an unusual one, that its pictures may
            lie on, beside the stores of the three clouds.
        label_studio_timeout: seconds that Label Studio waits for an answer; tasks that are not done
            by nine tenths of it are left for its next request.
    """

    max_requests: int = 64
    max_wait: float = 5.0
    batch_size: int = 8
    deadline: float = 30.0
    max_upload_bytes: int = 32_000_000
    max_text_bytes: int = 1_000_000
    buffer_bytes: int = 96_000_000
    min_rate: int = 16_000
    max_connections: int = 512
    max_pixels: int = 25_000_000
    read_seconds: int = 4
    max_names: int = 2000
    store_bytes: int = 384_000_000
    max_vocabularies: int = 1000
    vocabulary_bytes: int = 64_000_000
    vocabulary_seconds: float = 7200.0
    max_examples: int = 500
    token: str = ""
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    label_studio_url: str = ""
    label_studio_token: str = ""
    label_studio_storage: tuple[str, ...] = ()
    label_studio_timeout: float = 100.0

    def __post_init__(self) -> None:
        counts = (
            "max_requests", "batch_size", "max_upload_bytes", "max_text_bytes", "buffer_bytes",
            "min_rate", "max_connections", "max_pixels", "read_seconds", "max_names",
            "max_vocabularies", "max_examples",
        )  # fmt: skip
        for name in counts:
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise MasqclipError(f"--{flag} {getattr(self, name)}: give 1 or more")
        for name in ("deadline", "max_wait", "label_studio_timeout", "vocabulary_seconds"):
            if getattr(self, name) <= 0:
                flag = name.replace("_", "-")
                raise MasqclipError(f"--{flag} {getattr(self, name):g}: give seconds, more than 0")
        for name in ("store_bytes", "vocabulary_bytes"):
            if getattr(self, name) < 0:
                flag = name.replace("_", "-")
                raise MasqclipError(f"--{flag} {getattr(self, name)}: give 0 or more")
        for name in ("token", "label_studio_token"):
            # A header has no other letters; what cannot be sent can never be right.
            if not (value := getattr(self, name)).isascii() or not (value + "x").isprintable():
                flag = name.replace("_", "-")
                raise MasqclipError(f"--{flag}: give letters, digits and signs of ASCII only")
        url = self.label_studio_url
        if url and not url.startswith(("http://", "https://")):
            raise MasqclipError(f"--label-studio-url {url!r}: give an address such as http://host")
        for host in self.label_studio_storage:
            if not re.fullmatch(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", host):
                raise MasqclipError(
                    f"--label-studio-storage {host!r}: give a host such as minio.example.org or "
                    "minio:9000"
                )
