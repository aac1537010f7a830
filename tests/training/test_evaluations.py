"""What a stage says of held-out pictures while it trains, and the sheets that it draws of them."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from masqclip.data.coco import CocoPanoptic, is_base
from masqclip.evaluation.recall import recall
from masqclip.proposals.base import Proposals
from masqclip.training import sheets, tune
from masqclip.training.inputs import dataset_notes
from masqclip.training.settings import TeacherSettings, TuneSettings
from masqclip.training.stage import batch_losses
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join
from tiny import tiny_proposer_config

TUNE = TuneSettings(
    augmentation="jitter", image_size=64, masks="ground-truth", shortest_edge=64, longest_edge=96
)


@pytest.fixture
def tuning(
    tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> TuneStage:
    monkeypatch.setattr(sheets, "PICTURES", 1)  # drawing takes long
    model, tokenizer = join(tiny_clip, tiny_proposer, TUNE)
    data = CocoPanoptic(tiny_scenes, keep=is_base)
    return TuneStage(model, tokenizer, data, TUNE, held_out=data)


def by_hand(stage: TuneStage, pictures: int) -> float:
    """The share of a picture's masks that are named rightly, over all pictures at once."""
    samples = [stage.dataset[row] for row in range(pictures)]
    group = stage.group([stage.frame(sample) for sample in samples], samples)
    return float(batch_losses(stage, {"groups": [group], "skipped": []})["named"])


@torch.no_grad()
def test_tuning_is_measured_by_the_share_of_masks_that_are_named_rightly(
    tuning: TuneStage, tmp_path: Path
) -> None:
    """A share of all masks together, not a mean over pictures, of frames without augmentation."""
    words = tuning.text_embeddings  # of a CLIP that knows nothing: give it words that fit some
    for turned in range(len(words)):
        tuning.text_embeddings = words.roll(turned, dims=0)
        if by_hand(tuning, len(tuning.dataset)) > 0:
            break
    found = tuning.evaluate(tmp_path, 7)
    assert found == {"named": pytest.approx(by_hand(tuning, len(tuning.dataset)))}
    assert 0 < found["named"] < 1
    assert [path.name for path in tmp_path.iterdir()] == ["overlays-00000007.png"]


@torch.no_grad()
def test_an_evaluation_looks_at_the_first_pictures_only(
    tuning: TuneStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tune.EVALUATED == 200
    monkeypatch.setattr(tune, "EVALUATED", 3)
    assert tuning.evaluate(tmp_path, 1)["named"] == pytest.approx(by_hand(tuning, 3))


def test_nothing_to_name_is_none_named(
    tuning: TuneStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning.dataset.categories, "kept", set())
    assert tuning.evaluate(tmp_path, 1) == {"named": 0.0}


def test_a_teacher_is_measured_by_recall(tiny_scenes: Path, tmp_path: Path) -> None:
    data = CocoPanoptic(tiny_scenes, keep=is_base)
    settings = TeacherSettings(image_size=64, freeze_batch_norm=False)
    stage = TeacherStage(data, tiny_proposer_config(), settings, held_out=data)
    stage.module.eval()
    found = stage.evaluate(tmp_path, 12)
    expected = recall(stage.module, data)
    assert found == {f"recall {name}": expected[name] for name in ("all", "things", "stuff")}
    assert next(iter(found)) == "recall all"  # the first decides which weights are best
    assert [path.name for path in tmp_path.iterdir()] == ["proposals-00000012.png"]


def test_without_held_out_pictures_nothing_is_measured(
    tuning: TuneStage, tiny_scenes: Path, tmp_path: Path
) -> None:
    tuning.held_out = None
    data = CocoPanoptic(tiny_scenes, keep=is_base)
    settings = TeacherSettings(image_size=64, freeze_batch_norm=False)
    teacher = TeacherStage(data, tiny_proposer_config(), settings)
    assert tuning.evaluate(tmp_path, 1) == teacher.evaluate(tmp_path, 1) == {}
    assert not list(tmp_path.iterdir())


class Halves(nn.Module):
    """Proposes the left half with a score, the right half with another."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, pixels: Tensor, inside: Tensor) -> Proposals:
        masks = torch.full((1, 2, 16, 16), -9.0)
        masks[0, 0, :, :8], masks[0, 1, :, 8:] = 9.0, 9.0
        return Proposals(masks, torch.stack([self.scores.logit(), torch.zeros(2)], -1)[None])


def test_a_sheet_shows_the_proposals_that_are_sure(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a score of a half on, over the first twelve pictures, each with what is annotated."""
    data = CocoPanoptic(tiny_scenes)
    said: list[Any] = []
    real = sheets.contact_sheet

    def note(pictures: Any, captions: Any, **more: Any) -> Image.Image:
        said.append(captions)
        return real(pictures, captions, **more)

    monkeypatch.setattr(sheets, "contact_sheet", note)
    annotated = len(data[0].masks)
    sheets.write_proposal_sheet(Halves(0.4, 0.1), data, tmp_path / "sheet.png")
    assert len(said.pop()) == 12
    monkeypatch.setattr(sheets, "PICTURES", 1)
    for scores, objects in (((0.9, 0.4), 1), ((0.6, 0.51), 2), ((0.5, 0.1), 1), ((0.4, 0.1), 0)):
        sheets.write_proposal_sheet(Halves(*scores), data, tmp_path / "sheet.png")
        assert said.pop() == [f"{objects} objects, {annotated} annotated"]


def test_a_sheets_masks_have_the_pictures_place_and_size() -> None:
    """Frames are padded to a multiple of 32; what stands in the padding is cut off."""
    masks, scores = sheets._propose(Halves(0.75, 0.25), torch.zeros(3, 40, 48, dtype=torch.uint8))
    assert masks.shape == (2, 40, 48)
    assert masks[0].nonzero()[:, 1].max() == 31  # half of 64
    assert masks[1].nonzero()[:, 1].min() == 32
    torch.testing.assert_close(scores, torch.tensor([0.75, 0.25]))


def test_held_out_pictures_that_are_trained_on_are_told(tiny_scenes: Path) -> None:
    scenes = CocoPanoptic(tiny_scenes)
    line = "held-out pictures are trained on, too: figures of them tell nothing of new ones"
    assert dataset_notes(scenes, scenes) == (f"12 of 12 {line}",)
    first, others = scenes.part(range(5)), scenes.part(range(3, 9))
    assert dataset_notes(first, others) == (f"2 of 6 {line}",)
    assert dataset_notes(*scenes.hold_out(0.5)) == ()
    assert dataset_notes(scenes, None) == ()
    elsewhere = copy(scenes)
    elsewhere.image_folder = tiny_scenes / "semantic"
    assert dataset_notes(scenes, elsewhere) == ()
