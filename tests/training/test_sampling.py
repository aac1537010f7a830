"""Pictures that cannot be read are skipped, counted and named."""

from __future__ import annotations

import numpy as np
import pytest

from masqclip.data.coco import Sample
from masqclip.errors import MasqclipError
from masqclip.training.sampling import SkippedPictures, read_samples


class Broken:
    """Twenty pictures of which some cannot be read."""

    def __init__(self, *broken: int) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise MasqclipError(f"{index}.png: broken")
        empty = np.zeros(0, np.int64)
        image = np.zeros((2, 2, 3), np.uint8)
        return Sample(image, np.zeros((0, 2, 2), bool), empty, empty.astype(bool), index)


def test_the_next_picture_takes_its_place() -> None:
    samples, skipped = read_samples(Broken(3, 4, 19), [3, 0, 19])
    assert [(row, sample.image_id) for row, sample in samples] == [(5, 5), (0, 0), (0, 0)]
    assert skipped == ["3.png: broken", "4.png: broken", "19.png: broken"]


def test_skipped_pictures_are_counted_once_and_named() -> None:
    skipped = SkippedPictures(20)
    assert skipped.summary() == ""
    for _ in range(3):
        skipped.note(["3.png: broken", "4.png: broken"])
    assert skipped.summary() == "2 of 20 pictures were skipped:\n  3.png: broken\n  4.png: broken"


def test_more_than_a_tenth_is_too_many() -> None:
    skipped = SkippedPictures(20)
    skipped.note(["1", "2"])
    with pytest.raises(MasqclipError, match=r"tenth of the 20 pictures .* because of this: 1"):
        skipped.note(["3"])
    with pytest.raises(MasqclipError, match=r"because of this: 5\.png"):
        read_samples(Broken(5, 6, 7), [5])
