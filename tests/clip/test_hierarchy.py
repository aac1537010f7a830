"""Names that are kinds of others: how they are written, and what is no tree."""

from __future__ import annotations

import pytest

from masqclip.clip.hierarchy import groups_at
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.word_levels import words_at

WRITTEN = {
    "animal > dog, cat": {"dog": ("animal", "dog"), "cat": ("animal", "cat")},
    "animal > mammal > dog; vehicle > car": {
        "dog": ("animal", "mammal", "dog"),
        "car": ("vehicle", "car"),
    },
    "animal > dog = hound; puppy\nvehicle > car, stuff: road\nsky": {
        "dog": ("animal", "dog"),
        "car": ("vehicle", "car"),
        "road": ("vehicle", "road"),
        "sky": ("sky",),
    },
    "animal > dog\nanimal, creature": {"dog": ("animal", "dog"), "animal": ("animal",)},
    '"a > b", c': {"a > b": ("a > b",), "c": ("c",)},
    '"a > b" > c, "d; e"': {"c": ("a > b", "c"), "d; e": ("a > b", "d; e")},
    'sky, "red, green"; animal > dog; fig = date': {
        "sky": ("sky",),
        "red, green": ("red, green",),
        "dog": ("animal", "dog"),
        "fig": ("fig",),
    },
    '["animal > dog"]': {"animal > dog": ("animal > dog",)},
}


@pytest.mark.parametrize("text", WRITTEN)
def test_what_names_are_kinds_of_is_written_with_an_arrow(text: str) -> None:
    words = Vocabulary.parse(text)
    assert dict(zip(words.names, words.paths, strict=True)) == WRITTEN[text]


def test_kinds_and_synonyms_stay_what_they_are() -> None:
    words = Vocabulary.parse("animal > dog = hound; puppy\nplace > stuff: road")
    assert words.categories[0].prompts == ("hound", "puppy")
    assert words.stuff_ids == {1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a > b\nb > a", "goes around in a circle"),
        ("a > b > c > a > d", "goes around in a circle"),
        ("a > dog\nb > cat\nc > b > a > b", "say one"),
        ("mammal > dog\npet > cat\nanimal > mammal > cow\nbeing > mammal > ox", "say one"),
        ("car, animal > dog, cat", "'car, animal' before a > is a list"),
        ("animal > , ", "says nothing that is a animal"),
    ],
)
def test_what_is_no_tree_is_one_line(text: str, said: str) -> None:
    with pytest.raises(MasqclipError, match=said):
        Vocabulary.parse(text)


def test_a_tree_may_be_deep_and_not_endless() -> None:
    chain = tuple((f"n{i}", f"n{i + 1}") for i in range(30))
    Vocabulary(Vocabulary.parse("n0").categories, parents=chain)
    endless = tuple((f"n{i}", f"n{i + 1}") for i in range(1000))
    for steps in (endless, endless[::-1]):
        with pytest.raises(MasqclipError, match=r"levels below 'n.*the hierarchy may have 32"):
            Vocabulary(Vocabulary.parse("n0").categories, parents=steps)


@pytest.mark.parametrize("text", ["animal\nAnimal > dog", "ANIMAL > dog\nanimal", "animal > Dog"])
def test_what_clip_reads_alike_is_one_name(text: str) -> None:
    words = Vocabulary.parse("dog").joined(Vocabulary.parse(text))
    assert words.paths[0] == ("animal", "dog")
    assert words_at(words, 0).names == ("animal",)
    with pytest.raises(MasqclipError, match="circle"):
        Vocabulary.parse("dog > Dog")


@pytest.mark.parametrize(
    ("text", "rival"), [("animal > dog, cat", "animal"), ("beast = animal\nanimal > dog", "fox")]
)
def test_a_level_may_be_called_as_something_else_is_read(text: str, rival: str) -> None:
    at = words_at(Vocabulary.parse(text, distractors=rival), 0)
    assert at.names[-1] == "animal"


def test_regions_that_nobody_called_so_are_counted_at_any_level() -> None:
    for text in ("nature > sky, grass", "nature > stuff: sky, grass"):
        words = Vocabulary.parse(text)
        at = words_at(words, 0)
        assert not at.categories[0].thing
        assert at.counted.categories == words_at(words.counted, 0).categories
        assert at.counted.categories[0].thing


def test_groups_of_a_level() -> None:
    words = Vocabulary.parse("animal > mammal > dog, cat\nanimal > bird\nsky")
    assert groups_at(words.paths, 0) == [("animal", [0, 1, 2]), ("sky", [3])]
    assert groups_at(words.paths, 1) == [("mammal", [0, 1]), ("bird", [2]), ("sky", [3])]
    assert groups_at(words.paths, 9) == [("dog", [0]), ("cat", [1]), ("bird", [2]), ("sky", [3])]
    for level in (-1, 1.5, "0", True, None):
        with pytest.raises(MasqclipError, match=f"level {level!r}: give 0"):
            groups_at(words.paths, level)  # type: ignore[arg-type]


def test_it_is_saved_and_joined() -> None:
    words = Vocabulary.parse("animal > dog, cat").joined(Vocabulary.parse("vehicle > car"))
    assert words.paths == (("animal", "dog"), ("animal", "cat"), ("vehicle", "car"))
    assert Vocabulary.from_document(words.document()) == words
