"""What a new vocabulary costs on a picture that is encoded already, against the first call.

    python benchmarks/new_words.py --picture examples/beach.png
    python benchmarks/new_words.py --picture examples/beach.png --full-size-model

The words are known (their embeddings cached); the picture is at the model's own working size. With
`--full-size-model` the model is ViT-L/14 at 336 pixels and Mask2Former-R50 with random weights.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cyclopts
import numpy as np
import torch
from PIL import Image

from masqclip.data.frames import resized_size
from masqclip.data.images import read_image
from masqclip.segmenter import Segmenter
from models import full_size

FIRST, NEXT = ["rocket", "tulip", "car", "sand"], ["snake", "penguin", "sand", "sky"]


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main(*, picture: Path, full_size_model: bool = False, rounds: int = 7) -> None:
    """Print medians of first calls, of new known words on an encoded picture, and their ratio.

    Args:
        picture: what to segment.
        full_size_model: random weights of the published sizes instead of the shipped model.
        rounds: how many of each.
    """
    torch.manual_seed(0)
    if full_size_model:
        segmenter = full_size()
    else:
        segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    image = Image.fromarray(read_image(picture).pixels)
    height, width = resized_size(image.height, image.width, segmenter.model.config)
    small = np.asarray(image.resize((width, height)))
    segmenter(small, FIRST)
    segmenter(small, NEXT)  # warm, and every word known
    first = statistics.median(seconds(lambda: segmenter(small, FIRST)) for _ in range(rounds))
    encoded = segmenter.encode(small)
    following = statistics.median(seconds(lambda: segmenter(encoded, NEXT)) for _ in range(rounds))
    print(f"{height} x {width} pixels, {torch.get_num_threads()} threads, {rounds} rounds")
    print(f"first call, words known: {1000 * first:.1f} ms")
    print(f"new words, picture encoded: {1000 * following:.2f} ms = {following / first:.1%}")


if __name__ == "__main__":
    cyclopts.run(main)
