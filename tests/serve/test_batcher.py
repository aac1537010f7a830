"""Micro-batching by itself: what waits goes together, and nobody pays for a neighbour."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from masqclip.serve.batcher import Batcher


def test_what_waits_while_a_batch_is_worked_on_is_the_next_batch() -> None:
    sizes: list[int] = []
    release = threading.Event()

    def double(items: Sequence[int]) -> list[int]:
        release.wait(5)
        return [2 * item for item in items]

    async def run() -> list[int]:
        batcher = Batcher(double, max_batch=4, on_batch=sizes.append)
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.submit(item)) for item in range(1, 8)]
        await asyncio.sleep(0.05)
        release.set()
        results = await asyncio.gather(first, *others)
        await batcher.close()
        return results

    assert asyncio.run(run()) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert sizes == [1, 4, 3]


def test_a_bad_item_fails_alone() -> None:
    def invert(items: Sequence[int]) -> list[float]:
        return [1 / item for item in items]

    async def run() -> list[float | BaseException]:
        batcher = Batcher(invert, max_batch=8)
        jobs = [asyncio.create_task(batcher.submit(item)) for item in (1, 0, 2)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        await batcher.close()
        return results

    good, bad, other = asyncio.run(run())
    assert (good, other) == (1.0, 0.5)
    assert isinstance(bad, ZeroDivisionError)


def test_who_gives_up_is_left_out() -> None:
    seen: list[int] = []
    release = threading.Event()

    def record(items: Sequence[int]) -> Sequence[int]:
        release.wait(5)
        seen.extend(items)
        return items

    async def run() -> None:
        batcher = Batcher(record, max_batch=8)
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.submit(2), 0.05)
        third = asyncio.create_task(batcher.submit(3))
        await asyncio.sleep(0.05)
        release.set()
        await asyncio.gather(first, third)
        await batcher.close()

    asyncio.run(run())
    assert seen == [1, 3]


def test_who_gives_up_while_worked_on_takes_nobody_s_result() -> None:
    """The others of the batch still get theirs, and so does whoever comes later."""
    begun, release = threading.Event(), threading.Event()

    def double(items: Sequence[int]) -> list[int]:
        begun.set()
        release.wait(5)
        return [2 * item for item in items]

    async def run() -> list[int]:
        batcher = Batcher(double, max_batch=8)
        jobs = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await asyncio.to_thread(begun.wait, 5)
        jobs[0].cancel()
        await asyncio.gather(jobs[0], return_exceptions=True)
        release.set()
        found = [await asyncio.wait_for(jobs[1], 5), await asyncio.wait_for(batcher.submit(3), 5)]
        await batcher.close()
        return found

    assert asyncio.run(run()) == [4, 6]


def test_who_gives_up_while_it_fails_is_not_told() -> None:
    begun, release = threading.Event(), threading.Event()

    def fail(items: Sequence[int]) -> list[int]:
        begun.set()
        release.wait(5)
        if items == [1]:
            raise ValueError("bad")
        return list(items)

    async def run() -> int:
        batcher = Batcher(fail, max_batch=1)
        job = asyncio.create_task(batcher.submit(1))
        await asyncio.to_thread(begun.wait, 5)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        release.set()
        found = await asyncio.wait_for(batcher.submit(2), 5)
        await batcher.close()
        return found

    assert asyncio.run(run()) == 2


def test_closing_ends_whoever_waits() -> None:
    """Nobody waits for a worker that is gone: what is worked on and what waits is cancelled."""
    begun, release = threading.Event(), threading.Event()

    def keep(items: Sequence[int]) -> Sequence[int]:
        begun.set()
        release.wait(5)
        return items

    async def run() -> list[int | BaseException]:
        batcher = Batcher(keep, max_batch=1)
        jobs = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await asyncio.to_thread(begun.wait, 5)
        closing = asyncio.create_task(batcher.close())
        found = await asyncio.wait_for(asyncio.gather(*jobs[1:], return_exceptions=True), 5)
        release.set()
        await closing
        jobs[0].cancel()
        return found

    assert all(isinstance(end, asyncio.CancelledError) for end in asyncio.run(run()))


def test_a_batcher_that_was_never_used_is_closed() -> None:
    async def run() -> None:
        await Batcher(list, max_batch=1).close()

    asyncio.run(run())
