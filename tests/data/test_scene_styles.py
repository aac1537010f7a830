"""Styles of chance, and scenes in batches: the same pixels whoever is drawn beside them."""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from drawings import drawings
from masqclip.data.stickers.painting import Painter
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.source import KINDS
from masqclip.data.stickers.sprites import SpriteSet
from masqclip.data.stickers.styles import (
    PLAIN,
    PLAIN_PICTURE,
    PictureStyle,
    StickerStyle,
    bend_grid,
    draw_picture_style,
    draw_sticker_style,
    outline,
    style_pictures,
    style_stickers,
)
from masqclip.errors import MasqclipError


@cache
def some_drawings(world: str) -> SpriteSet:
    return drawings(world)


def world_of(name: str, styles: float = 1.0, **settings: object) -> StickerWorld:
    plain = {"size": 64} | settings
    return StickerWorld(some_drawings(name), SceneSettings(**plain), styles=styles)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("styles", [0.0, 1.0])
def test_a_scene_is_the_same_in_any_batch(name: str, kind: str, styles: float) -> None:
    settings = dict(KINDS[kind])
    settings["size"] = min(64, settings.get("size", 64))
    world = world_of(name, styles, **settings)
    numbers = [7, 0, 10**11, 3, 5, 1, 4]
    whole = world.draw(11, numbers)
    for row, number in enumerate(numbers):
        alone = world.draw(11, [number])
        assert torch.equal(alone.images[0], whole.images[row])
        assert torch.equal(alone.id_maps[0], whole.id_maps[row])
        assert (alone.regions[0], alone.captions[0]) == (whole.regions[row], whole.captions[row])
    turned = world.draw(11, numbers[::-1])
    assert torch.equal(turned.images.flip(0), whole.images)
    assert not torch.equal(world.draw(12, numbers).images, whole.images)


def test_a_part_of_plans_is_painted_as_the_whole() -> None:
    world = world_of("second")
    plans = world.plan(4, range(6))
    images, ids = world.paint(plans)
    for rows in ([4], [5, 0, 3], list(range(6))):
        part = plans.part(rows)
        assert part.scenes == [plans.scenes[row] for row in rows]
        some, some_ids = world.paint(part)
        assert torch.equal(some, images[rows])
        assert torch.equal(some_ids, ids[rows])


def test_no_styles_are_no_styles() -> None:
    for name in ("first", "second"):
        without = StickerWorld(some_drawings(name), SceneSettings(size=64))
        none, all_ = world_of(name, 0.0), world_of(name, 1.0)
        plain, same, styled = (w.draw(2, range(6)) for w in (without, none, all_))
        assert torch.equal(plain.images, same.images)
        assert torch.equal(plain.id_maps, same.id_maps)
        assert (plain.images != styled.images).float().mean() > 0.3
        # What a scene shows does not depend on how it is drawn: colours only are others.
        for one, other in zip(
            without.plan(2, range(6)).scenes, all_.plan(2, range(6)).scenes, strict=True
        ):
            assert (one.sprites, one.boxes, one.stuff) == (other.sprites, other.boxes, other.stuff)
            assert one.styles == []
            assert len(other.styles) == len(other.sprites)
            assert (one.look is PLAIN_PICTURE, other.look is PLAIN_PICTURE) == (True, False)


@pytest.mark.parametrize("share", [0.25, 0.7])
def test_the_share_is_that_of_stickers_and_of_pictures(share: float) -> None:
    plans = world_of("second", share).plan(1, range(400)).scenes
    stickers = [style is not PLAIN for plan in plans for style in plan.styles]
    pictures = [plan.look is not PLAIN_PICTURE for plan in plans]
    assert np.mean(stickers) == pytest.approx(share, abs=0.05)
    assert np.mean(pictures) == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize("styles", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(styles: float) -> None:
    with pytest.raises(MasqclipError, match="styles is"):
        world_of("first", styles)


def test_truth_fits_the_styled_pixels() -> None:
    """What the mask of a sticker covers is other pixels than the same ground without it."""
    settings = {"min_things": 1, "max_things": 1, "max_stuff": 1, "min_scale": 0.35}
    world = world_of("second", 1.0, **settings)
    sprites = world.sprites
    clear = SpriteSet(sprites.pixels * 0, sprites.names, sprites.studios, sprites.world)
    bare = StickerWorld(clear, world.settings, styles=1.0)
    plans = world.plan(5, range(60))
    # The picture's own style would change pixels far apart, and coarse edges are wide.
    plans = replace(
        plans,
        scenes=[
            replace(plan, look=PLAIN_PICTURE, styles=[replace(s, coarse=1) for s in plan.styles])
            for plan in plans.scenes
        ],
    )
    (images, ids), (ground, nothing) = world.paint(plans), bare.paint(plans)
    assert (nothing == 1).all(), "without alpha, there is neither a sticker nor its outline"
    things = ids == 2
    apart = (images.int() - ground.int()).abs().amax(1) > 6
    assert (apart & things).sum() / things.sum() > 0.9
    beside = F.max_pool2d(things.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0
    assert (apart & ~beside).sum() / things.sum() < 0.01


def test_an_outline_belongs_to_its_sticker() -> None:
    world = world_of("first", 1.0, min_things=1, max_things=1, max_stuff=1, min_scale=0.4)
    plans = world.plan(6, range(12))
    areas: dict[float, torch.Tensor] = {}
    for border in (0.0, 0.08):
        style = StickerStyle(border=border, border_colour=(255.0, 0.0, 255.0))
        change = {"look": PLAIN_PICTURE, "light": 1.0, "styles": [style]}
        images, ids = world.paint(
            replace(plans, scenes=[replace(plan, **change) for plan in plans.scenes])
        )
        pink = (images[:, 0] > 250) & (images[:, 1] < 5) & (images[:, 2] > 250)
        areas[border] = (ids == 2).sum()
        if border:
            assert pink.sum() > 12 * 50
            assert (ids[pink] == 2).all()
    assert areas[0.08] > 1.15 * areas[0.0]


def test_styled_stickers_stay_in_range_and_in_shape() -> None:
    chance = random.Random(3)
    styles = [draw_sticker_style(chance) for _ in range(300)]
    for field in fields(StickerStyle):  # each is drawn in more than one way
        assert len({getattr(style, field.name) for style in styles}) > 1, field.name
    pixels = torch.rand(300, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    pixels[:, 3] = (pixels[:, 3] > 0.5).float()
    stickers = torch.cat([pixels[:, :3] * 255 * pixels[:, 3:], pixels[:, 3:]], dim=1)
    done = outline(style_stickers(stickers.clone(), styles), styles, [20.0] * 300)
    assert torch.isfinite(done).all()
    assert done.min() >= 0
    assert done[:, 3].max() <= 1 + 1e-5
    assert done[:, :3].max() <= 255 * 1.01
    plain = [i for i, s in enumerate(styles) if s.coarse == 1 and round(s.border * 20) == 0]
    assert torch.equal(done[plain, 3], stickers[plain, 3]), "the truth is in alpha"
    alone = outline(style_stickers(stickers[7:8].clone(), styles[7:8]), styles[7:8], [20.0])
    assert torch.equal(alone[0], done[7])


def test_a_plain_style_changes_nothing() -> None:
    assert draw_sticker_style(random.Random(1)) != PLAIN
    assert draw_picture_style(random.Random(1)) != PLAIN_PICTURE
    chance = torch.Generator().manual_seed(0)  # one of a thousand alphas is too small to divide by
    sticker = torch.rand(1, 4, 8, 8, generator=chance)
    sticker = torch.cat([sticker[:, :3] * 255 * sticker[:, 3:], sticker[:, 3:]], dim=1)
    assert torch.allclose(style_stickers(sticker.clone(), [PLAIN]), sticker, atol=1e-3)
    picture = torch.rand(1, 3, 8, 8, generator=chance) * 255
    assert torch.allclose(style_pictures(picture.clone(), [PLAIN_PICTURE]), picture, atol=1e-3)


def test_bends_move_what_is_seen_and_fold_nothing() -> None:
    axis = (torch.arange(40) + 0.5) / 20 - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)[None].repeat(4, 1, 1, 1)
    phases = (0.3, 1.7, 4.0, 5.5)
    styles = [
        StickerStyle(bend_phases=phases),
        StickerStyle(taper=0.25),
        StickerStyle(bend=0.1, bend_phases=phases),
        StickerStyle(bend=0.1, taper=-0.25, bend_phases=phases),
    ]
    bent = bend_grid(grid, styles)
    assert torch.equal(bent[0], grid[0])
    assert torch.equal(bent[1, ..., 1], grid[1, ..., 1])
    # Looking further out shows it narrower: at the top (y = -1) by a quarter.
    assert bent[1, 0, :, 0] / axis == pytest.approx(torch.full((40,), 1 - 0.25 * float(axis[0])))
    for row in (2, 3):
        assert (bent[row] - grid[row]).abs().max() > 0.08
        across, down = bent[row, :, 1:] - bent[row, :, :-1], bent[row, 1:] - bent[row, :-1]
        turned = across[:-1, :, 0] * down[:, :-1, 1] - across[:-1, :, 1] * down[:, :-1, 0]
        assert turned.min() > 0, "what lies side by side stays so"


def test_a_bent_sticker_is_pasted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The square of pixels that it is painted in holds it, however far it bends."""
    world = world_of("second", 1.0, size=128, max_scale=0.3)
    plans = world.plan(3, range(24))
    chance = random.Random(5)
    scenes = [
        replace(
            plan,
            styles=[
                replace(PLAIN, bend=0.1, taper=chance.choice((-0.25, 0.25)), stretch=1.28,
                        shear=0.2, bend_phases=tuple(chance.uniform(0, 6.3) for _ in range(4)))
                for _ in plan.sprites
            ],
        )
        for plan in plans.scenes
    ]  # fmt: skip
    bent = replace(plans, scenes=scenes)
    images, ids = world.paint(bent)
    monkeypatch.setattr(Painter, "_reach", lambda self, plan, slot: self.size)
    whole, whole_ids = world.paint(bent)
    assert torch.equal(ids, whole_ids)
    assert (images.int() - whole.int()).abs().max() <= 1


def test_a_relief_is_lit_from_its_side() -> None:
    """A grey disc: brighter where it faces the light, darker on the other side, flat in between."""
    axis = torch.arange(64) - 31.5
    disc = ((axis[:, None] ** 2 + axis[None, :] ** 2) < 20**2).float()
    sticker = torch.cat([100 * disc.expand(3, -1, -1), disc[None]])[None]
    for angle, (bright, dark) in {0.0: (14, 49), math.pi: (49, 14)}.items():
        lit = style_stickers(sticker.clone(), [StickerStyle(relief=1.0, shade_angle=angle)])[0]
        row = lit[0, 32]
        assert row[bright] > 115
        assert row[dark] < 85
        assert row[32] == pytest.approx(100, abs=1e-3)
        assert torch.equal(lit[3], disc)
        assert (lit[:3, disc == 0] == 0).all()
    half, whole = (
        style_stickers(sticker.clone(), [StickerStyle(relief=depth)])[0, 0, 32, 49]
        for depth in (0.5, 1.0)
    )
    assert 100 - half == pytest.approx(float(100 - whole) / 2, rel=0.01)


@pytest.mark.parametrize("field", [f.name for f in fields(PictureStyle) if f.name != "seed"])
def test_every_part_of_a_pictures_style_is_painted(field: str) -> None:
    others = {"gains": (1.0, 0.8, 1.1), "contrast": 0.7, "lamp": 0.4, "noise": 20.0, "grain": 20.0,
              "print_dots": 0.3, "blur": 3, "lamp_angle": 1.0}  # fmt: skip
    more = {"lamp": 0.4} if field == "lamp_angle" else {}
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 200
    before = style_pictures(picture.clone(), [PictureStyle(**more)])  # type: ignore[arg-type]
    after = style_pictures(picture.clone(), [PictureStyle(**more | {field: others[field]})])  # type: ignore[arg-type]
    assert (after - before).abs().mean() > 1


def test_numbers_of_things_at_their_edges() -> None:
    none = world_of("second", 1.0, min_things=0, max_things=0).draw(1, range(4))
    assert all(not region.thing for regions in none.regions for region in regions)
    most = world_of("second", 1.0, min_things=50, max_things=50, min_visible=0.0)
    plans = most.plan(1, range(3))
    assert all(len(plan.sprites) == 50 for plan in plans.scenes)
    assert most.paint(plans)[1].max() <= 53, "far from the 255 that a byte holds"
    scenes = most.draw(1, range(3))
    for ids, regions in zip(scenes.id_maps, scenes.regions, strict=True):
        assert [region.id for region in regions] == list(range(1, len(regions) + 1))
        assert int(ids.max()) == len(regions) > 10
    with pytest.raises(MasqclipError, match="things cannot be drawn"):
        SceneSettings(min_things=3, max_things=51)


@pytest.mark.parametrize("size", [16, 17, 33, 100])
def test_any_size_is_drawn(size: int) -> None:
    scenes = world_of("second", 1.0, size=size, min_scale=0.05, max_scale=1.0).draw(1, range(8))
    assert scenes.images.shape == (8, 3, size, size)
    assert all(regions for regions in scenes.regions)
