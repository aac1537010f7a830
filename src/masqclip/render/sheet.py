"""Many pictures on one page: a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from masqclip.errors import MasqclipError
from masqclip.render.lettering import Lettering

_PAPER = (250, 250, 248)
_INK = (30, 30, 36)
_GAP = 8


def contact_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str] = (),
    *,
    columns: int | None = None,
    cell: int = 256,
) -> Image.Image:
    """Lay pictures out in rows of equal square cells, each with a line of text below it.

    Args:
        pictures: what to show; each is scaled to fit its cell, its aspect kept.
        captions: a line for each picture, shortened where it is too wide; none = no lines.
        columns: pictures a row; a page about as wide as high unless given.
        cell: side of a cell in pixels.

    Returns:
        An RGB picture.

    Raises:
        MasqclipError: there is no picture, or the captions are not as many as the pictures.
    """
    if not pictures:
        raise MasqclipError("a contact sheet needs at least one picture")
    if captions and len(captions) != len(pictures):
        raise MasqclipError(
            f"{len(captions)} captions do not fit {len(pictures)} pictures: give one each, or none"
        )
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    lettering = Lettering(max(11, cell // 18))
    line = round(1.6 * lettering.size) if captions else 0
    across, down = cell + _GAP, cell + line + _GAP
    sheet = Image.new("RGB", (_GAP + columns * across, _GAP + rows * down), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, picture in enumerate(pictures):
        x, y = _GAP + place % columns * across, _GAP + place // columns * down
        scale = cell / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        shown = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        sheet.paste(shown, (x + (cell - size[0]) // 2, y + (cell - size[1]) // 2))
        if captions:
            caption = lettering.fitted(captions[place], cell)
            lettering.draw(draw, (x, y + cell + 4), caption, _INK)
    return sheet
