"""RLE: byte for byte pycocotools', there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from masqclip.data import rle as rle_module
from masqclip.data.rle import decode_rle, encode_rle, rle_counts
from masqclip.errors import MasqclipError

MASKS = arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_there_and_back(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    assert rle["size"] == list(mask.shape)
    assert np.array_equal(decode_rle(rle), mask)


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_same_bytes_as_pycocotools(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == expected["counts"].decode()


def test_known_strings() -> None:
    assert encode_rle(np.zeros((3, 4), bool)) == {"size": [3, 4], "counts": "<"}
    assert encode_rle(np.ones((3, 4), bool)) == {"size": [3, 4], "counts": "0<"}
    square = np.zeros((4, 4), np.uint8)
    square[1:3, 1:3] = 255  # any number but zero is inside
    assert encode_rle(square)["counts"] == "52203"  # runs of 5, 2, 2, 2 and 5


def test_long_runs_and_large_differences() -> None:
    mask = np.zeros((2000, 3000), bool)
    mask[0, 0] = mask[7, 1] = True
    mask[:, 1500:] = True
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


def test_plain_counts_and_bytes() -> None:
    expected = np.array([[0, 1], [1, 0]], bool)
    assert np.array_equal(decode_rle({"size": [2, 2], "counts": [1, 2, 1]}), expected)
    counts = encode_rle(expected)["counts"].encode()
    assert np.array_equal(decode_rle({"size": [2, 2], "counts": counts}), expected)


def test_an_empty_picture() -> None:
    assert decode_rle(encode_rle(np.zeros((0, 5), bool))).shape == (0, 5)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [3, 4], "counts": [5]},  # too few pixels
        {"size": [3, 4], "counts": [20, -8]},  # the right sum by a wrong way
        {"size": [3, 4], "counts": "l"},  # cut short: the last character says "more"
        {"size": [3, 4], "counts": "\u20ac"},
        {"size": [3, 4], "counts": ""},
        {"size": [3, 4], "counts": "o" * 20 + "0"},  # a number of a hundred bits
    ],
)
def test_broken_counts_are_refused(rle: dict[str, object]) -> None:
    with pytest.raises(MasqclipError, match="RLE"):
        decode_rle(rle)


def test_a_stack_of_masks_is_refused() -> None:
    with pytest.raises(MasqclipError, match="axes"):
        encode_rle(np.zeros((2, 3, 4), bool))


def test_probabilities_are_refused() -> None:
    with pytest.raises(MasqclipError, match=r"holds 0\.[19]: give bool"):
        encode_rle(np.where(np.eye(3), 0.9, 0.1))
    assert encode_rle(np.eye(3)) == encode_rle(np.eye(3, dtype=bool))


@pytest.mark.parametrize("piece", [1, 7, 20, 64])
@given(mask=MASKS)
@settings(max_examples=20, deadline=None)
def test_pieces_of_a_mask_are_one_mask(piece: int, mask: np.ndarray) -> None:
    """Masks are turned in pieces; where one ends, a run goes on."""
    whole = encode_rle(mask)
    before, rle_module._PIECE = rle_module._PIECE, piece
    try:
        assert encode_rle(mask) == whole
    finally:
        rle_module._PIECE = before


def test_numbers_of_up_to_64_bits_are_read_and_larger_ones_refused() -> None:
    """Thirteen groups of five bits hold a number of 64; a fourteenth is of none."""
    zero = "P" * 12 + "0"  # 0 in thirteen groups: "more" twelve times, and the end
    assert decode_rle({"size": [1, 1], "counts": zero + "1"}).all()
    with pytest.raises(MasqclipError, match="a number that is too large"):
        decode_rle({"size": [1, 1], "counts": "P" + zero + "1"})


@pytest.mark.parametrize("counts", ["/", "p", "0/", " ", "\x7f"])
def test_only_coco_s_64_characters_are_counts(counts: str) -> None:
    with pytest.raises(MasqclipError, match="not COCO's compressed form"):
        rle_counts({"size": [1, 1], "counts": counts})


@pytest.mark.parametrize("counts", [[0, 1], [1], [0, 0, 1], [1, 0]])
def test_runs_may_be_empty(counts: list[int]) -> None:
    found = decode_rle({"size": [1, 1], "counts": counts})
    assert bool(found[0, 0]) == (sum(counts[1::2]) == 1)


@pytest.mark.parametrize("counts", [[[0, 1]], ["a"], [2**70], [2**62] * 4 + [1], [-1, 2]])
def test_counts_that_are_no_runs_are_refused(counts: list[object]) -> None:
    with pytest.raises(MasqclipError, match="RLE"):
        rle_counts({"size": [1, 1], "counts": counts})


@pytest.mark.parametrize("type_", [np.uint8, np.int64, np.float32, np.float64])
def test_masks_of_0_and_1_of_any_type_are_masks(type_: type) -> None:
    mask = np.array([[0, 1, 1], [1, 0, 1]])
    assert encode_rle(mask.astype(type_)) == encode_rle(mask.astype(bool))


@pytest.mark.parametrize("columns", [slice(0, 2), slice(1, 3), slice(2, 4), slice(0, 4)])
def test_columns_of_full_height_are_one_run_that_ends(columns: slice) -> None:
    mask = np.zeros((3, 4), bool)
    mask[:, columns] = True
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)
    assert (rle_counts(encode_rle(mask))[1::2] == mask.sum()).all()
