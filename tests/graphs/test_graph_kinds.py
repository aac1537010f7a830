"""Every kind of proposer and of tower as a graph with sizes left open, against the model itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exported_models import Traced, apart, pictures, seen_by_model, segmenter_of

from masqclip.encoding import frame_picture
from masqclip.graphs.modules import ImageGraph
from masqclip.graphs.traceable import traceable

# A size of pictures, and frames of them: not those that were traced. Each with a picture inside.
ANY = (((64, 160), (64, 150)), ((192, 96), (185, 96)))
SQUARE = (((96, 32), (96, 27)), ((64, 96), (50, 96)), ((96, 96), (96, 96)))


@pytest.mark.parametrize(
    ("proposer", "clip", "frames"),
    [
        ("mask2former-swin", "clip", ANY),
        ("eomt", "siglip", SQUARE),
        ("eomt_dinov3", "eva02", SQUARE),
    ],
)
def test_a_graph_gives_what_the_model_gives(
    tmp_path: Path,
    proposer: str,
    clip: str,
    frames: tuple[tuple[tuple[int, int], tuple[int, int]], ...],
) -> None:
    segmenter = segmenter_of(tmp_path, proposer, clip)
    weights = {name: x.clone() for name, x in segmenter.model.state_dict().items()}
    graph = Traced(segmenter, "image")
    for count, (frame, inside) in enumerate(frames, start=1):
        pixels, sizes = pictures(frame, inside, count)
        told = seen_by_model(segmenter, pixels, sizes)
        assert apart(graph.run(pixels=pixels, size=sizes), told) < 1e-4
        assert min(float(x.std()) for x in told) > 1e-3
    after = segmenter.model.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], x) for name, x in weights.items())


@pytest.mark.parametrize("clip", ["siglip2", "metaclip_2", "tipsv2"])
def test_words_of_every_family(tmp_path: Path, clip: str) -> None:
    segmenter = segmenter_of(tmp_path, "eomt", clip)
    words = segmenter.text.words
    ids = words.pad(words.token_ids(["cat", "a red car on grass", ""]))
    with torch.inference_mode():
        told = words.embed(ids)
    assert apart(Traced(segmenter, "text").run(token_ids=ids), [told]) < 1e-4
    assert float(told.std()) > 1e-3


@pytest.mark.parametrize("clip", ["pe", "tipsv2"])
def test_given_masks_of_towers_with_and_without_a_class_token(tmp_path: Path, clip: str) -> None:
    segmenter = segmenter_of(tmp_path, "eomt", clip)
    graph = Traced(segmenter, "masks")
    picture = (torch.rand(50, 64, 3, generator=torch.Generator().manual_seed(1)) * 255).byte()
    masks = torch.zeros(3, 50, 64, dtype=torch.uint8)
    masks[0, 3:40, 5:30] = 1
    masks[1, 20, 60] = 1  # the third is empty
    frame, inside = frame_picture(picture.numpy(), segmenter.model.config)
    found = graph.run(pixels=frame[None], size=torch.tensor([inside]), masks=masks)
    told = segmenter.embed_masks(picture.numpy(), masks.bool().numpy())
    assert apart(found, [torch.as_tensor(told)]) < 1e-4


def test_what_stands_in_the_way_of_tracing_is_as_before_afterwards(tmp_path: Path) -> None:
    segmenter = segmenter_of(tmp_path, "eomt", "clip")
    proposer = segmenter.model.proposer.segmenter
    before = proposer.attn_mask_probs

    def stop() -> None:
        with traceable(ImageGraph(segmenter.model)):
            assert proposer.attn_mask_probs == [1.0]
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop()
    assert proposer.attn_mask_probs is before
    assert "segmenter.attn_mask_probs" in segmenter.model.proposer.state_dict()


def test_patches_that_keep_a_pictures_aspect_in_a_frame_of_one_size(tmp_path: Path) -> None:
    segmenter = segmenter_of(tmp_path, "eomt", "clip")
    segmenter.model.config.clip_input = "aspect"
    graph = Traced(segmenter, "masks", (32, 96))
    pixels, size = pictures((32, 96), (32, 90))
    masks = torch.zeros(2, 64, 120, dtype=torch.uint8)
    masks[0, :30, :40] = masks[1, 30:, 60:] = 1
    with torch.inference_mode():
        told = graph.module(pixels, size, masks)
    assert len(set(segmenter.model.clip_size(pixels))) == 2
    assert apart(graph.run(pixels=pixels, size=size, masks=masks), [told]) < 1e-4
