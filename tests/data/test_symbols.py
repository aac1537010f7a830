"""Symbola's pictograms become drawings: ink is black, what it encloses is paper."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from icon_packages import write_icon_package
from PIL import Image

from masqclip.data.stickers.sprites import build_sprites
from masqclip.data.stickers.symbols import ABOUT_SYMBOLA, SYMBOLA, draw_symbols
from masqclip.data.stickers.worlds import sticker_world
from masqclip.errors import MasqclipError


def square(pen: TTGlyphPen, left: int, bottom: int, width: int, height: int, *, hole: bool) -> None:
    corners = [(left, bottom), (left, bottom + height)]
    corners += [(left + width, bottom + height), (left + width, bottom)]
    first, *others = corners[::-1] if hole else corners
    pen.moveTo(first)
    for corner in others:
        pen.lineTo(corner)
    pen.closePath()


def write_font(path: Path, family: str = "Symbola") -> Path:
    """A cat that is a frame, twice as wide as high, and a dog that is a bar."""
    frame, bar, nothing = (TTGlyphPen(None) for _ in range(3))
    square(frame, 0, 0, 1024, 512, hole=False)
    square(frame, 128, 128, 768, 256, hole=True)
    square(bar, 384, 0, 128, 512, hole=False)
    square(nothing, 0, 0, 512, 512, hole=False)
    builder = FontBuilder(1024, isTTF=True)
    builder.setupGlyphOrder([".notdef", "frame", "bar"])
    builder.setupCharacterMap({ord("🐈"): "frame", ord("🐕"): "bar"})
    glyphs = {".notdef": nothing.glyph(), "frame": frame.glyph(), "bar": bar.glyph()}
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_ink_is_black_and_what_it_encloses_is_paper(tmp_path: Path) -> None:
    font = write_font(tmp_path / "symbola.ttf")
    names, (cat, dog) = draw_symbols(font, {"cat": "🐈", "dog": "🐕"}, 16)
    assert names == ["cat", "dog"]
    assert (cat.size, dog.size, cat.mode) == ((16, 8), (4, 16), "RGBA")
    expected = np.zeros((8, 16, 4), int)
    expected[..., 3] = 255  # paper is not seen through
    expected[2:6, 2:14] = 255
    # Scaled down, an edge rings a little.
    np.testing.assert_allclose(np.asarray(cat).astype(int), expected, atol=30)
    assert (np.asarray(dog) == [0, 0, 0, 255]).all()


def test_what_lies_around_the_ink_is_seen_through(tmp_path: Path) -> None:
    font = write_font(tmp_path / "symbola.ttf")
    for hand in sticker_world("second").hands:
        write_icon_package(tmp_path / "packages" / hand, {})
    cells = build_sprites(
        tmp_path / "out",
        world="second",
        size=16,
        names=["cat", "dog"],
        packages=tmp_path / "packages",
        symbola=font,
    )
    assert (set(cells.studios), cells.names) == ({SYMBOLA}, ("cat", "dog"))
    cat = cells.pixels[0]
    assert (cat[3, :4] == 0).all()
    assert (cat[3, 4:12] == 255).all()
    assert (cat[3, 12:] == 0).all()
    index = json.loads((tmp_path / "out" / "index.json").read_text())["studios"]
    assert index[SYMBOLA] == {**ABOUT_SYMBOLA, "names": ["cat", "dog"]}


def test_what_is_not_symbola_is_said(tmp_path: Path) -> None:
    remedy = "needed is Symbola_hint.ttf of the Debian package fonts-symbola$"
    font = write_font(tmp_path / "symbola.ttf")
    with pytest.raises(MasqclipError, match=f"symbola.ttf does not draw ant, bee; {remedy}"):
        draw_symbols(font, {"cat": "🐈", "ant": "🐜", "bee": "🐝"}, 16)
    with pytest.raises(MasqclipError, match=f"other.ttf is the font Others; {remedy}"):
        draw_symbols(write_font(tmp_path / "other.ttf", "Others"), {"cat": "🐈"}, 16)
    with pytest.raises(MasqclipError, match=f"none.ttf: there is no such file; {remedy}"):
        draw_symbols(tmp_path / "none.ttf", {"cat": "🐈"}, 16)
    Image.new("L", (4, 4)).save(tmp_path / "picture.png")
    with pytest.raises(MasqclipError, match=f"picture.png: unknown file format; {remedy}"):
        draw_symbols(tmp_path / "picture.png", {"cat": "🐈"}, 16)
    # Told before anything is fetched or written.
    with pytest.raises(MasqclipError, match=r"none.ttf: there is no such file"):
        build_sprites(tmp_path / "out", world="second", symbola=tmp_path / "none.ttf")
    with pytest.raises(MasqclipError, match=r"not of the first one: leave out --symbola$"):
        build_sprites(tmp_path / "out", symbola=font)
    assert not (tmp_path / "out").exists()
