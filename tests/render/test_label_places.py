"""How much of a name a label shows, and when it stands inside of its segment."""

from __future__ import annotations

import numpy as np
import pytest
from test_overlay import Drawn

from masqclip.render.labels import Label, LabelLayout
from masqclip.render.lettering import shorten
from masqclip.render.overlay import _box_of

NAME = "a traffic light"


def placed(
    layout: LabelLayout, name: str, width: int, height: int, score: str = ""
) -> Label | None:
    """The label of a whole box of that size in the midst of the frame."""
    x, y = (layout.size[0] - width) // 2, (layout.size[1] - height) // 2
    mask = np.ones((height, width), bool)
    return layout.place(name, score, (9, 9, 9), mask, (x, y, x + width, y + height))


@pytest.mark.parametrize("score", ["", "0.50"])
def test_a_label_shows_as_much_of_its_name_as_fits(score: str) -> None:
    """All with the score, else a beginning with it, else without; none where no letter fits."""
    seen = set()
    for width in range(8, 150, 9):
        layout = LabelLayout((width, 60))
        room = max(0.45 * width, 6.0 * layout.height) - 2 * layout._pad[0]
        room = min(room, width - 2 * layout._pad[0])
        texts = [
            shorten(NAME, length) + tail
            for tail in ([f" {score}", ""] if score else [""])
            for length in range(len(NAME), 0, -1)
        ]
        expected = next((text for text in texts if layout.lettering.width(text) <= room), None)
        label = placed(layout, NAME, width, 60, score)
        assert (label and label.text) == expected
        seen.add(expected)
    assert {None, f"{NAME} {score}".strip()} <= seen
    assert len(seen) > 5


def inside(label: Label | None, layout: LabelLayout, width: int, height: int) -> bool:
    assert label is not None
    x0, y0, x1, y1 = label.box
    across = abs((x0 + x1) / 2 - layout.size[0] / 2) < width / 2
    return across and abs((y0 + y1) / 2 - layout.size[1] / 2) < height / 2


def test_a_label_that_hides_over_three_tenths_of_its_segment_stands_beside_it() -> None:
    """Only what it hides counts: of a narrow segment as much of the label as is over it."""
    layout = LabelLayout((400, 400))
    label = placed(layout, "cat", 300, 300)
    assert label is not None
    width, height = label.box[2] - label.box[0], layout.height
    assert width > 12 < height
    for size, expected in (
        ((12, int(height / 0.3) - 1), False),
        ((12, int(height / 0.3) + 1), True),
        ((int(width / 0.3) - 1, 12), False),
        ((int(width / 0.3) + 1, 12), True),
        ((12, 12), False),
    ):
        layout = LabelLayout((400, 400))
        assert inside(placed(layout, "cat", *size), layout, *size) == expected, size


@pytest.mark.parametrize(("left", "right"), [(8, 20), (380, 392)])
def test_a_label_stands_on_the_side_that_has_room(left: int, right: int) -> None:
    """Of a narrow segment as high as the frame, with no room above and below."""
    layout = LabelLayout((400, 30))
    mask = np.ones((30, right - left), bool)
    label = layout.place("cat", "", (9, 9, 9), mask, (left, 0, right, 30))
    assert label is not None
    space = label.box[0] - right if left < 200 else left - label.box[2]
    assert space == pytest.approx(layout.gap, abs=1)


@pytest.mark.parametrize(
    ("margin", "size", "expected"),
    [
        (0, (40, 30), (3, 5, 9, 12)),
        (2, (40, 30), (1, 3, 11, 14)),
        (4, (40, 30), (0, 1, 13, 16)),
        (9, (40, 30), (0, 0, 18, 21)),
        (9, (17, 20), (0, 0, 17, 20)),
        (0, (8, 11), (3, 5, 8, 11)),
    ],
)
def test_a_box_takes_its_margin_within_the_frame(
    margin: int, size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    class Boxed(Drawn):
        box = (3, 5, 9, 12)  # type: ignore[assignment]

    assert _box_of(Boxed(np.ones((1, 1), bool)), size, margin) == expected
