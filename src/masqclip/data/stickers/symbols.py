"""Drawings of the font Symbola, one hand that drew nearly every thing of the second world.

George Douros drew pictograms for the characters of Unicode 9, in black lines, and gave the font
free for any use. Debian keeps it as the package ``fonts-symbola`` (2.60). What a character shows is
what Unicode calls it, so nothing had to be chosen by eye but whether it was drawn at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont
from scipy.ndimage import binary_fill_holes

from masqclip.errors import MasqclipError

#: What the hand is called, as if it were a studio.
SYMBOLA = "symbola"
#: What the index says of it.
ABOUT_SYMBOLA = {
    "package": "fonts-symbola 2.60 (Debian)",
    "author": "George Douros",
    "source": "https://packages.debian.org/fonts-symbola",
    "license": "free for any use",
}
_REMEDY = "needed is Symbola_hint.ttf of the Debian package fonts-symbola"
#: A glyph is drawn so many times larger than it is kept, so that its edges are smooth.
_FINER = 4


def draw_symbols(
    font: str | Path, characters: Mapping[str, str], size: int
) -> tuple[list[str], list[Image.Image]]:
    """Draw characters as sprites: black ink, and white paper inside of it.

    Args:
        font: the font's file.
        characters: for each thing the character that shows it.
        size: the longer side of a drawing in pixels.

    Returns:
        What each drawing shows, and the drawings, RGBA.

    Raises:
        MasqclipError: the file is not this font, or lacks a character.
    """
    try:
        face = ImageFont.truetype(font, size * _FINER)
        family, absent = face.getname()[0], bytes(face.getmask("\uffff"))
        drawn = [_on_paper(face, character, size) for character in characters.values()]
        lacking = [
            name
            for name, character in characters.items()
            if bytes(face.getmask(character)) == absent
        ]
    except Exception as error:  # what a foreign file may end in
        reason = error if Path(font).is_file() else "there is no such file"
        raise MasqclipError(f"{font}: {reason}; {_REMEDY}") from error
    if family != "Symbola":
        raise MasqclipError(f"{font} is the font {family}; {_REMEDY}")
    if lacking:
        raise MasqclipError(f"{font} does not draw {', '.join(lacking[:5])}; {_REMEDY}")
    return list(characters), drawn


def _on_paper(face: ImageFont.FreeTypeFont, character: str, size: int) -> Image.Image:
    """A glyph without what is around it; what its lines enclose is paper."""
    glyph = face.getmask(character)
    box = glyph.getbbox()
    if box is None:
        raise ValueError(f"nothing is drawn for {character!r}")
    rows = np.frombuffer(bytes(glyph), np.uint8).reshape(glyph.size[::-1])
    rows = rows[box[1] : box[3], box[0] : box[2]]
    paper = binary_fill_holes(rows > 127)
    alpha, grey = np.where(paper, 255, rows), np.where(paper, 255 - rows, 0)
    drawing = Image.fromarray(np.dstack([grey, grey, grey, alpha]).astype(np.uint8), "RGBA")
    scale = size / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    return drawing.resize((width, height), Image.Resampling.LANCZOS)
