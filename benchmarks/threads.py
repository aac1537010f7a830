"""One `Segmenter` shared by threads: every answer beside that of one thread, and the time.

    python benchmarks/threads.py --calls 2000 --threads 8

Calls go through pictures and encoded pictures, the three tasks, and more vocabularies than the
cache of text embeddings holds strings for, so that it overflows and is filled again all the time.
Two answers are one if their segments have the same names in the same order, scores within 1e-4 and
masks that differ in at most one pixel of a thousand: the last bits of an embedding depend on what
else went through the text tower with it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cyclopts
import numpy as np
import torch

from masqclip.clip.text_cache import EmbeddingCache
from masqclip.data.images import find_images, read_image
from masqclip.encoding import EncodedImage
from masqclip.result import Segmentation, Task
from masqclip.segmenter import Segmenter

TASKS: tuple[Task, ...] = ("instance", "semantic", "panoptic")
_EXAMPLES = Path(__file__).parents[1] / "examples"
KEPT_STRINGS = 40  # few, so that the cache overflows
WORDS = [
    "cat",
    "dog",
    "car",
    "grass",
    "sky",
    "sand",
    "rocket",
    "tulip",
    "snake",
    "penguin",
    "bell",
    "key",
    "tree",
    "house",
    "boat",
    "fish",
    "bird",
    "cow",
    "horse",
    "sheep",
    "sun",
    "moon",
    "star",
    "cloud",
    "water",
    "road",
    "wall",
    "door",
    "window",
    "chair",
    "table",
    "bed",
    "lamp",
    "clock",
]

Call = tuple[np.ndarray | EncodedImage, tuple[str, ...], Task]


def same(one: Segmentation, other: Segmentation) -> bool:
    """Whether two answers to one call are the same."""
    if [segment.name for segment in one.segments] != [segment.name for segment in other.segments]:
        return False
    return all(
        abs(a.score - b.score) < 1e-4 and float(np.mean(a.mask != b.mask)) <= 1e-3
        for a, b in zip(one.segments, other.segments, strict=True)
    )


def plan_calls(segmenter: Segmenter, pictures: Sequence[np.ndarray], number: int) -> list[Call]:
    """Calls of every kind, in an order that is always the same."""
    chance = random.Random(7)
    images: list[np.ndarray | EncodedImage] = [*pictures, *segmenter.encode(list(pictures))]
    names = [(f"{a} {b}", *chance.sample(WORDS, 3), a, b) for a in WORDS for b in WORDS if a < b]
    vocabularies = [tuple(dict.fromkeys(words)) for words in chance.sample(names, 60)]
    return [
        (chance.choice(images), chance.choice(vocabularies), chance.choice(TASKS))
        for _ in range(number)
    ]


def few_strings(segmenter: Segmenter) -> Segmenter:
    """Give a segmenter a cache that overflows."""
    width = segmenter.model.clip.config.projection_dim
    segmenter.text._cache = EmbeddingCache(width, max_strings=KEPT_STRINGS)
    return segmenter


def timed(run: Callable[[], list[Segmentation]]) -> tuple[list[Segmentation], float]:
    """What a function returns, and the seconds it took."""
    started = time.perf_counter()
    return run(), time.perf_counter() - started


def main(*, calls: int = 2000, threads: int = 8, pictures: Path = _EXAMPLES) -> None:
    """Print the calls, the wrong answers, and the time beside one thread's.

    Args:
        calls: how many.
        threads: that share the segmenter.
        pictures: a folder of pictures; two small pieces of each of four are asked about.
    """
    torch.set_num_threads(1)  # the threads are the callers'
    drawn = []
    for path in find_images([pictures]):
        pixels = read_image(path).pixels
        drawn += [pixels[:128, :128], pixels[-100:, -140:]]
    shared = few_strings(Segmenter.from_pretrained("masqclip-mini", device="cpu"))
    planned = plan_calls(shared, drawn[:8], calls)

    def ask(call: Call) -> Segmentation:
        image, words, task = call
        return shared(image, list(words), task, min_score=0.05)

    truth, alone = timed(lambda: [ask(call) for call in planned])
    few_strings(shared)
    with ThreadPoolExecutor(threads) as pool:
        answers, together = timed(lambda: list(pool.map(ask, planned)))
    wrong = sum(not same(a, b) for a, b in zip(truth, answers, strict=True))
    exact = sum(
        [(s.name, s.score) for s in a.segments] == [(s.name, s.score) for s in b.segments]
        for a, b in zip(truth, answers, strict=True)
    )
    print(f"{calls} calls, {threads} threads: {wrong} wrong ({exact} to the last bit)")
    print(f"one thread {alone:.1f} s, {threads} threads {together:.1f} s: {alone / together:.2f}x")
    afterwards, _ = timed(lambda: [ask(call) for call in planned[:200]])
    wrong = sum(not same(a, b) for a, b in zip(truth, afterwards, strict=False))
    print(f"{len(afterwards)} calls afterwards, one thread: {wrong} wrong")


if __name__ == "__main__":
    cyclopts.run(main)
