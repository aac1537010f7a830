"""Every way to write a vocabulary down, and every way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from masqclip.clip.category import Category
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError

NAMES = ("car", "traffic light", "sky")


@pytest.mark.parametrize(
    "written",
    [
        ["car", "traffic light", "sky"],
        ("car", " traffic light ", Category("sky")),
        (name for name in NAMES),
        "car, traffic light,sky",
        "car. traffic light. sky.",
        "car . traffic light . sky .",
        "car. traffic light. sky",
        "car . traffic light . sky",
        "car, traffic light, sky\n",
        ",car,, traffic light , sky,",
        "car; traffic light;;sky",
        "car\ttraffic light\tsky\n",
        "car\uff0ctraffic light\u3001 sky",
        '"car", "traffic light",sky',
        "car,\ntraffic light,\n\nsky,",
        "# mine\ncar, traffic light, sky\n",
        '["car", "traffic light", "sky"]',
        "[car, 'traffic light', sky]",
        '{"0": "car", "1": "traffic light", "2": "sky"}',
        {2: "sky", 0: "car", 1: "traffic light"},
        {"car": 0, "traffic light": 1, "sky": 2},
        [{"name": "car", "id": 1}, {"name": "traffic light", "id": 2}, {"name": "sky", "id": 3}],
        "car\ntraffic light\nsky",
        "\ufeffcar\r\n\r\ntraffic light\r\nsky\r\n",
        {"car": [], "traffic light": None, "sky": ""},
    ],
)
def test_the_same_names_in_every_way(written: object) -> None:
    vocabulary = Vocabulary.parse(written)  # type: ignore[arg-type]
    assert vocabulary.names == NAMES
    assert all(category.prompts == (category.name,) for category in vocabulary.categories)


def test_quotes_keep_what_would_be_read() -> None:
    written = (
        '"traffic light, red", "St. Bernard. ", stuff: "sand, wet", 19" rack, "a ""b"" c", "./x"'
    )
    words = Vocabulary.parse(written)
    names = ("traffic light, red", "St. Bernard.", "sand, wet", '19" rack', 'a "b" c', "./x")
    assert (words.names, words.stuff_ids) == (names, {2})
    assert Vocabulary.parse('["traffic light, red", "car"]').names == ("traffic light, red", "car")
    options = {"stuff": '"sand, wet"', "distractors": '["a, b", "c"], '}
    with pytest.raises(MasqclipError, match="no valid JSON"):
        Vocabulary.parse(words, **options)
    options["distractors"] = '["a, b", "c"]'
    assert Vocabulary.parse(words, **options).distractors == ("a, b", "c")


@pytest.mark.parametrize("word", ["{a}", "[a", "# a", "a: b", "- a", "'", "~a", "E=mc2", "1e3"])
def test_marks_of_other_grammars_are_letters(word: str) -> None:
    for written in (word, f"{word}, car"):
        assert Vocabulary.parse(written).names[0] == word


def test_mapping_embeds_what_it_lists() -> None:
    vocabulary = Vocabulary.parse({"tree-merged": ["branch", "tree"], "person": "person, human"})
    assert [category.prompts for category in vocabulary.categories] == [
        ("branch", "tree"),
        ("person", "human"),
    ]


@pytest.mark.parametrize("word", ["sticker", "St. Bernard", "T-shirt", "x-ray", "iphone-15"])
def test_single_words_are_names(word: str) -> None:
    assert Vocabulary.parse(word).names == (word,)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("coco-panoptics", "'coco-panoptic'"),
        ("coco_panoptic", "'coco-panoptic'"),
        ("Coco-Base", "'coco-base'\\?"),
        ("coco-base-48", "'coco-base'"),
        ("ade20k", "'ade20k-150' or 'ade20k-847'"),
        ("pascal-context", "'pascal-context-459' or 'pascal-context-59'"),
    ],
)
def test_near_misses_of_builtins_are_refused(word: str, meant: str) -> None:
    with pytest.raises(MasqclipError, match=f"did you mean {meant}"):
        Vocabulary.parse(word)
    assert Vocabulary.parse([word]).names == (word,)


def test_text_file(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    lines = ["# scene", "", "tree, bush , branch", "stuff: grass, lawn # soft", "C#", "last"]
    file.write_bytes("\n".join(lines).encode("utf-8-sig"))
    for source in (file, str(file)):
        vocabulary = Vocabulary.parse(source)
        assert vocabulary.categories == (
            Category("tree", ("tree", "bush", "branch"), thing=False),
            Category("grass", ("grass", "lawn"), thing=False),
            Category("C#"),
            Category("last"),
        )


def test_stuff_prefix_in_a_string() -> None:
    assert Vocabulary.parse("car, stuff:sky").categories[1] == Category("sky", thing=False)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "the vocabulary is empty"),
        ("   ", "the vocabulary is empty"),
        ([], "the vocabulary is empty"),
        ({}, "the vocabulary is empty"),
        (["car", " "], "name 2 of the vocabulary is empty"),
        ("car, stuff:", "name 2 of the vocabulary is empty"),
        ("\n# nothing\n", "holds no name"),
        ("car\n, ,", "a name in line 2 of the vocabulary is empty"),
        ("nowhere.txt", "no vocabulary file 'nowhere.txt'"),
        (Path("nowhere"), "no vocabulary file 'nowhere'"),
        ({"car", "tire"}, "a set of names has no order"),
        (["car", 3], "3 is of type int"),
        ({"car": 3.5}, "the synonyms of 'car' are 3.5"),
        ({"car": ["auto", 3]}, "a synonym of 'car' is 3"),
        (b"car", "a vocabulary is a list of names"),
        (None, "a vocabulary is a list of names"),
    ],
)
def test_mistakes_are_named(written: object, message: str) -> None:
    with pytest.raises(MasqclipError, match=message) as caught:
        Vocabulary.parse(written)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x00\x01", "caf\u00e9".encode("latin-1")])
def test_binary_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(MasqclipError, match=r"words\.txt' is not UTF-8 text"):
        Vocabulary.parse(file)


ONTOLOGY = Vocabulary(
    (
        Category("container", ("shipping container", "freight box")),
        Category("road", ("road", "street"), thing=False),
        Category("car"),
    )
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("o.txt", "container = shipping container; freight box\nstuff: road, street\ncar  # any"),
        (
            "o.json",
            '{"container": ["shipping container", "freight box"], "stuff:road": "road, street", '
            '"car": null}',
        ),
        (
            "o.toml",
            'container = ["shipping container", "freight box"]\n'
            '"stuff:road" = ["road", "street"]\ncar = []',
        ),
    ],
)
def test_an_ontology_gives_a_name_its_prompts(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert Vocabulary.parse(tmp_path / name) == ONTOLOGY
    assert Vocabulary.parse(str(tmp_path / name)) == ONTOLOGY


def test_a_json_list_is_a_list_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["car", "stuff:sky"]')
    assert Vocabulary.parse(tmp_path / "a.json") == Vocabulary.parse("car, stuff:sky")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{}", "holds no names"),
        ("a.json", '"car"', "holds no names"),
        ("a.json", '{"car"', "no valid JSON"),
        ("a.toml", "car = ", "is no valid TOML"),
        ("a.toml", "[car]\nprompts = 1", "the synonyms of 'car' are"),
        ("a.txt", "car\nbox =", "a name in line 2 of .* is empty"),
        ("a.txt", "box = crate; ; carton", "a name in line 1 of .* is empty"),
    ],
)
def test_mistakes_in_an_ontology(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MasqclipError, match=message) as caught:
        Vocabulary.parse(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_folders_and_names_too_long_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="is a folder"):
        Vocabulary.parse(tmp_path)
    with pytest.raises(MasqclipError, match=r"no vocabulary file|cannot be read"):
        Vocabulary.parse("x" * 5000 + ".txt")
