"""The two miniature worlds: which things and which stuff there are, and what keeps company.

The first is that of `masqclip-mini`'s first figures and stays as it is. The second has every thing
that at least three studios drew, and that still three did when a whole family of studios is held
out, as a person would name it in a word or two; flags, letters, clock faces and skin tones are left
out. Its things have a place: fish turn up in water, pans on a tablecloth, and kinds keep together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from masqclip.data.stickers.more_textures import SECOND_TEXTURES
from masqclip.data.stickers.textures import TEXTURES, Texture
from masqclip.errors import MasqclipError

#: The packages that hold the drawings, pinned so that a cache built later is the same cache.
STUDIO_PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent-emoji": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-emoji-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "emojione": "@iconify-json/emojione@1.2.3",
    "fxemoji": "@iconify-json/fxemoji@1.2.2",
}
_SECOND_PACKAGES = STUDIO_PACKAGES | {
    "streamline-emojis": "@iconify-json/streamline-emojis@1.2.4",
    "openmoji": "@iconify-json/openmoji@1.2.29",
}
#: Sets of icons, whose artists each have a hand of their own, mostly in one colour; and EmojiOne's
#: first drawings, which are others than its later ones. They teach CLIP that a thing may be drawn
#: in any way; no scene that something is judged by has them.
ICON_PACKAGES = {
    "emojione-v1": "@iconify-json/emojione-v1@1.2.3",
    "emojione-monotone": "@iconify-json/emojione-monotone@1.2.1",
    "mdi": "@iconify-json/mdi@1.2.3",
    "game-icons": "@iconify-json/game-icons@1.2.4",
    "icon-park": "@iconify-json/icon-park@1.2.4",
    "hugeicons": "@iconify-json/hugeicons@1.2.35",
    "ph": "@iconify-json/ph@1.2.2",
    "lucide": "@iconify-json/lucide@1.2.137",
    "tabler": "@iconify-json/tabler@1.2.41",
    "boxicons": "@iconify-json/boxicons@1.2.0",
    "whh": "@iconify-json/whh@1.2.0",
    "fa6-solid": "@iconify-json/fa6-solid@1.2.4",
    "mingcute": "@iconify-json/mingcute@1.2.8",
    "streamline-flex-color": "@iconify-json/streamline-flex-color@1.2.2",
    "streamline-plump-color": "@iconify-json/streamline-plump-color@1.2.2",
    "streamline-cyber-color": "@iconify-json/streamline-cyber-color@1.2.2",
    "streamline-ultimate-color": "@iconify-json/streamline-ultimate-color@1.2.2",
    "streamline-stickies-color": "@iconify-json/streamline-stickies-color@1.2.2",
}
#: Studios that share drawings or artists: who is trained on has told of the others.
FAMILIES = {
    "noto": ("noto", "noto-v1"),
    "fluent": ("fluent-emoji", "fluent-emoji-flat"),
    "openmoji": ("openmoji",),
}
#: Never used in any training on the first world: the stranger of its cross-dataset setting.
UNSEEN_STUDIO = "fluent-emoji"

_WATER = ("water", "ice", "sand")
_SKY = ("sky", "night sky", "sunset sky")
_WILD = ("grass", "soil", "hedge", "sand", "snow", "autumn leaves", "wheat field", "bamboo")
_STREET = ("road", "cobblestone", "brick wall", "stone wall")
_ROOM = ("wood floor", "carpet", "tiles", "wallpaper", "curtain", "marble")
_TABLE = ("tablecloth", "marble", "wood floor", "tiles", "metal plate")
#: Where the things of a group are met more often than by chance.
HOMES: dict[str, tuple[str, ...]] = {
    "beast": _WILD,
    "reptile": (*_WILD, "lava"),
    "sea animal": _WATER,
    "bird": (*_SKY, *_WILD),
    "insect": _WILD,
    "plant": _WILD,
    "fruit": _TABLE,
    "vegetable": (*_TABLE, "soil"),
    "meal": _TABLE,
    "sweet": _TABLE,
    "drink": _TABLE,
    "tableware": _TABLE,
    "land vehicle": _STREET,
    "rail vehicle": (*_STREET, "metal plate"),
    "air vehicle": _SKY,
    "boat": _WATER,
    "building": (*_STREET, "grass", "snow", "roof tiles"),
    "furniture": _ROOM,
    "clothing": _ROOM,
    "sport": ("grass", "snow", "ice", "wood floor"),
    "toy": _ROOM,
    "music": _ROOM,
    "tool": (*_TABLE, "soil"),
    "office": _ROOM,
    "sky thing": _SKY,
    "person": (*_STREET, "grass", "sand", "snow"),
    "body": _ROOM,
    "fantasy": ("night sky", "lava", "stone wall", "curtain"),
    "face": ("wallpaper", "curtain", "sky"),
}


@dataclass(frozen=True)
class World:
    """What a miniature world is made of.

    Attributes:
        name: ``first`` or ``second``.
        class_list: the shipped list of its names, with the base and novel split.
        packages: for each studio its npm package.
        unseen: studios whose drawings are trained on only when they are asked for by name.
        textures: its stuff, in the order of the class list.
        things: an entry a thing: ``name``, ``icon`` (the common name of the drawing), in the
            second world its ``group``, and under a studio's name what that one calls it. A studio
            that never drew a thing is simply without it.
        icon_packages: like packages, of the sets of icons.
        icons: by the name of a thing, under the name of a set what that one calls it. Icons are
            listed one by one, since the same word often means something else there.
        clip_art: by the name of a thing the files that show it, see `clip_art.py`.
        symbols: by the name of a thing the character that shows it, see `symbols.py`.
        doodles: by the name of a thing the word that people drew, see `doodles.py`.
        in_context: whether things prefer some stuff and the company of their group.
    """

    name: str
    class_list: str
    packages: Mapping[str, str]
    unseen: tuple[str, ...]
    textures: Mapping[str, Texture]
    things: tuple[Mapping[str, str], ...]
    in_context: bool
    icon_packages: Mapping[str, str] = field(default_factory=dict)
    icons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    clip_art: Mapping[str, Sequence[str]] = field(default_factory=dict)
    symbols: Mapping[str, str] = field(default_factory=dict)
    doodles: Mapping[str, str] = field(default_factory=dict)

    @property
    def hands(self) -> dict[str, str]:
        """All that may be drawn by: the packages of the studios, and of the sets of icons."""
        return {**self.packages, **self.icon_packages}

    def drawing(self, thing: Mapping[str, str], hand: str) -> str | None:
        """What a studio, or a set of icons, calls a thing; it need not have it."""
        if hand in self.icon_packages:
            return self.icons.get(thing["name"], {}).get(hand)
        return thing.get(hand, thing["icon"])

    @property
    def groups(self) -> dict[str, str]:
        """For each thing of a world in context, which group it is of."""
        return {thing["name"]: thing["group"] for thing in self.things if self.in_context}


def _things(file: str) -> tuple[Mapping[str, str], ...]:
    return tuple(json.loads(_shipped(file)))


def _shipped(file: str) -> str:
    return (Path(__file__).parent / file).read_text(encoding="utf-8")


@cache
def sticker_world(name: str) -> World:
    """One of the two worlds.

    Raises:
        MasqclipError: it is neither.
    """
    if name == "first":
        return World(
            "first",
            "stickers",
            STUDIO_PACKAGES,
            (UNSEEN_STUDIO,),
            TEXTURES,
            _things("first_world.json"),
            in_context=False,
        )
    if name == "second":
        return World(
            "second",
            "stickers2",
            _SECOND_PACKAGES,
            (*FAMILIES["fluent"], *FAMILIES["openmoji"]),
            SECOND_TEXTURES,
            _things("second_world.json"),
            in_context=True,
            icon_packages=ICON_PACKAGES,
            icons=json.loads(_shipped("second_icons.json")),
            clip_art=json.loads(_shipped("second_clip_art.json")),
            symbols=json.loads(_shipped("second_symbols.json")),
            doodles=json.loads(_shipped("second_doodles.json")),
        )
    raise MasqclipError(f"there is no world {name!r}: choose first or second")
