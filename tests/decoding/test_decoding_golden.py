"""The decoders against numbers recorded from the published implementation.

``decoders.safetensors`` is the golden file with its masks bit-packed; ``decoded_models.safetensors``
holds the proposals, CLIP logits and decoded results of the two golden models (the semantic scores
on every eighth row).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from masqclip.decoding import masks as masks_module
from masqclip.decoding.instance import InstanceResult, decode_instance
from masqclip.decoding.masks import ResizedMasks, resize_masks
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic, semantic_scores

DATA = Path(__file__).parents[1] / "data"

Golden = tuple[dict[str, Tensor], dict[str, str]]


def load(name: str) -> Golden:
    with safe_open(DATA / name, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def unpack(packed: Tensor, height: int, width: int) -> Tensor:
    bits = np.unpackbits(packed.numpy(), axis=1, count=height * width)
    return torch.from_numpy(bits.reshape(-1, height, width).astype(bool))


@pytest.fixture(scope="module")
def decoders() -> Golden:
    return load("decoders.safetensors")


@pytest.fixture(scope="module")
def models() -> Golden:
    return load("decoded_models.safetensors")


@pytest.fixture(params=["whole", "bands"])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test twice: with the picture in one piece, and in bands of a few rows."""
    if request.param == "bands":
        monkeypatch.setattr(masks_module, "CHUNK_ELEMENTS", 5000)


def part(golden: Golden, name: str) -> Golden:
    """The tensors and settings whose names start with ``name.``."""
    tensors, settings = (
        {k.removeprefix(f"{name}."): v for k, v in entries.items() if k.startswith(f"{name}.")}
        for entries in golden
    )
    return tensors, settings


def assert_same_instances(
    found: InstanceResult, masks: Tensor, scores: Tensor, classes: Tensor, pixels: float = 0.0
) -> None:
    """The published list comes in no order: sort both by score, compare classes and masks."""
    order = scores.argsort(descending=True)
    assert torch.equal(found.class_ids, classes[order])
    torch.testing.assert_close(found.scores, scores[order], atol=1e-5, rtol=0)
    different = (found.masks != masks[order]).float().mean(dim=(1, 2))
    assert different.max() <= pixels


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("index", range(6))
def test_decoders_match_the_published_ones(decoders: Golden, index: int) -> None:
    settings = decoders[1]
    expected, _ = part(decoders, str(index))
    logits, log_probs = expected["mask_logits"], expected["log_probs"]
    num_classes, (height, width) = log_probs.shape[1], logits.shape[1:]
    stuff_ids = range(int(settings["n_things"]), num_classes)
    top_k = int(settings["topk"])

    torch.testing.assert_close(
        semantic_scores(logits, log_probs), expected["semantic"], atol=1e-5, rtol=0
    )
    semantic = decode_semantic(logits, log_probs)
    best, winner = expected["semantic"].max(dim=0)
    assert torch.equal(semantic.class_map, winner)
    torch.testing.assert_close(semantic.scores, best, atol=1e-5, rtol=0)

    panoptic = decode_panoptic(
        logits,
        log_probs,
        stuff_ids=stuff_ids,
        object_threshold=json.loads(settings["object_mask_threshold"])[index],
        overlap_threshold=json.loads(settings["overlap_threshold"])[index],
    )
    assert torch.equal(panoptic.segment_map, expected["panoptic"].int())
    assert [[s.id, s.class_id, int(s.thing)] for s in panoptic.segments] == expected[
        "segments"
    ].tolist()

    assert_same_instances(
        decode_instance(logits, log_probs, top_k=top_k),
        unpack(expected["ins_masks"], height, width),
        expected["ins_scores"],
        expected["ins_classes"],
    )
    assert_same_instances(
        decode_instance(logits, log_probs, top_k=top_k, stuff_ids=stuff_ids),
        unpack(expected["thing_masks"], height, width),
        expected["thing_scores"],
        expected["thing_classes"],
    )


def model_inputs(
    golden: dict[str, Tensor], settings: dict[str, str]
) -> tuple[ResizedMasks, Tensor]:
    """From a golden model's raw outputs to what the decoders take."""
    image_size = tuple(golden["image_size"].tolist())
    stride = int(settings["size_divisibility"])
    masks = ResizedMasks(
        golden["proposal_masks"][0],
        padded_size=tuple(-(-side // stride) * stride for side in image_size),
        image_size=image_size,
        output_size=tuple(json.loads(settings["output_size"])),
    )
    log_object = golden["proposal_logits"][0].log_softmax(-1)[:, :1]
    log_class = golden["clip_logits"][0].log_softmax(-1)[:, :-1]
    return masks, log_object + log_class


@pytest.mark.usefixtures("_bands")
def test_instances_of_a_golden_model(models: Golden) -> None:
    golden, settings = part(models, "instance")
    masks, log_probs = model_inputs(golden, settings)
    found = decode_instance(masks, log_probs, top_k=int(settings["detections_per_image"]))
    expected = unpack(golden["instance_masks"], *masks.output_size)
    assert_same_instances(
        found, expected, golden["instance_scores"], golden["instance_classes"], pixels=1e-3
    )


@pytest.mark.usefixtures("_bands")
def test_panoptic_and_semantic_of_a_golden_model(
    models: Golden,
) -> None:
    golden, settings = part(models, "panoptic")
    masks, log_probs = model_inputs(golden, settings)
    full = resize_masks(
        masks.logits,
        padded_size=masks.padded_size,
        image_size=masks.image_size,
        output_size=masks.output_size,
    )
    torch.testing.assert_close(
        semantic_scores(full, log_probs)[:, ::8], golden["semantic_scores"], atol=1e-5, rtol=0
    )
    panoptic = decode_panoptic(
        masks,
        log_probs,
        stuff_ids=range(int(settings["n_things"]), log_probs.shape[1]),
        object_threshold=float(settings["object_mask_threshold"]),
        overlap_threshold=float(settings["overlap_threshold"]),
    )
    assert torch.equal(panoptic.segment_map, golden["panoptic_map"].int())
    assert [
        {"id": s.id, "isthing": s.thing, "category_id": s.class_id} for s in panoptic.segments
    ] == json.loads(settings["segments_info"])
