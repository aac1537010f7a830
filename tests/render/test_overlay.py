"""Colours of names, masks over pictures and the places of labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from masqclip.errors import MasqclipError
from masqclip.render import overlay
from masqclip.render.labels import LabelLayout, interior_points
from masqclip.render.lettering import ELLIPSIS
from masqclip.render.overlay import draw_overlay
from masqclip.render.palette import name_colour, vocabulary_colours


@dataclass(frozen=True)
class Drawn:
    mask: np.ndarray
    name: str = "cat"
    score: float = 0.9
    thing: bool = True

    @property
    def area(self) -> int:
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        if not self.area:
            return 0, 0, 0, 0
        rows, columns = np.nonzero(self.mask)
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def rectangle(shape: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_a_thing_is_tinted_inside_and_leaves_the_rest_alone() -> None:
    shape = (400, 400)
    cat = Drawn(rectangle(shape, 100, 100, 300, 300))
    drawn = np.asarray(draw_overlay(grey(*shape), [cat], opacity=0.5, labels=False)).astype(int)
    assert drawn.shape == (400, 400, 3)
    wanted = (128 + np.array(name_colour("cat"))) / 2
    assert np.abs(drawn[200, 200] - wanted).max() <= 2
    assert (drawn[:90] == 128).all()
    assert (drawn[:, 310:] == 128).all()
    # The contour: lighter just inside, darker just outside.
    assert drawn[200, 100].sum() > drawn[200, 200].sum() + 60
    assert drawn[200, 99].sum() < 3 * 128 - 60


def test_no_opacity_and_no_segment_change_nothing() -> None:
    picture = grey(400, 390)
    assert (np.asarray(draw_overlay(picture, [])) == picture).all()
    sky = Drawn(np.ones((400, 390), bool), "sky", thing=False)
    drawn = draw_overlay(picture, [sky], opacity=0.0, labels=False)
    assert (np.asarray(drawn) == picture).all()


def test_stuff_is_paler_and_below_things_whatever_the_order() -> None:
    shape = (400, 400)
    sky = Drawn(np.ones(shape, bool), "sky", thing=False)
    cat = Drawn(rectangle(shape, 100, 100, 300, 300))
    one = np.asarray(draw_overlay(grey(*shape), [cat, sky], labels=False))
    two = np.asarray(draw_overlay(grey(*shape), [sky, cat], labels=False))
    assert (one == two).all()
    as_thing = Drawn(sky.mask, "sky")
    thick = np.asarray(draw_overlay(grey(*shape), [as_thing], labels=False)).astype(int)
    thin = np.asarray(draw_overlay(grey(*shape), [sky], labels=False)).astype(int)
    assert np.abs(thin[50, 50] - 128).sum() < np.abs(thick[50, 50] - 128).sum()
    # No contour where stuff ends.
    half = Drawn(rectangle(shape, 0, 0, 400, 200), "sky", thing=False)
    edge = np.asarray(draw_overlay(grey(*shape), [half], labels=False))
    assert (edge[199, 50] == edge[100, 50]).all()
    assert (edge[200:] == 128).all()


def test_two_segments_of_one_name_differ_a_little() -> None:
    shape = (400, 400)
    cats = [Drawn(rectangle(shape, x, 100, x + 150, 300)) for x in (20, 220)]
    drawn = np.asarray(draw_overlay(grey(*shape), cats, labels=False)).astype(int)
    assert 5 < np.abs(drawn[200, 95] - drawn[200, 295]).max() < 60


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((1, 1), (384, 384)), ((128, 100), (384, 300)), ((383, 10), (766, 20)), ((384, 9), (384, 9))],
)
def test_small_pictures_are_enlarged(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    cat = Drawn(np.ones((size[1], size[0]), bool))
    assert draw_overlay(grey(size[1], size[0]), [cat]).size == drawn


def test_odd_masks_and_names_are_drawn() -> None:
    shape = (500, 300)
    empty = Drawn(np.zeros(shape, bool), "nothing")
    speck = Drawn(rectangle(shape, 299, 499, 300, 500), "a speck\nin the corner " * 20)
    picture = grey(*shape)
    assert (np.asarray(draw_overlay(picture, [empty])) == picture).all()
    assert not (np.asarray(draw_overlay(picture, [empty, speck])) == picture).all()


def test_scores_are_written_only_when_asked_for() -> None:
    shape = (400, 400)
    cat = Drawn(rectangle(shape, 50, 50, 350, 350))
    pictures = [draw_overlay(grey(*shape), [cat], scores=scores) for scores in (True, False)]
    label = np.array(name_colour("cat"))
    wide, narrow = ((np.asarray(p) == label).all(-1).sum() for p in pictures)
    assert wide > narrow > 0


def test_a_label_has_the_colour_of_its_segment() -> None:
    for thing in (True, False):
        sky = Drawn(rectangle((400, 400), 50, 50, 350, 350), "sky", thing=thing)
        drawn = np.asarray(draw_overlay(grey(400, 400), [sky]))
        assert (drawn == name_colour("sky")).all(-1).sum() > 100


def test_colours_are_those_of_the_vocabulary() -> None:
    """Of two names that want one colour, the earlier of the vocabulary has it, drawn or not."""
    names = [f"name {i}" for i in range(30)]
    colours = vocabulary_colours(names)
    moved = next(name for name in names if colours[name] != name_colour(name))
    segment = Drawn(rectangle((400, 400), 50, 50, 350, 350), moved)
    for vocabulary, colour in (((), name_colour(moved)), (names, colours[moved])):
        drawn = np.asarray(draw_overlay(grey(400, 400), [segment], names=vocabulary))
        assert (drawn == colour).all(-1).sum() > 100


def test_labels_stay_in_the_frame_and_apart() -> None:
    layout = LabelLayout((512, 512))
    mask = np.ones((60, 60), bool)
    boxes = []
    for i in range(12):
        x, y = (i % 4) * 30 + 400, (i // 4) * 30 + 430
        label = layout.place(f"name {i}", "0.50", (9, 9, 9), mask, (x, y, x + 60, y + 60))
        assert label is not None
        boxes.append(label.box)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 512
        assert y1 <= 512
        for a0, b0, a1, b1 in boxes[:i]:
            assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


def test_long_names_end_in_an_ellipsis_and_keep_their_score() -> None:
    mask = np.ones((400, 400), bool)
    layout = LabelLayout((400, 400))
    label = layout.place("a very long name " * 9, "0.50", (9, 9, 9), mask, (0, 0, 400, 400))
    assert label is not None
    assert label.text.endswith(f"{ELLIPSIS} 0.50")
    assert label.box[2] - label.box[0] <= 0.46 * 400
    assert LabelLayout((400, 3)).place("cat", "", (9, 9, 9), mask, (0, 0, 400, 3)) is None


def test_the_most_interior_point_of_a_ring_lies_on_it() -> None:
    rows, columns = np.ogrid[:300, :300]
    radius = np.hypot(rows - 150, columns - 150)
    mask = (radius < 140) & (radius > 90)
    for x, y in interior_points(mask, (1000, 2000, 1600, 2600), 3):
        at = np.hypot((x - 1000) / 2 - 150, (y - 2000) / 2 - 150)
        assert 92 < at < 138
    assert interior_points(np.zeros((5, 5), bool), (0, 0, 5, 5), 3) == []


@pytest.mark.parametrize(
    ("picture", "mask", "opacity", "said"),
    [
        (np.zeros((4, 4), np.uint8), np.ones((4, 4), bool), 0.5, "uint8"),
        (np.zeros((4, 4, 3)), np.ones((4, 4), bool), 0.5, "float64"),
        (grey(4, 4), np.ones((4, 5), bool), 0.5, "'cat'"),
        (grey(4, 4), np.ones((4, 4), bool), 1.5, "opacity"),
        (grey(4, 4), np.ones((4, 4), bool), "0.5", "opacity is '0.5'"),
    ],
)
def test_mistakes_are_named(
    picture: np.ndarray, mask: np.ndarray, opacity: float, said: str
) -> None:
    with pytest.raises(MasqclipError, match=said):
        draw_overlay(picture, [Drawn(mask)], opacity=opacity)


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1), (3, 9_000), (1, 1), (40, 20_000)])
def test_slender_pictures_are_drawn(size: tuple[int, int]) -> None:
    """Letters and lines in proportion to one side would not fit the other, or any memory."""
    mask = np.zeros(size, bool)
    mask[:, : size[1] // 2 + 1] = True
    segments = [Drawn(mask, "sky", thing=False), Drawn(mask, "a long name " * 80)]
    assert LabelLayout(size[::-1]).height < 130
    drawn = draw_overlay(grey(*size), segments)
    assert drawn.width * drawn.height <= 384 * 384 * 50
    assert not (np.asarray(drawn) == 128).all()


def test_letters_stop_growing() -> None:
    heights = [LabelLayout((edge, edge)).height for edge in (500, 8_000, 50_000, 50_000_000)]
    assert heights[0] < heights[1] == heights[2] == heights[3]


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    picture = chance.integers(0, 255, (500, 700, 3), dtype=np.uint8)
    rows, columns = np.ogrid[:500, :700]
    segments = [
        Drawn(np.hypot(rows - y, columns - x) < r, f"name {i}", thing=i > 0)
        for i, (x, y, r) in enumerate([(300, 200, 180), (350, 250, 160), (690, 490, 90)])
    ]
    whole = np.asarray(draw_overlay(picture, segments))
    monkeypatch.setattr(overlay, "TILE", 61)
    assert (np.asarray(draw_overlay(picture, segments)) == whole).all()


def test_a_mask_thinner_than_the_search_has_a_place_for_its_label() -> None:
    mask = np.zeros((4000, 4000), bool)
    mask[1003] = True
    ((x, y), *_) = interior_points(mask, (0, 0, 4000, 4000), 3)
    assert abs(y - 1003) < 30
    assert 0 < x < 4000


def test_a_name_of_any_length_is_cut_where_it_was() -> None:
    layout = LabelLayout((600, 600))
    mask = np.ones((50, 50), bool)
    for name in ("cat", "a rather long name of a thing", "W" * 1000, "il " * 300):
        label = layout.place(name, "0.50", (9, 9, 9), mask, (0, 0, 50, 50))
        assert label is not None
        limit = label.box[2] - label.box[0]
        if label.text.endswith(f"{ELLIPSIS} 0.50"):
            longer = name[: len(label.text) - len(f"{ELLIPSIS} 0.50") + 1] + f"{ELLIPSIS} 0.50"
            assert layout.lettering.width(longer) > limit - 2 * layout._pad[0]
