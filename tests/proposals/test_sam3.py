"""SAM 3: what it is asked for, and what becomes of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES
from PIL import Image

from masqclip import MasqclipError, Segmenter
from masqclip.cli.main import main
from masqclip.proposals.base import object_log_scores
from masqclip.proposals.picture_settings import picture_settings
from masqclip.proposals.progress import listening
from masqclip.proposals.sam3 import GENERAL, Sam3Proposer
from masqclip.proposals.words import asked, asking
from masqclip.towers.tokenizer import load_tokenizer
from tiny import write_tiny_clip


@pytest.fixture
def sam3() -> Sam3Proposer:
    torch.manual_seed(0)
    return Sam3Proposer(FAMILIES["sam3"]().config).eval()


def heard(proposer: Sam3Proposer, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The prompts that are asked for, as they come."""
    prompts: list[list[int]] = []
    run = proposer.segmenter.forward

    def spy(**given: Any) -> Any:
        assert given["attention_mask"].all()
        prompts.append(given["input_ids"][0].tolist())
        return run(**given)

    monkeypatch.setattr(proposer.segmenter, "forward", spy)
    return prompts


def frame() -> tuple[torch.Tensor, torch.Tensor]:
    inside = torch.ones(2, 64, 96, dtype=torch.bool)
    inside[1, :, 64:] = False
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)), inside


def test_it_is_asked_for_things_in_general() -> None:
    ids = load_tokenizer()(["object", "thing"])["input_ids"]
    assert [tuple(prompt) for prompt in ids] == list(GENERAL)


@torch.no_grad()
def test_masks_score_as_the_phrase_and_the_mask_do(
    sam3: Sam3Proposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is encoded once; of all words' masks the best are kept, each once, best first."""
    encode, encoded = sam3.segmenter.get_vision_features, []
    monkeypatch.setattr(
        sam3.segmenter, "get_vision_features", lambda x: encoded.append(x.shape) or encode(x)
    )
    prompts = heard(sam3, monkeypatch)
    told: list[tuple[int, int]] = []
    with listening(lambda done, total: told.append((done, total))):
        found = sam3(*frame())
    assert encoded == [(2, 3, 64, 64)]
    assert [tuple(prompt) for prompt in prompts] == list(GENERAL)
    assert told == [(1, 2), (2, 2)]
    assert found.mask_logits.shape == (2, 7, 16, 24)
    scores = object_log_scores(found.object_logits).exp()
    assert (scores.diff(dim=1) <= 0).all()
    everything = []
    for prompt in GENERAL:
        ids = torch.tensor([prompt])
        squares = torch.nn.functional.interpolate(
            frame()[0][:1], size=(64, 64), mode="bilinear", antialias=True
        )
        answer = sam3.segmenter(
            vision_embeds=encode(squares), input_ids=ids, attention_mask=torch.ones_like(ids)
        )
        everything.append(answer.pred_logits.sigmoid() * answer.presence_logits.sigmoid())
    expected = torch.cat(everything, dim=1)[0].sort(descending=True).values[:7]
    torch.testing.assert_close(scores[0], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_words_of_the_users(sam3: Sam3Proposer, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold within, and are cut to what the text encoder reads, the end kept."""
    prompts = heard(sam3, monkeypatch)
    with asking([[49406, 2368, 49407], [49406, *range(20), 49407]]):
        sam3(*frame())
    assert asked() is None
    sam3(*frame())
    assert prompts[0] == [49406, 2368, 49407]
    assert prompts[1] == [49406, *range(6), 49407], "eight positions"
    assert [tuple(prompt) for prompt in prompts[2:]] == list(GENERAL)


def test_many_words_take_no_more_memory_than_a_few(sam3: Sam3Proposer) -> None:
    sam3.config.num_proposals = 1
    words = [[49406, word, 49407] for word in range(6)]
    with asking(words), torch.no_grad():
        masks, scores = sam3._everything(torch.randn(1, 3, 64, 64))
    assert masks.shape[1] == scores.shape[1] == 4


def test_it_sees_pictures_about_one_half(tmp_path: Path) -> None:
    """As transformers' own processor does where a file is silent, or there is none."""
    for kind in ("sam3", "sam3_video"):
        (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
        told = picture_settings(tmp_path)
        assert told["pixel_mean"] == told["pixel_std"] == (127.5, 127.5, 127.5)
        assert (told["shortest_edge"], told["longest_edge"]) == (1008, 1008)


def test_names_of_a_vocabulary_are_what_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_clip(tmp_path / "clip")
    torch.manual_seed(1)
    FAMILIES["sam3"]().save_pretrained(tmp_path / "sam3")
    FAMILIES["eomt"]().save_pretrained(tmp_path / "eomt")
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    segmenter = Segmenter.from_parts(tmp_path / "clip", tmp_path / "sam3", size=64)
    assert segmenter.proposer_words == "own"
    proposer = segmenter.model.proposer
    assert isinstance(proposer, Sam3Proposer)
    prompts = heard(proposer, monkeypatch)
    segmenter(picture, "cat, traffic light", distractors="dog")
    assert [tuple(prompt) for prompt in prompts] == list(GENERAL)
    segmenter.proposer_words = "vocabulary"
    prompts.clear()
    segmenter(picture, "cat, traffic light", distractors="dog")
    assert prompts == load_tokenizer()(["cat", "traffic light", "dog"])["input_ids"]
    prompts.clear()
    segmenter.encode(picture)
    assert [tuple(prompt) for prompt in prompts] == list(GENERAL), "no name is known yet"
    with pytest.raises(MasqclipError, match="is 'all': it is 'own' or 'vocabulary'"):
        segmenter.proposer_words = "all"  # type: ignore[assignment]
    both = Segmenter.from_parts(tmp_path / "clip", [tmp_path / "sam3", tmp_path / "eomt"], size=64)
    both.proposer_words = "vocabulary"
    alone = Segmenter.from_parts(tmp_path / "clip", tmp_path / "eomt", size=64)
    with pytest.raises(MasqclipError, match="takes no words: use a SAM 3"):
        alone.proposer_words = "vocabulary"


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_clip(tmp_path / "clip")
    torch.manual_seed(1)
    for kind in ("sam3", "eomt"):
        FAMILIES[kind]().save_pretrained(tmp_path / kind)
    Image.new("RGB", (64, 64), (200, 90, 30)).save(tmp_path / "a.png")
    words = ["segment", str(tmp_path / "a.png"), "-v", "cat", "--out", str(tmp_path / "out")]
    words += ["--clip", str(tmp_path / "clip"), "--size", "64", "--device", "cpu"]
    words += ["--proposer-words", "vocabulary", "--proposer"]
    assert main([*words, str(tmp_path / "eomt")]) == 2
    assert "takes no words: use a SAM 3" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "sam3")]) == 0
    assert "minutes" not in capsys.readouterr().err, "a small one is quick, and says nothing"
