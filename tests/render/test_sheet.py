"""Contact sheets: every picture in its cell, whole, with its line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from masqclip.errors import MasqclipError
from masqclip.render.sheet import contact_sheet

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_pictures_stand_in_reading_order() -> None:
    sheet = contact_sheet([Image.new("RGB", (40, 40), c) for c in COLOURS], columns=2, cell=32)
    assert sheet.size == (8 + 2 * 40, 8 + 2 * 40)
    centres = [(24, 24), (64, 24), (24, 64)]
    assert [sheet.getpixel(at) for at in centres] == COLOURS


def test_the_aspect_is_kept_and_captions_take_room() -> None:
    wide = Image.new("RGB", (100, 50), COLOURS[0])
    plain = np.asarray(contact_sheet([wide], cell=64))
    red = (plain == COLOURS[0]).all(-1)
    assert (red.any(0).sum(), red.any(1).sum()) == (64, 32)
    captioned = contact_sheet([wide], ["a caption that is far too long for its cell"], cell=64)
    assert captioned.width == plain.shape[1]
    assert captioned.height > plain.shape[0]


@pytest.mark.parametrize("captions", [["one"], ["a", "b", "c"]])
def test_a_caption_for_every_picture(captions: list[str]) -> None:
    with pytest.raises(MasqclipError, match="captions"):
        contact_sheet([Image.new("RGB", (4, 4))] * 2, captions)


def test_no_pictures_no_sheet() -> None:
    with pytest.raises(MasqclipError, match="at least one"):
        contact_sheet([])
