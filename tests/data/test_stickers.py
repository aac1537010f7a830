"""The miniature world: the same picture from the same seed, with truth that fits the pixels."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from masqclip.data.rle import decode_rle
from masqclip.data.stickers.files import sticker_categories, write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import SpriteSet, load_sprites
from masqclip.data.stickers.textures import TEXTURES
from masqclip.data.stickers.worlds import UNSEEN_STUDIO, sticker_world
from masqclip.errors import MasqclipError

SPRITES = Path(__file__).parent / "sprites"


@pytest.fixture(scope="module")
def sprites() -> SpriteSet:
    return load_sprites(SPRITES)


@pytest.fixture(scope="module")
def world(sprites: SpriteSet) -> StickerWorld:
    return StickerWorld(sprites, SceneSettings(size=64))


def test_the_cache_says_where_its_drawings_come_from(sprites: SpriteSet) -> None:
    index = json.loads((SPRITES / "index.json").read_text())
    assert len(index["studios"]) == 7
    for entry in index["studios"].values():
        assert entry["license"] in ("Apache-2.0", "CC-BY-4.0", "MIT")
        assert entry["author"]
        assert entry["source"].startswith("https://")
    assert sprites.pixels.shape[1:] == (4, 64, 64)
    assert UNSEEN_STUDIO in sprites.studios
    assert UNSEEN_STUDIO not in sprites.select(studios=["noto", "twemoji"]).studios


def test_a_missing_cache_names_the_command_that_builds_one(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="masqclip data sprites --out"):
        load_sprites(tmp_path)


def test_names_splits_and_textures_agree() -> None:
    categories = sticker_categories(sticker_world("first"))
    things = [c for c in categories if c["isthing"]]
    assert [c["name"] for c in things] == [entry["name"] for entry in sticker_world("first").things]
    assert [c["name"] for c in categories if not c["isthing"]] == list(TEXTURES)
    assert sum(c["split"] == "novel" for c in things) == 30
    assert sum(c["split"] == "base" for c in things) == 107


def test_a_scene_is_a_function_of_its_number(world: StickerWorld) -> None:
    batch = world.draw(7, range(10))
    alone = world.draw(7, [6])
    assert torch.equal(batch.images[6], alone.images[0])
    assert torch.equal(batch.id_maps[6], alone.id_maps[0])
    assert batch.regions[6] == alone.regions[0]
    assert batch.captions[6] == alone.captions[0]
    assert not torch.equal(batch.images[6], world.draw(8, [6]).images[0])


def test_truth_fits_the_pixels(world: StickerWorld) -> None:
    scenes = world.draw(1, range(40))
    for id_map, regions, (caption,) in zip(
        scenes.id_maps, scenes.regions, scenes.captions, strict=True
    ):
        areas = torch.bincount(id_map.flatten().long(), minlength=len(regions) + 1).tolist()
        assert [region.id for region in regions] == list(range(1, len(regions) + 1))
        assert [region.area for region in regions] == areas[1:]
        assert areas[0] < 0.05 * id_map.numel()
        for region in regions:
            assert region.thing == (region.studio is not None)
            if region.thing:
                assert region.name in caption
    stuff_only = StickerWorld(
        world.sprites, SceneSettings(size=64, min_things=0, max_things=0)
    ).draw(1, [3])
    assert not any(region.thing for region in stuff_only.regions[0])


@pytest.mark.parametrize("name_stuff", [False, True])
def test_bare_captions_are_names_one_each(sprites: SpriteSet, name_stuff: bool) -> None:
    settings = SceneSettings(
        size=64, min_things=0, max_things=2, captions="names", name_stuff=name_stuff
    )
    scenes = StickerWorld(sprites, settings).draw(3, range(40))
    both = StickerWorld(sprites, replace(settings, captions="both")).draw(3, range(40))
    plain = StickerWorld(sprites, SceneSettings(size=64, min_things=0, max_things=2))
    sentences = plain.draw(3, range(40)).captions
    assert both.captions == [a + b for a, b in zip(sentences, scenes.captions, strict=True)]
    for regions, captions in zip(scenes.regions, scenes.captions, strict=True):
        things = {region.name for region in regions if region.thing}
        stuff = {region.name for region in regions if not region.thing}
        assert len(set(captions)) == len(captions)
        assert set(captions) == (things | stuff if name_stuff or not things else things)


def test_a_sticker_stands_where_its_mask_says(sprites: SpriteSet) -> None:
    """Pixels inside a thing's mask differ from the same scene's ground, pixels outside do not."""
    settings = SceneSettings(size=64, min_things=1, max_things=1, max_stuff=1, min_scale=0.4)
    scene = StickerWorld(sprites, settings).draw(5, range(8))
    clear = SpriteSet(sprites.pixels * 0, sprites.names, sprites.studios)
    ground = StickerWorld(clear, settings).draw(5, range(8))
    changed = (scene.images.int() - ground.images.int()).abs().amax(1) > 12
    things = torch.zeros_like(changed)
    for i, regions in enumerate(scene.regions):
        for region in regions:
            if region.thing:
                things[i] |= scene.id_maps[i] == region.id
    assert (changed & things).sum() / things.sum() > 0.9
    beside = F.max_pool2d(things.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0
    assert (changed & ~beside).sum() / things.sum() < 0.01  # soft edges are a pixel wide


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_scene_is_the_same_at_any_resolution(sprites: SpriteSet, size: int) -> None:
    small = StickerWorld(sprites, SceneSettings(size=64)).draw(2, [0])
    large = StickerWorld(sprites, SceneSettings(size=size)).draw(2, [0])
    assert [region.name for region in small.regions[0]] == [r.name for r in large.regions[0]]
    factor = size // 64
    ids = large.id_maps[0, factor // 2 :: factor, factor // 2 :: factor]
    assert (ids == small.id_maps[0]).float().mean() > 0.9


@pytest.mark.parametrize(
    "bad", [{"size": 4}, {"min_things": 5, "max_things": 2}, {"min_scale": 0.0}, {"max_stuff": 9}]
)
def test_impossible_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(MasqclipError):
        SceneSettings(**bad)


def test_files_hold_the_scenes(world: StickerWorld, tmp_path: Path) -> None:
    write_stickers(tmp_path, world, images=5, seed=3)
    scenes = world.draw(3, range(5))
    panoptic = json.loads((tmp_path / "annotations/panoptic.json").read_text())
    instances = json.loads((tmp_path / "annotations/instances.json").read_text())
    captions = json.loads((tmp_path / "annotations/captions.json").read_text())
    names = {c["id"]: c["name"] for c in panoptic["categories"]}
    assert [(a["caption"],) for a in captions["annotations"]] == scenes.captions
    for i in range(5):
        file = panoptic["images"][i]["file_name"]
        pixels = np.asarray(Image.open(tmp_path / "images" / file))
        assert np.array_equal(pixels, scenes.images[i].permute(1, 2, 0).numpy())
        ids = np.asarray(Image.open(tmp_path / "panoptic" / file))[..., 0]
        assert np.array_equal(ids, scenes.id_maps[i].numpy())
        segments = panoptic["annotations"][i]["segments_info"]
        assert [names[s["category_id"]] for s in segments] == [r.name for r in scenes.regions[i]]
        semantic = np.asarray(Image.open(tmp_path / "semantic" / file))
        order = [c["name"] for c in panoptic["categories"]]
        for segment in segments:
            inside = ids == segment["id"]
            assert inside.sum() == segment["area"]
            assert {order[k] for k in np.unique(semantic[inside])} == {
                names[segment["category_id"]]
            }
    first = instances["annotations"][0]
    assert decode_rle(first["segmentation"]).sum() == first["area"]


def test_a_folder_of_other_scenes_is_not_overwritten(world: StickerWorld, tmp_path: Path) -> None:
    write_stickers(tmp_path, world, images=2, seed=3, captions_only=True)
    before = (tmp_path / "images/000000.png").read_bytes()
    with pytest.raises(MasqclipError, match="seed"):
        write_stickers(tmp_path, world, images=2, seed=4, captions_only=True)
    assert (tmp_path / "images/000000.png").read_bytes() == before
    write_stickers(tmp_path, world, images=3, seed=3, captions_only=True)
    assert len(list((tmp_path / "images").iterdir())) == 3


def test_a_full_disk_is_told_with_the_file(
    world: StickerWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a write that fails the system does not say where."""

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*images/000000\.png'"):
        write_stickers(tmp_path, world, images=1, seed=3)
