"""`stickers:...`: every setting reaches the scenes, and every mistake is one line that helps."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from drawings import drawings, write_cache
from masqclip.cli.main import main
from masqclip.data.class_lists import read_class_list
from masqclip.data.stickers.source import (
    KINDS,
    StickerSource,
    is_sticker_address,
    parse_sticker_address,
)
from masqclip.errors import MasqclipError

SPRITES = Path(__file__).parent / "sprites"

#: Another value of every setting, as it is written.
OTHERS: dict[str, tuple[str, Any]] = {
    "sprites": ("my cache", Path("my cache")),
    "kind": ("crowds", "crowds"),
    "size": ("80", 80),
    "names": ("ant+hot dog + bee", ("ant", "hot dog", "bee")),
    "studios": ("noto", ("noto",)),
    "icons": ("yes", True),
    "styles": ("0.25", 0.25),
    "looks": ("shape + colour", ("shape", "colour")),
    "name_stuff": ("no", False),
    "seed": ("-3", -3),
    "pictures": ("7", 7),
    "weight": ("2.5", 2.5),
    "first": ("0.25", 0.25),
    "last": ("0.75", 0.75),
}


def test_every_setting_is_read_and_written() -> None:
    assert OTHERS.keys() == {field.name for field in fields(StickerSource)}
    assert parse_sticker_address("stickers:") == StickerSource()
    assert StickerSource().address == "stickers:"
    for name, (text, value) in OTHERS.items():
        found = parse_sticker_address(f"stickers: {name} = {text} ,")
        assert found == StickerSource(**{name: value})
        assert found != StickerSource()
        assert parse_sticker_address(found.address) == found
    whole = StickerSource(**{name: value for name, (_, value) in OTHERS.items()})
    assert parse_sticker_address(whole.address) == whole
    assert parse_sticker_address(Path(whole.address)) == whole
    assert is_sticker_address(whole.address)
    assert not is_sticker_address("stickers")


def test_every_setting_reaches_the_scenes(tmp_path: Path) -> None:
    address = f"stickers:sprites={SPRITES},kind=portraits,size=32,styles=0.5"
    source = parse_sticker_address(address)
    world = source.world()
    assert (world.settings.size, world.settings.captions, world.styles) == (32, "names", 0.5)
    assert (source.settings.min_things, source.settings.max_things) == (1, 1)
    assert "fluent-emoji" not in world.sprites.studios
    for kind, own in {"glimpses": True, "windows": True, "portraits": False}.items():
        assert StickerSource(kind=kind).settings.name_stuff is own
        assert StickerSource(kind=kind, name_stuff=False).settings.name_stuff is False
        assert StickerSource(kind=kind, name_stuff=True).settings.name_stuff is True
    known = world.sprites.names
    two = parse_sticker_address(f"{address},names={known[0]}+{known[-1]},studios=noto+twemoji")
    assert set(two.drawings().names) == {known[0], known[-1]}
    assert set(two.drawings().studios) <= {"noto", "twemoji"}
    cache = write_cache(tmp_path / "cache", drawings(studios=("noto", "openmoji"), every=1))
    second = StickerSource(cache, names=("stickers2-133",))
    listed = {entry.name for entry in read_class_list("stickers2-133").classes if entry.thing}
    assert set(second.drawings().names) == listed
    assert set(second.drawings().studios) == {"noto"}
    assert second.world().sprites.world.name == "second"
    icons = drawings(studios=("noto", "openmoji", "lucide", "mdi"), every=40)
    hands = write_cache(tmp_path / "hands", icons)
    assert set(StickerSource(hands).drawings().studios) == {"noto"}
    assert set(StickerSource(hands, icons=True).drawings().studios) == {"noto", "lucide", "mdi"}
    some = StickerSource(hands, icons=True, studios=("openmoji",))
    assert set(some.drawings().studios) == {"openmoji", "lucide", "mdi"}
    art = drawings(studios=("noto", "mdi", "openclipart", "symbola"), every=40)
    more = write_cache(tmp_path / "art", art)
    assert set(StickerSource(more).drawings().studios) == {"noto"}
    all_hands = {"noto", "mdi", "openclipart", "symbola"}
    assert set(StickerSource(more, icons=True).drawings().studios) == all_hands
    assert set(StickerSource(hands, studios=("mdi",)).drawings().studios) == {"mdi"}
    assert StickerSource(cache, studios=("openmoji",)).drawings().studios[0] == "openmoji"


def test_kinds_are_what_the_command_offers(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        assert StickerSource(kind=kind).settings.size == KINDS[kind].get("size", 128)
        assert main(["data", "stickers", "-o", "/dev/null/x", "-n", "1", "--seed", "0",
                     "--kind", kind]) == 2  # fmt: skip
        assert "--kind" not in capsys.readouterr().err


MISTAKES = {
    "colour=red": "no setting 'colour'; there are sprites, kind,",
    "syles=1": "no setting 'syles'; did you mean 'styles'?",
    "=3": "no setting ''",
    "kind=portrait": "no kind 'portrait' of scenes; did you mean 'portraits'?",
    "kind=zzz": "no kind 'zzz' of scenes; there are scenes, crowds,",
    "seed": "write 'seed' as key=value",
    "seed=": "write 'seed=' as key=value",
    "seed=1.5": "seed is '1.5'; it must be of type int",
    "size=big": "size is 'big'; it must be of type int",
    "styles=lots": "styles is 'lots'; it must be of type float",
    "seed=1,seed=2": "seed is given twice",
    "names=+": "names is '+': write names with + between them",
    "studios= + +": "studios is '+ +': write names",
    "looks=zzz": "there is no look 'zzz'; there are ",
    "icons=many": "icons is 'many': it is yes or no",
    f"sprites={SPRITES},icons=yes": "holds no icons: leave out icons=yes",
    "name_stuff=maybe": "name_stuff is 'maybe': it is yes or no",
    "pictures=-1": "pictures=-1: give 1 to",
    "pictures=100000000000000000000": "give 1 to 10000000, or none",
    "weight=0": "weight=0,",
    "weight=-2": "weight=-2,",
    "weight=nan": "weight=nan,",
    "weight=inf": "weight=inf,",
    "weight=1e308": "weight=1e+308, first=0, last=1: the weight is more than 0 and at most 1e+09",
    "looks=line": "looks are of styles, and there are none: add a share of them, such as styles=",
    "first=0.5,last=0.5": "first=0.5, last=0.5: ",
    "first=0.7,last=0.2": "the first one smaller",
    "first=-0.1": "first and last are shares of the run",
    "last=1.5": "first and last are shares of the run",
    "first=nan": "first and last are shares of the run",
    "styles=1.01": "styles=1.01: it is a share",
    "styles=-0.1": "styles=-0.1: it is a share",
    "styles=nan": "styles=nan: it is a share",
    f"sprites={SPRITES},size=8": "a scene of 8 pixels is too small",
    f"sprites={SPRITES},size=-64": "a scene of -64 pixels is too small",
    f"sprites={SPRITES},size=100000": "a scene of 100000 pixels is too large",
    f"sprites={SPRITES},studios=nota": "has no studio 'nota'; did you mean 'noto'?",
    f"sprites={SPRITES},names=bananna": "has no drawing of 'bananna'; did you mean 'banana'?",
    f"sprites={SPRITES},names=ade20k-847": "'ade20k-847' does not say which of it are things",
    "sprites=nowhere": "masqclip data sprites --out nowhere",
    f"sprites={SPRITES}/index.json": "no sprite cache at",
}


@pytest.mark.parametrize("settings", MISTAKES)
@pytest.mark.parametrize("verb", ["pretrain", "teacher"])
def test_a_mistake_is_one_line(
    settings: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MasqclipError):
        parse_sticker_address(f"stickers:{settings}").world()
    words = ["train", verb, "--data", f"stickers:{settings}", "--out", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert MISTAKES[settings] in line
    assert len(line) < 700
    assert not (tmp_path / "out").exists()


def test_studios_that_are_not_in_the_cache_or_unseen_are_told(tmp_path: Path) -> None:
    unseen = write_cache(tmp_path / "unseen", drawings(every=40, studios=("openmoji",)))
    with pytest.raises(MasqclipError, match=r"unseen studios only: .*studios=openmoji"):
        StickerSource(unseen).drawings()
    with pytest.raises(MasqclipError, match="has no studio 'noto'"):
        StickerSource(unseen, studios=("noto",)).drawings()
    assert len(StickerSource(unseen, studios=("openmoji",)).drawings()) == 16


def test_what_a_studio_lacks_is_not_drawn_and_none_at_all_is_refused() -> None:
    sprites = drawings(every=40)
    noto = [i for i, name in enumerate(sprites.studios) if name == "noto"]
    only = sprites.names[noto[0]]
    rows = [i for i in range(len(sprites)) if i not in noto or sprites.names[i] == only]
    less = type(sprites)(
        sprites.pixels[rows],
        tuple(sprites.names[i] for i in rows),
        tuple(sprites.studios[i] for i in rows),
        sprites.world,
    )
    assert less.select(studios=["noto"], names=[only, sprites.names[-1]]).names == (only,)
    with pytest.raises(MasqclipError, match="none of these names by these studios"):
        less.select(studios=["noto"], names=[sprites.names[-1]])


DAMAGES: dict[str, tuple[str, str]] = {
    "another world": ('"second"', '"third"'),
    "the wrong world": ('"second"', '"first"'),
    "no columns": ('"columns": 16', '"columns": 0'),
    "no size": ('"size": 32', '"size": 0'),
    "a size of text": ('"size": 32', '"size": "big"'),
    "cells that are not there": ('"size": 32', '"size": 64'),
    "fewer columns": ('"columns": 16', '"columns": 20'),
    "no studios": ('"studios"', '"studis"'),
    "half a file": ('"columns"', '"'),
    "a list": ("{", "["),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_one_line(damage: str, tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache", drawings(every=30))
    assert len(StickerSource(folder).drawings()) == 42
    index = folder / "index.json"
    index.write_text(index.read_text().replace(*DAMAGES[damage]))
    with pytest.raises(MasqclipError, match="no sprite cache at") as caught:
        StickerSource(folder).drawings()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_damaged_sheet_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache", drawings(every=30))
    sheet = folder / "noto.png"
    if content is None:
        sheet.unlink()
    else:
        sheet.write_bytes(content)
    with pytest.raises(MasqclipError, match=r"no sprite cache at .*noto"):
        StickerSource(folder).drawings()


def test_a_cache_that_was_built_anew_is_read_anew(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache", drawings(every=30))
    before = StickerSource(folder).drawings()
    assert StickerSource(folder, seed=9).drawings() is before
    (folder / "index.json").unlink()
    write_cache(folder, drawings(every=60))
    assert len(StickerSource(folder).drawings()) < len(before)


def test_of_a_list_of_classes_the_things_are_taken_that_are_drawn(tmp_path: Path) -> None:
    listed = StickerSource(sprites=SPRITES, names=("coco-instances",)).drawings()
    assert {"cat", "dog", "pizza", "car"} <= set(listed.names)
    assert "penguin" not in listed.names
    two = drawings(every=400)
    few = write_cache(tmp_path, two.select(names=[two.names[-1]]))  # no thing of COCO's
    with pytest.raises(MasqclipError, match="no drawing of the class list 'coco-instances'"):
        StickerSource(sprites=few, names=("coco-instances",)).drawings()
