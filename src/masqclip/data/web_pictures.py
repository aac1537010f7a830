"""A picture's file from an http(s) address that the operator named, within bounds.

- Nothing but http and https is ever opened, also where an address leads to another one.
- Time, size and the number of steps are bounded; a server that sends a byte now and then, or never
  ends, is left alone. What comes is a file like any other: `read_image` looks at it next.
- The system's proxies and certificates are used; no password and no cookie is sent.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urljoin, urlsplit

from masqclip import __version__
from masqclip.errors import MasqclipError

MAX_BYTES = 100_000_000
"""The largest file that is fetched."""

SECONDS = 60.0
"""The longest time that fetching one may take, from looking up its host on."""

PATIENCE = 10.0
"""Seconds without a byte after which a server is given up."""

MAX_STEPS = 5
"""Addresses that an address may lead on to."""

_MAX_LETTERS = 4096
_PIECE = 1 << 16
_LEADS_ON = (301, 302, 303, 307, 308)
_LONGEST_STEM = 100
_HEADERS = {
    "User-Agent": f"masqclip/{__version__}",
    "Accept": "image/*, */*;q=0.1",
    # A file that is small on the way and large here is no picture's.
    "Accept-Encoding": "identity",
}


class _SlowError(Exception):
    """The time is over."""


def is_web_address(text: str) -> bool:
    """Whether this is an http(s) address, not a path."""
    return re.match("https?://", text, re.IGNORECASE) is not None


def web_stem(address: str) -> str:
    """What files made of an address's picture are called after: its last part, else its host."""
    parts = urlsplit(address)
    stem = PurePosixPath(unquote(parts.path)).stem
    for name in (stem, parts.hostname or ""):
        # Letters and digits of any script, and little else, are in a name of every file system.
        if tidy := re.sub(r"[^\w .\-]+", "_", name)[:_LONGEST_STEM].strip(" ._"):
            return tidy
    return "picture"


def fetch_picture(address: str, *, max_bytes: int = MAX_BYTES, seconds: float = SECONDS) -> bytes:
    """The bytes behind an address.

    Args:
        address: http or https.
        max_bytes: the largest file that is fetched.
        seconds: the longest time that it may take.

    Raises:
        MasqclipError: it is no such address or leads to none, the server does not answer or
            refuses, or what comes is too large, takes too long, or is a page for people.
    """
    found: list[bytes | Exception] = []
    deadline = time.monotonic() + seconds

    def work() -> None:
        try:
            found.append(_fetch(address, max_bytes, deadline))
        except Exception as error:
            found.append(error)

    _check(address, address)
    # In a thread: nothing else ends a slow look-up of a name, or a server that drips.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found or isinstance(found[0], _SlowError):
        raise MasqclipError(f"{address}: takes longer than {seconds:g} seconds: download it first")
    if isinstance(found[0], MasqclipError):
        raise found[0]
    if isinstance(found[0], Exception):
        raise MasqclipError(f"{address}: {_reason(found[0])}") from found[0]
    return found[0]


def _fetch(address: str, max_bytes: int, deadline: float) -> bytes:
    opener = urllib.request.OpenerDirector()
    # No handler of files or ftp, and none that follows an address unasked.
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    here = address
    for _ in range(1 + MAX_STEPS):
        _check(here, address)
        # Blanks and letters beyond ASCII as browsers send them; what is encoded stays so.
        request = urllib.request.Request(quote(here, "%/:=&?~#+!$,;'@()*[]"), headers=_HEADERS)
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return _body(answer, address, max_bytes, deadline)
        except urllib.error.HTTPError as error:
            with error:
                onward = error.headers.get("Location")
                if error.code not in _LEADS_ON or not onward:
                    raise
            try:
                here = urljoin(here, onward)
            except ValueError:  # brackets that are no IPv6 address
                here = onward
    raise MasqclipError(f"{address}: leads to more than {MAX_STEPS} other addresses, one by one")


def _check(here: str, address: str) -> None:
    """Refuse what is no address of a picture; `address` is where it began."""
    told = f"{address}: " + ("" if here == address else f"leads to {here:.200}, which ")
    if len(here) > _MAX_LETTERS:
        raise MasqclipError(f"{told}is an address of more than {_MAX_LETTERS} letters")
    if not is_web_address(here):
        raise MasqclipError(f"{told}is no http or https address")
    try:
        parts = urlsplit(here)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that are no IPv6 address, a port that is no number
        named = False
    if not named or not here.isprintable():
        raise MasqclipError(f"{told}names no host that can be asked: check the address")
    if "@" in parts.netloc:
        raise MasqclipError(f"{told}holds a user or password, which are not sent: leave them out")


def _body(answer: http.client.HTTPResponse, address: str, max_bytes: int, deadline: float) -> bytes:
    too_large = MasqclipError(
        f"{address}: larger than the limit of {max_bytes / 1e6:g} MB: download it first"
    )
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise MasqclipError(
            f"{address}: a page for people, not a picture: give the address of the picture itself"
        )
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise MasqclipError(f"{address}: comes compressed, unasked: download it first")
    announced = answer.headers.get("Content-Length", "")
    size = int(announced) if re.fullmatch("[0-9]{1,18}", announced) else None
    if size is not None and size > max_bytes:
        raise too_large
    pieces, total = [], 0
    while piece := answer.read1(_PIECE):
        pieces.append(piece)
        total += len(piece)
        if total > max_bytes:
            raise too_large
        if time.monotonic() > deadline:
            raise _SlowError
    if size is not None and total < size:
        raise MasqclipError(
            f"{address}: broke off after {total:,} of {size:,} bytes: run the same command again"
        )
    return b"".join(pieces)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} ({error.reason}): check the address"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {PATIENCE:g} seconds: check the address, or try again later"
    said = getattr(cause, "strerror", None) or " ".join(str(cause).split())[:200]
    return f"cannot be fetched ({said or type(cause).__name__}): check the address"
