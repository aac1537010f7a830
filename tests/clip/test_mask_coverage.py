"""Given masks on CLIP's patches: the smallest and the thinnest see something, each its own."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from masqclip.clip.mask_coverage import patch_weights
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter

Masks = NDArray[np.bool_]


@pytest.fixture(scope="module")
def mini() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


def weights(masks: object, size: tuple[int, int], grid: tuple[int, int] = (4, 4)) -> Tensor:
    """On a frame without padding."""
    found = patch_weights(masks, size=size, resized=size, frame=size, grid=grid)  # type: ignore[arg-type]
    return found.view(-1, *grid)


def column(size: tuple[int, int], x: int) -> Masks:
    mask = np.zeros(size, bool)
    mask[:, x] = True
    return mask


def square(size: tuple[int, int], y: int, x: int, side: int = 2) -> Masks:
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return mask


# What a patch counts


def test_a_mask_of_the_whole_frame_sees_every_patch_in_full() -> None:
    for size, grid in (((64, 64), (4, 4)), ((50, 70), (7, 3)), ((3, 2), (4, 4))):
        found = weights(np.ones((1, *size), bool), size, grid)
        torch.testing.assert_close(found, torch.ones(1, *grid))


def test_in_the_midst_of_a_mask_a_patch_counts_in_full_and_far_from_it_not_at_all() -> None:
    mask = np.zeros((64, 64), bool)
    mask[:, :40] = True  # two and a half of four columns of patches
    found = weights(mask[None], (64, 64))[0]
    # From its centre, 24 and more, the third column's patch has one half of 16 pixels' nearness
    # before it, 0.5, and a half patch behind it that is 0 to 0.5 away: 0.375.
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.5 + 0.0, 0.0]).expand(4, 4))


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (5, 3), (2, 300)])
def test_every_patch_that_a_covered_pixel_falls_into_is_visible(size: tuple[int, int]) -> None:
    """With a picture in the frame's corner, by the edges of pixels and patches in whole numbers."""
    chance = np.random.default_rng(sum(size))
    masks = chance.random((20, *size)) < 0.02
    resized, frame, grid = (40, 60), (64, 96), (5, 7)
    found = patch_weights(masks, size=size, resized=resized, frame=frame, grid=grid)
    for mask, weight in zip(masks, found.view(-1, *grid), strict=True):
        touched = np.zeros(grid, bool)
        for y, x in np.argwhere(mask):
            spans = []
            for at, n, new, side, patches in zip((y, x), size, resized, frame, grid, strict=True):
                whole = n * side
                first, end = at * new * patches, (at + 1) * new * patches
                spans.append(slice(first // whole, -(-end // whole)))
            touched[tuple(spans)] = True
        assert (weight.numpy() > 0)[touched].all()
        near = torch.nn.functional.max_pool2d(torch.from_numpy(touched)[None].float(), 3, 1, 1)[0]
        assert not (weight > 0)[near == 0].any()  # nothing beyond the next patch


def test_a_mask_that_fills_no_patch_still_counts_beside_the_class_token() -> None:
    thin = [square((128, 128), 9, 9, side=1), column((128, 128), 77), square((128, 128), 63, 63)]
    assert (weights(np.stack(thin), (128, 128)).flatten(1).amax(1) > 0.5).all()


def test_padding_hides_nothing_and_shifts_nothing() -> None:
    mask = square((32, 64), 4, 40, side=8)
    padded = np.pad(mask, ((0, 32), (0, 0)))
    size = (32, 64)
    apart = patch_weights(mask[None], size=size, resized=size, frame=(64, 64), grid=(4, 4))
    torch.testing.assert_close(apart.view(-1, 4, 4), weights(padded[None], (64, 64)))


def test_autocast_rounds_no_share() -> None:
    masks = np.random.default_rng(3).random((3, 70, 50)) < 0.3
    whole = weights(masks, (70, 50))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(weights(masks, (70, 50)), whole)


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.random.default_rng(3).random((3, 70, 50)) < 0.3
    whole = weights(masks, (70, 50))
    monkeypatch.setattr("masqclip.clip.mask_coverage._BAND", 200)
    torch.testing.assert_close(weights(masks, (70, 50)), whole)


def test_a_patch_counts_by_bilinear_nearness_integrated_over_each_pixel() -> None:
    """By numbers: many points in every pixel, each shared among the nearest centres of patches."""
    size, resized, frame, grid = (5, 7), (10, 21), (16, 32), (2, 4)
    mask = np.random.default_rng(2).random(size) < 0.5
    parts = 200
    near, filled = np.zeros((2, *grid))
    sides = []
    for n, new, whole, patches in zip(size, resized, frame, grid, strict=True):
        points = (np.arange(n * parts) + 0.5) / parts * new / n * patches / whole
        away = np.abs(points - (np.arange(patches)[:, None] + 0.5))
        step = new / n * patches / whole / parts
        # Of a mask of the whole frame a patch at the border gets less; that is its full measure.
        every = (np.arange(100 * patches) + 0.5) / 100
        full = np.maximum(0, 1 - np.abs(every - (np.arange(patches)[:, None] + 0.5))).sum(1) / 100
        tent = np.maximum(0, 1 - away).reshape(patches, n, parts).sum(2) * step / full[:, None]
        sides.append((tent, (away < 0.5).reshape(patches, n, parts).sum(2) * step))
    near = sides[0][0] @ mask @ sides[1][0].T
    filled = sides[0][1] @ mask @ sides[1][1].T
    found = patch_weights(mask[None], size=size, resized=resized, frame=frame, grid=grid)
    np.testing.assert_allclose(found[0].numpy(), (near / filled.max()).ravel(), atol=2e-3)


# Embeddings


@pytest.mark.parametrize("size", [(128, 512), (128, 128), (800, 1344)])
@pytest.mark.parametrize("kind", ["columns", "squares"])
def test_no_two_thin_masks_embed_alike_and_none_like_an_empty_one(
    mini: Segmenter, size: tuple[int, int], kind: str
) -> None:
    chance = np.random.default_rng(7)
    picture = mini.encode(chance.integers(0, 256, (*size, 3), dtype=np.uint8))
    count = min(200, size[1])
    if kind == "columns":
        masks = [column(size, x) for x in chance.permutation(size[1])[:count].tolist()]
    else:
        places = chance.permutation((size[0] - 1) * (size[1] - 1))[:count]
        masks = [square(size, *divmod(place, size[1] - 1)) for place in places.tolist()]
    embeddings = mini.embed_masks(picture, [*masks, np.zeros(size, bool)]).double()
    distance = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf)
    assert distance[:-1, :-1].min() > 1e-4
    assert distance[-1].min() > 0.1


def test_a_mask_of_the_whole_picture_is_clip_itself(mini: Segmenter) -> None:
    untuned = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    untuned.model.queries.start(untuned.model.tower, "clip")
    side = untuned.model.config.shortest_edge  # so that the picture is not resized before
    image = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    found = untuned.embed_masks(image, np.ones((1, side, side), bool))
    with torch.inference_mode():
        pixels = untuned.model._clip_input(torch.from_numpy(image).permute(2, 0, 1)[None].float())
        own = untuned.model.clip.get_image_features(pixels)
    own = getattr(own, "pooler_output", own)
    torch.testing.assert_close(found, torch.nn.functional.normalize(own, dim=-1))


# What is given


MASKS = np.random.default_rng(5).random((3, 40, 50)) < 0.4


@pytest.mark.parametrize(
    "given",
    [
        MASKS.astype(np.uint8),
        MASKS.astype(np.float64),
        MASKS.astype(np.uint16),
        list(MASKS),
        [mask.tolist() for mask in MASKS],
        torch.from_numpy(MASKS.copy()),
        torch.from_numpy(MASKS.copy()).half(),
        np.asfortranarray(MASKS),
        MASKS.astype(">u2"),
        MASKS.astype(">f4"),
        MASKS.astype(np.longdouble),
        MASKS[:, ::-1][:, ::-1],
        np.frombuffer(MASKS.tobytes(), bool).reshape(MASKS.shape),  # read-only
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_same_masks_in_every_way(given: object) -> None:
    assert torch.equal(weights(given, (40, 50)), weights(MASKS, (40, 50)))


def test_none_are_none(mini: Segmenter) -> None:
    picture = np.zeros((40, 50, 3), np.uint8)
    assert mini.embed_masks(picture, MASKS[:0]).shape == (0, 192)
    assert mini.embed_masks(picture, []).shape == (0, 192)
    assert mini.classify_masks(picture, [], "cat, dog").probs.shape == (0, 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: np.where(m, 0.9, 0.1), r"mask 1 holds 0\.[19]: give bool, or 0 and 1"),
        (lambda m: np.where(m, 4.0, -4.0), r"mask 1 holds -?4: give bool"),
        (lambda m: m.astype(np.uint8) * 255, "mask 1 holds 255"),
        (lambda m: [m[0], np.pad([[3]], ((39, 0), (0, 49)))], "mask 2 holds 3:"),
        (lambda m: np.where(m, np.nan, 0), "mask 1 holds nan"),
        (lambda m: torch.from_numpy(m * 1.0) * torch.inf, "mask 1 holds"),
        (lambda m: m.astype(complex), "complex"),
        (lambda m: m.astype("U3"), "give bool"),
        (lambda m: m.astype(object), "give bool"),
        (lambda m: m[0], "do not fit a picture of 40x50"),
        (lambda m: m[:, :-1], "do not fit a picture of 40x50"),
        (lambda m: m[None], "do not fit"),
        (lambda m: [m[0], m[1][:-1]], "mask 2 of shape"),
        (lambda m: [m[0], None], "mask 2"),
        (lambda m: [m[0], [[1, 0], [1]]], "mask 2 is of type list"),
        (lambda m: [True], r"mask 1 of shape \(\) does not fit"),
        (lambda m: torch.from_numpy(m.copy()).to_sparse(), "masks are of type Tensor"),
        (lambda m: [torch.from_numpy(m[0] * 1.0).to_sparse()], "mask 1 is of type"),
        (lambda m: torch.empty(m.shape, device="meta"), "masks are of type Tensor"),
        (lambda m: torch.from_numpy(m.astype(complex)), "masks are of type Tensor"),
        (lambda m: [torch.from_numpy(m[0].astype(complex))], "mask 1 is of type"),
        (lambda m: torch.nested.nested_tensor(list(m * 1.0), layout=torch.jagged), "of type"),
        (lambda m: "masks.png", "type str"),
        (lambda m: None, "type NoneType"),
        (lambda m: {"a": m}, "type dict"),
    ],
)
def test_anything_but_masks_is_refused_in_a_line(
    mini: Segmenter, spoil: Callable[[Masks], object], message: str
) -> None:
    with pytest.raises(MasqclipError, match=message) as error:
        mini.embed_masks(np.zeros((40, 50, 3), np.uint8), spoil(MASKS))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_masks_are_looked_at_before_the_picture_is_encoded(
    mini: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the picture was encoded")

    monkeypatch.setattr(mini.model, "propose", refuse)
    with pytest.raises(MasqclipError, match="give bool"):
        mini.embed_masks(np.zeros((40, 50, 3), np.uint8), MASKS * 0.5)


def test_many_large_masks_take_little_memory() -> None:
    size = (3000, 4000)
    masks = np.zeros((20, *size), bool)
    masks[:, ::3] = True
    tracemalloc.start()  # NumPy's share; torch's bands are bounded by _BAND
    weights(masks, size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
