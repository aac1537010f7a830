"""Scenes drawn as needed are those of a folder of the same seed, and as good a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawings import drawings, write_cache
from masqclip.data.coco import CocoPanoptic, Keep, is_base
from masqclip.data.label_maps import read_labels
from masqclip.data.open_coco import open_coco
from masqclip.data.stickers.drawn import DrawnScenes
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.source import StickerSource
from masqclip.errors import MasqclipError
from masqclip.training.sampling import batch_rows

FIRST = Path(__file__).parent / "sprites"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("second"), drawings())


@pytest.fixture(params=["first", "second"])
def cache(request: pytest.FixtureRequest, second: Path) -> Path:
    return FIRST if request.param == "first" else second


@pytest.mark.parametrize("keep", [None, is_base])
@pytest.mark.parametrize("styles", [0.0, 1.0])
def test_a_scene_is_that_of_the_folder(
    cache: Path, keep: Keep | None, styles: float, tmp_path: Path
) -> None:
    source = StickerSource(cache, size=64, styles=styles, seed=21)
    write_stickers(tmp_path, source.world(), images=6, seed=21)
    folder, drawn = CocoPanoptic(tmp_path, keep=keep), DrawnScenes(source, keep=keep)
    assert drawn.categories.kept <= folder.categories.kept
    shown = 0
    for i in (4, 0, 5, 1, 2, 3):
        ours, theirs = drawn[i], folder[i]
        assert np.array_equal(ours.image, theirs.image)
        assert ours.image.dtype == theirs.image.dtype
        assert ours.category_ids.tolist() == theirs.category_ids.tolist()
        assert ours.is_thing.tolist() == theirs.is_thing.tolist()
        assert np.array_equal(ours.masks, theirs.masks)
        assert ours.masks.dtype == theirs.masks.dtype
        assert ours.image_id == theirs.image_id
        assert drawn.entry(i) == {key: folder.entry(i)[key] for key in drawn.entry(i)}
        for category in ours.category_ids:
            assert drawn.categories.names[category] == folder.categories.names[category]
            assert drawn.categories.is_thing(category) == folder.categories.is_thing(category)
        shown += len(ours.masks)
        labels = read_labels(tmp_path / "semantic" / f"{i:06d}.png")
        order = list(folder.categories.names)
        for category, mask in zip(ours.category_ids, ours.masks, strict=True):
            assert (labels[mask] == order.index(category)).all()
    assert shown > 10


@pytest.mark.parametrize("size", [300, 1024])
def test_large_scenes_are_written_a_few_at_a_time(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with the size; the scenes are the same in any batch."""
    world = StickerWorld(drawings(every=60), SceneSettings(size=size, max_things=2, max_stuff=1))
    batches: list[list[int]] = []
    draw = world.draw

    def heard(seed: int, numbers: Any) -> Any:
        batches.append(list(numbers))
        return draw(seed, numbers)

    monkeypatch.setattr(world, "draw", heard)
    write_stickers(tmp_path, world, images=5, seed=1)
    assert [number for batch in batches for number in batch] == [0, 1, 2, 3, 4]
    assert max(map(len, batches)) * size**2 <= 64 * 256**2


def test_there_are_as_many_as_wanted(second: Path) -> None:
    endless = DrawnScenes(StickerSource(second, size=32))
    some = DrawnScenes(StickerSource(second, size=32, pictures=5))
    assert (endless.endless, some.endless) == (True, False)
    assert len(some) == 5
    assert batch_rows(endless, 4, 0, 0) == [0, 1, 2, 3]
    assert batch_rows(endless, 4, 1, 10**9) == [4 * 10**9 + i for i in range(4)]
    rows = [row for step in range(5) for row in batch_rows(some, 4, 0, step)]
    assert sorted(rows) == sorted([0, 1, 2, 3, 4] * 4), "epochs of each once"
    assert endless[10**11].image.shape == (32, 32, 3)
    some.check_finite("something")
    with pytest.raises(MasqclipError, match=r"has no end, and nobody can: add pictures=N"):
        endless.check_finite("nobody can")
    assert endless.annotated() is endless


def test_what_is_kept(second: Path) -> None:
    source = StickerSource(second, size=32)
    whole = DrawnScenes(source)
    base = whole.keeping(is_base)
    assert len(base.categories.kept) < len(whole.categories.kept) == len(whole.categories.by_id)
    assert whole.keeping(None).categories.kept == whole.categories.kept
    assert base.fingerprint() == DrawnScenes(source, keep=is_base).fingerprint()
    assert base.fingerprint() != whole.fingerprint()
    nothing = DrawnScenes(source, keep=lambda category: category["name"] == "water")[0]
    assert nothing.masks.shape[1:] == (32, 32)
    with pytest.raises(MasqclipError, match="none of its things and stuff is kept"):
        open_coco(source.address, keep=lambda _: False)


@pytest.mark.parametrize("changes", [
    {"kind": "portraits"}, {"size": 48}, {"studios": ("noto",)}, {"styles": 0.5}, {"seed": 1},
    {"pictures": 9}, {"looks": ("line",)}, {"names": (drawings().names[0],)},
])  # fmt: skip
def test_every_setting_is_in_the_fingerprint(changes: dict[str, Any], second: Path) -> None:
    common: dict[str, Any] = {"size": 32, "styles": 0.3}
    before = DrawnScenes(StickerSource(second, **common)).fingerprint()
    after = DrawnScenes(StickerSource(second, **common | changes)).fingerprint()
    assert after != before


def test_where_the_drawings_lie_is_not(second: Path, tmp_path: Path) -> None:
    moved = write_cache(tmp_path / "moved", drawings())
    assert (
        DrawnScenes(StickerSource(moved)).fingerprint()
        == DrawnScenes(StickerSource(second)).fingerprint()
    )


@pytest.mark.parametrize("setting", [{"weight": 2.0}, {"first": 0.5}, {"last": 0.5}])
def test_settings_of_several_sources_are_refused(setting: dict[str, float], second: Path) -> None:
    """They would mean nothing, and were ignored."""
    with pytest.raises(MasqclipError, match="are of pretraining"):
        DrawnScenes(StickerSource(second, **setting))  # type: ignore[arg-type]
    with pytest.raises(MasqclipError, match="name_stuff is of captions; what has masks"):
        DrawnScenes(StickerSource(second, name_stuff=False))


def test_a_folder_says_its_styles_and_is_of_one_kind_only(second: Path, tmp_path: Path) -> None:
    plain, styled = (StickerSource(second, size=32, styles=s).world() for s in (0.0, 0.5))
    write_stickers(tmp_path / "plain", plain, images=1, seed=1)
    write_stickers(tmp_path / "styled", styled, images=1, seed=1)
    assert "styles" not in json.loads((tmp_path / "plain/scenes.json").read_text())
    assert json.loads((tmp_path / "styled/scenes.json").read_text())["styles"] == 0.5
    for folder, world in (("plain", styled), ("styled", plain)):
        with pytest.raises(MasqclipError, match="with another styles;"):
            write_stickers(tmp_path / folder, world, images=1, seed=1)
    first = StickerSource(FIRST, size=32, studios=("noto", "twemoji")).world()
    with pytest.raises(MasqclipError, match="with another world;"):
        write_stickers(tmp_path / "plain", first, images=1, seed=1)


def test_what_is_tested_on_is_of_another_seed(second: Path, tmp_path: Path) -> None:
    scenes = DrawnScenes(StickerSource(second, size=32, seed=4))
    for seed in (4, 5):
        folder = tmp_path / str(seed)
        write_stickers(folder, scenes.source.world(), images=1, seed=seed)
        # By the folder, and by either file in it.
        for where in (folder, folder / "annotations/instances.json", folder / "mine.json"):
            (folder / "mine.json").write_text("{}")
            if seed == 5:
                scenes.check_apart(where)
                continue
            with pytest.raises(MasqclipError, match=r"same seed, 4: ") as caught:
                scenes.check_apart(where)
            assert str(where) in str(caught.value)
            assert scenes.source.address in str(caught.value)
    scenes.check_apart(tmp_path / "nowhere")
    (tmp_path / "4/scenes.json").write_text("[4]")
    scenes.check_apart(tmp_path / "4")
