"""Files of others that make data: sprite caches, icon packages, lists of names; and long names."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from masqclip.data.datasets import convert_labels
from masqclip.data.files import read_bounded, write_atomically
from masqclip.data.locks import lock_folder
from masqclip.data.pascal_context import PASCAL_CONTEXT_59
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import build_sprites, load_sprites
from masqclip.data.stickers.worlds import STUDIO_PACKAGES
from masqclip.errors import MasqclipError

SPRITES = Path(__file__).parent / "sprites"


@pytest.mark.parametrize(
    "index",
    ["[]", "[" * 100_000, '{"size": 64, "columns": 0, "studios": {"noto": {"names": ["cat"]}}}',
     '{"size": 64, "columns": 16, "studios": {}}', '{"size": 64, "columns": 16, "studios": [1]}',
     '{"size": 64, "columns": 16, "studios": {"noto": {"names": 7}}}'],
)  # fmt: skip
def test_a_damaged_sprite_cache_is_one_line(tmp_path: Path, index: str) -> None:
    shutil.copytree(SPRITES, tmp_path / "s")
    (tmp_path / "s" / "index.json").write_text(index)
    with pytest.raises(MasqclipError, match="masqclip data sprites --out"):
        load_sprites(tmp_path / "s")


@pytest.mark.parametrize(
    "icons",
    [{"icons": {}, "aliases": {"cat-face": {"parent": "cat-face"}}}, {"icons": []}, [], {},
     {"icons": {"cat-face": {"body": "<path d='"}}}],
)  # fmt: skip
def test_a_damaged_icon_package_is_one_line(tmp_path: Path, icons: object) -> None:
    home = tmp_path / "packages" / next(iter(STUDIO_PACKAGES))
    home.mkdir(parents=True)
    (home / "icons.json").write_text(json.dumps(icons))
    about = {"author": {"name": "a", "url": "b"}, "license": {"spdx": "c"}}
    (home / "info.json").write_text(json.dumps(about))
    with pytest.raises(MasqclipError, match="icon package"):
        build_sprites(tmp_path / "out", packages=tmp_path / "packages", names=["cat"])


def test_scenes_are_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=64))
    with lock_folder(tmp_path / "out"), pytest.raises(MasqclipError, match="is at work"):
        write_stickers(tmp_path / "out", world, images=1, seed=1)
    (tmp_path / "out" / "scenes.json").write_text("[" * 100_000)
    with pytest.raises(MasqclipError, match="nested too deeply"):
        write_stickers(tmp_path / "out", world, images=1, seed=1)


def test_names_in_a_list_stay_in_their_folder(tmp_path: Path) -> None:
    def convert(path: Path) -> np.ndarray:
        return np.zeros((2, 2), np.uint8)

    with pytest.raises(MasqclipError, match="is no name of a picture"):
        convert_labels(
            {"../../../evil": tmp_path / "x"}, tmp_path / "a/b/labels", convert, lambda *_: None
        )
    assert not list(tmp_path.rglob("evil*"))
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "trainval").mkdir()
    with pytest.raises(MasqclipError, match="not UTF-8"):
        PASCAL_CONTEXT_59.convert(tmp_path, lambda *_: None)


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\U0001f431"])
def test_a_name_as_long_as_may_be_is_written(tmp_path: Path, letter: str) -> None:
    name = letter * (255 // len(letter.encode()))
    write_atomically(tmp_path / name, b"content")
    assert (tmp_path / name).read_bytes() == b"content"


def test_a_large_limit_sets_no_memory_aside(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    assert read_bounded(tmp_path / "small", max_bytes=1 << 60, what="the file") == b"x"


def _wait(ready: Event, end: Event) -> None:
    ready.set()
    end.wait(60)


def test_a_forked_child_does_not_hold_its_parents_lock(tmp_path: Path) -> None:
    """Else the workers of a killed run would lock its next call out."""
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    with lock_folder(tmp_path):
        child = context.Process(target=_wait, args=(ready, end))
        child.start()
        assert ready.wait(60)
        handles = Path(f"/proc/{child.pid}/fd").iterdir()
        held = [os.readlink(handle) for handle in handles]
        end.set()
        child.join()
        assert not [file for file in held if "masqclip.lock" in file]
        assert (tmp_path / ".masqclip.lock").exists(), "a child that ends takes no lock away"
