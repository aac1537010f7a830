"""The model between pixels and results: what each half sees, and what transformers' users get."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.model_output import MasQClipOutput
from masqclip.proposals.base import Proposals
from masqclip.segmenter import Segmenter
from test_segmenter import tiny

__all__ = ["tiny"]  # the fixture

SURE, FALSE = 200.0, -200.0


@pytest.fixture
def model(tiny: Segmenter) -> MasQClipModel:
    """One that may be changed."""
    return copy.deepcopy(tiny.model)


def outputs(masks: list[list[float]], probs: list[list[float]]) -> MasQClipOutput:
    """Of one picture of one row; every proposal is an object."""
    logits = torch.tensor(masks)[None, :, None]
    objects = torch.tensor([SURE, FALSE]).expand(1, len(masks), 2)
    size = (1, logits.shape[-1])
    log_probs = torch.tensor(probs).log()[None]
    return MasQClipOutput(logits, objects, logits, log_probs, size, [size])


@pytest.fixture
def overlapping() -> MasQClipOutput:
    """The second is surer than the first and lies over its end; the third is hardly anything."""
    masks = [[SURE, SURE, SURE, FALSE], [FALSE, FALSE, SURE, SURE], [FALSE, FALSE, FALSE, SURE]]
    return outputs(masks, [[0.75, 0.0], [0.0, 0.875], [0.25, 0.0]])


def test_instances_lie_on_top_of_those_that_score_less(
    model: MasQClipModel, overlapping: MasQClipOutput
) -> None:
    (found,) = model.post_process_instance_segmentation(overlapping)
    assert found["segmentation"].tolist() == [[1, 1, 0, 0]]
    assert found["segments_info"] == [
        {"id": 0, "label_id": 1, "score": pytest.approx(0.875), "was_fused": False},
        {"id": 1, "label_id": 0, "score": pytest.approx(0.75), "was_fused": False},
    ]
    (few,) = model.post_process_instance_segmentation(overlapping, threshold=0.8)
    assert few["segmentation"].tolist() == [[-1, -1, 0, 0]]
    (more,) = model.post_process_instance_segmentation(overlapping, threshold=0.2)
    assert len(more["segments_info"]) == 3
    (things,) = model.post_process_instance_segmentation(overlapping, label_ids_to_fuse=[1])
    assert [info["label_id"] for info in things["segments_info"]] == [0]


def test_instances_as_masks_and_as_run_lengths(
    model: MasQClipModel, overlapping: MasQClipOutput
) -> None:
    expected = [[[0, 0, 1, 1]], [[1, 1, 1, 0]]]
    (maps,) = model.post_process_instance_segmentation(overlapping, return_binary_maps=True)
    assert maps["segmentation"].tolist() == expected
    (coco,) = model.post_process_instance_segmentation(overlapping, return_coco_annotation=True)
    assert [decode_rle(rle).astype(int).tolist() for rle in coco["segmentation"]] == expected


def test_regions_have_the_models_thresholds_unless_others_are_given(
    model: MasQClipModel, overlapping: MasQClipOutput
) -> None:
    def names(**options: Any) -> list[tuple[int, int, bool]]:
        (found,) = model.post_process_panoptic_segmentation(overlapping, **options)
        return [
            (info["id"], info["label_id"], info["was_fused"]) for info in found["segments_info"]
        ]

    assert names() == [(1, 0, False), (2, 1, False)]
    assert names(label_ids_to_fuse=[1]) == [(1, 0, False), (2, 1, True)]
    assert names(threshold=0.8) == [(1, 1, False)]
    assert names(overlap_mask_area_threshold=0.7) == [(1, 1, False)]
    model.config.object_threshold = 0.8
    assert names() == [(1, 1, False)]
    assert names(threshold=0.0) == [(1, 0, False), (2, 1, False)]
    model.config.object_threshold, model.config.overlap_threshold = 0.3, 0.7
    assert names() == [(1, 1, False)]
    assert names(overlap_mask_area_threshold=0.0) == [(1, 0, False), (2, 1, False)]
    (found,) = model.post_process_panoptic_segmentation(overlapping)
    assert found["segmentation"].tolist() == [[0, 0, 1, 1]]
    assert found["segments_info"][0]["score"] == pytest.approx(0.875)


def test_a_class_map_and_the_votes_that_made_it(
    model: MasQClipModel, overlapping: MasQClipOutput
) -> None:
    (plain,) = model.post_process_semantic_segmentation(overlapping)
    assert plain.tolist() == [[0, 0, 1, 1]]
    (both,) = model.post_process_semantic_segmentation(overlapping, return_segmentation_scores=True)
    assert both["segmentation"].tolist() == plain.tolist()
    expected = [[[0.75, 0.75, 0.75, 0.25]], [[0, 0, 0.875, 0.875]]]
    torch.testing.assert_close(both["segmentation_scores"], torch.tensor(expected))
    sizes = [(2, 8)]
    (large,) = model.post_process_semantic_segmentation(overlapping, sizes)
    assert large.shape == (2, 8)
    with pytest.raises(MasqclipError, match="pass text_embeddings"):
        _ = replace(overlapping, class_log_probs=None).log_probs


def test_results_have_the_pictures_size_in_the_frame() -> None:
    """Its padding is cut off, and what is wanted larger is enlarged."""
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    both = MasQClipOutput(logits, logits, logits, None, (32, 32), [(20, 32), (32, 12)])
    assert [both.masks(i, None).shape for i in (0, 1)] == [(3, 20, 32), (3, 32, 12)]
    frame = F.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(both.masks(1, None), frame[1, :, :, :12], atol=1e-5, rtol=0)
    assert both.masks(0, (5, 7)).shape == (3, 5, 7)


# What the halves see


class Straw(torch.nn.Module):
    """A proposer that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        self.seen = (pixel_values, pixel_mask)
        batch, _, height, width = pixel_values.shape
        masks = torch.full((batch, 2, height // 4, width // 4), 1.0)
        masks[:, 1] = -1.0
        return Proposals(masks, torch.tensor([[1.0, 0.0], [0.0, 2.0]]).expand(batch, 2, 2))


def frames() -> tuple[Tensor, Tensor]:
    pixels = torch.randint(0, 256, (2, 3, 32, 64), generator=torch.Generator().manual_seed(0))
    inside = torch.ones(2, 32, 64, dtype=torch.bool)
    inside[0, 20:], inside[1, :, 40:] = False, False
    return pixels.float() * inside[:, None], inside


def test_the_proposer_sees_normalised_pixels_and_zeros_beside_them(model: MasQClipModel) -> None:
    model.proposer = straw = Straw()
    pixels, inside = frames()
    model.propose(pixels, inside)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    expected = torch.where(inside[:, None], (pixels - mean) / std, 0.0)
    seen, mask = straw.seen
    torch.testing.assert_close(seen, expected.double(), atol=1e-5, rtol=1e-5)
    assert mask is inside


@pytest.mark.parametrize("how", ["stretch", "aspect"])
def test_clip_sees_all_of_the_frame(how: str, model: MasQClipModel) -> None:
    """Stretched as published: bicubic, without antialiasing; in its own aspect with it."""
    model.config.clip_input = how
    size = (64, 64) if how == "stretch" else (48, 88)
    assert model.clip.config.vision_config.patch_size == 8
    pixels, _ = frames()
    resized = F.interpolate(
        pixels / 255, size=size, mode="bicubic", align_corners=False, antialias=how == "aspect"
    )
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    torch.testing.assert_close(model._clip_input(pixels), (resized - mean) / std)
    assert model.clip_size(pixels) == model.clip_size((32, 64)) == size
    rows, columns = size[0] // 8, size[1] // 8
    assert model.visible_patches(torch.zeros(1, 2, 8, 16)).shape == (1, 2, rows * columns)


def test_about_as_many_patches_in_any_aspect(model: MasQClipModel) -> None:
    model.config.clip_input = "aspect"
    sizes = {(64, 64): (64, 64), (64, 256): (32, 128), (256, 64): (128, 32), (1, 900): (8, 1920)}
    assert {frame: model.clip_size(frame) for frame in sizes} == sizes


def test_one_pass_gives_what_two_give(model: MasQClipModel) -> None:
    pixels, _ = frames()
    masks = torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens, together = model.encode_and_embed(pixels, masks)
        apart = model.embed_masks(model.encode_image(pixels), masks)
        patches = model.embed_patches(tokens, model.visible_patches(masks))
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together, patches, atol=1e-5, rtol=1e-5)


def test_words_are_optional_and_the_last_is_the_background(model: MasQClipModel) -> None:
    model.proposer = Straw()
    pixels, inside = frames()
    words = F.normalize(torch.randn(4, 32, generator=torch.Generator().manual_seed(2)), dim=-1)
    with torch.no_grad():
        plain = model(pixels, inside)
        named = model(pixels, inside, words)
        fewer = model(pixels, inside, words, num_classes=2)
    assert plain.class_log_probs is None
    assert plain.frame_size == (32, 64)
    assert plain.image_sizes == [(20, 64), (32, 40)]
    assert named.class_log_probs.shape == (2, 2, 3)
    torch.testing.assert_close(fewer.class_log_probs, named.class_log_probs[..., :2])
    cosines = F.normalize(named.mask_embeddings, dim=-1) @ words.T
    expected = (model.config.logit_scale * cosines).log_softmax(-1)[..., :3]
    torch.testing.assert_close(named.class_log_probs, expected, atol=1e-4, rtol=1e-4)
    objects = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).log_softmax(-1)[:, :1]
    torch.testing.assert_close(named.log_probs, expected + objects, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        whole = model(pixels)
    assert whole.image_sizes == [(32, 64), (32, 64)]


@pytest.mark.parametrize(("learned", "scale"), [(2.0, np.e**2), (4.6, np.e**4.6), (5.0, 100.0)])
def test_a_clip_names_at_the_temperature_it_learned_a_hundred_at_most(
    tiny: Segmenter, learned: float, scale: float
) -> None:
    """As OpenAI's training clips it."""
    clip, proposer = copy.deepcopy(tiny.model.clip), tiny.model.proposer
    with torch.no_grad():
        clip.logit_scale.fill_(learned)
    joined = MasQClipModel.from_parts(clip, proposer)
    assert joined.config.logit_scale == pytest.approx(scale, rel=1e-5)
    assert not joined.training
    assert not any(parameter.requires_grad for parameter in joined.clip.parameters())
    assert all(parameter.requires_grad for parameter in joined.queries.parameters())
    given = MasQClipModel.from_parts(clip, proposer, logit_scale=7.0, query_start="random")
    assert (given.config.logit_scale, given.config.query_start) == (7.0, "random")
    own = clip.vision_model.encoder.layers[0].self_attn.q_proj.weight
    assert torch.equal(joined.queries.projections[0].weight, own)
    assert not torch.equal(given.queries.projections[0].weight, own)


def test_a_folder_is_loaded_with_no_other_option(tmp_path: Any) -> None:
    with pytest.raises(MasqclipError, match="without the option 'device_map'"):
        MasQClipModel.from_pretrained(tmp_path, dtype=torch.float32, device_map="auto")
