"""Pictures of a command line: what goes on while the first one is read."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.cli.pictures import read_batches
from masqclip.data import images
from masqclip.data.image_decoding import LoadedImage
from masqclip.errors import MasqclipError


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    names = [tmp_path / f"{index}.png" for index in range(3)]
    for name in names:
        Image.new("RGB", (8, 6), "red").save(name)
    return names


def refuse(path: Path, error: Exception) -> None:
    raise error


def test_what_is_to_be_done_anyway_waits_for_no_slow_picture(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def slow(source: Path, **options: object) -> LoadedImage:
        time.sleep(0.6)
        events.append(source.name)
        return LoadedImage(np.zeros((6, 8, 3), np.uint8), (), str(source))

    monkeypatch.setattr(images, "read_image", slow)
    batches = list(read_batches(paths, 2, refuse, meanwhile=lambda: events.append("meanwhile")))
    assert [list(batch) for batch in batches] == [paths[:2], paths[2:]]
    assert events == ["meanwhile", "0.png", "1.png", "2.png"]


def test_a_picture_that_is_refused_at_once_waits_for_nothing(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, **options: object) -> LoadedImage:
        raise MasqclipError(f"{source.name}: broken")

    monkeypatch.setattr(images, "read_image", refused)
    with pytest.raises(MasqclipError, match=r"0\.png: broken"):
        list(read_batches(paths[:1], 2, refuse, meanwhile=pytest.fail))


def test_only_until_the_libraries_are_there_are_large_pictures_decoded_apart(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {}
    read = images.read_image

    def noted(source: Path, **options: int | None) -> LoadedImage:
        limits[source.name] = options["max_pixels_here"]
        return read(source)

    monkeypatch.setattr(images, "read_image", noted)
    list(read_batches(paths, 2, refuse, meanwhile=lambda: None))
    assert limits["0.png"] == 12_000_000
    assert limits["2.png"] is None
