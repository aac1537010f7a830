"""The model behind the service: pictures in, encoded in batches, named one by one.

Three kinds of work, each where it does not stand in another's way: reading picture files (in
processes, which are ended when a file asks for too much), encoding (one thread, micro-batched) and
naming with all that follows it up to the answer's bytes (one thread). With two cores, one encodes
while the other reads, names and writes.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from masqclip.clip.saved_vocabulary import SavedVocabulary
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.image_readers import ImageReaders
from masqclip.data.image_structure import check_structure, header_size
from masqclip.data.images import LoadedImage, read_image
from masqclip.encoding import EncodedImage
from masqclip.result import Segmentation, Task
from masqclip.segmenter import Segmenter
from masqclip.serve.batcher import Batcher
from masqclip.serve.metrics import Metrics
from masqclip.serve.names_request import NamesRequest
from masqclip.serve.problems import Problem
from masqclip.serve.settings import ServeSettings
from masqclip.serve.store import ImageStore
from masqclip.serve.vocabulary_store import VocabularyStore

T = TypeVar("T")

#: Pictures that may take long to decode that may wait for it.
MAX_SLOW_READS = 8
#: Which they are, beside those of formats whose cost cannot be foreseen.
SLOW_PIXELS, SLOW_BYTES = 12_500_000, 8_000_000
# Files whose structure is walked in some milliseconds whatever is in them.
_QUICK_BYTES = 500_000


@dataclass(frozen=True)
class Upload:
    """A picture's file, and the picture itself where it had to be decoded apart."""

    data: bytes
    image: LoadedImage | None = None


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
        self.vocabularies = VocabularyStore(settings)
        self.changing = asyncio.Lock()  # held while a vocabulary is
        self._batcher: Batcher[LoadedImage, EncodedImage] = Batcher(
            segmenter.encode,
            max_batch=settings.batch_size,
            on_batch=metrics.batch_size.observe,
        )
        number = max(2, min(4, os.cpu_count() or 1))
        self._readers = ThreadPoolExecutor(number, thread_name_prefix="masqclip-read")
        self._decoders = ImageReaders(number, seconds=settings.read_seconds)
        # Formats whose work cannot be foreseen wait for one another, and for nobody else.
        self._slow_reader = ThreadPoolExecutor(1, thread_name_prefix="masqclip-slow")
        self._slow_decoder = ImageReaders(1, seconds=settings.read_seconds, niceness=10)
        self._slow_reads = 0
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="masqclip-words")
        self._namer = ThreadPoolExecutor(1, thread_name_prefix="masqclip-name")
        self._pending = 0
        # Of the model alone, between two answers under load: running means.
        self._encode_seconds, self._name_seconds = 0.08, 0.02

    async def warm_up(self) -> None:
        """Run everything once: the first call of a process costs more than those that follow."""
        pixels = np.zeros((64, 64, 3), np.uint8)
        encoded = await self._batcher.submit(read_image(pixels))
        await asyncio.get_running_loop().run_in_executor(self._readers, self._decoders.start)
        task = self.segmenter.model.tasks[-1]
        await self.name(encoded, Vocabulary.parse(["a"]), task, None, lambda result: None)

    async def close(self) -> None:
        """End the threads, and the processes at once."""
        self._decoders.close()
        self._slow_decoder.close()
        await self._batcher.close()
        for pool in (self._readers, self._slow_reader, self._parser, self._namer):
            pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Room for one request, within the deadline.

        Raises:
            Problem: 429 where as many are waiting as may; 504 when the time is over.
        """
        wait = self._pending * (self._encode_seconds + self._name_seconds)
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
        try:
            async with self._deadline():
                yield
        finally:
            self._pending -= 1
            self.metrics.pending.set(self._pending)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.settings.deadline):
                yield
        except TimeoutError as error:
            raise Problem(
                504,
                f"not done within {self.settings.deadline:g} s: try again later, or give a "
                "smaller picture",
            ) from error

    async def open(self, data: bytes) -> Upload:
        """A picture's file, looked at before it is let in.

        What a picture in an ordinary format costs is known from its size, and it is decoded when
        its turn has come. Others, and very large ones, are decoded here, one at a time, by a
        process of low priority.

        Raises:
            MasqclipError: the file was built to take long; or it is of another format, and no
                picture, or too large a one.
            Problem: 429 where many of the others are waiting; 504 when the time is over.
        """
        loop = asyncio.get_running_loop()
        size = header_size(data)
        large = len(data) > SLOW_BYTES or (size is not None and size[0] * size[1] > SLOW_PIXELS)
        look = partial(check_structure, data, "<bytes>")
        small = len(data) <= _QUICK_BYTES
        bounded = look() if small else await loop.run_in_executor(self._parser, look)
        if bounded and not large:
            return Upload(data)
        if self._slow_reads >= MAX_SLOW_READS:
            raise Problem(
                429,
                "many pictures wait to be decoded: try again in a moment, or send JPEG or PNG",
                {"Retry-After": "2"},
            )
        self._slow_reads += 1
        try:
            async with self._deadline():
                read = partial(self._read, data, self._slow_decoder)
                return Upload(data, await loop.run_in_executor(self._slow_reader, read))
        finally:
            self._slow_reads -= 1

    def _read(self, data: bytes, decoders: ImageReaders) -> LoadedImage:
        return read_image(data, max_pixels=self.settings.max_pixels, isolated=decoders)

    async def encode(self, upload: Upload) -> EncodedImage:
        """A picture's file, encoded.

        Raises:
            MasqclipError: the bytes are no picture, or too large a one.
        """
        image = upload.image
        if image is None:
            read = partial(self._read, upload.data, self._decoders)
            image = await asyncio.get_running_loop().run_in_executor(self._readers, read)
        started, ahead = time.monotonic(), max(1, self._pending)
        encoded = await self._batcher.submit(image)
        each = (time.monotonic() - started) / ahead
        self._encode_seconds += 0.1 * (each - self._encode_seconds)
        return encoded

    async def encode_again(self, encoded: EncodedImage) -> EncodedImage:
        """A picture of the store with what an example is made from, which the store leaves out."""
        return await self._batcher.submit(encoded.image)

    async def read_words(self, wish: NamesRequest) -> Vocabulary:
        """The vocabulary of a request, read beside the event loop unless it is short.

        Raises:
            MasqclipError: it cannot be used, a name is too long for the model, or its examples are
                of another one.
            Problem: 422, more names or examples than the service takes; 404, a vocabulary that is
                not kept.
        """
        kept = {key: self.kept_vocabulary(key) for key in wish.identifiers}

        def read() -> Vocabulary:
            settings = self.settings
            words = wish.words(settings.max_names, max_examples=settings.max_examples, kept=kept)
            self.segmenter.text.check(words)
            return words

        return read() if wish.brief else await self.beside(read)

    async def beside(self, work: Callable[[], T]) -> T:
        """What reading names comes to, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._parser, work)

    async def on_namer(self, work: Callable[[], T]) -> T:
        """What the model is asked for beside names, on the thread that names."""
        return await asyncio.get_running_loop().run_in_executor(self._namer, work)

    def keep_vocabulary(self, saved: SavedVocabulary, key: str | None = None) -> str:
        """A vocabulary, kept under a new identifier, or in the place of another."""
        key = self.vocabularies.put(saved, key)
        self._count_store()
        return key

    def kept_vocabulary(self, key: str) -> SavedVocabulary:
        """A vocabulary that is kept.

        Raises:
            Problem: 404 if it is not, or no longer.
        """
        found = self.vocabularies.get(key)
        if found is None:
            raise Problem(404, "no such vocabulary is in memory (any more): send it again")
        return found

    def forget_vocabulary(self, key: str) -> None:
        """Remove a vocabulary.

        Raises:
            Problem: 404 if it is not there.
        """
        self.kept_vocabulary(key)
        self.vocabularies.remove(key)
        self._count_store()

    async def keep(self, upload: Upload) -> tuple[str, EncodedImage]:
        """A file, encoded and kept under a new identifier; a known one is not encoded again."""
        encoded = self.store.find(upload.data) or await self.encode(upload)
        identifier = self.store.put(upload.data, encoded)
        self._count_store()
        return identifier, encoded

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

        started, ahead = time.monotonic(), max(1, self._pending)
        result = await self.on_namer(run)
        each = (time.monotonic() - started) / ahead
        self._name_seconds += 0.1 * (each - self._name_seconds)
        return result

    def _count_store(self) -> None:
        self.metrics.stored_images.set(len(self.store))
        self.metrics.stored_bytes.set(self.store.bytes)
        self.metrics.stored_vocabularies.set(len(self.vocabularies))
