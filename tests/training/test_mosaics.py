"""Four small pictures that are laid together, and read each under its own patches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from streams import made
from torch import Tensor

from drawings import drawings, write_cache
from masqclip.clip.masked_vision import embed_masks, encode_image
from masqclip.errors import MasqclipError
from masqclip.towers.families import tower_of
from masqclip.training.settings import PretrainSettings
from masqclip.training.small_clip import learn_tokenizer, new_clip
from masqclip.training.stage import Share
from masqclip.training.windows import mosaic_features, window_features

# A square of 4 x 4 patches; pictures of 2 x 2 of them, so that one mosaic fits, and fills it.
SETTINGS = PretrainSettings(
    image_size=32, vision_width=16, vision_layers=2, vision_heads=2, text_width=16, text_layers=1,
    text_heads=2, embedding_size=16, merges=5,
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("few_sentences")
NOWHERE = torch.tensor([0, 0])


@pytest.fixture(scope="module", params=["clip", "siglip"])
def clip(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    settings = replace(SETTINGS, family=request.param)
    return new_clip(settings, learn_tokenizer(["a", "b"], merges=5)).eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), drawings(every=20))


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def all_patches(count: int) -> Tensor:
    return torch.arange(4).expand(count, 4)


@torch.no_grad()
def test_each_is_read_as_a_mask_over_its_quarter(clip: Any, pictures: Tensor) -> None:
    found = mosaic_features(clip, pictures, NOWHERE, all_patches(8))
    for start in (0, 4):
        one, two, three, four = pictures[start : start + 4]
        rows = torch.cat([one, two], dim=2), torch.cat([three, four], dim=2)
        visible = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
        for number in range(4):
            y, x = divmod(number, 2)
            visible[0, number, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = True
        tower = tower_of(clip)
        tokens = encode_image(tower, torch.cat(rows, dim=1)[None])
        expected = embed_masks(tower, None, tokens, visible.flatten(2))
        torch.testing.assert_close(found[start : start + 4], expected[0])


@torch.no_grad()
def test_a_mosaic_knows_nothing_of_others(clip: Any, pictures: Tensor) -> None:
    both = mosaic_features(clip, pictures, NOWHERE, all_patches(8))
    alone = mosaic_features(clip, pictures[4:], NOWHERE, all_patches(4))
    torch.testing.assert_close(both[4:], alone)
    assert not torch.allclose(both[4:], window_features(clip, pictures[4:], NOWHERE))


@torch.no_grad()
def test_patches_that_are_left_out_do_not_matter(clip: Any, pictures: Tensor) -> None:
    kept = torch.tensor([[0, 3], [1, 2], [0, 1], [2, 3]]).repeat(2, 1)
    before = mosaic_features(clip, pictures, NOWHERE, kept)
    other = pictures.clone()
    for row, patches in enumerate(kept.tolist()):
        for patch in set(range(4)) - set(patches):
            y, x = divmod(patch, 2)
            other[row, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = 9.0
    assert torch.equal(mosaic_features(clip, other, NOWHERE, kept), before)
    pictures[0, :, :8, :8] += 1.0  # is looked at
    changed = (mosaic_features(clip, pictures, NOWHERE, kept) != before).any(dim=1)
    assert changed[0]
    assert not changed[4:].any()


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_what_is_learned_reaches_the_whole_tower(cache: Path, family: str) -> None:
    stage = made(cache, "size=16", family=family, mosaics=1.0)
    batch, _ = stage.prepare(stage.batch(0))
    assert batch["side"] == 2
    stage.losses(batch, {})["loss"].backward()
    for name, parameter in stage.module.named_parameters():
        assert parameter.grad is not None, name


def test_a_share_of_the_steps_lays_them_together(cache: Path) -> None:
    stage = made(cache, "size=16", mosaics=0.5)
    sides = [stage.batch(step)["side"] for step in range(64)]
    assert 20 < sides.count(2) < 44
    for step in range(8):  # the corner of what is laid together leaves room for it
        batch = stage.batch(step)
        assert (batch["corner"] + batch["side"] * 2 <= 4).all()


def test_pictures_that_are_too_large_stay_alone(cache: Path) -> None:
    stage = made(cache, "size=32", mosaics=1.0)
    assert stage.batch(0)["side"] == 1


@torch.no_grad()
def test_processes_have_the_mosaics_that_one_would_have(cache: Path) -> None:
    stage = made(cache, "size=16", mosaics=1.0, batch_size=8)

    def features(share: Share) -> Tensor:
        batch, _ = stage.prepare(stage.batch(0, share))
        return mosaic_features(stage.module, batch["pixels"], batch["corner"], batch["kept"])

    both = torch.cat([features(Share(0, 2)), features(Share(1, 2))])
    torch.testing.assert_close(both, features(Share(0, 1)))


@pytest.mark.parametrize(("size", "share"), [(6, Share(0, 1)), (4, Share(0, 2))])
def test_a_batch_is_whole_mosaics(cache: Path, size: int, share: Share) -> None:
    stage = made(cache, "size=16", mosaics=1.0, batch_size=size)
    with pytest.raises(MasqclipError, match="set batch_size to a multiple of 4 times the number"):
        stage.batch(0, share)


@pytest.mark.parametrize("mosaics", [-0.1, 1.1, float("nan")])
def test_a_share_of_the_steps_is_a_share(mosaics: float) -> None:
    with pytest.raises(MasqclipError, match="mosaics is"):
        PretrainSettings(mosaics=mosaics)
