"""How things look, to the pixel: colours, contours, places of labels, pages and ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_overlay import Drawn, grey, rectangle

from masqclip.errors import MasqclipError
from masqclip.render.curves import _ticks, draw_curves
from masqclip.render.labels import Label, LabelLayout, _shared, interior_points, scale_edge
from masqclip.render.lettering import Lettering, shorten
from masqclip.render.overlay import draw_overlay, segment_colours
from masqclip.render.palette import instance_colour, mix, name_colour
from masqclip.render.sheet import contact_sheet


def near(found: Any, expected: Any) -> bool:
    """But for a last digit that machines may round differently."""
    return bool(np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= 1)


def test_segments_of_a_name_are_counted_by_name() -> None:
    some = [Drawn(np.ones((1, 1), bool), name) for name in ("cat", "dog", "cat", "cat", "dog")]
    assert segment_colours(some) == [
        instance_colour(name_colour(name), number)
        for name, number in (("cat", 0), ("dog", 0), ("cat", 1), ("cat", 2), ("dog", 1))
    ]


# Masks


def row(shape: tuple[int, int], drawn: Drawn, y: int, x0: int, x1: int, **options: Any) -> Any:
    picture = draw_overlay(grey(*shape), [drawn], labels=False, **options)
    return np.asarray(picture)[y, x0:x1].astype(int)


def test_a_thing_has_a_dark_and_a_light_line_along_its_border() -> None:
    cat = Drawn(rectangle((400, 400), 100, 100, 300, 300))
    inner = [110, 93, 62]
    expected = [[128] * 3, [123, 123, 124], [72, 72, 74], [191, 179, 156], [133, 118, 89], inner]
    assert near(row((400, 400), cat, 200, 97, 103), expected)
    assert near(row((400, 400), cat, 200, 103, 297), inner)
    # On the other side, and across, the same.
    assert near(row((400, 400), cat, 200, 297, 303), expected[::-1])
    drawn = np.asarray(draw_overlay(grey(400, 400), [cat], labels=False))
    assert near(drawn, drawn.transpose(1, 0, 2))


def test_an_enlarged_thing_has_a_smooth_one() -> None:
    cat = Drawn(rectangle((40, 40), 10, 10, 30, 30))
    found = row((40, 40), cat, 200, 97, 103)
    assert near(found[0], [128] * 3)
    assert near(found[1:5], [[113, 113, 114], [105, 100, 92], [165, 154, 132], [163, 150, 124]])
    assert near(found[5], [110, 93, 62])


def test_stuff_is_pale_and_has_no_line() -> None:
    sky = Drawn(rectangle((400, 400), 100, 100, 300, 300), "sky", thing=False)
    assert near(row((400, 400), sky, 200, 99, 101), [[128] * 3, [126, 120, 170]])
    assert near(row((400, 400), sky, 200, 299, 301), [[126, 120, 170], [128] * 3])
    small = Drawn(rectangle((40, 40), 10, 10, 30, 30), "sky", thing=False)
    edge = [[128] * 3, [128, 126, 138], [127, 122, 159], [126, 120, 170]]
    assert near(row((40, 40), small, 200, 98, 102), edge)


@pytest.mark.parametrize("opacity", [0, 0.25, 1, np.float32(1.0)])
def test_opacity_is_the_share_of_a_things_colour_from_nothing_to_all(opacity: float) -> None:
    """Of stuff six tenths of that; the same whole and in part."""
    for thing, share in ((True, float(opacity)), (False, 0.6 * float(opacity))):
        colour = name_colour("cat")
        expected = [round(128 + (c - 128) * share) for c in colour]
        for mask in (np.ones((400, 400), bool), rectangle((400, 400), 0, 0, 400, 399)):
            drawn = row((400, 400), Drawn(mask, thing=thing), 200, 200, 201, opacity=opacity)
            assert near(drawn, [expected])


def test_small_things_lie_on_large_ones_and_segments_take_the_order_of_their_size() -> None:
    shape = (400, 400)
    large = Drawn(rectangle(shape, 0, 0, 400, 400), "sea")
    small = Drawn(rectangle(shape, 150, 150, 250, 250), "cat")
    one = np.asarray(draw_overlay(grey(*shape), [small, large], labels=False, opacity=1.0))
    two = np.asarray(draw_overlay(grey(*shape), [large, small], labels=False, opacity=1.0))
    assert np.array_equal(one, two)
    assert near(one[200, 200], name_colour("cat"))
    assert near(one[50, 50], name_colour("sea"))


def test_what_has_no_pixel_takes_no_colour_from_the_others() -> None:
    empty, cat = Drawn(np.zeros((400, 400), bool)), Drawn(rectangle((400, 400), 9, 9, 200, 200))
    with_it, without = (draw_overlay(grey(400, 400), parts) for parts in ([empty, cat], [cat]))
    assert np.array_equal(np.asarray(with_it), np.asarray(without))


def test_a_picture_that_is_large_enough_keeps_its_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (384, 20, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(draw_overlay(picture, [])), picture)


@pytest.mark.parametrize("opacity", [-0.01, 1.01, float("nan"), None])
def test_what_is_no_opacity(opacity: Any) -> None:
    with pytest.raises(MasqclipError, match=r"opacity is .*: give a number from 0 to 1"):
        draw_overlay(grey(4, 4), [], opacity=opacity)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4, 4), (4, 4, 1), (4, 4)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(MasqclipError, match=r"give an RGB picture, \[H, W, 3\] uint8"):
        draw_overlay(np.zeros(shape, np.uint8), [])


# Labels


def test_letters_grow_with_the_picture() -> None:
    found = {}
    for size in ((384, 384), (1000, 500), (8000, 8000), (10, 30_000), (500, 1000)):
        layout = LabelLayout(size)
        found[size] = (scale_edge(size), layout.lettering.size, layout.gap, layout._pad)
    assert found == {
        (384, 384): (384, 12, 2, (3, 2)),
        (1000, 500): (1000, 19, 4, (6, 4)),
        (8000, 8000): (8000, 96, 32, (48, 32)),
        (10, 30_000): (80, 9, 2, (3, 2)),
        (500, 1000): (1000, 19, 4, (6, 4)),
    }


def middle(label: Label | None) -> tuple[float, float]:
    assert label is not None
    x0, y0, x1, y1 = label.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def test_a_label_lies_in_the_midst_of_its_segment_or_beside_a_small_one() -> None:
    layout = LabelLayout((400, 400))
    whole = np.ones((200, 200), bool)
    label = layout.place("cat", "0.50", (9, 8, 7), whole, (100, 100, 300, 300))
    assert label is not None
    assert (label.text, label.colour) == ("cat 0.50", (9, 8, 7))
    assert middle(label) == pytest.approx((200, 200), abs=1.5)
    assert label.box[3] - label.box[1] == layout.height
    width = layout.lettering.width("cat 0.50") + 2 * layout._pad[0]
    assert label.box[2] - label.box[0] == round(width)
    # One that is as good as its own size stands above it, then below, then at its sides.
    small, box, step = np.ones((9, 9), bool), (196, 250, 205, 259), layout.height + layout.gap
    places = [middle(LabelLayout((400, 400)).place("cat", "", (9, 9, 9), small, box))]
    for _ in range(3):
        places.append(middle(layout.place("cat", "", (9, 9, 9), small, box)))
    assert places[0] == pytest.approx((200.5, 250 - step / 2), abs=1)
    assert places[1] == pytest.approx(places[0], abs=1)
    assert places[2] == pytest.approx((200.5, 259 + step / 2), abs=1)
    assert places[3][1] == pytest.approx(254.5, abs=1)
    assert abs(places[3][0] - 200.5) > 20
    # At the upper edge there is no room above.
    edge = LabelLayout((400, 400)).place("cat", "", (9, 9, 9), small, (196, 0, 205, 9))
    assert middle(edge)[1] == pytest.approx(9 + step / 2, abs=1)


def test_where_all_is_taken_a_label_hides_as_little_as_it_can() -> None:
    layout = LabelLayout((60, 40))
    mask = np.ones((40, 60), bool)
    labels = [layout.place("cat", "", (9, 9, 9), mask, (0, 0, 60, 40)) for _ in range(9)]
    boxes = [label.box for label in labels if label is not None]
    assert len(boxes) == 9
    assert len(set(boxes)) > 3
    for x0, y0, x1, y1 in boxes:
        assert min(x0, y0) >= 0
        assert x1 <= 60
        assert y1 <= 40


def test_a_score_is_dropped_before_the_name_is_cut_away() -> None:
    mask = np.ones((9, 9), bool)
    narrow = LabelLayout((34, 400)).place("cat", "0.50", (9, 9, 9), mask, (0, 0, 9, 9))
    assert narrow is not None
    assert "0.50" not in narrow.text
    assert LabelLayout((400, 400)).place("", "", (9, 9, 9), mask, (0, 0, 9, 9)) is None
    plain = LabelLayout((400, 400)).place(" a\n cat ", "", (9, 9, 9), mask, (0, 0, 9, 9))
    assert plain is not None
    assert plain.text == "a cat"


def test_names_are_cut_after_a_word() -> None:
    assert shorten("a cat", 5) == "a cat"
    assert shorten("a cat", 2) == "a\u2026"
    assert shorten("a cat", 3) == "a c\u2026"


def test_boxes_share_what_lies_in_both_and_keep_their_distance() -> None:
    box = (10, 10, 20, 20)
    others = [(15, 12, 30, 18), (20, 10, 30, 20), (0, 0, 9, 9), (30, 30, 40, 40)]
    for gap, areas in ((0, [5 * 6, 0, 0, 0]), (2, [7 * 6, 2 * 10, 1, 0])):
        assert [shared([box], [other], gap) for other in others] == [[area] for area in areas]
        assert shared([box], others, gap) == [sum(areas)]
        assert shared([box, (90, 90, 99, 99)], others, gap) == [sum(areas), 0]
    assert shared([box], [], 2) == [0]


def shared(boxes: list[Any], others: list[Any], gap: int) -> list[int]:
    return _shared(np.array(boxes), np.array(others, int).reshape(-1, 4), gap).tolist()


def test_the_middle_of_a_box_is_the_farthest_from_its_border() -> None:
    points = interior_points(rectangle((40, 80), 10, 5, 70, 35), (100, 200, 260, 280), 3)
    assert points == [(149, 239), (181, 239), (211, 241)]
    (first, *rest) = interior_points(np.ones((9, 9), bool), (0, 0, 9, 9), 6)
    assert first == (4.5, 4.5)
    assert len(rest) <= 5
    assert len(interior_points(np.ones((60, 60), bool), (0, 0, 60, 60), 2)) == 2
    assert interior_points(np.ones((1, 1), bool), (5, 7, 7, 9), 1) == [(6, 8)]


def test_a_label_is_its_name_on_a_box_with_a_rim() -> None:
    canvas = Image.new("RGB", (80, 40))
    layout = LabelLayout((400, 400))
    layout.draw(canvas, Label("il", (10, 10, 70, 10 + layout.height), (120, 60, 0)))
    drawn = np.asarray(canvas).astype(int)
    bottom = 10 + layout.height
    assert near(drawn[bottom - 4, 60], (120, 60, 0))
    assert near(drawn[10, 40], mix((120, 60, 0), (0, 0, 0), 0.45))
    assert near(drawn[bottom - 1, 40], mix((120, 60, 0), (0, 0, 0), 0.45))
    assert not drawn[:10].any()
    assert not drawn[bottom:].any()
    assert not drawn[:, 70:].any()
    assert not drawn[10, 10].any(), "its corners are round"
    written = (drawn.min(-1) > 200) & (drawn.max(-1) > 200)
    rows, columns = np.nonzero(written)
    assert 10 + layout._pad[0] <= columns.min() <= 12 + layout._pad[0]
    assert 10 + layout._pad[1] <= rows.min()
    assert rows.max() < bottom - 1


# Pages


@pytest.mark.parametrize(
    ("number", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (5, 3, 2), (10, 4, 3)]
)
def test_a_page_is_about_as_wide_as_high(number: int, columns: int, rows: int) -> None:
    page = contact_sheet([Image.new("RGB", (4, 4))] * number, cell=20)
    assert page.size == (8 + columns * 28, 8 + rows * 28)
    assert contact_sheet([Image.new("RGB", (4, 4))] * 2).width == 8 + 2 * 264


def test_a_picture_stands_in_the_middle_of_its_cell_with_its_line_below() -> None:
    tall = Image.new("RGB", (20, 81), (255, 0, 0))
    page = np.asarray(contact_sheet([tall], ["il"], cell=41)).astype(int)
    rows, columns = np.nonzero((page == (255, 0, 0)).all(-1))
    assert (rows.min(), rows.max()) == (8, 48)
    assert (columns.min(), columns.max()) == (23, 32)
    assert page.shape[0] == 8 + 41 + round(1.6 * 11) + 8
    ink = np.argwhere(page.max(-1) < 120)
    assert ink[:, 0].min() >= 8 + 41 + 2
    assert 8 <= ink[:, 1].min() <= 10
    (thin,) = [contact_sheet([Image.new("RGB", (1, 4000), (255, 0, 0))], cell=41)]
    assert (np.asarray(thin) == (255, 0, 0)).all(-1).sum() == 41, "a pixel wide at least"
    assert thin.getpixel((0, 0)) == (250, 250, 248)
    grey_one = contact_sheet([Image.new("L", (4, 4), 77)], cell=40)
    assert grey_one.getpixel((28, 28)) == (77, 77, 77)


def test_a_line_is_cut_where_it_must_be() -> None:
    lettering = Lettering(11)
    text = "a rather long line of text"
    whole = lettering.width(text)
    assert lettering.fitted(f" {text}\n", whole + 1) == text
    cut = lettering.fitted(text, 60)
    assert cut.endswith("\u2026")
    assert text.startswith(cut[:-1])
    assert lettering.width(cut) <= 60
    longer = text[: len(cut)] + "\u2026"
    assert lettering.width(longer) > 60
    assert lettering.fitted(text, 1) == ""


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.5, 1]),
        (-3.2, 977, [-500, 0, 500, 1000]),
        (5, 5, [2, 4, 6, 8]),
        (0, 0, [-0.5, 0, 0.5]),
        (0, 4, [0, 1, 2, 3, 4]),
        (0, 4.1, [0, 2, 4, 6]),
        (0, 8.1, [0, 5, 10]),
        (-2, -2, [-3, -2.5, -2, -1.5, -1]),
        (3, 23, [0, 5, 10, 15, 20, 25]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert _ticks(low, high) == pytest.approx(ticks)


def test_a_curve_lies_between_its_ticks() -> None:
    """From the first step at the left to the last at the right, where its dot is."""
    page = np.asarray(draw_curves({"cat": [(0, 1.0), (2, float("inf")), (4, 3.0), (8, 0.0)]}))
    assert page.shape == (280, 460, 3)
    rows, columns = np.nonzero((page == name_colour("cat")).all(-1))
    assert (columns.min(), columns.max()) == (63, 460 - 16 + 3)
    assert (rows.min(), rows.max()) == pytest.approx((34, 250 + 3), abs=1)
    ink, paper = [40, 40, 48], [255, 255, 255]
    assert page[250, 200].tolist() == page[100, 64].tolist() == ink
    assert page[0, 0].tolist() == page[279, 459].tolist() == page[251, 449].tolist() == paper
    assert page[34, 200].tolist() == [226, 226, 230], "a line at every tick"
    top = columns[rows == rows.min()]
    assert top.mean() == pytest.approx(64 + 380 / 2, abs=2)
    start = rows[columns == columns.min()]
    assert start.mean() == pytest.approx(250 - 216 / 3, abs=2)


def test_panels_stand_two_a_row_in_their_order() -> None:
    names = ("cat", "dog", "sky")
    page = np.asarray(draw_curves({name: [(0, 0.0), (1, 1.0)] for name in names}))
    assert page.shape == (560, 920, 3)
    for number, name in enumerate(names):
        top, left = number // 2 * 280, number % 2 * 460
        panel = page[top : top + 280, left : left + 460]
        assert (panel == name_colour(name)).all(-1).any()
        alone = np.asarray(draw_curves({name: [(0, 0.0), (1, 1.0)]}))
        assert np.array_equal(panel, alone)
    assert (page[280:, 460:] == 255).all()
