"""Results of a few pixels whose every number is known, with names that formats stumble over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from masqclip.result import Segmentation, Task
from masqclip.segment import Segment

NAMES = ('a<b>&"c"', "K\u00e4se \u6728", "sky", "never found")
HEIGHT, WIDTH = 20, 30


def sample(task: Task = "instance", path: Path | None = None) -> Segmentation:
    """Two parts, a ring, the whole first row; nothing overlaps."""
    parts, ring, row = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(3))
    parts[4:8, 2:6] = parts[10:12, 3:9] = True
    ring[3:10, 12:22] = True
    ring[5:8, 15:19] = False
    row[0] = True
    image = np.random.default_rng(5).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    segments = (
        Segment(1, NAMES[0], 0, 0.9, True, parts),
        Segment(2, NAMES[1], 1, 0.25, True, ring),
        Segment(3, NAMES[2], 2, 0.625, False, row),
    )
    return Segmentation(image, task, NAMES, segments, path=path)


def empty(task: Task = "panoptic") -> Segmentation:
    """Nothing found."""
    return replace(sample(task), segments=())


def with_empty_mask() -> Segmentation:
    """The second of two masks has no pixel."""
    result = sample()
    nothing = Segment(2, NAMES[1], 1, 0.5, True, np.zeros((HEIGHT, WIDTH), bool))
    return replace(result, segments=(result[0], nothing))
