"""The service under load: throughput with and without micro-batching, latency, memory, the end.

    python benchmarks/load.py --seconds 60 --clients 32

One service a setting, each on the same pictures (which differ, so that nothing is known already);
the settings take turns in short rounds, so that a busy machine does not favour one of them. Each
service ends by SIGTERM while the clients go on, and what it had accepted must be answered.
"""

from __future__ import annotations

import asyncio
import io
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cyclopts
import httpx
import numpy as np
from PIL import Image

from masqclip.data.images import read_image

NAMES = "rocket, tulip, car, snake, penguin, stuff: sand"


@dataclass
class Service:
    """One `masqclip serve`, and what was measured of it."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds of load, megabytes


def start(name: str, *options: str, variables: Mapping[str, str] | None = None) -> Service:
    """Start a service, in another environment if one is given, and wait until it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "masqclip.cli.main", "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL)
    service = Service(name, f"http://127.0.0.1:{port}", process)
    while service.process.poll() is None:
        try:
            if httpx.get(f"{service.url}/readyz").status_code == 200:
                return service
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"{name}: the service did not start")


def pictures(paths: list[Path], count: int) -> list[bytes]:
    """JPEG files: crops of pictures, no two alike."""
    random = np.random.default_rng(0)
    loaded = [read_image(path).pixels for path in paths]
    files = []
    for index in range(count):
        pixels = loaded[index % len(loaded)]
        top, left = random.integers(0, 64, 2)
        crop = pixels[top : top + pixels.shape[0] - 64, left : left + pixels.shape[1] - 64]
        buffer = io.BytesIO()
        Image.fromarray(crop).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


async def ask(client: httpx.AsyncClient, service: Service, picture: bytes) -> bool:
    """One request; false when the service takes no more."""
    started = time.perf_counter()
    try:
        answer = await client.post(
            f"{service.url}/v1/segment",
            files={"image": picture},
            data={"vocabulary": NAMES, "task": "instance"},
        )
    except httpx.ConnectError:
        return False
    except httpx.TransportError as error:
        service.errors.append(repr(error))
        return service.process.poll() is None
    if answer.status_code == 200:
        service.latencies.append(time.perf_counter() - started)
    elif answer.status_code == 429:
        service.refused += 1
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    else:
        service.errors.append(f"{answer.status_code}: {answer.text[:200]}")
    return True


async def load(service: Service, files: list[bytes], clients: int, seconds: float) -> None:
    """So many clients, each asking again as soon as it has its answer."""
    until = time.monotonic() + seconds
    turn = iter(range(10**9))

    async def one(client: httpx.AsyncClient) -> None:
        while time.monotonic() < until:
            await ask(client, service, files[next(turn) % len(files)])

    async def watch() -> None:
        while time.monotonic() < until:
            load_seconds = service.seconds + seconds - (until - time.monotonic())
            service.memory.append((load_seconds, resident_megabytes(service.process.pid)))
            await asyncio.sleep(0.5)

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        started = time.monotonic()
        await asyncio.gather(watch(), *(one(client) for _ in range(clients)))
    service.seconds += time.monotonic() - started


async def end_under_load(service: Service, files: list[bytes], clients: int) -> float:
    """SIGTERM while clients ask; the seconds until the process is gone."""
    headers = {"Connection": "close"}  # each request is a new connection, taken or not
    ended = 0.0

    async def one(client: httpx.AsyncClient, index: int) -> None:
        while await ask(client, service, files[index]):
            pass

    async with httpx.AsyncClient(timeout=120, headers=headers) as client:
        asking = [asyncio.create_task(one(client, index)) for index in range(clients)]
        await asyncio.sleep(3)
        service.process.send_signal(signal.SIGTERM)
        ended = time.monotonic()
        while service.process.poll() is None:
            await asyncio.sleep(0.02)
        ended = time.monotonic() - ended
        await asyncio.gather(*asking)
    return ended


def resident_megabytes(pid: int) -> float:
    """Memory of a process, as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def report(service: Service) -> float:
    """Print what was measured; returns pictures per second."""
    rate = len(service.latencies) / service.seconds
    ordered = sorted(service.latencies)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    last = service.memory[-1][0]
    first_ten = statistics.mean(mb for at, mb in service.memory if at <= 10)
    last_ten = statistics.mean(mb for at, mb in service.memory if at >= last - 10)
    print(
        f"{service.name}: {len(ordered)} answers in {service.seconds:.0f} s = {rate:.2f}/s; "
        f"median {statistics.median(ordered):.2f} s, p95 {p95:.2f} s; {service.refused} times 429; "
        f"{len(service.errors)} errors; memory {first_ten:.0f} -> {last_ten:.0f} MB "
        f"({last_ten / first_ten - 1:+.1%})"
    )
    for error in service.errors[:3]:
        print("  ", error)
    return rate


def main(*, seconds: float = 60.0, clients: int = 32, rounds: int = 3, batch_size: int = 8) -> None:
    """Load two services in turns and compare them; then end them under load.

    Args:
        seconds: of load for each.
        clients: that ask at a time.
        rounds: into which the seconds are split.
        batch_size: of the service that batches.
    """
    examples = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.png"))
    files = pictures(examples, 200)
    services = [
        start("each picture alone", "--batch-size", "1"),
        start(f"batches of up to {batch_size}", "--batch-size", str(batch_size)),
    ]
    for service in services:
        asyncio.run(load(service, files, 4, 2.0))  # warm, words known
        service.latencies, service.memory, service.seconds = [], [], 0.0
    for turn in range(rounds):
        for service in services if turn % 2 == 0 else services[::-1]:
            asyncio.run(load(service, files, clients, seconds / rounds))
    alone, together = (report(service) for service in services)
    print(f"micro-batching: {together / alone:.2f} times the throughput")
    for service in services:
        errors = len(service.errors)
        ended = asyncio.run(end_under_load(service, files, clients))
        print(
            f"{service.name}: SIGTERM under load: exit {service.process.returncode} after "
            f"{ended:.1f} s, {len(service.errors) - errors} accepted requests lost"
        )


if __name__ == "__main__":
    cyclopts.run(main)
