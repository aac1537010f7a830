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
