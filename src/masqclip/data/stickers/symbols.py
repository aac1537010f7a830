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
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from masqclip.data.stickers.clip_art import cut_out
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
        glyphs = {name: face.getmask(character) for name, character in characters.items()}
        lacking = [name for name, glyph in glyphs.items() if bytes(glyph) == absent]
        drawn = [
            cut_out(on_paper(np.frombuffer(bytes(glyph), np.uint8).reshape(glyph.size[::-1])), size)
            for glyph in glyphs.values()
        ]
    except Exception as error:  # what a foreign file may end in
        reason = error if Path(font).is_file() else "there is no such file"
        raise MasqclipError(f"{font}: {reason}; {_REMEDY}") from error
    if family != "Symbola":
        raise MasqclipError(f"{font} is the font {family}; {_REMEDY}")
    if lacking:
        raise MasqclipError(f"{font} does not draw {', '.join(lacking[:5])}; {_REMEDY}")
    return list(characters), drawn


def on_paper(ink: np.ndarray, gap: int = 0) -> Image.Image:
    """Black ink of [h,w] uint8, how dark it is; what its lines enclose is white paper.

    Args:
        ink: the drawing.
        gap: lines with up to twice as many pixels between them enclose, too.
    """
    lines = ink > 127
    paper = binary_fill_holes(binary_dilation(lines, iterations=gap) if gap else lines)
    if gap:
        paper = binary_erosion(paper, iterations=gap, border_value=1) | lines
    alpha, grey = np.where(paper, 255, ink), np.where(paper, 255 - ink, 0)
    return Image.fromarray(np.dstack([grey, grey, grey, alpha]).astype(np.uint8), "RGBA")
