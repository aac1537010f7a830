"""FiftyOne's labels, by a stand-in that takes what FiftyOne's own classes take."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from masqclip.errors import MasqclipError
from masqclip.result import Segmentation
from masqclip.segment import Segment


@dataclass
class Detection:
    label: str | None = None
    bounding_box: list[float] | None = None
    mask: Any = None
    confidence: float | None = None


@dataclass
class Detections:
    detections: list[Detection] | None = None


@dataclass
class FiftyOneSegmentation:
    mask: Any = None


@pytest.fixture
def fiftyone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("fiftyone")
    vars(module).update(
        Detection=Detection, Detections=Detections, Segmentation=FiftyOneSegmentation
    )
    monkeypatch.setitem(sys.modules, "fiftyone", module)


def segmentation(task: Any, names: tuple[str, ...] = ("sky", "cat")) -> Segmentation:
    cat = np.zeros((20, 40), bool)
    cat[10:15, 4:14] = True
    cat[10, 4] = False
    segment = Segment(1, "cat", names.index("cat"), 0.75, True, cat)
    return Segmentation(np.zeros((20, 40, 3), np.uint8), task, names, (segment,))


@pytest.mark.usefixtures("fiftyone")
@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_masks_are_cut_to_relative_boxes(task: str) -> None:
    (detection,) = segmentation(task).to_fiftyone().detections
    assert (detection.label, detection.confidence) == ("cat", 0.75)
    assert detection.bounding_box == [0.1, 0.5, 0.25, 0.25]
    assert detection.mask.shape == (5, 10)
    assert detection.mask.sum() == 49
    assert not detection.mask[0, 0]


@pytest.mark.usefixtures("fiftyone")
def test_a_class_map_counts_from_one() -> None:
    mask = segmentation("semantic").to_fiftyone().mask
    assert (mask.dtype, mask.shape) == (np.uint8, (20, 40))
    assert mask[12, 8] == 2
    assert mask[0, 0] == 0
    many = segmentation("semantic", (*map(str, range(300)), "cat")).to_fiftyone().mask
    assert (many.dtype, many.max()) == (np.uint16, 301)


def test_without_it_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(MasqclipError, match=r"masqclip\[fiftyone\]"):
        segmentation("instance").to_fiftyone()
