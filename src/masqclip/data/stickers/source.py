"""What ``stickers:`` may say: which scenes are drawn, from which drawings, as plain settings.

stickers:                                        scenes of the cache in ./sprites
stickers:kind=portraits,size=48,styles=0.7       single things, 70 of 100 in a style of chance
stickers:sprites=cache,studios=noto+twemoji,seed=7
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from masqclip.data.class_lists import class_list_descriptions, read_class_list
from masqclip.data.stickers.clip_art import CLIP_ART
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import SpriteSet, load_sprites
from masqclip.data.stickers.styles import LOOKS
from masqclip.data.stickers.symbols import SYMBOLA
from masqclip.errors import MasqclipError

PREFIX = "stickers:"

#: Of an endless number of scenes, nobody needs to keep more apart: an order of them takes memory.
_MOST_PICTURES = 10_000_000
#: Larger weights have no sum.
_MOST_WEIGHT = 1e9

#: What the kinds of scenes look like. Things keep their size in pixels; a window has a quarter of a
#: scene's patches, a portrait a seventh.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "scenes": {},
    "crowds": {
        "size": 256,
        "min_things": 3,
        "max_things": 12,
        "min_scale": 0.08,
        "max_scale": 0.5,
        "min_visible": 0.0008,
    },
    "windows": {
        "size": 64,
        "min_things": 1,
        "max_things": 3,
        "min_scale": 0.4,
        "max_scale": 0.9,
        "max_stuff": 2,
        "captions": "both",
    },
    "portraits": {
        "size": 48,
        "min_things": 1,
        "max_things": 1,
        "min_scale": 0.53,
        "max_scale": 1.0,
        "max_stuff": 2,
        "captions": "names",
        "name_stuff": False,
    },
    "glimpses": {
        "size": 48,
        "min_things": 0,
        "max_things": 2,
        "min_scale": 0.4,
        "max_scale": 0.9,
        "max_stuff": 2,
        "captions": "names",
    },
}


@dataclass(frozen=True)
class StickerSource:
    """Which scenes.

    Attributes:
        sprites: the folder of the sprite cache, which is of one of the two worlds.
        kind: of scenes, see `KINDS`.
        size: side of a scene in pixels; the kind's own unless given.
        names: the things that may stand in a scene: a shipped list of classes, or names; all there
            are unless given.
        studios: whose drawings; all but the world's unseen ones unless given.
        icons: the world's sets of icons, its clip art and Symbola too, beside the studios, ``yes``
            or ``no``.
        styles: share of stickers and pictures in a style of chance.
        looks: the kinds of change of such a style, see `styles.LOOKS`; all unless given.
        name_stuff: whether captions of bare names name the stuff beside a thing too, ``yes`` or
            ``no``; the kind's own unless given.
        seed: which scenes.
        pictures: so many, over and over; without end unless given. Masks only.
        weight: how often this source is taken, beside others of the same run.
        first, last: the share of a run at which this source comes in and goes out.
    """

    sprites: Path = Path("sprites")
    kind: str = "scenes"
    size: int = 0
    names: tuple[str, ...] = ()
    studios: tuple[str, ...] = ()
    icons: bool = False
    styles: float = 0.0
    looks: tuple[str, ...] = ()
    name_stuff: bool | None = None
    seed: int = 0
    pictures: int = 0
    weight: float = 1.0
    first: float = 0.0
    last: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise MasqclipError(
                f"there is no kind {self.kind!r} of scenes{_nearest(self.kind, KINDS)}"
            )
        if not 0 < self.weight <= _MOST_WEIGHT or not 0 <= self.first < self.last <= 1:
            raise MasqclipError(
                f"weight={self.weight:g}, first={self.first:g}, last={self.last:g}: the weight is "
                f"more than 0 and at most {_MOST_WEIGHT:g}, and first and last are shares of the "
                "run, the first one smaller"
            )
        for look in self.looks:
            if look not in LOOKS:
                raise MasqclipError(f"there is no look {look!r}{_nearest(look, LOOKS)}")
        if not 0 <= self.pictures <= _MOST_PICTURES:
            raise MasqclipError(
                f"pictures={self.pictures}: give 1 to {_MOST_PICTURES}, or none for no end"
            )
        if not 0 <= self.styles <= 1:
            raise MasqclipError(f"styles={self.styles:g}: it is a share, 0 to 1")

    @property
    def address(self) -> str:
        """As `parse_sticker_address` reads it."""
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                text = "+".join(value) if isinstance(value, tuple) else value
                if isinstance(value, bool):
                    text = "yes" if value else "no"
                found.append(f"{field.name}={text}")
        return PREFIX + ",".join(found)

    @property
    def settings(self) -> SceneSettings:
        """What the scenes look like."""
        own: dict[str, Any] = {"size": self.size} if self.size else {}
        if self.name_stuff is not None:
            own["name_stuff"] = self.name_stuff
        return SceneSettings(**(dict(KINDS[self.kind]) | own))

    def drawings(self) -> SpriteSet:
        """The drawings that are used.

        Raises:
            MasqclipError: there is no cache, or it lacks a studio or a name.
        """
        index = self.sprites / "index.json"
        whole = _cache(self.sprites, index.stat().st_mtime_ns if index.is_file() else 0)
        studios = self.studios or tuple(
            name
            for name in whole.world.packages
            # A cut-down cache may lack some of the studios that are meant by default.
            if name not in whole.world.unseen and name in whole.studios
        )
        if not studios:
            raise MasqclipError(
                f"{self.sprites} holds drawings of unseen studios only: name those to use, such as "
                f"studios={whole.studios[0]}"
            )
        if self.icons:
            there = (*whole.world.icon_packages, CLIP_ART, SYMBOLA)
            sets = tuple(name for name in there if name in whole.studios)
            if not sets:
                raise MasqclipError(f"{self.sprites} holds no icons: leave out icons=yes")
            studios += sets
        return _chosen(whole, studios, _listed_things(self.names, whole))

    def world(self, device: str | torch.device = "cpu") -> StickerWorld:
        """What draws them.

        Raises:
            MasqclipError: as `drawings`, or settings that change nothing.
        """
        if self.looks and not self.styles:
            raise MasqclipError(
                f"{self.address}: looks are of styles, and there are none: add a share of them, "
                "such as styles=0.4, or leave out looks"
            )
        return StickerWorld(
            self.drawings(),
            self.settings,
            device=device,
            styles=self.styles,
            looks=self.looks or tuple(LOOKS),
        )


def _listed_things(names: tuple[str, ...], whole: SpriteSet) -> tuple[str, ...]:
    """The names, or, where they are that of a list of classes, the things in it that are drawn."""
    if len(names) != 1 or names[0] in whole.names or names[0] not in class_list_descriptions():
        return names
    things = tuple(entry.name for entry in read_class_list(names[0]).classes if entry.thing)
    if not things:
        raise MasqclipError(f"the class list {names[0]!r} does not say which of it are things")
    there = set(whole.names)
    drawn = tuple(name for name in things if name in there)  # a cache may be cut down
    if not drawn:
        raise MasqclipError(f"the sprite cache has no drawing of the class list {names[0]!r}")
    return drawn


@lru_cache(maxsize=2)
def _cache(folder: Path, written: int) -> SpriteSet:
    del written  # a cache that was built anew is another one
    return load_sprites(folder)


# The sources of a run mostly have the same drawings, which take hundreds of megabytes.
@lru_cache(maxsize=2)
def _chosen(whole: SpriteSet, studios: tuple[str, ...], names: tuple[str, ...]) -> SpriteSet:
    return whole.select(studios=studios, names=names or None)


def is_sticker_address(text: str | Path) -> bool:
    """Whether data is named as scenes to draw, not as files."""
    return str(text).startswith(PREFIX)


def parse_sticker_address(address: str | Path) -> StickerSource:
    """Read ``stickers:key=value,...``; several names or studios stand with ``+`` between them.

    Raises:
        MasqclipError: there is no such setting (the nearest one is named), or it has another type.
    """
    text = str(address).removeprefix(PREFIX)
    kinds = {field.name: str(field.type) for field in fields(StickerSource)}
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not value:
            raise MasqclipError(f"{address}: write {part!r} as key=value")
        if key not in kinds:
            raise MasqclipError(f"{address}: there is no setting {key!r}{_nearest(key, kinds)}")
        if key in found:
            raise MasqclipError(f"{address}: {key} is given twice")
        try:
            found[key] = _READ[kinds[key]](value)
        except MasqclipError as error:
            raise MasqclipError(f"{address}: {key} is {value!r}: {error}") from error
        except ValueError as error:
            wanted = kinds[key].lower()
            raise MasqclipError(
                f"{address}: {key} is {value!r}; it must be of type {wanted}"
            ) from error
    try:
        return StickerSource(**found)
    except MasqclipError as error:
        raise MasqclipError(f"{address}: {error}") from error


def list_of(text: str, separator: str = ",") -> tuple[str, ...]:
    """The names in a text."""
    return tuple(name.strip() for name in text.split(separator) if name.strip())


def _some(text: str) -> tuple[str, ...]:
    """One name or more."""
    if not (names := list_of(text, "+")):
        raise MasqclipError("write names with + between them; it holds none")
    return names


def _yes(text: str) -> bool:
    """Yes or no."""
    if text not in ("yes", "no"):
        raise MasqclipError("it is yes or no")
    return text == "yes"


_READ: Mapping[str, Any] = {
    "bool": _yes,
    "bool | None": _yes,
    "str": str,
    "int": int,
    "float": float,
    "Path": Path,
    "tuple[str, ...]": _some,
}


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
