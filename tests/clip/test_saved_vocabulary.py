"""Vocabularies in masqclip's own files: all comes back, and what was changed is told."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masqclip.clip.category import Category
from masqclip.clip.examples import Examples, ExampleSpace, as_half
from masqclip.clip.name_limits import DEFAULT_LIMITS, NameLimits
from masqclip.clip.saved_vocabulary import to_json
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.score_scale import calibrated, least_scores, of_model

WIDTH = 8


def examples(count: int, seed: int = 0, thumbnail: bytes = b"picture") -> Examples:
    chance = np.random.default_rng(seed)
    mean = np.linspace(-0.1, 0.2, WIDTH).astype(np.float32)
    space = ExampleSpace("mini", np.eye(WIDTH, dtype=np.float32)[:3], mean, 0.7, 25.0)
    masks = chance.normal(size=(count, WIDTH))
    masks /= np.linalg.norm(masks, axis=1, keepdims=True)
    context = as_half(chance.normal(size=WIDTH))
    return Examples(space, as_half(masks), context, (thumbnail,) * count)


WORDS = Vocabulary(
    (
        Category("mug", ("mug", "cup"), examples=examples(3)),
        Category("sky", thing=False),
        Category("thing 7", examples=examples(1, seed=1), worded=False),
    ),
    distractors=("fork", Category("jug", examples=examples(2, seed=2))),
    templates=("a {}.", "{}"),
)


def test_all_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "mugs.json"
    WORDS.save(path)
    for given in (path, str(path), path.read_text()):
        read = Vocabulary.parse(given)
        assert read == WORDS
        first, again = WORDS.categories[0].examples, read.categories[0].examples
        assert first is not None
        assert again is not None
        assert np.array_equal(first.embeddings, again.embeddings)
        assert again.thumbnails == (b"picture",) * 3
        assert again.space.model == "mini"


def test_one_may_be_given_in_the_place_of_competing_names(tmp_path: Path) -> None:
    path = tmp_path / "mugs.json"
    Vocabulary((Category("jug", examples=examples(2)), Category("fork"))).save(path)
    for rivals in (str(path), Vocabulary.parse(path)):
        words = Vocabulary.parse("cup, plate", distractors=rivals)
        assert words.names == ("cup", "plate")
        jug, fork = words.distractors
        assert isinstance(jug, Category)
        assert len(jug.examples or ()) == 2
        assert fork == "fork"


def test_a_file_of_many_examples_may_be_larger_than_a_list_of_names(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    Vocabulary((Category("mug", examples=examples(1000, thumbnail=b"x" * 8000)),)).save(path)
    assert path.stat().st_size > DEFAULT_LIMITS.text_bytes
    assert len(Vocabulary.parse(path).categories[0].examples or ()) == 1000


def test_a_file_of_many_names_gives_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "many.json"
    words = Vocabulary(
        tuple(Category(f"name {i}", (f"a {i}", f"b {i}"), i % 2 == 0) for i in range(60)),
        distractors=("fork",),
    )
    words.save(path)
    limits = NameLimits(names=100, prompts=200)
    assert Vocabulary.parse(path, limits=limits) == words
    few = Vocabulary(WORDS.categories[:2])
    text = json.dumps(to_json(few.document()), sort_keys=True)
    assert Vocabulary.parse(text, limits=NameLimits(names=2)) == few


def test_a_large_file_that_was_written_anew_is_no_list_of_names(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    words = Vocabulary((Category("mug", examples=examples(1000, thumbnail=b"x" * 8000)),))
    path.write_text(json.dumps(to_json(words.document()), sort_keys=True))
    assert Vocabulary.parse(path) == words


CALIBRATION = (2.0, 2.0, 0.5)


def test_least_scores_are_joined_and_mean_what_they_meant() -> None:
    fitted = Vocabulary((Category("mug", min_score=0.4), Category("fork")), calibration=CALIBRATION)
    plain = Vocabulary((Category("Mug"), Category("cup", min_score=0.6)))
    asked = {"mug": of_model(0.4, CALIBRATION), "cup": 0.6, "fork": 0.3}
    for words in (fitted.joined(plain), plain.joined(fitted)):
        assert words.calibration == CALIBRATION
        usual = calibrated(0.3, CALIBRATION)
        least = dict(zip(map(str.lower, words.names), least_scores(words, usual), strict=True))
        assert least == pytest.approx(asked)
    other = Vocabulary((Category("cup", min_score=0.5),), calibration=(1.0, 1.0, 1.0))
    words = fitted.joined(other)
    assert words.calibration == CALIBRATION
    assert least_scores(words, 0.5)[-1] == pytest.approx(of_model(0.5, (1.0, 1.0, 1.0)))


def test_a_region_that_one_side_called_so_stays_one_when_joined() -> None:
    said = Vocabulary.parse("stuff: sky, car")
    assert not said.joined(Vocabulary.parse("sky, grass")).counted.categories[0].thing
    assert said.joined(Vocabulary.parse("sky, grass")).assumed == ("grass",)


def test_an_example_that_both_have_is_there_once() -> None:
    one, other = examples(3), examples(2, seed=1)
    both = one.joined(other)
    assert both.joined(one) == both
    assert len(other.joined(both)) == 5
    assert np.allclose(both.context, other.joined(one).context, atol=1e-3)


def test_a_distractor_keeps_what_it_is_read_as(tmp_path: Path) -> None:
    rival = Vocabulary.parse({"tree-merged": ["tree", "bush"]})
    words = Vocabulary.parse("car", distractors=rival)
    assert words.rows[1].prompts == ("tree", "bush")
    words.save(tmp_path / "car.json")
    assert Vocabulary.parse(tmp_path / "car.json") == words


def test_what_competes_is_read_of_a_path_and_is_no_everything(tmp_path: Path) -> None:
    path = tmp_path / "mugs.json"
    Vocabulary((Category("jug", examples=examples(2)),)).save(path)
    assert Vocabulary.parse("cup", distractors=path) == Vocabulary.parse(
        "cup", distractors=str(path)
    )
    with pytest.raises(MasqclipError, match="'everything' cannot compete"):
        Vocabulary.parse("cup", distractors=Vocabulary.parse("everything"))


def test_it_is_json_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=r"mugs.txt: a vocabulary is saved as JSON"):
        WORDS.save(tmp_path / "mugs.txt")
    assert not list(tmp_path.iterdir())


def flip(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[0] ^= 1
    return base64.b64encode(raw).decode()


def shown(document: dict[str, Any]) -> dict[str, Any]:
    return document["categories"][0]["examples"]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another number": (
        lambda d: shown(d).update(embeddings=flip(shown(d)["embeddings"])),
        "are not those that were saved",
    ),
    "another picture": (
        lambda d: shown(d).update(thumbnails=[""] * 3),
        "are not those that were saved",
    ),
    "a category less": (lambda d: d["categories"].pop(0), "are not those that were saved"),
    "no example any more": (
        lambda d: (
            [one.pop("examples") for one in (d["categories"][0], d["distractors"][1])]
            and d["categories"].pop()
        ),
        "are not those that were saved",
    ),
    "distractors in a string": (lambda d: d.update(distractors="fork"), "'distractors' are 'fork'"),
    "cut short": (
        lambda d: shown(d).update(embeddings=shown(d)["embeddings"][:8]),
        "no whole vocabulary",
    ),
    "no base64": (lambda d: shown(d).update(context="?" * 8), "no whole vocabulary"),
    "of another width": (
        lambda d: shown(d).update(context=base64.b64encode(bytes(6)).decode()),
        "not of 8 finite numbers",
    ),
    "no context": (lambda d: shown(d).pop("context"), "no whole vocabulary"),
    "no space": (lambda d: d.pop("space"), "no 'space'"),
    "a space of nothing": (
        lambda d: d["space"].update(word_spread=0.0),
        "cannot be those of a CLIP",
    ),
    "a later version": (lambda d: d.update(masqclip_vocabulary=2), "of version 2"),
    "no list": (lambda d: d.update(categories={}), "no list of objects"),
    "nothing": (lambda d: d.update(categories=[], distractors=[], digest=None), "is empty"),
    "neither words nor examples": (
        lambda d: d["categories"][1].update(prompts=[]),
        "'sky' has neither words nor examples",
    ),
    "no kind": (lambda d: d["categories"][1].update(thing="yes"), "'thing' of 'sky' is 'yes'"),
    "no name": (lambda d: d["categories"][1].update(name=""), "empty"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_or_is_damaged_is_one_line(change: str, tmp_path: Path) -> None:
    path = tmp_path / "mugs.json"
    WORDS.save(path)
    document = json.loads(path.read_text())
    CHANGES[change][0](document)
    path.write_text(json.dumps(document))
    with pytest.raises(MasqclipError, match=CHANGES[change][1]) as told:
        Vocabulary.parse(path)
    assert "\n" not in str(told.value)
