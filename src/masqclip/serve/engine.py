"""The model behind the service: pictures in, encoded in batches, named one by one.

Three kinds of work, each where it does not stand in another's way: reading picture files (a small
pool; Pillow lets go of the interpreter), encoding (one thread, micro-batched) and naming with all
that follows it up to the answer's bytes (one thread). With two cores, one encodes while the other
reads, names and writes.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import numpy as np

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import LoadedImage, read_image
from masqclip.encoding import EncodedImage
from masqclip.result import Segmentation, Task
from masqclip.segmenter import Segmenter
from masqclip.serve.batcher import Batcher
from masqclip.serve.metrics import Metrics
from masqclip.serve.problems import Problem
from masqclip.serve.settings import ServeSettings
from masqclip.serve.store import ImageStore, image_id

T = TypeVar("T")


class Engine:
    """A `Segmenter` that many callers share.

    Args:
        segmenter: the model.
        settings: the bounds.
        metrics: what is told of the work.
    """

    def __init__(self, segmenter: Segmenter, settings: ServeSettings, metrics: Metrics) -> None:
        self.segmenter, self.settings, self.metrics = segmenter, settings, metrics
        self.store = ImageStore(settings.store_bytes)
        self._batcher: Batcher[LoadedImage, EncodedImage] = Batcher(
            segmenter.encode,
            max_batch=settings.batch_size,
            on_batch=metrics.batch_size.observe,
        )
        self._readers = ThreadPoolExecutor(
            min(4, os.cpu_count() or 1), thread_name_prefix="masqclip-read"
        )
        self._namer = ThreadPoolExecutor(1, thread_name_prefix="masqclip-name")
        self._pending = 0
        self._seconds_each = 0.1  # between two answers under load: a running mean

    async def warm_up(self) -> None:
        """Run everything once: the first call of a process costs more than those that follow."""
        pixels = np.zeros((64, 64, 3), np.uint8)
        encoded = await self._batcher.submit(read_image(pixels))
        await self.name(encoded, Vocabulary.parse(["a"]), "panoptic", None, lambda result: None)

    async def close(self) -> None:
        """End the threads."""
        await self._batcher.close()
        for pool in (self._readers, self._namer):
            pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Room for one request, within the deadline.

        Raises:
            Problem: 429 where as many are waiting as may; 504 when the time is over.
        """
        wait = self._pending * self._seconds_each
        # A slow machine takes in less, so that it can answer what it has within the time it gets
        # at its end; one request is always taken.
        if self._pending >= self.settings.max_requests or wait > self.settings.max_wait:
            seconds = max(1, math.ceil(wait / 2))
            raise Problem(
                429,
                f"{self._pending} requests are waiting already: try again in {seconds} s",
                {"Retry-After": str(seconds)},
            )
        self._pending += 1
        self.metrics.pending.set(self._pending)
        started, ahead = time.monotonic(), self._pending
        try:
            async with asyncio.timeout(self.settings.deadline):
                yield
        except TimeoutError as error:
            raise Problem(
                504,
                f"not done within {self.settings.deadline:g} s: try again later, or give a "
                "smaller picture",
            ) from error
        finally:
            self._pending -= 1
            self.metrics.pending.set(self._pending)
            each = (time.monotonic() - started) / ahead
            self._seconds_each += 0.1 * (each - self._seconds_each)

    async def encode(self, data: bytes) -> EncodedImage:
        """A picture's file, encoded.

        Raises:
            MasqclipError: the bytes are no picture, or too large a one.
        """
        read = partial(read_image, data, max_pixels=self.settings.max_pixels)
        loop = asyncio.get_running_loop()
        return await self._batcher.submit(await loop.run_in_executor(self._readers, read))

    async def keep(self, data: bytes) -> tuple[str, EncodedImage]:
        """A picture's file, encoded and kept under an identifier; a known one is not done again."""
        key = image_id(data)
        encoded = self.store.get(key)
        if encoded is None:
            encoded = await self.encode(data)
            self.store.put(key, encoded)
            self._count_store()
        return key, encoded

    def stored(self, key: str) -> EncodedImage:
        """A picture that was uploaded.

        Raises:
            Problem: 404 if it is not, or no longer, in the store.
        """
        found = self.store.get(key)
        if found is None:
            raise Problem(404, "no such picture is in memory (any more): upload it again")
        return found

    def forget(self, key: str) -> None:
        """Remove a picture from the store.

        Raises:
            Problem: 404 if it is not there.
        """
        self.stored(key)
        self.store.remove(key)
        self._count_store()

    async def name(
        self,
        encoded: EncodedImage,
        words: Vocabulary,
        task: Task,
        min_score: float | None,
        finish: Callable[[Segmentation], T],
    ) -> T:
        """Name a picture's masks; `finish` makes the answer of them on the same thread."""

        def run() -> T:
            return finish(self.segmenter(encoded, words, task, min_score=min_score))

        return await asyncio.get_running_loop().run_in_executor(self._namer, run)

    def _count_store(self) -> None:
        self.metrics.stored_images.set(len(self.store))
        self.metrics.stored_bytes.set(self.store.bytes)
