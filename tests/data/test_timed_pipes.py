"""Nobody waits for ever at a pipe: not for longer than said, or its process is ended (Windows)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from masqclip.data import timed_pipes
from masqclip.data.timed_pipes import TimedPipes, WatchedPipes

KINDS: list[Callable[[subprocess.Popen[bytes]], TimedPipes]] = [WatchedPipes]
if sys.platform != "win32":
    KINDS.append(timed_pipes.PolledPipes)

Talk = Callable[[str], tuple[TimedPipes, subprocess.Popen[bytes]]]


@pytest.fixture(params=KINDS)
def talk(request: pytest.FixtureRequest) -> Iterator[Talk]:
    """Starts a program; gives the pipes to it, and its process."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> tuple[TimedPipes, subprocess.Popen[bytes]]:
        command = [sys.executable, "-S", "-c", f"import sys, time\n{code}"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        return request.param(process), process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def test_more_than_a_pipe_holds_goes_there_and_back(talk: Talk) -> None:
    pipes, _ = talk("data = sys.stdin.buffer.read(3 << 20); sys.stdout.buffer.write(data[::-1])")
    content = bytes(range(256)) * (3 << 12)
    pipes.send(content, soon())
    answer = bytearray(len(content))
    pipes.receive(memoryview(answer), soon())
    assert answer == content[::-1]


def test_who_does_not_answer_in_time_is_not_waited_for(talk: Talk) -> None:
    pipes, _ = talk("time.sleep(600)")
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        pipes.receive(memoryview(bytearray(1)), soon(0.3))
    assert 0.2 < time.monotonic() - before < 30


def test_who_does_not_take_it_in_time_is_not_waited_for(talk: Talk) -> None:
    pipes, _ = talk("time.sleep(600)")
    with pytest.raises(TimeoutError):
        pipes.send(bytes(8 << 20), soon(0.3))


def test_an_end_in_the_middle_is_told(talk: Talk) -> None:
    pipes, process = talk("sys.stdout.write('abc')")
    with pytest.raises(EOFError):
        pipes.receive(memoryview(bytearray(4)), soon())
    process.wait(60)
    with pytest.raises(BrokenPipeError):
        pipes.send(bytes(8 << 20), soon())
