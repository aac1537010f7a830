"""The decoding rules on pictures small enough to draw by hand."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from masqclip.decoding import panoptic, semantic
from masqclip.decoding.instance import decode_instance, instance_mask
from masqclip.decoding.masks import FullMasks, ResizedMasks, tile_bounds, widen_rows
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
        # No looser than the columns that the tile's first and last lie between.
        ends = [
            (x + 0.5) * 24 / width - 0.5 for x in (16 * number, min(16 * number + 15, width - 1))
        ]
        first, last = max(0, int(ends[0])), min(23, int(max(0.0, ends[1])) + 1)
        assert torch.equal(low[:, number], rows[:, :, first : last + 1].amin(dim=(1, 2)))
        assert torch.equal(high[:, number], rows[:, :, first : last + 1].amax(dim=(1, 2)))
        assert (tile >= low[:, number, None, None] - 1e-5).all()
        assert (tile <= high[:, number, None, None] + 1e-5).all()


# Edges, ties and what is left over


SURE, FALSE = 200.0, -200.0  # logits of 1 and of 0, to the last bit


def exact(*probs: float) -> Tensor:
    """Log-probabilities whose exponentials are these powers of two, to the last bit."""
    logarithms = torch.tensor(probs).log()
    assert logarithms.exp().tolist() == list(probs)
    return logarithms


@pytest.mark.parametrize("magnified", [False, True])
def test_a_logit_of_zero_is_in_no_instance_but_in_a_panoptic_mask(magnified: bool) -> None:
    """The published rules: a logit > 0 for instances, a probability >= 0.5 for regions."""
    masks = torch.tensor([[[9.0, 0.0, 0.0, -1.0]]])
    source = ResizedMasks(masks, (1, 4), (1, 4), (3, 4 * 64)) if magnified else FullMasks(masks)
    own = [0, 128, -1] if magnified else [0, 1, 3]
    instances = decode_instance(source, exact(0.5)[None])
    assert instances.masks[0, 0, own].tolist() == [True, False, False]
    assert torch.equal(instance_mask(source, 0), instances.masks[0])
    regions = decode_panoptic(source, exact(0.5)[None], stuff_ids=(), overlap_threshold=0.0)
    assert regions.segment_map[0, own].tolist() == [1, 1, 0]


def test_what_reaches_a_threshold_and_what_must_exceed_it() -> None:
    """An instance and a pixel of just ``min_score`` are kept; so is a region that won just its
    share. A proposal of just ``object_threshold`` does not compete."""
    masks, log_probs = torch.full((1, 1, 4), SURE), exact(0.5)[None]
    assert decode_instance(masks, log_probs, min_score=0.5).scores.tolist() == [0.5]
    assert decode_semantic(masks, log_probs, min_score=0.5).class_map.eq(0).all()
    above = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0)).item()
    assert len(decode_instance(masks, log_probs, min_score=above).scores) == 0
    assert decode_semantic(masks, log_probs, min_score=above).class_map.eq(-1).all()

    assert decode_panoptic(masks, log_probs, stuff_ids=(), object_threshold=0.5).segments == []
    found = decode_panoptic(masks, log_probs, stuff_ids=(), object_threshold=0.49)
    assert [s.score for s in found.segments] == [0.5]

    rivals = torch.tensor([[[SURE, SURE, SURE, FALSE]], [[SURE] * 4]])
    log_probs = torch.stack([exact(0.5, 0.25), exact(0.25, 0.25)])
    found = decode_panoptic(
        rivals, log_probs, stuff_ids=(), object_threshold=0.1, overlap_threshold=0.25
    )
    assert found.segment_map.tolist() == [[1, 1, 1, 2]]


def test_the_share_of_a_mask_counts_what_was_won_beside_it() -> None:
    """As published. Won, but not in the mask, is a pixel in which everybody is unsure."""
    masks = drawn(["##++--.."], ["..##...."])
    found = decode_panoptic(masks, logs([0.5], [0.9]), stuff_ids=(), overlap_threshold=0.9)
    # The first wins two of its own four pixels, and two that nobody owns.
    assert found.segment_map.tolist() == [[1, 1, 2, 2, 0, 0, 0, 0]]


def test_every_region_has_pixels() -> None:
    """A proposal that wins pixels but has its mask nowhere is no segment."""
    found = decode_panoptic(drawn(["----"]), logs([0.9]), stuff_ids=(), overlap_threshold=0.0)
    assert found.segments == []
    assert not found.segment_map.any()


def test_defaults_are_the_published_ones() -> None:
    """Instances: the best 100 pairs, of any score. Regions: 0.3 and 0.3 (cross-dataset)."""
    masks = torch.full((60, 1, 1), SURE)
    assert len(decode_instance(masks, logs(*[[0.01, 0.02]] * 60)).scores) == 100
    pair = torch.tensor([[[SURE, SURE, SURE, FALSE]], [[SURE] * 4]])
    for object_prob, regions in ((0.29, 1), (0.31, 2)):
        found = decode_panoptic(pair[:, :, 2:], logs([0.9, 0.1], [0.1, object_prob]), stuff_ids=())
        assert len(found.segments) == regions
    for won, regions in ((28, 1), (32, 2)):
        masks = torch.full((2, 1, 100), SURE)
        masks[0, :, :won] = FALSE
        assert len(decode_panoptic(masks, logs([0.9], [0.8]), stuff_ids=()).segments) == regions


def test_merged_stuff_scores_as_its_best_and_segments_count_on() -> None:
    masks = drawn(["#....."], [".#...."], ["..#..."], ["...#.."], ["....#."], [".....#"])
    classes = (0, 1, 0, 2, 1, 0)
    probs = torch.full((6, 3), 0.01)
    for query, (label, prob) in enumerate(
        zip(classes, (0.5, 0.6, 0.9, 0.7, 0.4, 0.8), strict=True)
    ):
        probs[query, label] = prob
    found = decode_panoptic(masks, probs.log(), stuff_ids={0, 1})
    assert found.segment_map.tolist() == [[1, 2, 1, 3, 2, 1]]
    assert [(s.id, s.class_id, s.thing) for s in found.segments] == [
        (1, 0, False),
        (2, 1, False),
        (3, 2, True),
    ]
    assert [s.score for s in found.segments] == pytest.approx([0.9, 0.6, 0.7])


def test_instances_hold_the_masks_that_are_theirs() -> None:
    """Whatever is left out before, between and after them; the best come first."""
    masks = drawn(["...."], ["#..."], ["...."], ["++.."], ["..##"], ["...#"])
    log_probs = logs([0.99], [0.6], [0.9], [0.8], [0.7], [0.1])
    found = decode_instance(masks, log_probs, min_score=0.2)
    assert found.query_ids.tolist() == [4, 1, 3]
    assert found.unique_queries.tolist() == [1, 3, 4]
    assert torch.equal(found.unique_masks, masks[[1, 3, 4]] > 0)
    assert torch.equal(found.masks, masks[[4, 1, 3]] > 0)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    without = decode_instance(masks, log_probs, min_score=0.2, keep_masks=False)
    assert without.unique_masks.shape == (3, 0, 0)
    assert torch.equal(without.scores, found.scores)
    assert without.unique_queries.tolist() == [1, 3, 4]


def _ties(seed: int) -> tuple[Tensor, Tensor]:
    """Masks and votes of few values, all of whose sums are exact: many classes draw."""
    chance = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 3, (6, 20, 75), generator=chance) / 2
    masks = masks.masked_fill(torch.rand(6, 20, 75, generator=chance) < 0.3, 0.0)
    if seed % 2:  # tiles in which little differs
        masks = masks[:, ::5, ::25].repeat_interleave(5, 1).repeat_interleave(25, 2)
    return masks, torch.randint(0, 5, (6, 60), generator=chance) / 16


@pytest.mark.parametrize("seed", range(12))
def test_of_equal_scores_the_first_class_wins_a_pixel(seed: int) -> None:
    """In every tile, whichever classes are looked at first: as the arg-max over all of them."""
    masks, votes = _ties(seed)
    best, winner = semantic._contest(masks, votes)
    scores = torch.einsum("qk,qrw->krw", votes, masks)
    assert torch.equal(best, scores.amax(dim=0))
    assert torch.equal(winner, (scores == best).int().argmax(dim=0))
    assert (winner != scores.flip(0).argmax(dim=0).neg().add(59)).any(), "there must be ties"


def test_a_class_that_leads_nowhere_can_win_where_the_leaders_are_weak() -> None:
    """Two proposals prefer other classes, yet agree on the last: as in the arg-max over all."""
    votes = torch.tensor([[0.75, 0, 0, 0], [0, 0.25, 0, 0.1875], [0, 0, 0.25, 0.1875]])
    masks = torch.tensor([[[1.0, 0]], [[0, 1]], [[0, 1]]])
    best, winner = semantic._contest(masks, votes)
    assert winner.tolist() == [[0, 3]]
    assert best.tolist() == [[0.75, 0.375]]


def test_no_class_is_left_out_for_a_sum_that_was_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound is no lower than what a class scores, in whatever order its votes are summed."""
    bounds: list[Tensor] = []
    monkeypatch.setattr(
        semantic, "_let_others_in", lambda masks, votes, bound, *_: bounds.append(bound.clone())
    )
    chance = torch.Generator().manual_seed(0)
    masks = torch.rand(100, 1, 1, generator=chance).expand(-1, 16, 32)
    votes = 0.1 + 0.001 * torch.rand(100, 300, generator=chance)
    semantic._contest(masks, votes)
    scores = votes.double().T @ masks[:, 0, 0].double()
    assert len(bounds) == 1
    asked = bounds[0] >= 0
    assert asked.sum() > 250
    assert (bounds[0].double() >= scores)[asked].all()


def test_votes_are_those_of_the_masks_probability() -> None:
    """``sum_q p(q, k) * sigmoid(mask_q)``: masks that are not there vote too, a little."""
    masks, log_probs = torch.tensor([[[0.0, -2.0]], [[1.0, 3.0]]]), logs([0.5, 0.3], [0.2, 0.6])
    probs, inside = log_probs.exp(), masks[:, 0].sigmoid()
    expected = probs.T @ inside
    torch.testing.assert_close(semantic_scores(masks, log_probs)[:, 0], expected)
    found = decode_semantic(masks, log_probs)
    torch.testing.assert_close(found.scores[0], expected.amax(0))
    assert found.class_map[0].tolist() == expected.argmax(0).tolist()
