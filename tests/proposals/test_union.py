"""Several proposers at once: each sees pictures in its own way, and each thing stays once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES
from PIL import Image
from torch import Tensor

from masqclip import MasqclipError, Segmenter
from masqclip.cli.main import main
from masqclip.encoding import seen_sizes
from masqclip.proposals.adapters import build_proposer, load_proposer
from masqclip.proposals.base import Proposals, object_log_scores
from masqclip.proposals.overlaps import scores_to_logits
from masqclip.proposals.segmenters import SegmenterProposer
from masqclip.proposals.sight import Sight
from masqclip.proposals.square import OUTSIDE
from masqclip.proposals.union import MAX_OVERLAP, UnionProposer, common_settings
from tiny import write_tiny_clip

PREPARED = {
    "mask2former-swin": {"size": {"shortest_edge": 64, "longest_edge": 96}},
    "eomt": {
        "size": {"shortest_edge": 64, "longest_edge": 64},
        "image_mean": 0.5,
        "image_std": 0.2,
    },
    "maskformer": {"size": {"shortest_edge": 40, "longest_edge": 64}, "image_mean": 0.4},
    "sam2": {"size": {"height": 64, "width": 64}},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP and proposers, each prepared in its own way."""
    home = tmp_path_factory.mktemp("parts")
    write_tiny_clip(home / "clip")
    torch.manual_seed(3)
    for name, told in PREPARED.items():
        FAMILIES[name]().save_pretrained(home / name)
        (home / name / "preprocessor_config.json").write_text(json.dumps(told))
    return home


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)


class Fixed(SegmenterProposer):
    """Says always the same."""

    def __init__(self, masks: Tensor, scores: list[float]) -> None:
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.masks, self.scores = masks, torch.tensor(scores)
        self.heard: list[tuple[Tensor, Tensor]] = []

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        self.heard.append((pixel_values, pixel_mask))
        count = len(pixel_values)
        return Proposals(
            self.masks.expand(count, *self.masks.shape),
            scores_to_logits(self.scores).expand(count, -1, -1),
        )


def boxes(*rows: tuple[int, int]) -> Tensor:
    masks = torch.full((len(rows), 16, 16), -5.0)
    for mask, (first, last) in zip(masks, rows, strict=True):
        mask[first:last] = 5.0
    return masks


WHOLE = Sight(shortest_edge=64, longest_edge=64, pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))


def test_the_better_of_two_masks_of_one_thing_stays() -> None:
    """Whichever part it is of; then come the others, and empty ones fill up."""
    one = Fixed(boxes((0, 8), (8, 16)), [0.6, 0.9])
    other = Fixed(boxes((0, 7), (4, 12)), [0.8, 0.1])
    frame = torch.zeros(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool)
    found = UnionProposer([one, other], [WHOLE, WHOLE])(*frame)
    expected = torch.stack([one.masks[1], other.masks[0], other.masks[1]])
    torch.testing.assert_close(found.mask_logits[0, :3], expected)
    assert (found.mask_logits[0, 3] == OUTSIDE).all()
    scores = object_log_scores(found.object_logits[0]).exp()
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8, 0.1, 1e-6]), atol=1e-6, rtol=1e-5)
    for most, kept in ((0.2, [True, True, False, False]), (0.9, [True] * 4)):
        found = UnionProposer([one, other], [WHOLE, WHOLE], max_overlap=most)(*frame)
        scores = object_log_scores(found.object_logits[0]).exp()
        assert (scores > 1e-3).tolist() == kept, "an IoU of 7/8 is above the one, of 4/12 also"


def test_a_score_that_is_no_number_is_the_last() -> None:
    one, other = Fixed(boxes((0, 8)), [0.5]), Fixed(boxes((0, 8)), [0.9])
    other.scores = torch.tensor([torch.nan])
    union = UnionProposer([one, other], [WHOLE, WHOLE])
    found = union(torch.zeros(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool))
    torch.testing.assert_close(object_log_scores(found.object_logits[0])[0].exp().item(), 0.5)


def test_each_part_sees_pictures_in_its_own_way() -> None:
    """Its own normalisation, its own size and frame; its masks come back to where they are."""
    halves = Fixed(torch.cat([boxes((0, 4))[:, :8, :8]]), [0.5])
    small = Sight(shortest_edge=20, longest_edge=30, pixel_mean=(10, 20, 30), pixel_std=(2, 4, 8))
    same = Fixed(boxes((0, 4), (4, 9)), [0.7, 0.6])
    union = UnionProposer([same, halves], [WHOLE, small])
    inside = torch.zeros(2, 64, 64, dtype=torch.bool)
    inside[0, :40, :60], inside[1, :, :64] = True, True
    pixels = torch.full((2, 3, 64, 64), 100 / 255) * inside[:, None]
    found = union(pixels, inside)
    # The first has its edges at 64: the pictures of 40 x 60 grow, those of 64 x 64 are as they are.
    sizes = [(mask.any(1).sum().item(), mask.any(0).sum().item()) for _, mask in same.heard
             for mask in mask]  # fmt: skip
    assert sizes == [(43, 64), (64, 64)]
    torch.testing.assert_close(same.heard[0][0][0, :, :43], torch.full((3, 43, 64), 100.0))
    told = [(values, mask) for values, mask in halves.heard]
    assert [values.shape[2:] for values, _ in told] == [(32, 32)], "frames of one size go together"
    ((values, mask),) = told
    assert [(m.any(1).sum().item(), m.any(0).sum().item()) for m in mask] == [(20, 30), (20, 20)]
    expected = torch.tensor([45.0, 20.0, 8.75])
    torch.testing.assert_close(values[0, :, :20, :30], expected.view(3, 1, 1).expand(3, 20, 30))
    assert (values[0, :, 20:] == 0).all(), "padding is zero once it is normalised"
    # Rows above 16 of 20 are the upper four fifths of the picture: 32 of 40 rows.
    scores = object_log_scores(found.object_logits[0]).exp()
    mask = found.mask_logits[0, (scores - 0.5).abs().argmin()] > 0
    assert mask[:, :15].all(1).sum().item() == 8
    assert (found.mask_logits[0, :, 10:] == OUTSIDE).all()


def test_common_settings() -> None:
    wide = Sight(shortest_edge=800, longest_edge=1333, size_divisor=64)
    square = Sight(shortest_edge=1024, longest_edge=1024, size_divisor=128)
    told = common_settings([wide, square], [False, True])
    assert told["shortest_edge"] == 1024
    assert told["longest_edge"] == 1333
    assert told["size_divisor"] == 64
    assert MAX_OVERLAP == 0.7


def test_a_part_says_what_it_says_alone(folders: Path) -> None:
    """Where sizes agree to the pixel; a union of one segmenter and itself is that segmenter."""
    alone = Segmenter.from_parts(folders / "clip", folders / "mask2former-swin")
    names = ["mask2former-swin", "maskformer"]
    both = Segmenter.from_parts(folders / "clip", [folders / name for name in names])
    one, two = alone.encode(picture()), both.encode(picture())
    assert one.frame_size == two.frame_size == (64, 96)
    assert two.mask_logits.shape == (14, 16, 24)
    scores = object_log_scores(two.object_logits)
    found = 0
    for mask, logits in zip(one.mask_logits, one.object_logits, strict=True):
        near = (two.mask_logits - mask).abs().amax(dim=(1, 2)) < 1e-3
        if near.any():
            found += 1
            score = object_log_scores(logits)
            torch.testing.assert_close(scores[near][0], score, atol=1e-3, rtol=1e-3)
    assert found >= 1, "of masks that repeat one another only the best are there"


def test_three_of_all_kinds_save_and_load_as_one(folders: Path, tmp_path: Path) -> None:
    names = ["mask2former-swin", "eomt", "sam2"]
    segmenter = Segmenter.from_parts(folders / "clip", [folders / name for name in names])
    config = segmenter.model.config
    assert config.proposer_type == "union"
    assert [part["sight"]["pixel_mean"][0] for part in config.proposer_config["parts"]] == (
        [123.675, 127.5, 123.675]
    )
    assert segmenter.model.proposer.parts[1].black == pytest.approx((-2.5, -2.5, -2.5))
    assert (config.shortest_edge, config.longest_edge) == (64, 96)
    said = "the proposers see 96 x 64 and 64 x 43 and 64 x 64 pixels, CLIP 64 x 64"
    assert seen_sizes(config, 60, 90) == said
    encoded = segmenter.encode(picture())
    assert encoded.mask_logits.shape == (21, 16, 24)
    assert repr(segmenter).count(" + ") == 3
    for task in ("instance", "semantic", "panoptic"):
        segmenter(encoded, ["cat", "dog"], task, min_score=0.0)
    segmenter.save_pretrained(tmp_path / "model")
    loaded = Segmenter.from_pretrained(tmp_path / "model")
    assert loaded.model.proposer.sights == segmenter.model.proposer.sights
    again = loaded.encode(picture())
    torch.testing.assert_close(again.mask_logits, encoded.mask_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.object_logits, encoded.object_logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again.mask_embeddings, encoded.mask_embeddings, atol=1e-4, rtol=1e-4)


def test_batches_do_not_matter(folders: Path) -> None:
    names = ["eomt", "maskformer"]
    segmenter = Segmenter.from_parts(folders / "clip", [folders / name for name in names])
    model = segmenter.model
    frames = 255 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    inside = torch.zeros(2, 64, 64, dtype=torch.bool)
    inside[0, :60, :50], inside[1, :, :64] = True, True
    frames = frames * inside[:, None]
    with torch.inference_mode():
        both = model.propose(frames, inside)
        one = model.propose(frames[1:], inside[1:])
    torch.testing.assert_close(both.mask_logits[1:], one.mask_logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(both.object_logits[1:], one.object_logits, atol=1e-3, rtol=1e-3)


def test_another_size_holds_for_all_parts(folders: Path, tmp_path: Path) -> None:
    named = [folders / name for name in ("mask2former-swin", "maskformer", "eomt")]
    segmenter = Segmenter.from_parts(folders / "clip", named, size="48:70")
    seen = "the proposers see 70 x 47 and 70 x 47 and 64 x 43 pixels, CLIP 64 x 64"
    assert seen_sizes(segmenter.model.config, 60, 90) == seen
    segmenter.save_pretrained(tmp_path)
    loaded = Segmenter.from_pretrained(tmp_path)
    assert seen_sizes(loaded.model.config, 60, 90) == seen
    other = Segmenter.from_pretrained(tmp_path, size="32:64")
    assert [sight.shortest_edge for sight in other.model.proposer.sights] == [32, 32, 32]
    assert "96 x 32" not in seen_sizes(other.model.config, 60, 90)


def test_what_is_no_union(folders: Path) -> None:
    clip = folders / "clip"
    with pytest.raises(MasqclipError, match="0 proposers are named: give 1 to 8"):
        Segmenter.from_parts(clip, [])
    with pytest.raises(MasqclipError, match="9 proposers are named"):
        Segmenter.from_parts(clip, [folders / "eomt"] * 9)
    part = {
        "proposer_type": "eomt",
        "proposer_config": load_proposer(folders / "eomt").config.to_dict(),
        "sight": WHOLE.described(),
    }
    whole = {"parts": [part, part], "max_overlap": 0.7}
    build_proposer("union", whole)
    for changed, said in (
        ({"parts": [part]}, "describes no union: it has 2 to 8 parts"),
        ({"parts": None}, "describes no union"),
        ({"max_overlap": 2}, "max_overlap = 2: it is a number from 0 to 1"),
        ({"parts": [part, {}]}, "part 2 of the model's proposer_config describes no proposer"),
        ({"parts": [part, part | {"proposer_type": "union"}]}, "no proposer of type 'union'"),
        ({"parts": [part, part | {"sight": {"pixel_std": [0, 1, 1]}}]}, "part 2 .* pixel_std"),
        ({"parts": [part, part | {"sight": {"size": 3}}]}, "an unknown setting 'size'"),
        ({"parts": [part, part | {"sight": {"shortest_edge": -1}}]}, "shortest_edge is -1"),
    ):
        with pytest.raises(MasqclipError, match=said):
            build_proposer("union", whole | changed)


def test_on_the_command_line(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    words = ["segment", str(tmp_path / "a.png"), "-v", "cat, sky", "--out", str(tmp_path / "out")]
    words += ["--clip", str(folders / "clip"), "--device", "cpu"]
    words += ["--proposer", str(folders / "eomt"), "--proposer", str(folders / "maskformer")]
    assert main(words) == 0
    assert not capsys.readouterr().err
    document = json.loads((tmp_path / "out" / "a.panoptic.json").read_text())
    assert document["model"].count(" + ") == 2
    assert any("the proposers see 64 x 43 and 60 x 40" in note for note in document["notes"])
