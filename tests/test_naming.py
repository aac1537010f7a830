"""From an encoded picture to named segments and back to options: what each of them changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from masqclip import assembly, given_masks
from masqclip import segmenter as segmenting
from masqclip.clip.vocabulary import Vocabulary
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.result import Segmentation, Task
from masqclip.segment import Segment
from masqclip.segmenter import MIN_SCORE, Segmenter, least_object_score
from masqclip.segments import find_segments, segment_encoded
from test_segmenter import NAMES, noise, tiny
from test_segments import encoded

__all__ = ["tiny"]  # the fixture

WORDS = Vocabulary.parse("cat, dog, stuff: sky")
SURE, FALSE = 200.0, -200.0


def found(
    task: Task, masks: list[list[float]], probs: list[list[float]], **options: float
) -> tuple[Segment, ...]:
    """The segments of a picture of one row."""
    logits = torch.tensor(masks)[:, None]
    width = logits.shape[2]
    picture = replace(
        encoded(1, width), mask_logits=logits, frame_size=(1, width), resized=(1, width)
    )
    options = {"min_score": 0.3, "overlap_threshold": 0.3} | options
    return find_segments(task, picture.masks, torch.tensor(probs).log(), WORDS, **options)


def rows(found: tuple[Segment, ...]) -> list[tuple[Any, ...]]:
    return [(s.id, s.name, s.class_id, s.thing, s.mask[0].astype(int).tolist()) for s in found]


MASKS = [[SURE, SURE, FALSE, FALSE], [FALSE, FALSE, SURE, FALSE], [FALSE, FALSE, FALSE, SURE]]
PROBS = [[0.125, 0.5, 0.0], [0.75, 0.0, 0.0], [0.0, 0.0, 0.875]]


def test_instances_are_things_the_best_first() -> None:
    segments = found("instance", MASKS, PROBS)
    assert rows(segments) == [
        (1, "cat", 0, True, [0, 0, 1, 0]),
        (2, "dog", 1, True, [1, 1, 0, 0]),
    ]
    assert [s.score for s in segments] == pytest.approx([0.75, 0.5])
    assert len(found("instance", MASKS, PROBS, min_score=0.1)) == 3
    assert len(found("instance", MASKS, PROBS, min_score=0.6)) == 1


def test_classes_of_a_map_stand_in_the_order_of_the_names() -> None:
    segments = found("semantic", MASKS, PROBS)
    expected = [
        (1, "cat", 0, True, [0, 0, 1, 0]),
        (2, "dog", 1, True, [1, 1, 0, 0]),
        (3, "sky", 2, False, [0, 0, 0, 1]),
    ]
    assert rows(segments) == expected
    assert [s.score for s in segments] == pytest.approx([0.75, 0.5, 0.875])
    assert rows(found("semantic", MASKS, PROBS, min_score=0.6)) == [
        expected[0],
        (2, *expected[2][1:]),
    ]


def test_a_class_scores_the_mean_of_its_pixels_one_at_most() -> None:
    """Where several proposals agree a vote exceeds 1."""
    masks = [[SURE, SURE, FALSE], [SURE, FALSE, FALSE], [SURE, SURE, SURE]]
    (cat,) = found("semantic", masks, [[0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.25, 0.0, 0.0]],
                   min_score=0.0)  # fmt: skip
    assert cat.score == pytest.approx((1.25 + 0.75 + 0.25) / 3)
    (sure,) = found("semantic", masks, [[0.9, 0.0, 0.0]] * 3, min_score=0.0)
    assert sure.score == 1.0


def test_regions_are_counted_and_stuff_is_none_of_the_things() -> None:
    segments = found("panoptic", MASKS, PROBS)
    assert rows(segments) == [
        (1, "dog", 1, True, [1, 1, 0, 0]),
        (2, "cat", 0, True, [0, 0, 1, 0]),
        (3, "sky", 2, False, [0, 0, 0, 1]),
    ]
    assert [s.score for s in segments] == pytest.approx([0.5, 0.75, 0.875])
    assert [s.name for s in found("panoptic", MASKS, PROBS, min_score=0.6)] == ["cat", "sky"]
    hidden = [[SURE, SURE, SURE, FALSE], [SURE] * 4]
    probs = [[0.9, 0.0, 0.0], [0.0, 0.8, 0.0]]
    for threshold, names in ((0.2, ["cat", "dog"]), (0.3, ["cat"])):
        kept = found("panoptic", hidden, probs, overlap_threshold=threshold)
        assert [s.name for s in kept] == names


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_masks_are_kept_as_bits_beyond_a_bound(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """What just fits is kept as it is: 3 masks of 4 pixels, of which instances keep all."""
    for bound, packed in ((12, False), (11, True)):
        monkeypatch.setattr(assembly, "MAX_MASK_BYTES", bound)
        parts = found(task, MASKS, PROBS)
        assert {"_bits" in part.__dict__ for part in parts} == {packed}
    assert assembly.too_large(3, (2, 2))
    assert not assembly.too_large(2, (2, 2))


def test_values_of_a_map_are_counted_band_by_band(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([[0, 3], [3, 5], [1, 0]], np.int32)
    for band in (1, 2, 4, 1 << 20):
        monkeypatch.setattr(assembly, "_BAND", band)
        assert assembly._values(labels, 7) == [0, 1, 3, 5]


# What a model says


def spoiled(picture: EncodedImage) -> EncodedImage:
    masks = picture.mask_logits.clone()
    masks[0] = torch.nan
    return replace(picture, mask_logits=masks)


def test_proposals_of_no_numbers_are_noted(tiny: Segmenter) -> None:
    words, picture = Vocabulary.parse(NAMES).counted, tiny.encode(noise(40, 50))
    text = tiny.text.embed_vocabulary(words)
    result = segment_encoded(tiny.model, picture, words, text, "instance", min_score=0.0)
    assert result.notes == picture.image.notes
    assert result.names == tuple(NAMES)
    assert result.image is picture.image.pixels
    result = segment_encoded(tiny.model, spoiled(picture), words, text, "instance", min_score=0.0)
    assert len(result.notes) == len(picture.image.notes) + 1
    assert "are no numbers were left out: the model's weights are damaged" in result.notes[-1]


def test_a_score_is_the_objects_times_the_names(tiny: Segmenter) -> None:
    """MasQCLIP, eq. 6; the mean mask probability inside makes it an instance's."""
    words, picture = Vocabulary.parse(NAMES).counted, tiny.encode(noise(40, 50))
    picture = replace(picture, mask_logits=torch.full_like(picture.mask_logits, SURE))
    text = tiny.text.embed_vocabulary(words)
    result = segment_encoded(tiny.model, picture, words, text, "instance", min_score=0.0)
    unit = torch.nn.functional.normalize(picture.mask_embeddings, dim=-1)
    logits = tiny.model.config.logit_scale * unit @ text.T
    names = logits.softmax(-1)[:, : len(NAMES)]
    expected = picture.object_logits.softmax(-1)[:, :1] * names
    best = expected.flatten().sort(descending=True).values[: len(result)]
    assert [s.score for s in result.segments] == pytest.approx(best.tolist(), abs=1e-6)


def test_the_overlap_threshold_is_the_models_own(tiny: Segmenter) -> None:
    words, picture = Vocabulary.parse(NAMES).counted, tiny.encode(noise(40, 50))
    text = tiny.text.embed_vocabulary(words)
    model = copy.deepcopy(tiny.model)
    numbers = []
    for threshold in (0.0, 1.0):
        model.config.overlap_threshold = threshold
        result = segment_encoded(model, picture, words, text, "panoptic", min_score=0.0)
        numbers.append(len(result))
    assert numbers[0] > numbers[1]


# What a call asks for


def test_the_published_object_threshold_is_the_default(
    tiny: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MIN_SCORE == 0.3
    assert least_object_score("semantic", 0.9) == least_object_score("semantic", None) == 0.0
    for task in ("instance", "panoptic"):
        assert least_object_score(task, None) == 0.3  # type: ignore[arg-type]
        assert least_object_score(task, 0.0) == 0.0  # type: ignore[arg-type]
        assert least_object_score(task, 0.7) == 0.7  # type: ignore[arg-type]
    asked: list[tuple[Task, float]] = []
    nothing = Segmentation(np.zeros((9, 9, 3), np.uint8), "panoptic", tuple(NAMES), ())
    heard: list[float] = []
    monkeypatch.setattr(
        segmenting,
        "encode_pictures",
        lambda _, batch, min_object_score: heard.append(min_object_score) or batch,
    )
    monkeypatch.setattr(
        segmenting,
        "segment_encoded",
        lambda *given, min_score, level: asked.append((given[4], min_score)) or nothing,
    )
    tiny(noise(9, 9), NAMES)
    tiny(noise(9, 9), NAMES, "semantic", min_score=0.0)
    tiny(noise(9, 9), NAMES, "instance", min_score=0.7)
    assert asked == [("panoptic", 0.3), ("semantic", 0.0), ("instance", 0.7)]
    assert heard == [0.3, 0.0, 0.7]


def test_pictures_come_in_batches_of_eight(
    tiny: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    encode = segmenting.encode_pictures

    def counted(model: Any, batch: Any, **options: float) -> Any:
        sizes.append(len(batch))
        return encode(model, batch, **options)

    monkeypatch.setattr(segmenting, "encode_pictures", counted)
    pictures = [noise(9, 9)] * 9
    assert len(list(tiny.stream(pictures, NAMES))) == 9
    assert len(list(tiny.stream(pictures[:5], NAMES, batch_size=2))) == 5
    assert sizes == [8, 1, 2, 2, 1]
    assert isinstance(tiny(pictures[:1], NAMES), list)
    assert isinstance(tiny.encode(tuple(pictures[:2])), list)


def test_words_of_a_call_are_all_in_its_vocabulary(
    tiny: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Vocabulary] = []
    embed = tiny.text.embed_vocabulary
    monkeypatch.setattr(
        tiny.text, "embed_vocabulary", lambda words, **_: asked.append(words) or embed(words)
    )
    image, masks = noise(20, 20), np.ones((1, 20, 20), bool)
    tiny(image, NAMES, stuff=["sky"], distractors=["bus"])
    list(tiny.stream([image], NAMES, stuff=["sky"], distractors=["bus"]))
    tiny.classify_masks(image, masks, NAMES, distractors=["bus"])
    for words, regions in zip(asked, ([3, 4], [3, 4], [3, 4]), strict=True):
        assert words.names == tuple(NAMES)
        assert words.distractors == ("bus",)
        assert sorted(words.stuff_ids) == regions


def test_given_masks_take_their_names_from_all_of_the_words(tiny: Segmenter) -> None:
    image = noise(20, 30)
    masks = np.zeros((2, 20, 30), bool)
    masks[0, :9], masks[1, 12:] = True, True
    named = tiny.classify_masks(image, masks, NAMES, distractors=["bus"])
    text = tiny.text.embed_vocabulary(Vocabulary.parse(NAMES, distractors=["bus"]))
    logits = tiny.model.config.logit_scale * tiny.embed_masks(image, masks) @ text.T
    expected = logits.softmax(-1)[:, : len(NAMES)]
    np.testing.assert_allclose(named.probs, expected.numpy(), atol=1e-5)
    assert named.vocabulary == tuple(NAMES)
    assert named.names == tuple(NAMES[i] for i in expected.argmax(-1).tolist())
    assert named.scores == pytest.approx(expected.amax(-1).tolist(), abs=1e-5)


def test_masks_that_do_not_fit_together_go_in_turns(
    tiny: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an encoded picture, like one that is none yet, gives them the same embeddings."""
    masks = np.random.default_rng(0).random((5, 20, 30)) < 0.4
    together = tiny.embed_masks(noise(20, 30), masks)
    monkeypatch.setattr(given_masks, "_MASKS_AT_ONCE", 2)
    shapes: list[int] = []
    embed = tiny.model.embed_patches

    def seen(tokens: Any, visible: Tensor) -> Tensor:
        shapes.append(visible.shape[1])
        return embed(tokens, visible)

    monkeypatch.setattr(tiny.model, "embed_patches", seen)
    apart = tiny.embed_masks(tiny.encode(noise(20, 30)), masks)
    assert shapes == [2, 2, 1]
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-5)
    assert apart.dtype == torch.float32


def test_embeddings_that_are_no_numbers_are_an_error(
    tiny: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = np.ones((1, 20, 20), bool)
    monkeypatch.setattr(
        tiny.model, "embed_patches", lambda _, some: torch.full((1, some.shape[1], 32), torch.nan)
    )
    with pytest.raises(MasqclipError, match="the masks' embeddings are no numbers: the model's"):
        tiny.embed_masks(noise(20, 20), masks)
    monkeypatch.undo()
    monkeypatch.setattr(
        tiny.text,
        "embed_vocabulary",
        lambda words, **_: torch.full((len(words) + 1, 32), torch.nan),
    )
    with pytest.raises(MasqclipError, match="the names' embeddings are no numbers"):
        tiny.classify_masks(noise(20, 20), masks, NAMES)


def test_a_segmenter_keeps_what_it_is_told(tiny: Segmenter) -> None:
    tiny.model.train()
    own = Segmenter(tiny.model, tiny.text.tokenizer, name="mine", cache=False)
    assert own.name == "mine"
    assert not own.model.training
    assert own.device == torch.device("cpu")
    assert tiny.name == ""
    own.text.embed_strings(["cat"])
    assert own.text._cache is None
    tiny.text.embed_strings(["cat"])
    assert tiny.text._cache is not None


def test_a_shipped_model_is_named_and_loaded_as_asked() -> None:
    mini = Segmenter.from_pretrained(device="cpu", dtype="bfloat16", cache=False)
    assert mini.name == "masqclip-mini"
    assert mini.model.dtype == torch.bfloat16
    assert mini.text._cache_choice is False
