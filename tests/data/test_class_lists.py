"""The shipped class lists against facts of the published registrations."""

from __future__ import annotations

import hashlib

import pytest

from masqclip.data.class_lists import class_list_descriptions, read_class_list
from masqclip.errors import MasqclipError

# name, classes, things, stuff, id and name of the last class
PUBLISHED = [
    ("coco-instances", 80, 80, 0, 90, "toothbrush"),
    ("coco-panoptic", 133, 80, 53, 200, "rug-merged"),
    ("coco-base-novel", 65, 65, 0, 90, "toothbrush"),
    ("coco-base", 48, 48, 0, 90, "toothbrush"),
    ("coco-novel", 17, 17, 0, 87, "scissors"),
    ("ade20k-150", 150, 100, 50, 149, "flag"),
    ("ade20k-847", 847, 0, 0, 3148, "adding machine, totalizer, totaliser"),
    ("pascal-context-59", 59, 0, 0, 58, "wood"),
    ("pascal-context-459", 459, 0, 0, 458, "wool"),
]


@pytest.mark.parametrize(("name", "length", "things", "stuff", "last_id", "last"), PUBLISHED)
def test_lists_are_whole(
    name: str, length: int, things: int, stuff: int, last_id: int, last: str
) -> None:
    classes = read_class_list(name).classes
    assert len(classes) == length
    assert sum(entry.thing is True for entry in classes) == things
    assert sum(entry.thing is False for entry in classes) == stuff
    assert (classes[-1].id, classes[-1].name) == (last_id, last)
    assert len({entry.name for entry in classes}) == len({entry.id for entry in classes}) == length


# Of "id|name|thing|split|prompts" of every class, computed from the published registrations.
DIGESTS = {
    "ade20k-150": "6f0ef41bf81aad49",
    "ade20k-847": "2a851a554a8ceee2",
    "coco-base-novel": "19cfd8f9f55bada4",
    "coco-instances": "d00110a0e8b2beba",
    "coco-panoptic": "1340e54ab34dd221",
    "pascal-context-459": "e30534c09af1e6ac",
    "pascal-context-59": "72858433d4047691",
}


@pytest.mark.parametrize(("name", "digest"), DIGESTS.items())
def test_lists_are_as_published_letter_for_letter(name: str, digest: str) -> None:
    lines = [
        f"{c.id}|{c.name}|{c.thing}|{c.split}|{'/'.join(c.prompts)}"
        for c in read_class_list(name).classes
    ]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest


def test_the_synonyms_of_the_paper() -> None:
    prompts = {c.name: c.prompts for c in read_class_list("coco-panoptic").classes}
    assert sum(words != (name,) for name, words in prompts.items()) == 27
    assert prompts["tree-merged"] == ("branch", "tree", "bush", "leaves")
    assert prompts["wall-other-merged"] == ("wall", "concrete wall", "panel wall")
    assert prompts["rug-merged"] == ("mat", "rug", "carpet")


def test_every_list_is_described() -> None:
    descriptions = class_list_descriptions()
    assert {row[0] for row in PUBLISHED} <= set(descriptions)
    assert all(descriptions.values())


def test_base_and_novel_part_the_65_in_its_order() -> None:
    whole = read_class_list("coco-base-novel").classes
    base = read_class_list("coco-base").classes
    novel = read_class_list("coco-novel").classes
    assert sorted([*base, *novel], key=whole.index) == list(whole)
    assert [entry.name for entry in novel][:4] == ["airplane", "bus", "cat", "dog"]
    assert [entry.id for entry in whole] == sorted(entry.id for entry in whole)


def test_names_keep_their_blanks_and_prompts_do_not() -> None:
    window = read_class_list("ade20k-150").classes[8]
    assert (window.name, window.prompts) == ("window ", ("window",))
    for name in class_list_descriptions():
        for entry in read_class_list(name).classes:
            assert entry.prompts
            assert all(prompt == prompt.strip() != "" for prompt in entry.prompts)


def test_ade_names_are_split_at_their_commas() -> None:
    for name in ("ade20k-150", "ade20k-847"):
        for entry in read_class_list(name).classes:
            assert entry.prompts == tuple(part.strip() for part in entry.name.split(","))


def test_pascal_59_points_into_459() -> None:
    all_459 = read_class_list("pascal-context-459").classes
    for entry in read_class_list("pascal-context-59").classes:
        assert entry.category_id is not None
        published = all_459[entry.category_id - 1].name
        assert published == {"diningtable": "table"}.get(entry.name, entry.name)


def test_unknown_list_names_the_others() -> None:
    with pytest.raises(MasqclipError, match="coco-panoptic"):
        read_class_list("coco")
