"""Which words a caption has."""

from __future__ import annotations

import pytest

from masqclip.baselines.words import ObjectWords, content_words
from masqclip.clip.category import Category
from masqclip.clip.vocabulary import Vocabulary

NAMES = ObjectWords(
    [
        ("cat",), ("dog", "puppy"), ("hot dog",), ("bus",), ("cherry",), ("church", "chapel"),
        ("fire engine", "fire truck"), ("glass",), ("box",), ("scissors",), ("person",),
        ("dog",), ("t-shirt",), ("knife",), ("potato",),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "places"),
    [
        ("a cat and a dog", [0, 1]),
        ("A CAT, on a DOG!", [0, 1]),
        ("two puppies", [1]),  # a synonym, in the plural
        ("a hot dog", [2]),  # the longest name that begins there, and not the dog in it
        ("a hot dog beside a dog", [1, 2]),
        ("a hot, hot dog", [2]),
        ("hot and a dog", [1]),
        ("three cats", [0]),
        ("buses and cherries", [3, 4]),
        ("two churches, some chapels", [5]),
        ("fire trucks", [6]),
        ("fire", []),
        ("glasses", [7]),
        ("boxes", [8]),
        ("scissors", [9]),
        ("people", [10]),
        ("the dog's ball", [1]),
        ("t-shirts", [12]),
        ("knives and potatoes", [13, 14]),
        ("a category, a dogma and an abacus", []),  # words inside words
        ("catdog cat-dog", []),
        ("", []),
        ("cat cat cat", [0]),
    ],
)
def test_names_are_found_word_for_word(caption: str, places: list[int]) -> None:
    assert NAMES.find([caption]) == places


def test_several_captions_have_the_words_of_each_but_no_name_across_two() -> None:
    assert NAMES.find(["a dog", "a cat", "a dog"]) == [0, 1]
    assert NAMES.find(["it is hot", "dog"]) == [1]
    assert NAMES.find([]) == []


def test_of_a_vocabulary_names_and_synonyms_count() -> None:
    names = Vocabulary((Category("sofa", ("couch", "settee")), Category("cat")))
    assert ObjectWords.of(names).find(["a sofa", "two cats"]) == [0, 1]
    assert ObjectWords.of(names).find(["couches"]) == [0]
    assert ObjectWords.of(names).find(["a settee"]) == [0]


@pytest.mark.parametrize(
    "word",
    ["bus", "grass", "tennis", "gas", "cactus", "lens", "cheese", "house", "shoe", "axe", "horse"],
)
def test_a_word_and_itself_are_one(word: str) -> None:
    assert ObjectWords([("x",), (word,)]).find([f"the {word} there"]) == [1]


@pytest.mark.parametrize(
    ("plural", "name"),
    [
        ("horses", "horse"), ("houses", "house"), ("shoes", "shoe"), ("axes", "axe"),
        ("dresses", "dress"), ("brushes", "brush"), ("ties", "tie"), ("keys", "key"),
        ("women", "woman"), ("children", "child"), ("leaves", "leaf"), ("tomatoes", "tomato"),
        ("oranges", "orange"), ("vases", "vase"), ("walruses", "walrus"),
    ],
)  # fmt: skip
def test_a_plural_is_its_singular(plural: str, name: str) -> None:
    assert ObjectWords([("x",), (name,)]).find([f"some {plural}"]) == [1]


def test_words_are_those_that_say_something_once_each() -> None:
    captions = ["A red cat on the grass.", "There are two red hot-dogs in the background"]
    assert content_words(captions) == ["red", "cat", "grass", "hot-dogs"]
    assert content_words(["there is a", ""]) == []


def test_words_of_other_alphabets_stay_whole() -> None:
    assert content_words(["A naïve café, пёс_2"]) == ["naïve", "café", "пёс", "2"]
    assert ObjectWords([["café"], ["caf"]]).find(["two cafés"]) == [0]


def test_all_words_can_be_a_vocabulary() -> None:
    """The name of what is nothing is always part of one, and so never a caption's word."""
    Vocabulary.parse(content_words(["a cat in the background"]))
