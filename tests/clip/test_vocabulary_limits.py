"""How much a vocabulary may hold, to the last name, and what may not be in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from masqclip.clip.name_limits import DEFAULT_LIMITS, MAX_NAME_CHARACTERS
from masqclip.clip.vocabulary import CLIP_TEMPLATES, Category, Vocabulary, load_builtin
from masqclip.errors import MasqclipError


def category(*prompts: str) -> Category:
    return Category("cat", prompts)


def told(message: str, *given: Any, **options: Any) -> None:
    with pytest.raises(MasqclipError, match=message):
        Vocabulary.parse(*given, **options)


def test_as_many_names_and_synonyms_as_the_limit() -> None:
    limits = replace(DEFAULT_LIMITS, names=2)
    two, three = ([Category(name) for name in names] for names in ("ab", "abc"))
    assert len(Vocabulary.parse(two, limits=limits)) == 2
    told("the vocabulary", three, limits=limits)
    limits = replace(DEFAULT_LIMITS, prompts=3)
    assert Vocabulary.parse([category("a", "b", "c")], limits=limits)
    told("synonyms of the vocabulary", [category("a", "b", "c", "d")], limits=limits)


def test_as_many_strings_as_the_limit() -> None:
    """Each prompt and distractor in each template."""
    limits = replace(DEFAULT_LIMITS, strings=6)
    words, templates = [category("a", "b"), Category("x")], ("{}", "a {}")
    assert Vocabulary.parse(words, templates=templates, limits=limits)
    told(
        "4 prompts in 2 templates are 8 strings", words, templates=templates, distractors=["y"],
        limits=limits,
    )  # fmt: skip
    told("are 9 strings", words, templates=(*templates, "the {}"), limits=limits)


def test_as_many_characters_as_the_limit() -> None:
    """A hundred for each string; a template counts its letters, and a name for each place."""
    limits = replace(DEFAULT_LIMITS, strings=1)
    for name, template in (("n" * 98, "{}"), ("n" * 10, "{}" + "x" * 88), ("n" * 48, "{}{}")):
        assert Vocabulary.parse([Category(name)], templates=template, limits=limits)
        told("101 characters", [Category(name)], templates=template + "x", limits=limits)
    told("1 prompts in 1 templates", [Category("n" * 99)], templates="{}", limits=limits)


def test_a_template_has_one_to_nine_places_and_so_many_letters() -> None:
    for template in ("{}", "{}" * 9, "{}" + "x" * (MAX_NAME_CHARACTERS - 2)):
        assert Vocabulary.parse("cat", templates=template).templates == (template,)
    told("has no place for the name", "cat", templates="{ }")
    told("10 places for the name: give at most 1,000 and 9", "cat", templates="{}" * 10)
    told("1,001 characters", "cat", templates="{}" + "x" * (MAX_NAME_CHARACTERS - 1))
    told("the template 3 is no string", "cat", templates=[3])
    told("the templates are 3: give strings", "cat", templates=3)
    told("no prompt template is given", "cat", templates=())


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([category("cat", "background")], None),
        ([category("background")], "'cat' is read as 'background', which is always part"),
        (
            [category("a", "b"), Category("dog", ("B", "A"))],
            "'cat' and 'dog' have the same prompts",
        ),
        ([category("a", "b"), Category("dog", ("b",))], None),
        ([category("dog"), Category("dog")], "'cat' and 'dog' have the same prompts"),
        ([Category("cat"), Category("CAT")], "'cat' and 'CAT' are one name to CLIP"),
        ([Category("cat"), Category("cat")], "the name 'cat' is given twice"),
    ],
)
def test_no_name_takes_what_belongs_to_another(
    categories: list[Category], message: str | None
) -> None:
    if message is None:
        assert len(Vocabulary.parse(categories)) == len(categories)
    else:
        told(message, categories)


def test_of_what_is_read_alike_the_first_is_kept() -> None:
    assert category("Fig", "fig", "FIG", "fruit").prompts == ("Fig", "fruit")
    assert category().prompts == ("cat",)
    assert category("cat", "cat").prompts == ("cat",)
    assert category("a", "B").prompt_readings == {"a", "b"}
    assert Category("Cat").prompt_readings == {"cat"} == {Category("Cat").reading}
    assert Category("cat").thing


def test_what_is_no_category_is_told() -> None:
    with pytest.raises(MasqclipError, match="the prompts of 'cat' are 3: give a tuple of them"):
        Category("cat", 3)  # type: ignore[arg-type]
    told("3", [3, "cat"])


def test_a_subset_keeps_all_else_and_finds_what_is_read_alike() -> None:
    whole = Vocabulary.parse(
        ["Cat", "dog", Category("sky", thing=False)], distractors=["bus"], templates=("a {}",)
    )
    part = whole.subset("SKY, cat")
    assert part.names == ("sky", "Cat")
    assert part.stuff_ids == {0}
    assert (part.distractors, part.templates) == (("bus",), ("a {}",))
    with pytest.raises(MasqclipError, match="the name 'cow' is not in the vocabulary"):
        whole.subset("cow")


def test_a_built_in_may_have_blanks_about_it() -> None:
    assert Vocabulary.parse(" ade20k-150\n") == load_builtin("ade20k-150")
    merged = load_builtin("coco-panoptic").categories
    assert sum(not c.thing for c in merged) == 53
    marked = Vocabulary.parse("cat, dog, sky", stuff=["DOG"])
    assert marked.stuff_ids == {1}
    assert Vocabulary.parse(marked, stuff=["sky"]).stuff_ids == {1, 2}


def test_a_vocabulary_that_is_one_already_is_passed_on() -> None:
    words = Vocabulary.parse("cat, dog", distractors="bus", templates=CLIP_TEMPLATES)
    assert Vocabulary.parse(words) is words
    small = replace(DEFAULT_LIMITS, names=1)
    assert Vocabulary.parse(words, limits=small) is words
    told("the vocabulary", words, distractors="tram", limits=small)
