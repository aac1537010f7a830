"""Pictures and masks move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masqclip.data.transforms import (
    JITTER_PADDING,
    PIXEL_MEAN,
    PIXEL_STD,
    flip,
    jittered_size,
    large_scale_jitter,
    normalise,
    pad,
    resize,
)


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


def jitter(height: int, width: int, scale: float, seed: int = 0) -> torch.Tensor:
    """A picture whose pixels hold their own row (red) and column (green), jittered into 64 x 64."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    masks = torch.ones(1, height, width, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    frame, found = large_scale_jitter(image, masks, 64, (scale, scale), generator)
    assert frame.shape == (3, 64, 64)
    # Where the mask is not, there is padding, and it is gray.
    assert bool((frame[:, ~found[0]] == 128).all())
    return frame


@pytest.mark.parametrize("scales", [(0.3, 0.6), (1.0, 1.0), (1.5, 2.0)])
def test_jitter_fills_the_frame(scales: tuple[float, float]) -> None:
    for seed in range(5):
        image, masks = picture(48, 96)
        masks[1] = True
        image, masks = large_scale_jitter(
            image, masks, 64, scales, torch.Generator().manual_seed(seed)
        )
        assert image.shape == (3, 64, 64)
        assert masks.shape == (2, 64, 64)
        inside = masks[1]
        assert agree(image * inside, masks) > 0.98
        assert bool((image[:, ~inside] == 128).all())
        width = int(inside.any(0).sum())
        low, high = (min(64, round(64 * scale)) for scale in scales)
        assert low <= width <= high


@pytest.mark.parametrize("size", [(48, 96), (96, 48), (333, 500), (64, 64), (5, 640), (427, 640)])
def test_jittered_sizes_are_the_published_ones(size: tuple[int, int]) -> None:
    """detectron2's scaling, restated with numpy, whose rounding is half to even."""
    for scale in np.linspace(0.1, 2.0, 500):
        goal = np.multiply((64, 64), scale)
        ratio = np.minimum(goal[0] / size[0], goal[1] / size[1])
        expected = np.round(np.multiply(size, ratio)).astype(int)
        assert jittered_size(*size, 64, float(scale)) == tuple(np.maximum(expected, 1).tolist())


def test_a_half_of_a_jittered_side_is_rounded_to_even() -> None:
    assert jittered_size(3, 2, 15, 1.0) == (15, 10)
    assert jittered_size(1, 2, 5, 1.0) == (2, 5)
    assert jittered_size(3, 2, 7, 3 / 7) == (3, 2)
    assert jittered_size(100, 1, 64, 0.1) == (6, 1)


def test_one_number_moves_the_window_along_both_sides() -> None:
    """Published: a crop lies on the diagonal of all crops, its offsets rounded half to even."""
    seen = set()
    for seed in range(200):
        chance = torch.Generator().manual_seed(seed)
        torch.rand((), generator=chance)
        share = float(torch.rand((), generator=chance))
        frame = jitter(96, 64, 2.0, seed)  # becomes 128 x 85: 64 and 21 pixels too large
        top, left = np.round(np.multiply((64, 21), share)).astype(int).tolist()
        # A pixel of the frame is 0.75 of the picture's.
        assert int(frame[0, 0, 0]) == pytest.approx(0.75 * (top + 0.5) - 0.5, abs=0.8)
        assert int(frame[1, 0, 0]) == pytest.approx(0.75 * (left + 0.5) - 0.5, abs=0.8)
        seen.add(top)
    assert min(seen) <= 1
    assert max(seen) >= 63


def test_jitter_is_a_function_of_its_generator() -> None:
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return large_scale_jitter(*picture(48, 96), 64, (0.3, 2.0), generator)[0]

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_crops_reach_every_side() -> None:
    left = [int(jitter(128, 128, 2.0, seed)[0, 0, 0]) for seed in range(200)]
    assert min(left) <= 2
    assert max(left) >= 62


def test_pixels_are_normalised_by_the_numbers_of_imagenet() -> None:
    """Published proposers were trained on exactly these, channel by channel."""
    assert PIXEL_MEAN == (123.675, 116.28, 103.53)
    assert PIXEL_STD == (58.395, 57.12, 57.375)
    pixels = torch.tensor([123.675, 116.28, 103.53]) + torch.tensor([58.395, -57.12, 2 * 57.375])
    image = pixels.view(1, 3, 1, 1).expand(2, 3, 4, 5)
    inside = torch.ones(2, 4, 5, dtype=torch.bool)
    inside[1, :, 3:] = False
    found = normalise(image, inside)
    for channel, value in enumerate((1.0, -1.0, 2.0)):
        torch.testing.assert_close(found[:, channel], value * inside)
    assert normalise(image.double()).dtype == torch.float32


def test_a_smaller_picture_is_antialiased_and_rounded() -> None:
    """Every pixel of the picture counts: stripes become their mean, not what a sample meets."""
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[..., ::4] = 200
    image, _ = resize(stripes, torch.zeros(0, 64, 64, dtype=torch.bool), 16, 16)
    assert bool((image[..., 1:-1].int() - 50).abs().max() <= 3)
    nearly = torch.tensor([[[255, 255], [255, 254]]], dtype=torch.uint8).expand(3, -1, -1)
    image, _ = resize(nearly, torch.zeros(0, 2, 2, dtype=torch.bool), 1, 1)
    assert image.unique().tolist() == [255]  # 254.75


def test_a_mask_is_resized_by_the_pixel_in_the_middle() -> None:
    masks = torch.zeros(1, 9, 9, dtype=torch.bool)
    masks[0, 4, 1::3] = True
    small = resize(torch.zeros(3, 9, 9, dtype=torch.uint8), masks, 3, 3)[1]
    assert small[0].tolist() == [[False] * 3, [True] * 3, [False] * 3]
    large = resize(torch.zeros(3, 9, 9, dtype=torch.uint8), masks, 18, 27)[1]
    assert torch.equal(large[0], masks[0].repeat_interleave(2, 0).repeat_interleave(3, 1))


def test_what_has_its_size_already_is_left_as_it_is() -> None:
    image, masks = picture(16, 24)
    for found, given in zip(resize(image, masks, 16, 24), (image, masks), strict=True):
        assert torch.equal(found, given)
    for found, given in zip(pad(image, masks, 16, 24), (image, masks), strict=False):
        assert torch.equal(found, given)
    for height, width in ((15, 24), (16, 23)):
        with pytest.raises(ValueError, match="do not fit"):
            pad(image, masks, height, width)


def test_padding_is_black_unless_it_is_jitters() -> None:
    image, masks = picture(16, 24)
    white = torch.full_like(image, 255)
    assert bool((pad(white, masks, 20, 30)[0][:, 16:] == 0).all())
    assert bool((pad(white, masks, 20, 30, 7)[0][:, :, 24:] == 7).all())
    assert JITTER_PADDING == 128
    masks[:] = True
    assert not pad(white, masks, 20, 30, 7)[1][:, 16:].any()


def test_factors_are_drawn_over_all_of_their_range() -> None:
    """Uniformly, both ends included, one number for the size before the one for the place."""
    image, masks = torch.zeros(3, 100, 100, dtype=torch.uint8), torch.ones(1, 100, 100).bool()
    for seed in range(20):
        chance = torch.Generator().manual_seed(seed)
        side = round((0.2 + 0.6 * float(torch.rand((), generator=chance))) * 100)
        found = large_scale_jitter(
            image, masks, 100, (0.2, 0.8), torch.Generator().manual_seed(seed)
        )[1]
        assert (int(found[0].any(0).sum()), int(found[0].any(1).sum())) == (side, side)
        assert bool(found[0, :side, :side].all())
