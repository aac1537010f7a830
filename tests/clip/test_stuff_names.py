"""Names that are regions without being told, and what is said of names goes before."""

from __future__ import annotations

from pathlib import Path

import pytest

from masqclip.clip.category import Category
from masqclip.clip.region_names import is_region, singulars
from masqclip.clip.vocabulary import Vocabulary, builtin_vocabularies, load_builtin
from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError


@pytest.mark.parametrize(
    "name",
    ["sky", "Sky", "skies", "grass", "road", "roads", "sand", "sea", "wall", "walls", "floor",
     "snow", "water", "ceiling", "mountains", "clouds", "cloud", "tree", "trees", "street",
     "ocean", "wood floor", "brick wall", "night sky", " pavement "],
)  # fmt: skip
def test_regions(name: str) -> None:
    assert is_region(name)


@pytest.mark.parametrize(
    "name",
    ["car", "person", "temple", "table", "door", "fence", "window", "windows", "stairs", "stair",
     "curtain", "flower", "food", "cabinet", "counter", "bill", "card", "glass", "bus", "dress",
     "grasshopper", "skyscraper wall street", "s", ""],
)  # fmt: skip
def test_what_is_counted_or_not_agreed_on(name: str) -> None:
    assert not is_region(name)


def test_every_list_that_has_one_calls_it_stuff() -> None:
    for name in builtin_vocabularies():
        for category in load_builtin(name).categories:
            if name in ("coco-panoptic", "coco-instances", "ade20k-150") and category.thing:
                assert not any(is_region(prompt) for prompt in category.prompts[:1])
    for prompt in ("sky", "grass", "floor"):
        assert reading(prompt) == prompt


def test_plurals() -> None:
    assert singulars("skies") == ("sky", "ski", "skie")
    assert singulars("beaches") == ("beach", "beache")
    assert singulars("walls") == ("wall",)
    assert singulars("grass") == ()


@pytest.mark.parametrize(
    "value",
    ["temple, tree, sky", ["temple", "tree", "sky"], "temple\ntree\nsky", '["temple","tree","sky"]',
     {"temple": [], "tree": ["tree"], "sky": None}],
)  # fmt: skip
def test_however_they_are_written(value: object) -> None:
    words = Vocabulary.parse(value)  # type: ignore[arg-type]
    assert words.stuff_ids == {1, 2}
    assert words.assumed == ("tree", "sky")
    assert words.counted.stuff_ids == frozenset()
    assert words.counted.assumed == ()
    assert words.counted.names == words.names


def test_a_file_of_names(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("car\nthing: tree\nstuff: pond\nsky, skies\n")
    words = Vocabulary.parse(file)
    assert words.stuff_ids == {2, 3}
    assert words.assumed == ("sky",)


def test_what_is_said_goes_before() -> None:
    words = Vocabulary.parse("thing: sky, stuff: car, tree, road", things="Tree", stuff=["road"])
    assert [c.thing for c in words.categories] == [True, False, True, False]
    assert words.assumed == ()
    assert words.counted is words
    quoted = Vocabulary.parse('thing: "sky, blue", THING: grass')
    assert quoted.names == ("sky, blue", "grass")
    assert quoted.stuff_ids == frozenset()
    again = Vocabulary.parse(Vocabulary.parse("sky, tree"), things="sky")
    assert (again.stuff_ids, again.assumed) == ({1}, ("tree",))
    with pytest.raises(MasqclipError, match="'tree' is said to be a thing and stuff: say one"):
        Vocabulary.parse("tree", things="tree", stuff="tree")
    with pytest.raises(MasqclipError, match="the thing 'lamp' is not in the vocabulary"):
        Vocabulary.parse("tree", things="lamp")


def test_flags_of_others_are_kept() -> None:
    explicit = Vocabulary.parse([Category("sky"), Category("car", thing=False)])
    assert explicit.stuff_ids == {1}
    flagged = [{"name": "sky", "id": 1, "isthing": 1}, {"name": "car", "id": 2, "isthing": 0},
               {"name": "grass", "id": 3}]  # fmt: skip
    words = Vocabulary.parse(flagged)
    assert words.stuff_ids == {1, 2}
    assert words.assumed == ("grass",)
    for name in builtin_vocabularies():
        assert Vocabulary.parse(name) == load_builtin(name)
        assert load_builtin(name).assumed == ()
