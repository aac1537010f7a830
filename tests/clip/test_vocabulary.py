"""Vocabularies: cutting, reordering, validation, built-ins."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masqclip.clip.category import Category
from masqclip.clip.name_limits import DEFAULT_LIMITS
from masqclip.clip.templates import CLIP_TEMPLATES
from masqclip.clip.vocabulary import Vocabulary, builtin_vocabularies, load_builtin
from masqclip.errors import MasqclipError


def test_import_is_free_of_torch() -> None:
    code = "import sys, masqclip.clip.vocabulary; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_category_defaults_and_tidies() -> None:
    assert Category(" traffic  light ") == Category("traffic light", ("traffic light",), True)
    assert Category("tree-merged", ("tree ", "bush", "tree")).prompts == ("tree", "bush")


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ((), "the vocabulary is empty"),
        (("cat", "dog", "cat"), "'cat' is given twice"),
        (("Cat", "cat"), "'Cat' and 'cat' are one name"),
        (("Background",), "'Background' is always part"),
    ],
)
def test_bad_vocabularies_are_refused(categories: tuple[str, ...], message: str) -> None:
    with pytest.raises(MasqclipError, match=message):
        Vocabulary(tuple(Category(name) for name in categories))


def test_bad_parts_are_refused() -> None:
    with pytest.raises(MasqclipError, match="a name of the vocabulary is empty"):
        Category("  ")
    with pytest.raises(MasqclipError, match="a synonym of 'cat' is empty"):
        Category("cat", ("cat", ""))
    with pytest.raises(MasqclipError, match="one string"):
        Category("cat", "kitten")  # type: ignore[arg-type]
    with pytest.raises(MasqclipError, match="'cat' is given twice"):
        Vocabulary((Category("cat"),), distractors=("cat",))
    with pytest.raises(MasqclipError, match="'a photo' has no place"):
        Vocabulary((Category("cat"),), templates=("{}", "a photo"))


def test_names_follow_when_reordered_and_cut() -> None:
    whole = Vocabulary.parse(
        {"tree": ["tree", "bush"], "cat": [], "sky": ["sky"]},
        stuff=["sky"],
        distractors=["dog"],
        templates=["a {}"],
    )
    part = whole.subset(["sky", "tree"])
    assert part.names == ("sky", "tree")
    assert part.stuff_ids == {0, 1}
    assert part.assumed == ("tree",), "nobody said so, and everybody calls trees stuff"
    assert whole.subset("cat").assumed == ()
    assert part.categories[1].prompts == ("tree", "bush")
    assert (part.distractors, part.templates) == (("dog",), ("a {}",))
    assert whole.subset(reversed(whole.names)).names == ("sky", "cat", "tree")
    with pytest.raises(MasqclipError, match=r"'skie' is not in the vocabulary: did you mean 'sky'"):
        whole.subset(["skie"])


def test_stuff_is_marked_by_name() -> None:
    vocabulary = Vocabulary.parse("car, sky, grass", stuff="grass, sky")
    assert (vocabulary.stuff_ids, len(vocabulary)) == ({1, 2}, 3)
    with pytest.raises(MasqclipError, match=r"stuff name 'gras' .* did you mean 'grass'"):
        Vocabulary.parse("car, grass", stuff=["gras"])
    with pytest.raises(MasqclipError, match="did you mean 'road, route'"):
        Vocabulary.parse("ade20k-150", stuff=["road"])


def test_options_add_to_a_vocabulary() -> None:
    first = Vocabulary.parse("car, sky", distractors="dog")
    assert Vocabulary.parse(first) == first
    second = Vocabulary.parse(first, stuff="sky", distractors=["cat"], templates=CLIP_TEMPLATES)
    assert second.distractors == ("dog", "cat")
    assert second.templates == CLIP_TEMPLATES
    assert second.stuff_ids == {1}


def test_builtins_by_name() -> None:
    names = builtin_vocabularies()
    for name in names:
        assert Vocabulary.parse(name) == load_builtin(name)
    panoptic = load_builtin("coco-panoptic")
    assert (len(panoptic), len(panoptic.stuff_ids)) == (133, 53)
    tree = panoptic.categories[panoptic.names.index("tree-merged")]
    assert tree == Category("tree-merged", ("branch", "tree", "bush", "leaves"), thing=False)
    assert "window" in load_builtin("ade20k-150").names
    assert load_builtin("coco-novel").names[-1] == "scissors"


def test_readable_prompts_are_an_option() -> None:
    raw = load_builtin("pascal-context-59")
    readable = load_builtin("pascal-context-59", readable_prompts=True)
    assert raw.names == readable.names
    plant = raw.names.index("pottedplant")
    assert raw.categories[plant].prompts == ("pottedplant",)
    assert readable.categories[plant].prompts == ("potted plant",)


def test_templates_are_usable() -> None:
    assert len(CLIP_TEMPLATES) == len(set(CLIP_TEMPLATES)) == 14
    assert all(template.count("{}") == 1 for template in CLIP_TEMPLATES)


def test_ten_thousand_names_are_quick() -> None:
    start = time.process_time()
    vocabulary = Vocabulary.parse(",".join(f"name {i}" for i in range(10_000)))
    half = vocabulary.subset(vocabulary.names[::-2])
    assert half.names[0] == "name 9999"
    assert len(half) == 5_000
    assert time.process_time() - start < 2


def category(*prompts: str) -> Category:
    return Category("cat", prompts)


def told(message: str, *given: Any, **options: Any) -> None:
    with pytest.raises(MasqclipError, match=message):
        Vocabulary.parse(*given, **options)


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
    assert marked.stuff_ids == {1, 2}
    assert Vocabulary.parse(marked, stuff=["sky"]).stuff_ids == {1, 2}


def test_a_vocabulary_that_is_one_already_is_passed_on() -> None:
    words = Vocabulary.parse("cat, dog", distractors="bus", templates=CLIP_TEMPLATES)
    assert Vocabulary.parse(words) is words
    small = replace(DEFAULT_LIMITS, names=1)
    assert Vocabulary.parse(words, limits=small) is words
    told("the vocabulary", words, distractors="tram", limits=small)


@pytest.mark.parametrize("name", ["others.txt", "others.csv", "./others"])
def test_what_competes_may_stand_in_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("name\nbus\ntram\n" if name.endswith(".csv") else "bus\ntram\n")
    assert Vocabulary.parse("cat", distractors=name).distractors == ("bus", "tram")
    assert Vocabulary.parse("cat", distractors=Path(name)).distractors == ("bus", "tram")
    told("no vocabulary file 'gone.txt'", "cat", distractors="gone.txt")
    strangers = Vocabulary.parse("cat", distractors="others.txt", files=False)
    assert strangers.distractors == ("others.txt",)
