"""What a picture costs against its size, the proposals, the names and the batch; fitted lines."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.data.images import read_image
from masqclip.decoding.semantic import decode_semantic
from masqclip.encoding import encode_pictures
from masqclip.segmenter import Segmenter

REPEATS = 3


@torch.inference_mode()
def measure_costs(
    segmenter: Segmenter, subject: Any, batches: Sequence[int], *, all_: bool
) -> list[dict[str, Any]]:
    """Ours only: seconds and peak bytes against size, proposals, names and batch.

    Args:
        segmenter: the model under test.
        subject: of `speed.py`; lends its picture and the decoders' input.
        batches: batch sizes.
        all_: every axis; else the batch alone.
    """
    model, image = segmenter.model, subject.image
    costs = []
    if all_:
        edge = model.config.shortest_edge
        sizes, pixels = [edge // 2, edge * 3 // 4, edge], []
        runs = []
        for size in sizes:
            small = np.ascontiguousarray(image.pixels[:size, : size * 4 // 3])
            pixels.append(small.shape[0] * small.shape[1] / 1e6)
            runs.append(_encoding(model, [read_image(small)], shortest_edge=size))
        costs.append(_cost("image size, megapixels (encode)", pixels, runs))

        frame = torch.rand(1, 3, 96, 96, device=model.device) * 255
        tokens = model.encode_image(frame)
        masks = torch.randn(1, 200, 48, 48, device=model.device)
        counts = [20, 50, 100, 200]
        runs = [lambda n=n: model.embed_masks(tokens, masks[:, :n]) for n in counts]
        with_image = [lambda n=n: model.encode_and_embed(frame, masks[:, :n]) for n in counts]
        costs.append(_cost("proposals (mask path alone)", counts, runs))
        costs.append(_cost("proposals (image and mask path)", counts, with_image))

        numbers = [1, 10, 150, 847, 3000, 10_000]
        runs = [
            lambda probs=probs: decode_semantic(subject.encoded.masks, probs)
            for probs in (_names(subject.log_probs, number) for number in numbers)
        ]
        costs.append(_cost("names (semantic arg-max)", numbers, runs))
        runs = [_naming(subject, number) for number in numbers]
        costs.append(_cost("names (whole picture, semantic)", numbers, runs))
    runs = [_encoding(model, [image] * size) for size in batches]
    costs.append(_cost("batch (encode)", batches, runs))
    return costs


def _encoding(model: Any, images: list[Any], shortest_edge: int | None = None) -> Callable[[], Any]:
    def run() -> Any:
        kept = model.config.shortest_edge
        model.config.shortest_edge = shortest_edge or kept
        try:
            return encode_pictures(model, images)
        finally:
            model.config.shortest_edge = kept

    return run


def _naming(subject: Any, number: int) -> Callable[[], Any]:
    """A picture from pixels to its class map, with so many names whose words are known."""
    model, encoded = subject.model, subject.encoded
    log_probs = _names(subject.log_probs, number)
    width = model.clip.config.projection_dim
    words = F.normalize(torch.randn(number + 1, width, device=model.device), dim=-1)

    def run() -> Any:
        seen = encode_pictures(model, [subject.image])[0]
        model.classify(seen.mask_embeddings[None], words, number)
        return decode_semantic(encoded.masks, log_probs)

    return run


def _names(log_probs: Tensor, number: int) -> Tensor:
    """Log-probabilities of more or fewer names: copies that are a little less likely."""
    copies = -(-number // log_probs.shape[1])
    torch.manual_seed(0)
    noise = torch.randn(log_probs.shape[0], copies * log_probs.shape[1], device=log_probs.device)
    return (log_probs.repeat(1, copies) + 0.5 * noise - np.log(copies))[:, :number]


def _cost(against: str, x: Sequence[float], runs: Sequence[Callable[[], Any]]) -> dict[str, Any]:
    seconds: list[list[float]] = [[] for _ in runs]
    peaks = [0.0 for _ in runs]
    for _ in range(REPEATS):
        for i, run in enumerate(runs):
            before = reset_peak()
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[i].append(time.perf_counter() - started)
            peaks[i] = max(peaks[i], peak() - before)
    medians = [statistics.median(values) for values in seconds]
    slope, start = np.polyfit(np.asarray(x, float), medians, 1)
    off = np.abs(start + slope * np.asarray(x) - medians) / medians
    fit = (
        f"{1000 * start:.1f} ms + {1000 * slope:.4g} ms x {against.split(',')[0].split(' (')[0]}, "
        f"at most {100 * off.max():.0f} % off"
    )
    return {"against": against, "x": list(x), "seconds": medians, "bytes": peaks, "fit": fit}


def reset_peak() -> float:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    ctypes.CDLL(None).malloc_trim(0)  # what was freed counts no longer
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """The most bytes in use since `reset_peak`."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return _status("VmHWM")


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(key))
