"""Text in any script on a picture: each part of it in a font that has its letters.

Where Pillow has Raqm (its wheels do), letters are joined and run right to left as their scripts
have it; elsewhere right-to-left letters are at least put in their order.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageDraw, ImageFont, features

from masqclip.render.font_files import FontFile, shipped_fonts, system_font
from masqclip.render.palette import Colour

ELLIPSIS = "\u2026"
# What makes one letter of two characters: it needs no glyph of its own.
_JOINERS = frozenset("\u200c\u200d\u200e\u200f\u2060\ufe0e\ufe0f")


def can_write(text: str) -> bool:
    """Whether there is a font, shipped or of the system, for every letter and digit of a text.

    Signs that none has, such as small pictures, may be left out, if anything else is left.
    """
    return _written(text) is not None


def shorten(text: str, length: int) -> str:
    """The beginning of a text, with an ellipsis unless it is all of it; no letter is parted."""
    if length >= len(text):
        return text
    while length > 0 and _continues(text[length]):
        length -= 1
    return text[:length].rstrip() + ELLIPSIS


class Lettering:
    """Letters of one size, in whatever fonts they need; for one thread at a time.

    Args:
        size: in pixels, as fonts count it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._fonts: dict[tuple[FontFile, float], ImageFont.FreeTypeFont] = {}
        _, top, _, bottom = self._font(shipped_fonts()[0], size).getbbox("Alpgjy", anchor="ls")
        #: Pixels that letters reach above the line that they stand on, and below it.
        self.above, self.below = round(-top), round(bottom)
        self._slack = size / 8

    @property
    def height(self) -> int:
        """Pixels from where letters reach highest to where they reach lowest."""
        return self.above + self.below

    def width(self, text: str) -> float:
        """How wide a text is, in pixels."""
        return sum(run.font.getlength(run.text) for run in self._runs(text))

    def fitted(self, text: str, width: float, tail: str = "") -> str:
        """A text without line ends, shortened with an ellipsis until it fits into `width` pixels.

        Args:
            text: what may be shortened.
            width: the room, in pixels.
            tail: what is to stand behind it, whole.

        Returns:
            Both; an empty string where not one letter has room.
        """
        text = " ".join(text.split())
        if self.width(text + tail) <= width:
            return text + tail
        # What is longer is wider, so that the longest that fits is found by halving.
        least, most = 0, len(text) - 1
        while least < most:
            length = (least + most + 1) // 2
            if self.width(shorten(text, length) + tail) <= width:
                least = length
            else:
                most = length - 1
        found = shorten(text, least)
        return "" if found in ("", ELLIPSIS) else found + tail

    def draw(
        self, pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, fill: Colour
    ) -> None:
        """Write a text in one line.

        Args:
            pen: of the picture.
            at: its left end, and where its letters reach highest.
            text: without line ends.
            fill: the colour of the letters.
        """
        x, y = at[0], at[1] + self.above
        for run in self._runs(text):
            pen.text((x, y + run.drop), run.text, font=run.font, fill=fill, anchor="ls")
            x += run.font.getlength(run.text)

    def _runs(self, text: str) -> list[_Run]:
        """The parts of a text as they stand from left to right."""
        written = _written(text) or ""
        runs = [self._run(font, part) for font, part in _parts(written)]
        return runs[::-1] if _is_leftward(written) else runs

    def _run(self, font: FontFile, text: str) -> _Run:
        text = _in_order(text)
        letters = self._font(font, self.size)
        _, top, _, bottom = letters.getbbox(text, anchor="ls")
        # Letters of other scripts reach higher and lower, as do those with several marks: they are
        # to stay within the line, and no more beyond it than the marks of capitals are.
        room = self.height + 2 * self._slack
        if bottom - top > room:
            letters = self._font(font, self.size * room / (bottom - top))
            _, top, _, bottom = letters.getbbox(text, anchor="ls")
        highest, lowest = -self.above - self._slack, self.below + self._slack
        drop = max(0.0, highest - top) or min(0.0, lowest - bottom)
        return _Run(text, letters, drop)

    def _font(self, font: FontFile, size: float) -> ImageFont.FreeTypeFont:
        key = (font, size)
        if key not in self._fonts:
            self._fonts[key] = font.at(size)
        return self._fonts[key]


@dataclass(frozen=True)
class _Run:
    """Letters of one font, and by how many pixels they stand lower than others."""

    text: str
    font: ImageFont.FreeTypeFont
    drop: float


@lru_cache(maxsize=4096)
def _written(text: str) -> str | None:
    """A text as far as there are fonts for it; None where that would leave out a letter."""
    text = unicodedata.normalize("NFC", text)
    kept = []
    for cluster in _clusters(text):
        if cluster.isspace() or _font_for(cluster, text) is not None:
            kept.append(cluster)
        elif any(unicodedata.category(character)[0] in "LN" for character in cluster):
            return None
    found = " ".join("".join(kept).split())
    return found if found or not text.strip() else None


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[tuple[FontFile, str], ...]:
    """A text that can be written, parted by the fonts that its letters need."""
    whole = _seen(text)
    for font in shipped_fonts():
        if font.has(whole):
            return ((font, text),)
    parts: list[tuple[FontFile, str]] = []
    for cluster in _clusters(text):
        font = _font_for(cluster, text) or shipped_fonts()[0]
        if parts and cluster.isspace() and parts[-1][0].has({cluster}):
            font = parts[-1][0]  # a space belongs to the word before it
        if parts and parts[-1][0] == font:
            parts[-1] = (font, parts[-1][1] + cluster)
        else:
            # At the end of letters from right to left it would stand at the wrong side of them.
            before = parts[-1] if parts and not _is_leftward(text) else (font, "")
            if before[1].endswith(" ") and _is_leftward(before[1]) and font.has({" "}):
                parts[-1], cluster = (before[0], before[1][:-1]), " " + cluster
            parts.append((font, cluster))
    return tuple(parts)


def _font_for(cluster: str, text: str) -> FontFile | None:
    """The font for a letter of a text: rather one that has all of the text's foreign letters."""
    needed = _seen(cluster)
    for font in shipped_fonts():
        if font.has(needed):
            return font
    foreign = frozenset(
        character
        for character in _seen(text)
        if not any(font.has({character}) for font in shipped_fonts())
    )
    found = system_font(foreign)
    # A mark's letter may be shipped, but not with this mark.
    return found if found is not None and found.has(needed) else system_font(needed)


def _seen(text: str) -> frozenset[str]:
    """The characters of a text that need a glyph."""
    return frozenset(text) - _JOINERS - {"\n", "\t"}


def _clusters(text: str) -> Iterator[str]:
    """Letters with the marks on them."""
    cluster = ""
    for character in text:
        if cluster and not (_continues(character) or cluster[-1] == "\u200d"):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _continues(character: str) -> bool:
    """Whether a character belongs to the letter before it."""
    return character in _JOINERS or unicodedata.category(character)[0] == "M"


def _is_leftward(text: str) -> bool:
    """Whether a text is read from right to left: by its first letter that has a direction."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in ("R", "AL"):
            return True
        if direction == "L":
            return False
    return False


def _in_order(text: str) -> str:
    """A text in the order in which it is drawn where Pillow does not see to that itself."""
    if _has_raqm() or not any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        return text
    # Numbers, and words of other scripts, keep their own direction.
    pieces: Iterable[str] = re.findall(r"[0-9A-Za-z.,:/-]+|[^0-9A-Za-z.,:/-]", text)
    return "".join(reversed(list(pieces)))


@lru_cache(maxsize=1)
def _has_raqm() -> bool:
    return bool(features.check("raqm"))
