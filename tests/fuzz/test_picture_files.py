"""Damaged pictures and bombs, briefly; `run.py` makes as many as one likes."""

from __future__ import annotations

import time

from picture_files import BOMBS, bombs, cases

from masqclip.data.image_readers import ImageReaders
from masqclip.data.images import LoadedImage, read_image
from masqclip.errors import MasqclipError

HEAVY = ("icon", "many-pixels", "too-many-pixels")  # to make; the others are of their kind


def outcome(data: bytes, readers: ImageReaders | None = None) -> LoadedImage | str:
    """The picture, or the one line; any other error fails."""
    try:
        return read_image(data, isolated=readers)
    except MasqclipError as error:
        return str(error)


def test_damaged_pictures_are_read_or_refused_in_a_line() -> None:
    found = [outcome(data) for _, data in cases(3, 300)]
    refused = [line for line in found if isinstance(line, str)]
    assert 0 < len(refused) < len(found)
    assert all("\n" not in line and line.startswith("<bytes>: ") for line in refused)


def test_bombs_end_in_time() -> None:
    readers = ImageReaders(1, seconds=1)
    try:
        for name, data in bombs(3, len(BOMBS)):
            if name.partition("-")[2] in HEAVY:
                continue
            started = time.perf_counter()
            line = outcome(data, readers)
            assert isinstance(line, LoadedImage) or "\n" not in line
            assert time.perf_counter() - started < 60, name  # minutes, where nothing bounds them
    finally:
        readers.close()
