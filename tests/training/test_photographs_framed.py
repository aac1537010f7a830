"""Frames of photographs: masks stay where they lie on the picture, to a fraction of a pixel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from masqclip.data.open_coco import CocoMasks, open_coco
from masqclip.data.transforms import normalise
from masqclip.training.framing import augment, tensors
from masqclip.training.settings import FrameSettings, TeacherSettings
from masqclip.training.teacher import TeacherStage
from tiny import tiny_proposer_config

PHOTOGRAPHS = Path(__file__).parents[1] / "data" / "photographs"
PANOPTIC = PHOTOGRAPHS / "panoptic_train2017.json"


@pytest.fixture(scope="module")
def photographs() -> CocoMasks:
    return open_coco(PANOPTIC, images=PHOTOGRAPHS / "train2017")


def middle(weights: Tensor) -> Tensor:
    """The centre of mass (y, x) of [H,W], in pixels."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in weights.shape)
    heavy = weights.double()
    return torch.stack([heavy.sum(1) @ rows, heavy.sum(0) @ columns]) / heavy.sum()


@pytest.mark.parametrize("augmentation", ["jitter", "square", "none"])
def test_masks_stay_on_the_picture(photographs: CocoMasks, augmentation: str) -> None:
    """A picture that is painted white where a mask is, and framed, is white where the framed mask
    is: pictures are resized smoothly and masks by their nearest pixels, with the same middles."""
    settings = FrameSettings(augmentation=augmentation, image_size=320, min_scale=0.4)
    compared = 0
    for index in range(len(photographs)):
        _, masks = tensors(photographs[index])
        generator = torch.Generator().manual_seed(index)
        for mask in masks:
            painted = 255 * mask.to(torch.uint8).expand(3, *mask.shape)
            state = generator.get_state()
            image, framed, _ = augment(painted, mask[None], settings, generator)
            generator.set_state(state)  # all masks of a picture in one place
            inside = image[0].float() / 255
            if augmentation == "jitter":  # the padding is gray
                inside = torch.where(image[0] == 128, 0, inside)
            if framed.sum() < 100:
                continue
            both = ((inside > 0.5) & framed[0]).sum() / ((inside > 0.5) | framed[0]).sum()
            assert both > 0.85
            # At half the size every nearest pixel is a tie, and the right one is taken, as by
            # Pillow: a quarter of a pixel.
            if framed.sum() > 2000:
                assert (middle(inside) - middle(framed[0])).abs().max() < 0.4
            compared += 1
    assert compared > 20


def test_a_batch_is_the_photographs_and_their_segments(photographs: CocoMasks) -> None:
    settings = TeacherSettings(
        architecture="miniature", augmentation="none", flip=False, freeze_batch_norm=False,
        batch_size=4,
    )  # fmt: skip
    batch = TeacherStage(photographs, tiny_proposer_config(), settings).batch(0)
    assert batch["pixels"].shape == (4, 3, 640, 640)
    assert sorted(len(masks) for masks in batch["masks"]) == [3, 5, 7, 17]
    for sample in (photographs[index] for index in range(4)):
        image, masks = tensors(sample)
        height, width = image.shape[-2:]
        (place,) = (p for p, found in enumerate(batch["masks"]) if len(found) == len(masks))
        assert torch.equal(batch["masks"][place][:, :height, :width], masks)
        assert not batch["masks"][place][:, height:].any()
        assert not batch["masks"][place][:, :, width:].any()
        torch.testing.assert_close(batch["pixels"][place][:, :height, :width], normalise(image))
        assert not batch["pixels"][place][:, height:].any()
