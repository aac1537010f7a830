"""A folder of seven pictures that `masqclip label` labels, with a segmenter of straw."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from straw import Straw

from masqclip.cli.main import main
from masqclip.labelling import folder

JOURNAL = ".masqclip-labels.jsonl"
LEDGER = ".masqclip-files.jsonl"
NAMES = [f"p{n}.png" for n in range(7)]


@pytest.fixture
def straw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Straw:
    """A working folder with seven pictures, and the model."""
    seen = Straw()
    monkeypatch.setitem(sys.modules, "masqclip.segmenter", seen.module())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(folder, "SHEET_PICTURES", 1)  # drawing them takes most of the time
    for seed, name in enumerate(NAMES):
        picture(f"photos/{name}", seed)
    return seen


def picture(path: str, seed: int = 0) -> Path:
    """Blocks of colours, 24 x 16 pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize((24, 16), Image.Resampling.NEAREST).save(target)
    return target


def run(*words: str, vocabulary: str = "cat, dog, stuff:sky", kind: str = "coco") -> int:
    return main(["label", "photos", "-v", vocabulary, "-f", kind, *words])


def tree(folder: str) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
