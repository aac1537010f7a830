"""Drawings of the Open Clip Art Library, each by a hand of its own, cut out as sprites are.

The art is in the public domain. Debian keeps it as the package ``openclipart-png`` (0.18); which of
its files show a thing of the second world was chosen by eye, one by one, since a file's name may
mean anything. A thing may have several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from masqclip.errors import MasqclipError

#: What the hands are called together, as if they were one studio.
CLIP_ART = "openclipart"
#: What the index says of them.
ABOUT_CLIP_ART = {
    "package": "openclipart-png 0.18 (Debian)",
    "author": "the artists of the Open Clip Art Library",
    "source": "https://openclipart.org",
    "license": "CC0-1.0",
}


def draw_clip_art(
    folder: str | Path, files: Mapping[str, Sequence[str]], size: int
) -> tuple[list[str], list[Image.Image]]:
    """Read the drawings.

    Args:
        folder: where the package's pictures are, ``/usr/share/openclipart/png`` once it is
            installed.
        files: for each thing its files, relative to the folder and without their ending.
        size: the longer side of a drawing in pixels.

    Returns:
        What each drawing shows, and the drawings, RGBA.

    Raises:
        MasqclipError: a file is not there or is no drawing.
    """
    names, drawn = [], []
    for name, paths in files.items():
        for path in paths:
            file = Path(folder) / f"{path}.png"
            try:
                with Image.open(file) as drawing:
                    drawn.append(cut_out(drawing, size))
            except Exception as error:  # what a foreign picture may end in
                reason = "there is no such file" if not file.is_file() else error
                raise MasqclipError(
                    f"{file}: {reason}; the clip art is the folder png of the Debian package "
                    "openclipart-png"
                ) from error
            names.append(name)
    return names, drawn


def cut_out(drawing: Image.Image, size: int) -> Image.Image:
    """What is drawn, without the page around it, its longer side of so many pixels.

    Raises:
        ValueError: nothing is drawn.
    """
    drawing = drawing.convert("RGBA")
    box = drawing.getchannel("A").getbbox()
    if box is None:
        raise ValueError("nothing is drawn")
    drawing = drawing.crop(box)
    scale = size / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    return drawing.resize((width, height), Image.Resampling.LANCZOS)
