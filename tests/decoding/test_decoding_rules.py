"""The decoding rules on pictures small enough to draw by hand."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from masqclip.decoding import panoptic
from masqclip.decoding.instance import decode_instance
from masqclip.decoding.masks import ResizedMasks, tile_bounds, widen_rows
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic, semantic_scores


def drawn(*pictures: list[str]) -> Tensor:
    """Masks as drawings: '#' is a sure yes, '+' a weak yes, '-' a weak no, '.' a sure no."""
    value = {"#": 9.0, "+": 1.0, "-": -1.0, ".": -9.0}
    return torch.tensor([[[value[c] for c in row] for row in picture] for picture in pictures])


def logs(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


LEFT, RIGHT = ["##..", "##.."], ["..##", "..##"]


def test_semantic_leaves_unsure_pixels_unlabelled() -> None:
    result = decode_semantic(drawn(LEFT, RIGHT), logs([0.9, 0.1], [0.1, 0.3]), min_score=0.5)
    assert result.class_map.tolist() == [[0, 0, -1, -1]] * 2
    assert result.scores[0].tolist() == pytest.approx([0.9, 0.9, 0.3, 0.3], abs=1e-3)


def test_panoptic_merges_stuff_and_counts_things() -> None:
    masks, log_probs = drawn(LEFT, RIGHT), logs([0.9, 0.1], [0.8, 0.2])
    stuff = decode_panoptic(masks, log_probs, stuff_ids={0})
    assert stuff.segment_map.tolist() == [[1, 1, 1, 1]] * 2
    assert [(s.id, s.class_id, s.thing) for s in stuff.segments] == [(1, 0, False)]
    assert stuff.segments[0].score == pytest.approx(0.9)
    things = decode_panoptic(masks, log_probs, stuff_ids={1})
    assert things.segment_map.tolist() == [[1, 1, 2, 2]] * 2
    assert [s.thing for s in things.segments] == [True, True]


def test_panoptic_drops_a_hidden_proposal_and_leaves_its_pixels_unlabelled() -> None:
    """The second mask wins one of its four columns: a quarter is too little."""
    masks = drawn(["###."], ["####"])
    log_probs = logs([0.9, 0.1], [0.1, 0.8])
    kept = decode_panoptic(masks, log_probs, stuff_ids=(), overlap_threshold=0.2)
    assert kept.segment_map.tolist() == [[1, 1, 1, 2]]
    dropped = decode_panoptic(masks, log_probs, stuff_ids=(), overlap_threshold=0.3)
    assert dropped.segment_map.tolist() == [[1, 1, 1, 0]]
    assert len(dropped.segments) == 1


def test_panoptic_gives_no_pixel_to_a_winner_whose_mask_is_not_there() -> None:
    result = decode_panoptic(drawn(["#-.."]), logs([0.9]), stuff_ids=(), overlap_threshold=0.0)
    assert result.segment_map.tolist() == [[1, 0, 0, 0]]


def test_an_instance_is_scored_by_its_class_and_its_mask() -> None:
    result = decode_instance(drawn(["#+-."]), logs([0.5, 0.25]))
    inside = torch.tensor([9.0, 1.0]).sigmoid().mean().item()
    assert result.masks.tolist() == [[[True, True, False, False]]] * 2
    assert result.scores.tolist() == pytest.approx([0.5 * inside, 0.25 * inside])
    assert result.class_ids.tolist() == [0, 1]
    assert len(result.unique_masks) == 1, "one mask under two names is stored once"


def test_instances_without_pixels_below_the_score_or_of_stuff_are_left_out() -> None:
    masks = drawn(LEFT, RIGHT, ["....", "...."])
    log_probs = logs([0.9, 0.01], [0.2, 0.7], [0.8, 0.1])
    everything = decode_instance(masks, log_probs)
    assert everything.query_ids.tolist() == [0, 1, 1, 0]
    assert decode_instance(masks, log_probs, min_score=0.5).query_ids.tolist() == [0, 1]
    assert decode_instance(masks, log_probs, stuff_ids={0}).class_ids.tolist() == [1, 1]
    assert decode_instance(masks, log_probs, top_k=1).query_ids.tolist() == [0]
    assert len(decode_instance(masks, log_probs, min_score=0.95).masks) == 0


def test_no_proposals_means_nothing_found() -> None:
    masks, log_probs = torch.zeros(0, 3, 4), torch.zeros(0, 5)
    assert decode_semantic(masks, log_probs).class_map.eq(-1).all()
    assert decode_panoptic(masks, log_probs, stuff_ids=()).segments == []
    assert decode_instance(masks, log_probs).masks.shape == (0, 3, 4)


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Many small steps on more threads than there are idle processors take very long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_a_large_picture_is_decoded_in_little_memory() -> None:
    """Whole, the floats of these masks alone would take 600 MB for each decoder."""
    source = ResizedMasks(torch.randn(50, 128, 128), (512, 512), (512, 512), (1500, 2000))
    log_probs = torch.randn(50, 8).sub(1.5).clamp(max=-0.1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decode_semantic(source, log_probs)
    decode_panoptic(source, log_probs, stuff_ids={0})
    decode_instance(source, log_probs, top_k=10)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 200, f"peak memory grew by {grown:.0f} MB"


@pytest.mark.parametrize("size", [(5, 7), (16, 32), (40, 70), (33, 97)])
@pytest.mark.parametrize("sharpness", [0.2, 3.0])
def test_tiles_find_the_winners_of_all_classes(size: tuple[int, int], sharpness: float) -> None:
    """Classes that are left out of a tile could not have won there, whatever their number."""
    torch.manual_seed(0)
    masks = 6 * torch.randn(12, 1, 1) + sharpness * torch.randn(12, *size)
    log_probs = torch.randn(12, 400).mul(sharpness).log_softmax(dim=1)
    scores = semantic_scores(masks, log_probs)
    found = decode_semantic(masks, log_probs)
    best, winner = scores.max(dim=0)
    torch.testing.assert_close(found.scores, best)
    # Rounding may order equals differently; nothing else may.
    chosen = scores.gather(0, found.class_map[None])[0]
    torch.testing.assert_close(chosen, best)
    assert (found.class_map == winner).float().mean() > 0.999


def _magnified(seed: int) -> tuple[ResizedMasks, Tensor, int]:
    """Masks, smooth or noisy, weak or very sure, of a picture ten times as wide as they are."""
    chance = torch.Generator().manual_seed(seed)
    queries = 1 + seed % 7
    grid = torch.randn(queries, 8, 6 + seed % 3, generator=chance)
    level = torch.randn(queries, 1, 1, generator=chance)
    logits = (grid + level) * (1e-4, 1.0, 30.0, 1e5)[seed % 4]
    if seed % 5 == 0:
        logits[:, 2:4] = 0.0  # as good as there, and as good as not there
    source = ResizedMasks(logits, (32, 36), (30, 24), (211 + seed, 240 + 3 * seed))
    probs = torch.rand(queries, 1, generator=chance) * 0.6 + 0.35
    probs[queries // 2 :] = probs[-1].clone()  # equals, of which the first wins
    return source, probs.log(), queries


@pytest.mark.parametrize("seed", range(40))
def test_whole_tiles_are_decided_as_their_pixels_are(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, log_probs, queries = _magnified(seed)
    probs = log_probs[:, 0].exp()
    by_tile = panoptic._contest(source, probs)
    monkeypatch.setattr(panoptic, "_MAGNIFIED", 1e9)
    by_pixel = panoptic._contest(source, probs)
    assert torch.equal(by_tile.owner, by_pixel.owner)
    assert by_tile.counts() == by_pixel.counts()
    assert sum(by_tile.won.tolist()) == by_tile.owner.numel()
    assert int(by_tile.owner.max()) <= queries


def test_most_tiles_of_a_magnified_picture_are_decided_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two halves: only the tiles along the middle are looked at pixel by pixel."""
    logits = torch.tensor([[[6.0, -6.0]], [[-6.0, 6.0]]]).repeat_interleave(16, dim=2)
    source = ResizedMasks(logits.expand(-1, 32, -1), (128, 128), (128, 128), (2048, 2048))
    seen = []
    decide = panoptic._decide_pixels
    monkeypatch.setattr(
        panoptic,
        "_decide_pixels",
        lambda contest, part, probs: seen.append(part[0].numel()) or decide(contest, part, probs),
    )
    found = decode_panoptic(source, logs([0.9], [0.8]), stuff_ids=())
    assert found.segment_map[:, :900].eq(1).all()
    assert found.segment_map[:, -900:].eq(2).all()
    assert 0 < sum(seen) < 0.1 * 2048 * 2048


@pytest.mark.parametrize("width", [5, 24, 25, 240, 1001])
def test_bounds_of_a_tile_hold_all_of_its_logits(width: int) -> None:
    rows = torch.randn(3, 4, 24, generator=torch.Generator().manual_seed(width))
    low, high = tile_bounds(rows, width, 16)
    tiles = widen_rows(rows, width).split(16, dim=2)
    assert low.shape == high.shape == (3, len(tiles))
    for number, tile in enumerate(tiles):
        assert (tile >= low[:, number, None, None] - 1e-5).all()
        assert (tile <= high[:, number, None, None] + 1e-5).all()
