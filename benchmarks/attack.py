"""Honest clients beside attackers: what the service does for the ones while it has the others.

    python benchmarks/attack.py --seconds 60 --clients 32

First the honest clients alone, then beside one attacker of each kind at once (in a process of their
own), in turns; then SIGTERM while all go on. `--kinds` picks attackers, `--each` measures them one
by one. Printed: answers, times, errors, the longest wait for ``/healthz``, the memory of the
service with its processes, and how much the attackers sent.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import multiprocessing
import signal
import socket
import statistics
import struct
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

import cyclopts
import numpy as np
from PIL import Image

from load import Service, load, pictures, start

# What attackers send


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(width: int, height: int) -> bytes:
    """A PNG of zeros, of any number of pixels in some kilobytes."""
    packer, left, parts = zlib.compressobj(6), height * (1 + 3 * width), []
    while left > 0:
        parts.append(packer.compress(bytes(min(left, 1 << 20))))
        left -= 1 << 20
    body = b"".join(parts) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def progressive(scans: int) -> bytes:
    """A JPEG with so many passes that hold nothing."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    end = data.rindex(b"\xff\xd9")
    return data[:end] + b"\xff\xda\0\x08\1\1\x11\1\x3f\x10\0" * scans + data[end:]


def bombs() -> dict[str, list[bytes]]:
    """Pictures that decoders take long for."""
    empty = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    qoi = struct.pack(">IIBB", 3000, 3000, 3, 0) + b"\xc0" * 9_000_000
    return {
        "passes": [progressive(180_000)],
        "other-formats": [
            b"P6\n" + b"#\n" * 10_000_000 + b"8 8 255\n",
            b"\x89PNG\r\n\x1a\n" + empty + chunk(b"aaAa", b"") * 1_700_000,
            b"%!PS-Adobe-3.0 EPSF-3.0\n" + b"%%x\n" * 5_000_000,
            b"GIF89a\x08\0\x08\0\0\0\0!\xfe" + (b"\xff" + b"a" * 255) * 80_000 + b"\0;",
            b"qoif" + qoi,
        ],
        "column": [flat_png(1, 50_000_000)],
        "large": [flat_png(5000, 5000)],
    }


def vocabularies() -> list[bytes]:
    """Names that take long to read."""
    strange = "".join(chr(0x4E00 + (i * 7919) % 20_000) for i in range(200_000))
    return [
        ("a\n" * 450_000).encode(),
        b"x" * 30_000_000,
        "\n".join(f"name {i}" for i in range(60_000)).encode(),
        f"{strange[:100_000]}, {strange[100_000:]}".encode(),
    ]


def form(fields: dict[str, bytes], file: bytes) -> tuple[bytes, str]:
    """A form's body and its content type."""
    edge = b"masqclip-attack"
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (edge, name.encode(), value)
        for name, value in fields.items()
    ]
    parts.append(
        b'--%s\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n%s\r\n'
        % (edge, file)
    )
    return b"".join(parts) + b"--%s--\r\n" % edge, f"multipart/form-data; boundary={edge.decode()}"


# How they send it


def post_for_ever(address: tuple[str, int], files: list[bytes]) -> None:
    """Upload files, one after another, on one connection each."""
    while True:
        for data in files:
            # Another file each time, as far as a cache can tell.
            other = data + time.perf_counter_ns().to_bytes(8, "big")
            post(address, "/v1/images", other, "application/octet-stream")


def ask_for_ever(address: tuple[str, int], names: list[bytes]) -> None:
    """Ask with such names, one request after another."""
    picture = flat_png(16, 16)
    bodies = [form({"vocabulary": words}, picture) for words in names]
    deep = b'{"vocabulary":' + b"[" * 400_000
    many = b'{"tasks":[' + b"{}," * 8_000_000
    while True:
        for body, kind in bodies:
            post(address, "/v1/segment", body, kind)
        post(address, "/v1/images/0/segment", deep, "application/json")
        post(address, "/predict", many, "application/json")


def post(address: tuple[str, int], path: str, body: bytes, kind: str) -> None:
    """One request, whatever comes of it."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request("POST", path, body, {"Content-Type": kind})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        time.sleep(0.05)
    finally:
        connection.close()


def hold(address: tuple[str, int], number: int, said: bytes, drip: bytes) -> None:
    """Hold so many connections that have said something, adding a little a second."""
    held: list[socket.socket] = []
    while True:
        alive = []
        for one in held:
            try:
                one.send(drip)
                alive.append(one)
            except OSError:
                one.close()
        held = alive
        for _ in range(number - len(held)):
            try:
                one = socket.create_connection(address, timeout=5)
                one.settimeout(2)
                one.sendall(said)
                one.setblocking(False)
                held.append(one)
            except OSError:
                one.close()
                break
        time.sleep(1)


def attackers(address: tuple[str, int]) -> dict[str, Callable[[], None]]:
    """One of each kind."""
    head = b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    body = head + b"Content-Type: image/png\r\nContent-Length: 30000000\r\n\r\n"
    found: dict[str, Callable[[], None]] = {
        "slow-uploads": lambda: hold(address, 16, body, b"x"),
        "stalled-bodies": lambda: hold(address, 120, body + bytes(8_000_000), b""),
        "half-heads": lambda: hold(address, 900, head + b"X-Half: ", b"a"),
        "names": lambda: ask_for_ever(address, vocabularies()),
    }
    for kind, files in bombs().items():
        found[kind] = lambda files=files: post_for_ever(address, files)  # type: ignore[misc]
    return found


def attack(url: str, kinds: list[str], ready: Event) -> None:
    """Attack until killed: the work of a process of its own."""
    parts = urlsplit(url)
    known = attackers((str(parts.hostname), int(parts.port or 80)))
    for kind in kinds:
        threading.Thread(target=known[kind], daemon=True).start()
    ready.set()
    time.sleep(3600)


def start_attack(url: str, kinds: list[str]) -> BaseProcess:
    """Attackers of these kinds, at work."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=attack, args=(url, kinds, ready), daemon=True)
    process.start()
    if not ready.wait(120):
        raise SystemExit("the attackers do not start")
    return process


# What honest clients see


class Probe:
    """Asks for ``/healthz`` four times a second, and adds up the memory of all processes."""

    def __init__(self, service: Service) -> None:
        self._service, self._stop = service, threading.Event()
        self.waits: list[float] = []
        self.megabytes = 0.0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        parts = urlsplit(self._service.url)
        while not self._stop.wait(0.25):
            started = time.perf_counter()
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
            try:
                connection.request("GET", "/healthz")
                answered = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                answered = False
            connection.close()
            self.waits.append(time.perf_counter() - started if answered else 30.0)
            self.megabytes = max(self.megabytes, family_megabytes(self._service.process.pid))


def counters(service: Service) -> Counter[str]:
    """How many answers of each status the service has given."""
    text = urllib.request.urlopen(f"{service.url}/metrics", timeout=30).read().decode()
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("masqclip_requests_total"):
            found[line.split('status="')[1][:3]] += int(float(line.rpartition(" ")[2]))
    return found


def family_megabytes(pid: int) -> float:
    """Memory of a process and those that it started, what they share counted once."""
    total = 0.0
    for one in (pid, *children(pid)):
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(rollup.split("\nPss:")[1].split()[0]) / 1024
    return total


def children(pid: int) -> list[int]:
    """The processes that any thread of a process started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def measure(
    title: str, service: Service, files: list[bytes], clients: int, seconds: float, kinds: list[str]
) -> float:
    """Load a service beside attackers of these kinds; returns the p95 of honest answers."""
    service.latencies, service.errors, service.refused = [], [], 0
    attacker = start_attack(service.url, kinds) if kinds else None
    before = counters(service)
    with Probe(service) as probe:
        asyncio.run(load(service, files, clients, seconds))
    hostile = counters(service) - before
    if attacker is not None:
        attacker.kill()
        attacker.join()
    hostile.subtract({"200": len(service.latencies) + len(probe.waits), "429": service.refused})
    ordered = sorted(service.latencies)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    print(
        f"{title}: {len(ordered) / seconds:.1f}/s, median {statistics.median(ordered):.2f} s, "
        f"p95 {p95:.2f} s; {service.refused} times 429, {len(service.errors)} failures; /healthz "
        f"{max(probe.waits):.2f} s at the longest; {probe.megabytes:.0f} MB at the most; other "
        f"requests: {', '.join(f'{n} x {s}' for s, n in sorted(hostile.items()) if n > 0)}",
        flush=True,
    )
    for error in service.errors[:3]:
        print("  ", error)
    return p95


def main(
    *,
    seconds: float = 60.0,
    clients: int = 32,
    rounds: int = 2,
    kinds: list[str] | None = None,
    each: bool = False,
) -> None:
    """Measure a service alone and under attack.

    Args:
        seconds: of load for each measurement.
        clients: honest ones that ask at a time.
        rounds: alone and attacked in turns, so often.
        kinds: attackers; all unless given.
        each: one kind at a time as well.
    """
    examples = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.png"))
    files = pictures(examples, 200)
    service = start("service")
    known = kinds or list(attackers(("", 0)))
    asyncio.run(load(service, files, 4, 2.0))  # warm, words known
    alone, attacked = [], []
    for _ in range(rounds):
        alone.append(measure("alone", service, files, clients, seconds, []))
        title = f"beside {', '.join(known)}"
        attacked.append(measure(title, service, files, clients, seconds, known))
    print(f"p95 attacked: {statistics.mean(attacked) / statistics.mean(alone):.2f} times alone")
    for kind in known if each else ():
        measure(f"beside {kind}", service, files, clients, seconds, [kind])
    attacker = start_attack(service.url, known)
    time.sleep(5)
    service.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    code = service.process.wait()
    attacker.kill()
    print(f"SIGTERM under attack: exit {code} after {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    cyclopts.run(main)
