"""``everything``: all proposals, unnamed, with suggestions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from masqclip import MasqclipError, Segmentation, Segmenter, Vocabulary
from masqclip.batch.settings import JobSettings
from masqclip.cli.main import main
from masqclip.clip.masked_vision import ImageTokens
from masqclip.configuration import MasQClipConfig
from masqclip.data.images import read_image
from masqclip.encoding import EncodedImage
from masqclip.everything import suggestions
from masqclip.model import MasQClipModel
from masqclip.segments import nearest_names
from masqclip.serve.answers import to_document

BEACH = Path(__file__).parents[1] / "examples/beach.png"


class Straw(MasQClipModel):
    """Names masks by the numbers that they hold."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.config = MasQClipConfig()

    def classify(self, embeddings: torch.Tensor, rows: torch.Tensor, classes: int) -> torch.Tensor:
        return (embeddings @ rows.T).log_softmax(dim=-1)[..., :classes]


def test_each_proposal_has_its_object_score_under_the_nearest_name_alone() -> None:
    objects = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    picture = EncodedImage(
        image=read_image(np.zeros((8, 8, 3), np.uint8)),
        mask_logits=torch.zeros(3, 8, 8),
        object_logits=objects,
        mask_embeddings=torch.tensor([[0.0, 3, 0, 0], [1, 0, 0, 0], [0, 0, 9, 0]]),
        tokens=ImageTokens((), ()),
        frame_size=(8, 8),
        resized=(8, 8),
    )
    words = Vocabulary.parse("cat, dog", distractors="bird")
    scores = nearest_names(Straw(), picture, torch.eye(4), words)
    object_scores = objects.softmax(dim=1)[:, 0]
    expected = torch.zeros(3, 2)
    expected[0, 1], expected[1, 0] = object_scores[0], object_scores[1]
    torch.testing.assert_close(scores.exp(), expected)  # the third is a bird


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_all_there_is_is_found(segmenter: Segmenter, beach: EncodedImage, task: str) -> None:
    result = segmenter(beach, " everything ", task)  # type: ignore[call-overload]
    assert result.names == ("object",)
    assert set(result.labels) == {"object"}
    assert set(result.class_ids) == {0}
    assert {"rocket", "car", "snake", "tulip"} <= {segment.suggestion for segment in result}
    assert all(segment.thing for segment in result)
    assert "rocket?" in result.summary()
    assert any("question mark" in note for note in result.notes)
    assert not any("never read" in note for note in result.notes)


def test_without_a_least_score_only_proposals_are_reported(
    segmenter: Segmenter, beach: EncodedImage
) -> None:
    result = segmenter(beach, "everything", "instance", min_score=0.0)
    assert 4 < len(result) <= len(beach.mask_logits)
    assert (result.scores > 0).all()


def test_everything_but_what_competes(segmenter: Segmenter, beach: EncodedImage) -> None:
    without = segmenter(beach, "everything", distractors="snake")
    assert "snake" not in {segment.suggestion for segment in without}
    assert "rocket" in {segment.suggestion for segment in without}
    example = segmenter.example("it", beach, box=(256, 410, 378, 496))
    without = segmenter(beach, "everything", distractors=example)
    assert "car" not in {segment.suggestion for segment in without}


def test_suggestions_are_what_the_model_has_read_or_a_large_list(segmenter: Segmenter) -> None:
    words = Vocabulary.parse("everything", distractors="Snake")
    assert segmenter.world is not None
    own = suggestions(words, segmenter.world)
    assert set(own.names) == segmenter.world.names - {"snake"}
    assert own.unnamed
    assert own.distractors == ("Snake",)
    large = suggestions(Vocabulary.parse("everything"), None)
    assert len(large) == 847
    assert not large.stuff_ids


def test_it_comes_back_from_json_and_is_drawn_by_suggestions(
    segmenter: Segmenter, beach: EncodedImage
) -> None:
    result = segmenter(beach, "everything")
    document = result.to_json()
    again = Segmentation.from_json(json.loads(json.dumps(document)), result.image)
    assert again.to_json() == document
    assert [s["suggestion"] for s in document["segments"]] == [s.suggestion for s in again]
    assert np.array_equal(np.asarray(again.plot()), np.asarray(result.plot()))
    named = segmenter(beach, "rocket, car")
    assert "suggestion" not in named.to_json()["segments"][0]
    colours = {one["suggestion"]: one["colour"] for one in to_document(result)["segments"]}
    assert len(set(colours.values())) == len(colours) > 3
    assert json.dumps(result.to_coco())  # as objects of one class


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda s, p: s(p, "everything", "semantic"), "semantic ones need names"),
        (lambda s, p: Vocabulary.parse("cat").joined(Vocabulary.parse("everything")), "no list"),
    ],
)
def test_what_needs_names_says_so(
    segmenter: Segmenter,
    beach: EncodedImage,
    wrong: Callable[[Segmenter, EncodedImage], object],
    said: str,
) -> None:
    with pytest.raises(MasqclipError, match=said):
        wrong(segmenter, beach)


def test_it_is_kept_in_files_and_in_the_settings_of_jobs(tmp_path: Path) -> None:
    words = Vocabulary.parse("everything", distractors="snake")
    words.save(tmp_path / "all.json")
    assert Vocabulary.parse(tmp_path / "all.json") == words
    assert words.unnamed
    settings = JobSettings(inputs=("x",), kind="files", model="masqclip-mini", vocabulary=words)
    assert JobSettings.from_json(settings.to_json()).vocabulary == words


def test_the_command_line_lists_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["segment", str(BEACH), "--vocabulary", "everything", "--out", str(tmp_path)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "rocket?" in told
    assert "not found" not in told
    document = json.loads((tmp_path / "beach.panoptic.json").read_text())
    assert document["vocabulary"] == ["object"]


@pytest.mark.parametrize("command", [["info"], ["info", "everything"]])
def test_it_is_told_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    assert "everything" in (told := capsys.readouterr().out)
    assert "unnamed" in told


def test_a_vocabulary_of_everything_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocabulary", "show", "everything"]) == 0
    assert "all there is" in capsys.readouterr().out
