"""A segmenter of straw for `masqclip segment`: finds every name; says what it was asked."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masqclip.cli.main import main


@dataclass(frozen=True)
class Segment:
    name: str
    score: float
    area: int = 6
    box: tuple[int, int, int, int] = (0, 0, 3, 2)

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True)
class Segmentation:
    image: np.ndarray
    task: str
    segments: tuple[Segment, ...]
    notes: tuple[str, ...]
    not_found: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[Segment, ...]:
        return self.segments

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(segment.name for segment in self.segments)

    def to_json(self) -> dict[str, Any]:
        return {"task": self.task, "segments": [{"name": s.name} for s in self.segments]}

    def plot(self) -> Image.Image:
        return Image.fromarray(self.image)


class Calls:
    """What the model of straw was asked, and what it should do at a picture."""

    loaded: list[dict[str, Any]]
    batches: list[list[str]]
    options: list[dict[str, Any]]
    at_picture: Callable[[str], None]

    def __init__(self) -> None:
        self.loaded, self.batches, self.options = [], [], []
        self.at_picture = lambda source: None


def _straw_module(seen: Calls) -> types.ModuleType:
    """Stands in for `masqclip.segmenter`."""

    class Segmenter:
        @classmethod
        def from_pretrained(cls, name: str, **options: Any) -> Segmenter:
            seen.loaded.append({"name": name, **options})
            return cls()

        name = "straw"
        model = types.SimpleNamespace(proposer=None)

        def refine(self, settings: Any) -> None:
            seen.loaded[-1]["refined"] = settings.changed

        def notes_on(self, *_: Any) -> tuple[str, ...]:
            return ()

        def stream(
            self, images: Iterable[Any], vocabulary: Any, task: str, **options: Any
        ) -> Iterator[Segmentation]:
            images = list(images)
            seen.batches.append([Path(image.source).name for image in images])
            seen.options.append({"vocabulary": vocabulary, "task": task, **options})
            for image in images:
                seen.at_picture(Path(image.source).name)
                found = tuple(Segment(name, 0.9) for name in vocabulary.names)
                yield Segmentation(image.pixels, task, found, image.notes)

    module = types.ModuleType("masqclip.segmenter")
    module.Segmenter = Segmenter  # type: ignore[attr-defined]
    return module


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """The segmenter is one of straw, and the folder an empty one."""
    seen = Calls()
    monkeypatch.setitem(sys.modules, "masqclip.segmenter", _straw_module(seen))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    # A model of straw is not looked for before it is loaded.
    monkeypatch.setattr("masqclip.hub.find_model", lambda name, **_: Path(name))
    return seen


def picture(path: str, size: tuple[int, int] = (12, 8)) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(target)
    return target


def written(folder: str = "masqclip-out") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).exists() else []


def run(*words: str) -> int:
    return main(["segment", *words])
