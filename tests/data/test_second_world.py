"""The second world: its lists agree with one another, and its things keep to their places."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
import torch

from drawings import drawings
from masqclip.clip.region_names import is_region
from masqclip.clip.vocabulary import load_builtin
from masqclip.data.class_lists import read_class_list
from masqclip.data.stickers.clip_art import CLIP_ART
from masqclip.data.stickers.context import Context, _stuff_at
from masqclip.data.stickers.files import sticker_categories
from masqclip.data.stickers.more_textures import SECOND_TEXTURES
from masqclip.data.stickers.plans import Plan
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.symbols import SYMBOLA
from masqclip.data.stickers.textures import TEXTURES
from masqclip.data.stickers.worlds import FAMILIES, HOMES, sticker_world
from masqclip.errors import MasqclipError


def names(list_name: str) -> list[str]:
    return [entry.name for entry in read_class_list(list_name).classes]


def test_things_stuff_groups_and_homes_agree() -> None:
    world = sticker_world("second")
    categories = sticker_categories(world)
    things = [c["name"] for c in categories if c["isthing"]]
    assert things == [thing["name"] for thing in world.things]
    assert [c["name"] for c in categories if not c["isthing"]] == list(world.textures)
    assert len({c["name"] for c in categories}) == len({c["id"] for c in categories})
    assert len(categories) == len(things) + len(world.textures)
    assert len(things) >= 600
    assert len(world.textures) >= 24
    assert set(world.groups.values()) == set(HOMES)
    assert set(world.groups) == set(things)
    for group, homes in HOMES.items():
        assert set(homes) <= set(world.textures), group
        assert len(set(homes)) == len(homes) > 0
    for thing in world.things:
        assert set(thing) <= {"name", "group", "icon", *world.packages}, thing
        assert thing["icon"]
    assert set(world.unseen) == {*FAMILIES["fluent"], *FAMILIES["openmoji"]} < set(world.packages)
    for family in FAMILIES.values():
        assert set(family) <= set(world.packages)
    with pytest.raises(MasqclipError, match="choose first or second"):
        sticker_world("third")


def test_icons_are_listed_and_stand_apart_from_the_studios() -> None:
    world = sticker_world("second")
    assert not set(world.icon_packages) & {*world.packages, *world.unseen, "name", "group", "icon"}
    assert set(world.hands) == {*world.packages, *world.icon_packages}
    assert {things["name"] for things in world.things} >= set(world.icons)
    assert {hand for icons in world.icons.values() for hand in icons} == set(world.icon_packages)
    mouse, cat = (next(t for t in world.things if t["name"] == n) for n in ("mouse", "cat"))
    assert world.drawing(cat, "noto") == "cat"
    assert world.drawing(cat, "fxemoji") == "catside"
    assert world.drawing(cat, "fa6-solid") == "cat"
    assert world.drawing(mouse, "mdi") is None, "there it is a computer's"
    assert sticker_world("first").hands == sticker_world("first").packages
    # A held-out family must not come back under another name.
    for family in FAMILIES.values():
        for studio in family:
            assert not any(hand.startswith(studio) for hand in world.icon_packages)


def test_clip_art_shows_things_of_the_world_once_each() -> None:
    world = sticker_world("second")
    assert set(world.clip_art) <= {thing["name"] for thing in world.things}
    files = [file for some in world.clip_art.values() for file in some]
    assert len(files) == len(set(files)) == 510, "as --clip-art's help and docs/world.md say"
    assert all(re.fullmatch(r"[\w./-]+", file) and not file.startswith("/") for file in files)
    assert not any(part == ".." for file in files for part in file.split("/"))
    assert CLIP_ART not in world.hands
    assert not sticker_world("first").clip_art


def test_symbola_shows_nearly_every_thing_of_the_world() -> None:
    world = sticker_world("second")
    things = [thing["name"] for thing in world.things]
    assert set(things) - set(world.symbols) == {"astronaut", "window"}
    assert len(world.symbols) == 615, "as --symbola's help and docs/world.md say"
    assert list(world.symbols) == [name for name in things if name in world.symbols]
    assert all(len(character) == 1 for character in world.symbols.values())
    assert len(set(world.symbols.values())) == 615
    for name, called in {"mouse": "MOUSE", "bat": "BAT", "orange": "TANGERINE"}.items():
        assert unicodedata.name(world.symbols[name]) == called
    assert SYMBOLA not in world.hands
    assert not sticker_world("first").symbols


def test_about_three_quarters_of_the_things_are_base() -> None:
    splits = Counter(entry.split for entry in read_class_list("stickers2").classes if entry.thing)
    assert set(splits) == {"base", "novel"}
    assert splits["base"] / splits.total() == pytest.approx(0.75, abs=0.02)
    assert set(names("stickers2-base")) | set(names("stickers2-novel")) == set(names("stickers2"))
    assert not set(names("stickers2-base")) & set(names("stickers2-novel"))
    for group in HOMES:  # what a novel thing is like has been seen
        of_group = {name for name, kind in sticker_world("second").groups.items() if kind == group}
        assert of_group & set(names("stickers2-base")), group


def test_the_nested_lists_are_nested() -> None:
    small, middle, large, whole = (
        names(f"stickers2{part}") for part in ("-59", "-150", "-459", "")
    )
    assert set(small) < set(middle) < set(large) < set(whole)
    assert [len(part) for part in (small, middle, large)] == [59, 150, 459]
    trained = names("stickers2-133")
    assert len(trained) == 133
    assert set(trained) < set(whole)
    assert set(trained) <= set(names("stickers2-base")), "it trains on base names only"
    for part in (small, middle, large, trained):  # in the order of the whole list
        assert part == [name for name in whole if name in set(part)]


@pytest.mark.parametrize("part", ["", "-base", "-novel", "-59", "-133", "-150", "-459"])
def test_every_list_is_a_vocabulary(part: str) -> None:
    assert list(load_builtin(f"stickers2{part}").names) == names(f"stickers2{part}")


def test_the_first_worlds_names_and_splits_are_kept() -> None:
    second = {entry.name: entry for entry in read_class_list("stickers2").classes}
    for entry in read_class_list("stickers").classes:
        assert (second[entry.name].thing, second[entry.name].split) == (entry.thing, entry.split)
    assert {name: SECOND_TEXTURES[name] for name in TEXTURES} == TEXTURES
    assert sticker_world("first").groups == {}


def test_drawings_do_not_say_what_is_a_region_in_photographs() -> None:
    things = {thing["name"] for thing in sticker_world("second").things}
    for name in ("tree", "mountain", "bridge"):
        assert name in things
        assert is_region(name)
    assert "metal plate" in sticker_world("second").textures
    assert not is_region("metal plate")


def test_every_texture_is_another_picture_in_range() -> None:
    axis = (torch.arange(32) + 0.5) / 32
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    dice = torch.tensor([[0.1, 0.3, 0.5, 0.7], [0.9, 0.8, 0.2, 0.4]])
    seen: list[torch.Tensor] = []
    for name, texture in SECOND_TEXTURES.items():
        painted = texture(y, x, noise, dice)
        assert painted.shape == (2, 3, 32, 32), name
        assert torch.isfinite(painted).all(), name
        assert painted.min() > -40, name
        assert painted.max() < 300, name
        assert torch.equal(painted[1:], texture(y, x, noise[1:], dice[1:])), name
        assert all((painted - other).abs().mean() > 4 for other in seen), name
        seen.append(painted)


# Context


@cache
def plans() -> tuple[StickerWorld, list[Plan]]:
    world = StickerWorld(drawings(every=1, size=8), SceneSettings(min_things=4, max_things=4))
    return world, world.plan(3, range(600)).scenes


def test_things_are_at_home_more_often_than_by_chance() -> None:
    world, scenes = plans()
    groups = world.sprites.world.groups
    at_home = by_chance = total = 0
    everyone = random.Random(1)
    for plan in scenes:
        for sprite, (y, x, _) in zip(plan.sprites, plan.boxes, strict=True):
            below = world.stuff[_stuff_at(plan, y, x)]
            at_home += below in HOMES[groups[world.sprites.names[sprite]]]
            by_chance += below in HOMES[groups[everyone.choice(world.sprites.names)]]
            total += 1
    assert by_chance / total < 0.3
    assert at_home / total > 0.45
    assert at_home > 1.7 * by_chance


def test_kinds_keep_company() -> None:
    world, scenes = plans()
    groups = world.sprites.world.groups
    pairs = together = 0
    for plan in scenes:
        kinds = [groups[world.sprites.names[sprite]] for sprite in plan.sprites]
        together += sum(a == b for a, b in pairwise(kinds))
        pairs += len(kinds) - 1
    shares = [count / len(groups) for count in Counter(groups.values()).values()]
    by_chance = sum(share**2 for share in shares)
    assert by_chance < 0.1
    assert 0.35 < together / pairs < 0.6
    first = StickerWorld(drawings("first", every=1, size=8), world.settings)
    assert first._context is None


def test_every_thing_and_every_stuff_is_met_and_drawings_evenly() -> None:
    world, scenes = plans()
    stuff = Counter(world.stuff[kind] for plan in scenes for kind in plan.stuff)
    assert set(stuff) == set(world.stuff)
    assert max(stuff.values()) < 3 * min(stuff.values())
    things = Counter(world.sprites.names[sprite] for plan in scenes for sprite in plan.sprites)
    assert len(things) > 0.9 * len(set(world.sprites.names))  # of 617 things 2,400 were drawn
    studios = Counter(world.sprites.studios[sprite] for plan in scenes for sprite in plan.sprites)
    assert max(studios.values()) < 1.15 * min(studios.values())


def test_whoever_is_away_takes_the_place_of_whoever_would_not_mind() -> None:
    groups = {"fish": "sea animal", "cup": "drink", "cat": "beast"}
    stuff = ["water", "tablecloth"]
    context = Context(list(groups), groups, stuff)
    ground = Plan([0, 1], [(0.5, 0.0, 1.0, 0.0)], False, [], [], [], [], 1.0)
    sea, table = (0.2, 0.5, 0.3), (0.8, 0.5, 0.2)
    assert context.bring_home([table, sea], ["fish", "cup"], ground) == [sea, table]
    assert context.bring_home([sea, table], ["fish", "cup"], ground) == [sea, table]
    assert context.bring_home([table, sea], ["fish", "fish"], ground) == [table, sea]
    # Nobody is driven from home for a stranger.
    assert context.bring_home([table, sea], ["cat", "fish"], ground) == [table, sea]


def test_a_group_alone_and_no_home_at_all() -> None:
    """Things none of which is at home on the stuff that is there are drawn all the same."""
    groups = {"fish": "sea animal"}
    context = Context(["fish"], groups, ["carpet"])
    assert context.draw(random.Random(1), 50, [0]) == ["fish"] * 50
    assert context.draw(random.Random(1), 0, [0]) == []
