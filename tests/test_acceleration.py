"""Compiled models give the same results; on a processor the graph is captured, not generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from masqclip.acceleration import compile_model
from masqclip.segmenter import Segmenter

BEACH = Path(__file__).parents[1] / "examples" / "beach.png"
NAMES = ["rocket", "tulip", "car", "snake", "stuff: sand"]


def test_a_compiled_model_gives_the_same_results() -> None:
    plain = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    compiled = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    compile_model(compiled.model, backend="eager")
    torch.compiler.reset()
    for min_score in (0.3, 0.6):  # other numbers of masks in one shape
        expected = plain(BEACH, NAMES, min_score=min_score)
        found = next(compiled.stream([BEACH], NAMES, min_score=min_score))
        assert [s.name for s in found.segments] == [s.name for s in expected.segments]
        assert float(np.mean(found.label_map != expected.label_map)) <= 1e-3
