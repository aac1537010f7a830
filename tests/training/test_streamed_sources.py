"""What pretraining takes from several sources of scenes and folders, and which patches it sees."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streams import SOURCED_STEPS as STEPS
from streams import made, read_back
from torch import Tensor, nn

from drawings import drawings, write_cache
from masqclip.data.stickers.drawn import DrawnScenes
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.plans import Plans
from masqclip.data.stickers.source import StickerSource, parse_sticker_address
from masqclip.errors import MasqclipError
from masqclip.training.captioned import DrawnCaptions, open_captioned
from masqclip.training.inputs import dataset_size
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import PretrainSettings
from masqclip.training.stage import Share
from masqclip.training.windows import window_features

pytestmark = pytest.mark.usefixtures("few_sentences")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), drawings(every=20))


@pytest.fixture(scope="module")
def folder(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three captioned pictures."""
    out = tmp_path_factory.mktemp("folder")
    world = StickerSource(cache, size=24).world()
    write_stickers(out, world, images=3, seed=77, captions_only=True)
    return out


def taken(stage: PretrainStage, steps: range) -> Counter[int]:
    """How often each source is taken."""
    chances = (np.random.default_rng((stage.settings.seed, step)) for step in steps)
    return Counter(
        stage._source_of(step, chance) for step, chance in zip(steps, chances, strict=True)
    )


def test_sources_come_and_go_and_are_taken_by_weight(cache: Path) -> None:
    stage = made(cache, "size=16,last=0.5", "size=24,first=0.25,weight=3", "size=32,first=0.75")
    assert taken(stage, range(100)) == {0: 100}
    assert taken(stage, range(200, 300)) == {1: 100}
    both, last = taken(stage, range(100, 200)), taken(stage, range(300, 400))
    assert set(both) == {0, 1}
    assert set(last) == {1, 2}
    assert both[1] / 100 == pytest.approx(0.75, abs=0.12)
    assert last[1] / 100 == pytest.approx(0.75, abs=0.12)
    # The very first and last step, and one that a longer run would have.
    assert taken(stage, range(1)) == {0: 1}
    assert set(taken(stage, range(STEPS - 1, STEPS + 5))) <= {1, 2}


def test_a_batch_is_of_the_source_that_is_named(cache: Path) -> None:
    stage = made(cache, "size=16,last=0.5,seed=1", "size=32,first=0.5,seed=2")
    for step, number, side in ((0, 0, 16), (199, 0, 16), (200, 1, 32), (399, 1, 32)):
        batch = stage.batch(step)
        assert (batch["source"], batch["pixels"].shape) == (number, (4, 3, side, side))
        world = StickerSource(cache, size=side).world()
        expected = world.draw(number + 1, range(4 * step, 4 * step + 4)).images
        assert torch.equal(batch["pixels"], expected), "every scene once, numbered by its step"


def test_captions_are_those_of_the_scenes(cache: Path) -> None:
    stage = made(cache, "kind=portraits,size=16,seed=5", batch_size=8)
    world = stage.sources[0]._world  # type: ignore[attr-defined]
    batch = stage.batch(3)
    texts = read_back(stage, batch)
    for row, plan in enumerate(world.plan(5, range(24, 32)).scenes):
        (name,) = {world.sprites.names[sprite] for sprite in plan.sprites}
        (column,) = batch["described"][row].nonzero().flatten().tolist()
        assert texts[column] == name.lower()


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (("last=0.5", "first=0.6"), r"the part of the run from 0\.5 on"),
        (("first=0.1",), "the part of the run from 0 on"),
        (("last=0.9",), r"from 0\.9 on"),
        (("last=0.3", "first=0.2,last=0.4", "first=0.5"), r"from 0\.4 on"),
        (("size=30",), "30 pixels are no whole number of patches of 8"),
        (("size=16", "size=20"), "20 pixels are no whole number of patches"),
        (("pictures=9",), "have no end; leave out pictures"),
        ((), "none is given"),
    ],
)
def test_sources_that_leave_a_gap_or_do_not_fit_are_refused(
    sources: tuple[str, ...], said: str, cache: Path
) -> None:
    sized = [source if "size" in source else f"size=32,{source}" for source in sources]
    with pytest.raises(MasqclipError, match=said):
        made(cache, *sized)


def test_a_source_may_hide_in_another(cache: Path) -> None:
    stage = made(cache, "size=16", "size=32,first=0.4,last=0.6,weight=1000")
    assert taken(stage, range(160)) == {0: 160}
    assert taken(stage, range(160, 240))[1] > 75
    assert taken(stage, range(240, 400)) == {0: 160}


def test_folders_and_streams_are_mixed(cache: Path, folder: Path) -> None:
    """A folder weighs as much as it has pictures."""
    stage = made(cache, folder, "size=32,weight=6,first=0.5")
    assert stage.data["pictures"] == 3
    assert stage.data["sources of drawn scenes"] == 1
    assert made(cache, "size=32", "size=16").data == {"sources of drawn scenes": 2}
    assert taken(stage, range(200)) == {0: 200}
    assert taken(stage, range(200, 400))[1] / 200 == pytest.approx(2 / 3, abs=0.1)
    for step in range(200, 210):
        batch = stage.batch(step)
        side = (24, 32)[batch["source"]]
        assert batch["pixels"].shape == (4, 3, side, side)
        prepared, _ = stage.prepare(batch)
        assert torch.isfinite(stage.losses(prepared, {})["loss"])
    assert set(stage.inputs) == {"--data"}
    other = made(cache, folder, "size=32,weight=5,first=0.5")
    assert stage.inputs != other.inputs, "a weight is part of what is trained on"


def test_pictures_larger_than_clips_input_are_made_smaller(cache: Path) -> None:
    stage = made(cache, "size=64")
    batch, _ = stage.prepare(stage.batch(0))
    assert batch["pixels"].shape == (4, 3, 32, 32)
    assert batch["kept"].shape == (4, 8)


def test_pictures_that_are_neither_windows_nor_larger_are_one_line(
    cache: Path, tmp_path: Path
) -> None:
    world = StickerSource(cache, size=24).world()
    write_stickers(tmp_path, world, images=4, seed=1, captions_only=True)
    for path in (tmp_path / "images").iterdir():
        Image.new("RGB", (64, 16)).save(path)
    about = tmp_path / "annotations/captions.json"
    text = about.read_text().replace('"height": 24, "width": 24', '"height": 16, "width": 64')
    about.write_text(text)
    with pytest.raises(MasqclipError, match=r"16 x 64 pixels .* set image_size to 64"):
        made(cache, tmp_path).batch(0)
    wide = made(cache, tmp_path, image_size=64)
    batch, _ = wide.prepare(wide.batch(0))
    assert torch.isfinite(wide.losses(batch, {})["loss"])


@pytest.mark.parametrize(
    "change",
    ["kind=windows", "size=16", "styles=0.5", "seed=1", "weight=2", "first=0.1", "last=0.9",
     "studios=noto", "looks=shape"],
)  # fmt: skip
def test_a_run_goes_on_with_its_own_sources_only(change: str, cache: Path) -> None:
    """All that a source is, is told from another by its digest."""
    address = f"stickers:sprites={cache},kind=glimpses"
    address += ",styles=0.3" if "looks" in change else ""
    before, again, after = (
        open_captioned(text).fingerprint()
        for text in (address, address, f"stickers:sprites={cache},{change}" if "kind" in change
                     else f"{address},{change}")
    )  # fmt: skip
    assert before == again != after


# Where scenes are painted


def test_elsewhere_scenes_are_planned_and_painted_by_the_trainer(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU workers hand out plans; what comes of them is the same."""
    address = f"stickers:sprites={cache},size=32,styles=0.5,seed=4"
    here, there = DrawnCaptions(parse_sticker_address(address)), open_captioned(address)
    there.place(torch.device("cpu"))
    assert isinstance(there.take(1, [0], 4, 0).pictures, torch.Tensor)
    there.place(torch.device("meta"))  # stands for a GPU: nothing can be painted on it here
    planned, painted = there.take(7, [3, 1], 4, 0), here.take(7, [3, 1], 4, 0)
    assert isinstance(planned.pictures, Plans)
    assert torch.equal(here.paint(planned.pictures), painted.pictures)  # type: ignore[arg-type]
    assert planned.captions == painted.captions
    assert len(planned.captions) == 4
    assert there.fingerprint() == here.fingerprint()
    with pytest.raises(AssertionError):
        _ = planned.size


def test_a_plan_is_painted_before_it_is_learned_from(cache: Path) -> None:
    stage = made(cache, "size=32,styles=1")
    batch = stage.batch(2)
    world = stage.sources[0]._world  # type: ignore[attr-defined]
    plans = world.plan(0, range(8, 12))
    planned, _ = stage.prepare(batch | {"pixels": plans})
    painted, _ = stage.prepare(batch)
    assert torch.equal(planned["pixels"], painted["pixels"])


# Patches


@pytest.mark.parametrize(
    ("drop", "size", "left"), [(0.0, 32, 16), (0.5, 32, 8), (0.75, 16, 1), (0.999, 32, 1)]
)
def test_so_many_patches_are_looked_at(drop: float, size: int, left: int, cache: Path) -> None:
    stage = made(cache, f"size={size}", drop_patches=drop)
    seen: list[int] = []

    def heard(norm: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        seen.append(given[0].shape[1])

    stage.module.vision_model.pre_layrnorm.register_forward_hook(heard)
    batch, _ = stage.prepare(stage.batch(0))
    stage.losses(batch, {})
    assert seen == [1 + left]
    for row in batch["kept"]:
        assert len(set(row.tolist())) == left
        assert 0 <= int(row.min()) <= int(row.max()) < (size // 8) ** 2


def test_each_picture_and_step_loses_other_patches(cache: Path) -> None:
    stage = made(cache, "size=32", batch_size=8)
    rows = [tuple(row) for step in range(3) for row in stage.batch(step)["kept"].tolist()]
    assert len(set(rows)) > 20
    assert all(row == tuple(sorted(row)) for row in rows)
    counts = Counter(patch for row in rows for patch in row)
    assert set(counts) == set(range(16)), "none is always left out"


def test_a_share_of_a_batch_sees_what_the_whole_sees(cache: Path) -> None:
    stage = made(cache, "size=24", "size=32", batch_size=8)
    for step in range(4):
        whole = stage.batch(step)
        for count in (2, 4):
            for index in range(count):
                share = Share(index, count)
                part, places = stage.batch(step, share), list(share.of(8))
                assert torch.equal(part["pixels"], whole["pixels"][places])
                assert torch.equal(part["kept"], whole["kept"][places])
                assert torch.equal(part["corner"], whole["corner"])
                assert torch.equal(part["tokens"], whole["tokens"])
                assert torch.equal(part["described"], whole["described"])
                assert part["source"] == whole["source"]


def test_patches_that_are_left_out_do_not_matter(cache: Path) -> None:
    stage = made(cache, "size=32")
    batch, _ = stage.prepare(stage.batch(0))
    pixels, kept = batch["pixels"].clone(), batch["kept"]
    clip, corner = stage.module.eval(), batch["corner"]
    with torch.no_grad():
        before = window_features(clip, pixels, corner, kept)
        for row, patches in enumerate(kept.tolist()):
            for patch in set(range(16)) - set(patches):
                y, x = divmod(patch, 4)
                pixels[row, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = 0.5
        assert torch.equal(window_features(clip, pixels, corner, kept), before)
        every = torch.arange(16).expand(4, 16)
        assert torch.equal(
            window_features(clip, pixels, corner, every), window_features(clip, pixels, corner)
        )


@pytest.mark.parametrize("drop", [-0.1, 1.0, 2.0, float("nan")])
def test_some_patches_are_left(drop: float) -> None:
    with pytest.raises(MasqclipError, match="drop_patches is"):
        PretrainSettings(drop_patches=drop)


@pytest.mark.parametrize("steps", [-1, 0, 100])
def test_muon_takes_a_step_and_less_than_a_hundred(steps: int) -> None:
    with pytest.raises(MasqclipError, match=f"muon_steps is {steps}; it is 1 or more, below 100"):
        PretrainSettings(muon_steps=steps)


# What is said of a run


def test_a_stream_is_counted_as_one(cache: Path) -> None:
    assert dataset_size(DrawnScenes(StickerSource(cache))) == {"sources of drawn scenes": 1}
    assert dataset_size(DrawnScenes(StickerSource(cache, pictures=7))) == {"pictures": 7}


@pytest.mark.parametrize("compiles", [False, True])
def test_the_blocks_of_both_transformers_are_compiled_where_it_is_asked_for(
    compiles: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = made(cache, "size=32", compile=compiles)
    compiled: list[tuple[str, bool]] = []
    towers = {"vision": stage.module.vision_model, "text": stage.module.text_model}
    blocks = [(name, block) for name, tower in towers.items() for block in tower.encoder.layers]
    for name, block in blocks:
        monkeypatch.setattr(
            block, "compile", lambda *, dynamic, name=name: compiled.append((name, dynamic))
        )
    monkeypatch.setenv("CXX", sys.executable)  # a compiler need not be here
    stage.to(torch.device("cpu"))
    # Captions come in many numbers and lengths, pictures in few.
    assert compiled == [(name, name == "text") for name, _ in blocks if compiles]
