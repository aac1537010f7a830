"""The sprite cache: one thing, drawn by several studios, cut out on a transparent ground.

Emoji artists of several studios drew the same things in different styles, as vector art under open
licences. This room reads their npm packages, renders the drawings that a world names (`worlds.py`),
and keeps them as one RGBA sheet a studio, with an index that carries names and attributions:

    DIR/index.json        world, cell size, columns, and for each studio its licence, author, names
    DIR/<studio>.png      cells in the order of the names, row by row

A sheet is a picture, so that anybody can look at what a model was trained on.
"""

from __future__ import annotations

import difflib
import io
import json
import math
import tarfile
import tempfile
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from masqclip.data.digests import combine_digests, digest_bytes
from masqclip.data.files import write_atomically
from masqclip.data.json_files import read_json
from masqclip.data.locks import lock_folder
from masqclip.data.npm import fetch_archive
from masqclip.data.stickers.clip_art import ABOUT_CLIP_ART, CLIP_ART, draw_clip_art
from masqclip.data.stickers.doodles import ABOUT_DOODLES, DOODLES, EACH, draw_doodles
from masqclip.data.stickers.symbols import ABOUT_SYMBOLA, SYMBOLA, draw_symbols
from masqclip.data.stickers.worlds import World, sticker_world
from masqclip.errors import MasqclipError, require

_COLUMNS = 16
_SMALLEST = 8  # pixels of a drawing's side
_AT_ONCE = 256  # drawings that are halved together
_MAX_PACKAGE_BYTES = 200_000_000  # the largest of the pinned ones has 25 MB

Entry = TypeVar("Entry")


@dataclass(frozen=True, eq=False)
class SpriteSet:
    """Drawings of named things, aligned row by row.

    Attributes:
        pixels: [S,4,h,w] uint8, straight (not premultiplied) RGB and alpha.
        names: the thing that each drawing shows.
        studios: who drew it.
        world: which one it is of.
    """

    pixels: np.ndarray
    names: tuple[str, ...]
    studios: tuple[str, ...]
    world: World = field(default_factory=lambda: sticker_world("first"))
    _sheets: dict[tuple[int, torch.device], Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    def __len__(self) -> int:
        """Number of drawings."""
        return len(self.names)

    def select(
        self, *, studios: Sequence[str] | None = None, names: Collection[str] | None = None
    ) -> SpriteSet:
        """The drawings of some studios, and of some things, only.

        Args:
            studios: all unless given.
            names: all unless given.

        Raises:
            MasqclipError: a studio, or a thing, has no drawing here; the nearest one is named.
        """
        _check_there("studio", studios, self.studios)
        _check_there("drawing of", names, self.names)
        rows = [
            i
            for i, (name, studio) in enumerate(zip(self.names, self.studios, strict=True))
            if (studios is None or studio in studios) and (names is None or name in names)
        ]
        if not rows:
            raise MasqclipError("the sprite cache holds none of these names by these studios")
        return replace(
            self,
            pixels=self.pixels[rows],
            names=tuple(self.names[i] for i in rows),
            studios=tuple(self.studios[i] for i in rows),
        )

    @property
    def levels(self) -> int:
        """How many sizes of the drawings there are: full, half, quarter ..., down to 8 pixels."""
        return self.pixels.shape[-1].bit_length() - _SMALLEST.bit_length() + 1

    def sheet(self, level: int, device: torch.device) -> Tensor:
        """The drawings at 1/2^level of their size, made when they are first asked for.

        The full size of thousands of drawings takes gigabytes, and small pictures never need it.

        Returns:
            [S,4,h,w] float: RGB (0..255) times alpha, so that edges do not bleed, and alpha (0..1).
        """
        found = self._sheets.get((level, device))
        if found is None:
            firsts = range(0, len(self), _AT_ONCE)
            found = torch.cat([self._halved(first, level, device) for first in firsts])
            self._sheets[level, device] = found
        return found

    def _halved(self, first: int, level: int, device: torch.device) -> Tensor:
        """Some of the drawings, halved so often."""
        part = torch.from_numpy(self.pixels[first : first + _AT_ONCE]).to(device).float()
        alpha = part[:, 3:] / 255
        part = torch.cat([part[:, :3] * alpha, alpha], dim=1)
        for _ in range(level):
            part = F.avg_pool2d(part, 2)
        return part

    def digest(self) -> str:
        """What is drawn here and how, in a word."""
        pixels = digest_bytes(np.ascontiguousarray(self.pixels).data)
        return combine_digests([self.world.name, pixels, *self.names, *self.studios])


def _check_there(what: str, wanted: Collection[str] | None, known: Collection[str]) -> None:
    for name in wanted or ():
        if name not in known:
            near = difflib.get_close_matches(name, sorted(set(known)), n=1)
            some = ", ".join(sorted(set(known))[:12])
            hint = f"did you mean {near[0]!r}?" if near else f"it holds {some}"
            raise MasqclipError(f"the sprite cache has no {what} {name!r}; {hint}")


def load_sprites(folder: str | Path) -> SpriteSet:
    """Read a sprite cache.

    Raises:
        MasqclipError: the folder holds none; the message names the command that builds one.
    """
    root = Path(folder)
    try:
        index = read_json(root / "index.json", what="the index")
        size, columns = int(index["size"]), int(index["columns"])
        world = sticker_world(index.get("world", "first"))  # earlier caches do not say
        things = {thing["name"] for thing in world.things}
        pixels: list[np.ndarray] = []
        names: list[str] = []
        studios: list[str] = []
        for studio, entry in index["studios"].items():
            cells = _read_sheet(root / f"{studio}.png")
            for i, name in enumerate(entry["names"]):
                y, x = i // columns * size, i % columns * size
                cell = cells[y : y + size, x : x + size]
                if cell.shape[:2] != (size, size) or size < _SMALLEST:
                    raise MasqclipError(f"{studio}.png lacks the drawing of {name!r}")
                if name not in things:
                    raise MasqclipError(f"the {world.name} world has no {name!r}")
                pixels.append(cell.transpose(2, 0, 1))
                names.append(name)
                studios.append(studio)
        return SpriteSet(np.stack(pixels), tuple(names), tuple(studios), world)
    except Exception as error:  # what a damaged index or a broken sheet may end in
        raise MasqclipError(
            f"no sprite cache at {root} ({error}); build one with: "
            f"masqclip data sprites --out {root}"
        ) from error


def _read_sheet(path: Path) -> np.ndarray:
    """A studio's cells, [h,w,4]; of more than twice Pillow's limit they are refused, as others."""
    with warnings.catch_warnings():
        # A whole hand is large: forty drawings each of 161 things are above the first limit.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as sheet:
            return np.asarray(sheet.convert("RGBA"))


def build_sprites(
    out: str | Path,
    *,
    world: str = "first",
    size: int = 64,
    names: Sequence[str] | None = None,
    packages: str | Path | None = None,
    clip_art: str | Path | None = None,
    symbola: str | Path | None = None,
    doodles: str | Path | None = None,
) -> SpriteSet:
    """Render the drawings and write the cache.

    Args:
        out: the folder to write.
        world: ``first`` or ``second``.
        size: side of a cell in pixels.
        names: the things to keep; all of the world by default.
        packages: a folder with the unpacked packages, one subfolder a studio; without it they are
            fetched with ``npm pack``.
        clip_art: the folder with the drawings of `clip_art.py`; without it the cache has none.
        symbola: the font of `symbols.py`; without it the cache has none of its drawings.
        doodles: the package of `doodles.py`; without it the cache has none of them.

    Raises:
        MasqclipError: npm or the renderer is missing; a package, the clip art or the font does not
            hold what it should; there are none of these of this world; or the cells are too large.
    """
    resvg: Any = require("resvg_py", extra="train", purpose="drawing sprites")
    about_world = sticker_world(world)
    wanted = [entry for entry in about_world.things if names is None or entry["name"] in names]
    if names is not None and (missing := set(names) - {entry["name"] for entry in wanted}):
        raise MasqclipError(f"the {world} world has no {', '.join(sorted(missing))}")
    # Looked at first: what is wrong is told before minutes of fetching.
    things = [entry["name"] for entry in wanted]
    most = len(things)
    if doodles is not None:
        most = max(most, EACH * len(about_world.doodles.keys() & set(things)))
    places = -(-max(most, 1) // _COLUMNS) * _COLUMNS
    largest = math.isqrt(2 * int(Image.MAX_IMAGE_PIXELS or 0) // places)
    if size > largest:
        raise MasqclipError(
            f"{most} drawings of {size} pixels make a sheet too large to be read; give "
            f"{largest} pixels or fewer"
        )
    others = _other_hands(about_world, things, size, clip_art, symbola, doodles)
    root = Path(out)
    index: dict[str, Any] = {"world": world, "size": size, "columns": _COLUMNS, "studios": {}}
    hands: dict[str, tuple[dict[str, Any], list[np.ndarray]]] = {}
    with lock_folder(root), tempfile.TemporaryDirectory() as scratch:
        for studio, package in about_world.hands.items():
            home = Path(packages) / studio if packages else _fetch(package, Path(scratch) / studio)
            icons, info = _read_package(home)
            cells, drawn = [], []
            try:
                for entry in wanted:
                    icon = about_world.drawing(entry, studio)
                    svg = None if icon is None else _svg(icons, icon)
                    if svg is not None:
                        png = bytes(resvg.svg_to_bytes(svg_string=svg, width=size, height=size))
                        cells.append(_square(Image.open(io.BytesIO(png)), size))
                        drawn.append(entry["name"])
                about = {
                    "package": package,
                    "author": info["author"]["name"],
                    "source": info["author"].get("url", ""),  # some artists have none
                    "license": info["license"]["spdx"],
                    "names": drawn,
                }
            except Exception as error:  # what a foreign package and its drawings may end in
                raise MasqclipError(
                    f"{home} is not an unpacked icon package ({type(error).__name__}: {error})"
                ) from error
            hands[studio] = about, cells
        # An earlier cache's index tells nothing true of new sheets, should a kill leave both.
        (root / "index.json").unlink(missing_ok=True)
        for hand, (about, cells) in (hands | others).items():
            _write_sheet(root / f"{hand}.png", cells, size)
            index["studios"][hand] = about
        write_atomically(root / "index.json", json.dumps(index, indent=1).encode())
        return load_sprites(root)


def _other_hands(
    world: World,
    things: Sequence[str],
    size: int,
    clip_art: str | Path | None,
    symbola: str | Path | None,
    doodles: str | Path | None,
) -> dict[str, tuple[dict[str, Any], list[np.ndarray]]]:
    """What does not come from npm: for each hand what the index says of it, and its cells."""
    hands: dict[str, tuple[dict[str, Any], list[np.ndarray]]] = {}

    def add(hand: str, about: dict[str, str], drawn: tuple[list[str], list[Image.Image]]) -> None:
        names, drawings = drawn
        hands[hand] = ({**about, "names": names}, [_square(cell, size) for cell in drawings])

    if clip_art is not None:
        none = f"there is no clip art of the {world.name} world: leave out --clip-art"
        files = _listed(world.clip_art, things, none)
        add(CLIP_ART, ABOUT_CLIP_ART, draw_clip_art(clip_art, files, size))
    if symbola is not None:
        none = (
            f"Symbola is a hand of the second world, not of the {world.name} one: leave out "
            "--symbola"
        )
        characters = _listed(world.symbols, things, none)
        add(SYMBOLA, ABOUT_SYMBOLA, draw_symbols(symbola, characters, size))
    if doodles is not None:
        none = f"there are no doodles of the {world.name} world: leave out --doodles"
        words = _listed(world.doodles, things, none)
        add(DOODLES, ABOUT_DOODLES, draw_doodles(doodles, words, size))
    return hands


def _listed(listed: Mapping[str, Entry], things: Sequence[str], none: str) -> dict[str, Entry]:
    """What a world lists of some things, in their order.

    Raises:
        MasqclipError: it lists nothing of any; the line is `none`.
    """
    if not listed:
        raise MasqclipError(none)
    return {name: listed[name] for name in things if name in listed}


def _fetch(package: str, folder: Path) -> Path:
    """Download and unpack an npm package; return the folder with its files."""
    folder.mkdir(parents=True)
    remedy = (
        f"install Node.js, or unpack {package} yourself and pass its parent folder as --packages"
    )
    archive = fetch_archive(package, folder, remedy=remedy)
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise MasqclipError(f"npm fetched no archive for {package} ({error}): try again") from error
    return folder / "package"


def _read_package(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The drawings and the attribution of one unpacked package."""
    icons = read_json(home / "icons.json", what="the icon package", max_bytes=_MAX_PACKAGE_BYTES)
    return icons, read_json(home / "info.json", what="the icon package")


def _svg(package: dict[str, Any], icon: str) -> str | None:
    """One drawing as a standalone SVG document, or None where the studio has none."""
    seen = package["icons"].get(icon)
    if seen is None:
        alias = package.get("aliases", {}).get(icon)
        return None if alias is None else _svg(package, alias["parent"])
    width = seen.get("width", package.get("width", 16))
    height = seen.get("height", package.get("height", 16))
    box = f"{seen.get('left', 0)} {seen.get('top', 0)} {width} {height}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" height="{height}">{seen["body"]}</svg>'
    )


def _square(drawing: Image.Image, size: int) -> np.ndarray:
    """A drawing, which keeps its own aspect, in the middle of a square transparent cell."""
    cell = Image.new("RGBA", (size, size))
    cell.paste(drawing.convert("RGBA"), ((size - drawing.width) // 2, (size - drawing.height) // 2))
    return np.asarray(cell)


def _write_sheet(path: Path, cells: list[np.ndarray], size: int) -> None:
    rows = max(1, -(-len(cells) // _COLUMNS))
    sheet = np.zeros((rows * size, _COLUMNS * size, 4), np.uint8)
    for i, cell in enumerate(cells):
        y, x = i // _COLUMNS * size, i % _COLUMNS * size
        sheet[y : y + size, x : x + size] = cell
    buffer = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())
