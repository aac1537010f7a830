"""Resizing masks row by row: the same as resizing them whole, and the same as torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from masqclip.decoding.masks import (
    CHUNK_ELEMENTS,
    FullMasks,
    ResizedMasks,
    resize_masks,
    row_chunks,
)

SIZES = [
    pytest.param((32, 64), (32, 64), (32, 64), id="padded frame = picture = output"),
    pytest.param((64, 96), (50, 91), (173, 234), id="enlarged"),
    pytest.param((64, 96), (64, 70), (23, 31), id="reduced"),
    pytest.param((32, 32), (1, 1), (1, 1), id="one pixel"),
    pytest.param((32, 32), (1, 32), (3, 500), id="a strip"),
]


def published(logits: Tensor, padded: tuple, image: tuple, output: tuple) -> Tensor:
    frame = F.interpolate(logits[None], size=padded, mode="bilinear", align_corners=False)
    picture = frame[..., : image[0], : image[1]]
    return F.interpolate(picture, size=output, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize(("padded", "image", "output"), SIZES)
def test_resize_follows_the_published_path(padded: tuple, image: tuple, output: tuple) -> None:
    logits = 10 * torch.randn(5, padded[0] // 4, padded[1] // 4)
    resized = resize_masks(logits, padded_size=padded, image_size=image, output_size=output)
    torch.testing.assert_close(resized, published(logits, padded, image, output), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("padded", "image", "output"), SIZES)
def test_rows_equal_those_of_the_whole(padded: tuple, image: tuple, output: tuple) -> None:
    source = ResizedMasks(torch.randn(3, padded[0] // 4, padded[1] // 4), padded, image, output)
    whole = source.rows(0, output[0])
    assert whole.shape == source.shape
    for start in range(output[0]):
        for stop in (start + 1, min(start + 7, output[0])):
            torch.testing.assert_close(
                source.rows(start, stop), whole[:, start:stop], atol=1e-6, rtol=0
            )


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40),
    image_height=st.integers(1, 64),
    cut=st.tuples(st.integers(0, 39), st.integers(1, 40)),
    seed=st.integers(0, 999),
)
def test_any_row_range_of_any_size(
    height: int, image_height: int, cut: tuple[int, int], seed: int
) -> None:
    logits = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(seed))
    source = ResizedMasks(logits, (64, 32), (image_height, 30), (height, 9))
    start = min(cut[0], height - 1)
    stop = min(start + cut[1], height)
    whole = source.rows(0, height)
    torch.testing.assert_close(source.rows(start, stop), whole[:, start:stop], atol=1e-6, rtol=0)
    torch.testing.assert_close(
        whole, published(logits, (64, 32), (image_height, 30), (height, 9)), atol=1e-4, rtol=0
    )


def test_rows_far_down_a_large_picture_keep_their_place() -> None:
    """Near row 12,000, positions in float32 would be off by up to a thousandth of a row."""
    rows = 12_000
    stripes = (torch.arange(rows) % 2).double()
    source = ResizedMasks(stripes.float()[None, :, None], (rows, 1), (rows, 1), (rows - 1, 1))
    exact = F.interpolate(stripes[None, None], size=rows - 1, mode="linear", align_corners=False)
    torch.testing.assert_close(
        source.rows(11_900, 11_990)[0, :, 0].double(), exact[0, 0, 11_900:11_990], atol=1e-5, rtol=0
    )


def test_select_keeps_the_order_asked_for() -> None:
    logits = torch.randn(4, 8, 8)
    ids = torch.tensor([3, 1])
    resized = ResizedMasks(logits, (32, 32), (32, 32), (5, 5))
    assert torch.equal(resized.select(ids).rows(0, 5), resized.rows(0, 5)[ids])
    assert torch.equal(FullMasks(logits).select(ids).rows(2, 3), logits[ids, 2:3])


def test_half_precision_logits_are_read_as_float32() -> None:
    logits = torch.randn(2, 8, 8)
    half = ResizedMasks(logits.bfloat16(), (32, 32), (32, 32), (20, 20)).rows(0, 20)
    exact = ResizedMasks(logits.bfloat16().float(), (32, 32), (32, 32), (20, 20)).rows(0, 20)
    assert half.dtype == torch.float32
    assert torch.equal(half, exact)
    full = FullMasks(logits.bfloat16()).rows(2, 5)
    assert full.dtype == torch.float32
    assert torch.equal(full, logits.bfloat16().float()[:, 2:5])


def test_row_chunks_cover_the_picture_once_and_stay_small() -> None:
    chunks = list(row_chunks(600, 100 * 3000))
    assert [row for start, stop in chunks for row in range(start, stop)] == list(range(600))
    assert max((stop - start) * 100 * 3000 for start, stop in chunks) <= CHUNK_ELEMENTS
    assert list(row_chunks(3, 1 << 40)) == [(0, 1), (1, 2), (2, 3)]
    assert list(row_chunks(5, 0)) == [(0, 5)], "of pictures without proposals"
    exact = list(row_chunks(8, CHUNK_ELEMENTS // 2))
    assert exact == [(0, 2), (2, 4), (4, 6), (6, 8)], "what just fits is taken"
    assert list(row_chunks(8, 1, at_most=3)) == [(0, 3), (3, 6), (6, 8)]
    assert CHUNK_ELEMENTS * 4 == 8 * 2**20
