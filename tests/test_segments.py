"""The segments of large pictures, whose masks are kept as bits."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from masqclip import assembly
from masqclip.clip.masked_vision import ImageTokens
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.bit_masks import BitMask
from masqclip.data.images import read_image
from masqclip.encoding import EncodedImage
from masqclip.result import Segmentation, Task
from masqclip.segment import Segment
from masqclip.segments import find_segments

WORDS = Vocabulary.parse("cat, dog, stuff: sky, stuff: sand")


def encoded(height: int, width: int) -> EncodedImage:
    """A picture in which nine masks of noise compete."""
    chance = torch.Generator().manual_seed(height)
    return EncodedImage(
        image=read_image(np.zeros((height, width, 3), np.uint8)),
        mask_logits=4 * torch.randn(9, 8, 8, generator=chance) - 1,
        object_logits=torch.zeros(9, 2),
        mask_embeddings=torch.zeros(9, 4),
        tokens=ImageTokens((), ()),
        frame_size=(32, 32),
        resized=(32, 24),
    )


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
@pytest.mark.parametrize("size", [(120, 90), (1, 300), (300, 1), (1, 1)])
def test_masks_as_bits_are_the_masks(
    monkeypatch: pytest.MonkeyPatch, task: Task, size: tuple[int, int]
) -> None:
    picture = encoded(*size)
    scores = torch.rand(9, 4, generator=torch.Generator().manual_seed(1)).log()

    def found() -> Segmentation:
        parts = find_segments(
            task, picture.masks, scores, WORDS, min_score=0.05, overlap_threshold=0.1
        )
        return Segmentation(picture.image.pixels, task, WORDS.names, parts)

    whole = found()
    monkeypatch.setattr(assembly, "MAX_MASK_BYTES", 0)
    packed = found()
    assert len(whole) == len(packed)
    assert len(whole) > 0 or size == (1, 1)
    assert whole.to_json() == packed.to_json()
    for one, other in zip(whole.segments, packed.segments, strict=True):
        assert (one.box, one.area) == (other.box, other.area)
        assert np.array_equal(one.mask, other.mask)
        assert other.mask.dtype == bool
    assert np.array_equal(np.asarray(whole.plot()), np.asarray(packed.plot()))
    if task != "instance":
        assert np.array_equal(whole.label_map, packed.label_map)


def test_a_packed_segment_is_a_segment() -> None:
    mask = np.zeros((5, 9), bool)
    mask[1:3, 2:8] = True
    segment = Segment.packed(1, "cat", 0, 0.5, True, BitMask.pack(mask, shape=(5, 9)))
    for one in (segment, copy.deepcopy(segment), pickle.loads(pickle.dumps(segment))):
        assert np.array_equal(one.mask, mask)
        assert (one.box, one.area) == ((2, 1, 8, 3), 12)
        assert "cat" in repr(one)
    with pytest.raises(ValueError, match="read-only"):
        segment.mask[0, 0] = True  # a change would be lost
    with pytest.raises(AttributeError, match="no 'maks'"):
        segment.maks  # type: ignore[attr-defined]  # noqa: B018
    nothing = BitMask.pack(np.zeros((5, 9), bool), shape=(5, 9))
    empty = Segment.packed(1, "cat", 0, 0.5, True, nothing)
    assert (empty.box, empty.area, empty.mask.any()) == ((0, 0, 0, 0), 0, False)
