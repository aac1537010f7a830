"""Pictures and masks move together."""

from __future__ import annotations

import pytest
import torch

from masqclip.data.transforms import PIXEL_MEAN, flip, large_scale_jitter, normalise, pad, resize


def picture(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A white block on black, and its mask: they must agree after any transform."""
    masks = torch.zeros(2, height, width, dtype=torch.bool)
    masks[0, height // 4 : height // 2, width // 8 : width // 2] = True
    image = (masks[:1] * 255).to(torch.uint8).expand(3, -1, -1).clone()
    return image, masks


def agree(image: torch.Tensor, masks: torch.Tensor) -> float:
    return float(((image[0] > 127) == masks[0]).float().mean())


def test_flip() -> None:
    image, masks = flip(*picture(16, 32))
    assert agree(image, masks) == 1
    assert masks[0, :, 16:28].any()
    assert not masks[0, :, :16].any()


def test_resize_keeps_picture_and_masks_together() -> None:
    image, masks = resize(*picture(40, 64), 77, 51)
    assert image.shape == (3, 77, 51)
    assert masks.shape == (2, 77, 51)
    assert (image.dtype, masks.dtype) == (torch.uint8, torch.bool)
    assert agree(image, masks) > 0.99
    assert masks[0].any()


def test_resize_without_masks() -> None:
    image, masks = picture(40, 64)
    assert resize(image, masks[:0], 20, 32)[1].shape == (0, 20, 32)


def test_padding_is_at_the_bottom_right_and_becomes_zero() -> None:
    image, masks, inside = pad(*picture(16, 24), 32, 32)
    assert inside.sum() == 16 * 24
    assert bool(inside[:16, :24].all())
    assert not masks[:, 16:].any()
    pixels = normalise(image, inside)
    assert not pixels[:, ~inside].any()
    expected = -torch.tensor(PIXEL_MEAN[0]) / 58.395
    torch.testing.assert_close(pixels[0, 0, 0], expected)  # a black pixel of the picture
    with pytest.raises(ValueError, match="do not fit"):
        pad(image, masks, 16, 16)


@pytest.mark.parametrize("scales", [(0.3, 0.6), (1.0, 1.0), (1.5, 2.0)])
def test_jitter_fills_the_frame(scales: tuple[float, float]) -> None:
    for seed in range(5):
        image, masks, inside = large_scale_jitter(
            *picture(48, 96), 64, scales, torch.Generator().manual_seed(seed)
        )
        assert image.shape == (3, 64, 64)
        assert masks.shape == (2, 64, 64)
        assert agree(image, masks) > 0.98
        width = int(inside.any(0).sum())
        low, high = (min(64, round(64 * scale)) for scale in scales)
        assert low <= width <= high


def test_jitter_is_a_function_of_its_generator() -> None:
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return large_scale_jitter(*picture(48, 96), 64, (0.3, 2.0), generator)[0]

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_crops_reach_every_side() -> None:
    image = torch.arange(128, dtype=torch.uint8).expand(3, 128, 128).clone()
    masks = torch.zeros(0, 128, 128, dtype=torch.bool)
    left = [
        int(large_scale_jitter(image, masks, 64, (2.0, 2.0), g)[0][0, 0, 0])
        for g in (torch.Generator().manual_seed(seed) for seed in range(200))
    ]
    assert min(left) <= 2
    assert max(left) >= 62
