"""Letters of any script: in which font, where, and what is said where none has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw
from test_overlay import Drawn, grey, rectangle

from masqclip.render import font_files, lettering
from masqclip.render.font_files import FontFile, shipped_fonts, system_font
from masqclip.render.lettering import Lettering, can_write, shorten
from masqclip.render.overlay import draw_overlay, numbering_notes, overlay_notes

GREEK, RUSSIAN = "\u03b3\u03ac\u03c4\u03b1", "\u043a\u043e\u0448\u043a\u0430"
ARABIC, HEBREW = "\u0642\u0637\u0629", "\u05d7\u05ea\u05d5\u05dc"
HINDI = "\u092c\u093f\u0932\u094d\u0932\u0940"
CHINESE, JAPANESE = "\u6c7d\u8f66", "\u9053\u8def\u306e\u30cd\u30b3"
CAT_FACE = "\U0001f431"
SHIPPED = [
    "Rakete (gro\u00dfe)",
    "\u00e9toile \u0141\u00f3d\u017a \u1ed7",
    "e\u0301toile",
    "n\u00b0 5 \u2013 \u201cx\u201d",
    GREEK,
    RUSSIAN,
    ARABIC,
    HEBREW,
    HINDI,
    f"cat {ARABIC} dog",
]


def make_font(path: Path, text: str) -> Path:
    """A font that has some characters, each of them a full square."""
    pen = TTGlyphPen(None)
    for at in ((0, -200), (0, 800), (1000, 800), (1000, -200)):
        (pen.lineTo if pen.points else pen.moveTo)(at)
    pen.closePath()
    names = {ord(character): f"u{ord(character):X}" for character in text}
    glyphs = {".notdef": TTGlyphPen(None).glyph()} | dict.fromkeys(names.values(), pen.glyph())
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap(names)
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)
    return path


def forget() -> None:
    for known in (system_font, font_files._system_fonts, lettering._written, lettering._parts):
        known.cache_clear()


@pytest.fixture
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a system's fonts: none so far."""
    folder = tmp_path / "fonts"
    monkeypatch.setattr(font_files, "font_folders", lambda: [folder])
    forget()
    yield folder
    forget()


def drawn(text: str, size: int = 30) -> np.ndarray:
    """The pixels of a text [H, W], within the height of a line."""
    letters = Lettering(size)
    page = Image.new("RGB", (round(letters.width(text)) + 8, letters.height + 40))
    letters.draw(ImageDraw.Draw(page), (4, 20), text, (255, 255, 255))
    return np.asarray(page)[..., 0]


@pytest.mark.parametrize("text", SHIPPED)
def test_what_is_shipped_writes_these(text: str, fonts: Path) -> None:
    """Every letter by a glyph of a shipped font, and none of them by the box of no glyph."""
    assert can_write(text)
    parts = lettering._parts(lettering._written(text) or "")
    assert " ".join("".join(part for _, part in parts).split()) == lettering._written(text)
    for font, part in parts:
        assert font in shipped_fonts()
        assert font.has(frozenset(part) - lettering._JOINERS)
    pixels = drawn(text)
    assert (pixels > 128).sum() > 50
    height = Lettering(30).height
    assert not pixels[: 20 - 4].any(), "nothing reaches far out of the line"
    assert not pixels[20 + height + 5 :].any()


def test_fonts_know_what_they_have() -> None:
    """By the tables that fontTools reads as well."""
    from fontTools.ttLib import TTFont

    for font in shipped_fonts():
        known = set(TTFont(font.path).getBestCmap())
        mine = {
            code
            for start, end in zip(*font_files._coverage(font), strict=True)
            for code in range(start, end + 1)
        }
        assert mine == known
    assert sum(os.path.getsize(font.path) for font in shipped_fonts()) < 500_000


def test_a_font_of_the_system_is_found_where_none_is_shipped(fonts: Path) -> None:
    assert not can_write(CHINESE)
    make_font(fonts / "b" / "SquaresSerif-Bold.ttf", CHINESE + JAPANESE + "\U00020000")
    plain = make_font(fonts / "c" / "SquaresSans.ttf", CHINESE)
    (fonts / "broken.ttf").write_bytes(b"\0\1\0\0\0\7" + bytes(9))
    (fonts / "empty.otf").write_bytes(b"")
    (fonts / "short.ttc").write_bytes(b"ttcf\0\1\0\0\0\0\0\3\0\0")
    make_font(fonts / "LastResort.ttf", CAT_FACE)
    forget()
    assert can_write(CHINESE)
    assert system_font(frozenset(CHINESE)) == FontFile(str(plain))
    assert "Bold" in str(system_font(frozenset(JAPANESE))), "better than none"
    assert can_write("\U00020000"), "by a table of format 12"
    assert system_font(frozenset(CAT_FACE)) is None
    squares = drawn(CHINESE) > 128
    assert squares[22:, 6:60].mean() > 0.3
    # The rest of the text is in the font of all others.
    mixed = lettering._parts(f"BMW {CHINESE} 0.91")
    assert [part for _, part in mixed] == ["BMW ", CHINESE, " 0.91"]
    hebrew = lettering._parts(f"cat {HEBREW} dog")
    assert [part for _, part in hebrew] == ["cat ", HEBREW, " dog"]
    assert mixed[0][0] == mixed[2][0] == shipped_fonts()[0]


def test_squares_that_reach_out_of_the_line_are_made_smaller(fonts: Path) -> None:
    make_font(fonts / "Sans.ttf", CHINESE)
    forget()
    rows = np.flatnonzero((drawn(CHINESE, 60) > 128).any(1))
    height = Lettering(60).height
    assert rows.min() >= 20 - 8
    assert rows.max() <= 20 + height + 8
    assert np.ptp(rows) > 0.9 * height


@pytest.mark.parametrize("text", [CHINESE, f"cat {CHINESE}", CAT_FACE, "\U000f0000"])
def test_what_no_font_has_cannot_be_written(text: str, fonts: Path) -> None:
    assert not can_write(text)


def test_signs_that_no_font_has_are_left_out(fonts: Path) -> None:
    assert can_write(f"cat {CAT_FACE}")
    assert (drawn(f"cat {CAT_FACE} 0.5") == drawn("cat 0.5")).all()


def test_names_that_cannot_be_written_are_numbers_and_told(fonts: Path) -> None:
    shape = (400, 400)
    one = Drawn(rectangle(shape, 50, 50, 350, 350), CHINESE)
    names = ["cat", CHINESE, "dog", JAPANESE]
    found = draw_overlay(grey(*shape), [one], names=names)
    two = Drawn(one.mask, "#2")
    assert (overlay_notes([one], names)) == (
        "no font here has the letters of some names, which are numbers in the overlay: "
        f"#2 {CHINESE}; install a font that has them, such as Noto Sans",
    )
    labelled = np.asarray(found) != np.asarray(draw_overlay(grey(*shape), [one], labels=False))
    expected = np.asarray(draw_overlay(grey(*shape), [two], labels=False))
    numbered = np.asarray(draw_overlay(grey(*shape), [two])) != expected
    assert (labelled.any(-1) == numbered.any(-1)).mean() > 0.99
    assert numbering_notes(names)[0].split(": ")[1].startswith(f"#2 {CHINESE}, #4 {JAPANESE}; ")
    many = numbering_notes([f"{CHINESE} {number}" for number in range(99)])[0]
    assert f"#30 {CHINESE} 29 and 69 more; install" in many
    assert numbering_notes(["cat", "dog"]) == ()
    assert overlay_notes([Drawn(one.mask, "cat")], names) == ()
    assert overlay_notes([Drawn(np.zeros(shape, bool), CHINESE)], names) == ()


def test_from_right_to_left(fonts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score behind a Hebrew name stands at its left, with and without Raqm."""
    for has_raqm in (lettering._has_raqm(), False):
        monkeypatch.setattr(lettering, "_has_raqm", lambda has=has_raqm: has)
        letters = Lettering(20)
        runs = letters._runs(f"{HEBREW} 0.50")
        assert runs[0].text.strip() == "0.50"
        text = runs[1].text.strip()
        assert text == (HEBREW if has_raqm else HEBREW[::-1])
        assert [run.text for run in letters._runs("cat 0.50")] == ["cat 0.50"]
    assert lettering._in_order(f"{HEBREW} 12 cm") == f"cm 12 {HEBREW[::-1]}"


def test_arabic_letters_are_joined() -> None:
    if not lettering._has_raqm():
        pytest.skip("Pillow has no Raqm here")
    letters = Lettering(40)
    assert letters.width(ARABIC) < 0.95 * sum(letters.width(letter) for letter in ARABIC)


def test_no_letter_is_parted_from_its_marks() -> None:
    assert shorten(HINDI, 5) == f"{HINDI[:4]}\u2026"
    assert shorten(HINDI, 3) == f"{HINDI[:2]}\u2026"
    assert shorten("e\u0301e\u0301", 3) == "e\u0301\u2026"
    assert shorten("e\u0301", 1) == "\u2026"
    assert shorten("ab", 2) == "ab"


def test_folders_of_fonts_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_DIRS", "/one:/two")
    monkeypatch.setenv("XDG_DATA_HOME", "/own")
    monkeypatch.setenv("WINDIR", "W")
    monkeypatch.setenv("LOCALAPPDATA", "L")
    found = {}
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(font_files.sys, "platform", platform)
        found[platform] = [folder.as_posix() for folder in font_files.font_folders()]
    assert found["linux"][:3] == ["/own/fonts", "/one/fonts", "/two/fonts"]
    assert "/System/Library/Fonts" in found["darwin"]
    assert found["win32"] == ["W/Fonts", "L/Microsoft/Windows/Fonts"]
