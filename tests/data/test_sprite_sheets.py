"""Sprite caches: drawings of packages become cells, row by row, and cells become drawings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from icon_packages import RED, write_icon_package
from PIL import Image

from masqclip.data.stickers.files import _claim
from masqclip.data.stickers.sprites import (
    SpriteSet,
    _square,
    _svg,
    _write_sheet,
    build_sprites,
    load_sprites,
)
from masqclip.data.stickers.worlds import STUDIO_PACKAGES, sticker_world
from masqclip.errors import MasqclipError


def test_packages_become_a_cache(tmp_path: Path) -> None:
    chosen = sticker_world("first").things[:3]
    names = [entry["name"] for entry in chosen]
    for studio in STUDIO_PACKAGES:
        icons = {entry.get(studio, entry["icon"]): {"body": RED} for entry in chosen}
        if studio == "noto":
            del icons[chosen[1].get(studio, chosen[1]["icon"])]
        write_icon_package(tmp_path / "packages" / studio, icons)
    built = build_sprites(
        tmp_path / "out", size=8, names=names[::-1], packages=str(tmp_path / "packages")
    )
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert (index["size"], index["columns"], list(index["studios"])) == (8, 16, [*STUDIO_PACKAGES])
    for studio, about in index["studios"].items():
        drawn = [names[0], names[2]] if studio == "noto" else names  # in the world's order
        assert about == {
            "package": STUDIO_PACKAGES[studio], "author": "A. Artist", "source": "the page",
            "license": "MIT", "names": drawn,
        }  # fmt: skip
    assert built.names[:5] == (names[0], names[2], *names)
    assert built.studios[:5] == ("noto",) * 2 + ("noto-v1",) * 3
    assert len(built) == 20
    assert built.pixels.shape == (20, 4, 8, 8)
    assert (built.pixels == np.array([255, 0, 0, 255])[:, None, None]).all()
    with pytest.raises(MasqclipError, match=r"^the first world has no abacus, zebu$"):
        build_sprites(tmp_path / "out", names=[names[0], "zebu", "abacus"], packages=tmp_path)


def test_an_earlier_cache_stays_whole_or_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sheets of two caches are alike: the one's names would stand for the other's drawings."""
    one, two = sticker_world("first").things[:2]
    for studio in STUDIO_PACKAGES:
        icons = {entry.get(studio, entry["icon"]): {"body": RED} for entry in (one, two)}
        write_icon_package(tmp_path / "packages" / studio, icons)
    out, packages = tmp_path / "out", tmp_path / "packages"
    build_sprites(out, size=8, names=[one["name"]], packages=packages)
    (packages / "twemoji" / "info.json").rename(tmp_path / "info.json")
    with pytest.raises(MasqclipError, match="twemoji"):
        build_sprites(out, size=8, names=[two["name"]], packages=packages)
    assert set(load_sprites(out).names) == {one["name"]}
    (tmp_path / "info.json").rename(packages / "twemoji" / "info.json")
    written = []

    def killed(path: Path, cells: list[np.ndarray], size: int) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        _write_sheet(path, cells, size)

    monkeypatch.setattr("masqclip.data.stickers.sprites._write_sheet", killed)
    with pytest.raises(KeyboardInterrupt):
        build_sprites(out, size=8, names=[two["name"]], packages=packages)
    with pytest.raises(MasqclipError, match="no sprite cache at"):
        load_sprites(out)


def test_cells_of_sheets_that_could_not_be_read_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=r"617 drawings of 1024 pixels .* give 535 pixels or"):
        build_sprites(tmp_path / "out", world="second", size=1024, packages=tmp_path)
    assert not (tmp_path / "out").exists()


def test_icons_are_drawn_where_they_are_listed_only(tmp_path: Path) -> None:
    world = sticker_world("second")
    everything = {"cat": {"body": RED}, "mouse": {"body": RED}}
    for hand in world.hands:
        write_icon_package(tmp_path / "packages" / hand, everything, page=hand != "whh")
    built = build_sprites(
        tmp_path / "out", world="second", size=8, names=["cat", "mouse"],
        packages=tmp_path / "packages",
    )  # fmt: skip
    index = json.loads((tmp_path / "out" / "index.json").read_text())["studios"]
    assert list(index) == list(world.hands)
    assert index["noto"]["names"] == ["cat", "mouse"]
    assert index["mdi"]["names"] == ["cat"], "a computer's mouse is no mouse"
    assert index["mdi"]["package"] == world.icon_packages["mdi"]
    assert (index["mdi"]["source"], index["whh"]["source"]) == ("the page", "")
    assert ("mouse", "mdi") not in zip(built.names, built.studios, strict=True)


def test_clip_art_is_cut_out_of_its_page(tmp_path: Path) -> None:
    world = sticker_world("second")
    for hand in world.hands:
        write_icon_package(tmp_path / "packages" / hand, {"cat": {"body": RED}})
    cats = world.clip_art["cat"]
    assert len(cats) > 1
    assert "sushi" not in world.clip_art
    for i, file in enumerate(cats):
        page = np.zeros((60, 90, 4), np.uint8)  # a drawing of 32 x 16 pixels somewhere on it
        page[10 + i : 26 + i, 40:72] = (0, 0, 255, 255)
        (tmp_path / "png" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(page).save(tmp_path / "png" / f"{file}.png")

    def build(*names: str) -> SpriteSet:
        return build_sprites(
            tmp_path / "out", world="second", size=16, names=names,
            packages=tmp_path / "packages", clip_art=tmp_path / "png",
        )  # fmt: skip

    built = build("cat", "sushi").select(studios=["openclipart"])
    assert built.names == ("cat",) * len(cats)
    blue = np.zeros((16, 16, 4), np.uint8)
    blue[4:12] = (0, 0, 255, 255)
    assert (built.pixels == blue.transpose(2, 0, 1)).all()
    index = json.loads((tmp_path / "out" / "index.json").read_text())["studios"]
    assert list(index) == [*world.hands, "openclipart"]
    assert index["openclipart"]["license"] == "CC0-1.0"
    first = tmp_path / "png" / f"{cats[0]}.png"
    Image.new("RGBA", (5, 5)).save(first)
    with pytest.raises(MasqclipError, match=f"{first}: nothing is drawn; the clip art is"):
        build("cat")
    first.unlink()
    before = (tmp_path / "out" / "index.json").read_bytes()
    with pytest.raises(MasqclipError, match=f"{first}: there is no such file; .* openclipart-png$"):
        build("cat")
    assert (tmp_path / "out" / "index.json").read_bytes() == before
    with pytest.raises(MasqclipError, match="no clip art of the first world: leave out --clip-art"):
        build_sprites(tmp_path / "out", packages=tmp_path / "packages", clip_art=tmp_path / "png")


@pytest.mark.filterwarnings("error")
def test_a_large_sheet_is_read_without_a_warning_and_a_larger_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(__file__).parent / "sprites", tmp_path / "sprites")
    whole = load_sprites(tmp_path / "sprites")
    with Image.open(tmp_path / "sprites" / f"{whole.studios[0]}.png") as sheet:
        area = sheet.width * sheet.height
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", area * 2 // 3)
    np.testing.assert_array_equal(load_sprites(tmp_path / "sprites").pixels, whole.pixels)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", area // 3)
    with pytest.raises(MasqclipError, match="decompression bomb"):
        load_sprites(tmp_path / "sprites")


def test_without_npm_the_packages_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(MasqclipError, match=r"needs npm.* unpack @iconify-json/noto@1\.2\.9 yours"):
        build_sprites(tmp_path / "out", names=[])


def test_a_drawing_has_the_package_s_size_or_its_own() -> None:
    icons = {
        "plain": {"body": "B"}, "wide": {"body": "B", "width": 30, "left": 2},
        "high": {"body": "B", "height": 40, "top": 3},
    }  # fmt: skip
    aliases = {"again": {"parent": "more"}, "more": {"parent": "wide"}, "lost": {"parent": "none"}}

    def box(icon: str, **sizes: int) -> str:
        svg = _svg({"icons": icons, "aliases": aliases} | sizes, icon)
        assert svg is not None
        assert svg.endswith(">B</svg>")
        return svg[svg.index("viewBox") :].removesuffix(">B</svg>")

    assert box("plain") == 'viewBox="0 0 16 16" width="16" height="16"'
    assert box("plain", width=24, height=20) == 'viewBox="0 0 24 20" width="24" height="20"'
    assert box("wide", width=24) == 'viewBox="2 0 30 16" width="30" height="16"'
    assert box("high", height=24) == 'viewBox="0 3 16 40" width="16" height="40"'
    assert box("again") == box("wide")
    assert _svg({"icons": icons, "aliases": aliases}, "lost") is None
    assert _svg({"icons": icons}, "none") is None


@pytest.mark.parametrize(
    ("width", "height", "left", "top"), [(8, 8, 0, 0), (4, 8, 2, 0), (8, 2, 0, 3), (5, 8, 1, 0)]
)
def test_a_drawing_lies_in_the_middle_of_its_cell(
    width: int, height: int, left: int, top: int
) -> None:
    cell = _square(Image.new("RGB", (width, height), "white"), 8)
    expected = np.zeros((8, 8), bool)
    expected[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(cell[..., 3] == 255, expected)
    assert (cell[~expected] == 0).all()


@pytest.mark.parametrize(("size", "levels"), [(8, 1), (15, 1), (16, 2), (24, 2), (64, 4), (128, 5)])
def test_drawings_are_halved_down_to_eight_pixels(size: int, levels: int) -> None:
    """More of them than are halved at once; colours are weighted by alpha."""
    chance = np.random.default_rng(size)
    pixels = chance.integers(0, 256, (257 if size < 32 else 3, 4, size, size), np.uint8)
    drawings = SpriteSet(pixels, ("cat",) * len(pixels), ("noto",) * len(pixels))
    assert drawings.levels == levels
    device = torch.device("cpu")
    assert drawings.sheet(0, device).shape == pixels.shape
    last = drawings.sheet(levels - 1, device)
    assert 8 <= last.shape[-1] < 16
    step = 2 ** (levels - 1)
    alpha = pixels[:, 3:, :step, :step] / 255
    expected = np.concatenate([pixels[:, :3, :step, :step] * alpha, alpha], 1).mean((2, 3))
    assert last[:, :, 0, 0].numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (16, 1), (17, 2), (33, 3)])
def test_cells_stand_row_by_row(count: int, rows: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(count)
    cells = [chance.integers(0, 256, (8, 8, 4)).astype(np.uint8) for _ in range(count)]
    _write_sheet(tmp_path / "noto.png", cells, 8)
    with Image.open(tmp_path / "noto.png") as sheet:
        assert sheet.size == (128, 8 * rows)
    names = [thing["name"] for thing in sticker_world("first").things[:count]]
    index = {"size": 8, "columns": 16, "studios": {"noto": {"names": names}}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    if not count:
        with pytest.raises(MasqclipError, match="no sprite cache at"):
            load_sprites(tmp_path)
        return
    loaded = load_sprites(tmp_path)
    assert loaded.names == tuple(names)
    np.testing.assert_array_equal(loaded.pixels, np.stack(cells).transpose(0, 3, 1, 2))


def test_drawings_of_some_studios() -> None:
    pixels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    sprites = SpriteSet(pixels, ("a", "b", "c", "d"), ("y", "x", "y", "z"))
    chosen = sprites.select(studios=["z", "y"])
    assert (chosen.names, chosen.studios) == (("a", "c", "d"), ("y", "y", "z"))
    assert chosen.pixels.ravel().tolist() == [0, 2, 3]
    with pytest.raises(MasqclipError) as caught:
        sprites.select(studios=["y", "w"])
    assert str(caught.value) == "the sprite cache has no studio 'w'; it holds x, y, z"


# What a folder of scenes says of itself


def test_a_folder_holds_one_kind_of_scenes(tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    about = {"seed": 1, "size": 64, "images": 9}
    _claim(path, about)
    assert json.loads(path.read_text()) == about
    _claim(path, about)

    def said() -> str:
        with pytest.raises(MasqclipError) as caught:
            _claim(path, about)
        return str(caught.value)

    told = f"{tmp_path} holds scenes with another {{}}; choose another folder, or delete it first"
    path.write_text(json.dumps(about | {"size": 65}))
    assert said() == told.format("size")
    path.write_text(json.dumps({"images": 9}))
    assert said() == told.format("seed, size")
    path.write_text("[1]")
    assert said() == told.format("images, seed, size")
