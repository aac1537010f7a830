"""Vocabularies that are too much: refused before any work is done on them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from masqclip.clip import name_limits
from masqclip.clip.category import Category
from masqclip.clip.name_limits import NameLimits, closest, shown
from masqclip.clip.read_names import MAX_TEXT_CHARACTERS, read_text
from masqclip.clip.reading import token_ids
from masqclip.clip.templates import CLIP_TEMPLATES
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.towers.tokenizer import load_tokenizer

SYMBOLS = random.Random(1).sample(range(0x4E00, 0x9FFF), 20_000)
LOOKALIKE = "".join(map(chr, SYMBOLS)) * 10
SHUFFLED = "".join(random.Random(2).sample(LOOKALIKE, len(LOOKALIKE)))


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    started = time.process_time()
    yield
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("written", "options", "message"),
    [
        ("a\n" * 10_000_000, {}, "20,000,000 characters, more than the limit of 8,000,000"),
        ("a\n" * 3_000_000, {}, "lines of the vocabulary: more than the limit of 200,000"),
        ("a" + "\x85" * 200_001 + "b", {}, "lines of the vocabulary: more than the limit"),
        ("a," * 3_000_000, {}, "more than the limit of 100,000"),
        ("cat. " * 1_000_000, {}, "more than the limit of 100,000"),
        ((f"name {i}" for i in count()), {}, "more than the limit of 100,000"),
        ({f"name {i}": () for i in range(100_001)}, {}, "more than the limit of 100,000"),
        ({"cat": (f"cat {i}" for i in count())}, {}, "more than the limit of 200,000"),
        ("cat = " + "a;" * 300_000 + "\ndog", {}, "more than the limit of 200,000"),
        (["a" * 30_000_000], {}, "30,000,000 characters and may have 1,000"),
        ("a" * 7_000_000, {}, "7,000,000 characters and may have 1,000"),
        ("a/" * 3_000_000 + " a", {}, "6,000,002 characters and may have 1,000"),
        ('"a' * 3_000_000, {}, "6,000,000 characters and may have 1,000"),
        ("\u3001, " * 2_000_000, {}, "the vocabulary is empty"),
        ({"cat": ["&amp;" * 500_000]}, {}, "2,500,000 characters and may have 1,000"),
        ([LOOKALIKE], {"stuff": [SHUFFLED]}, "200,000 characters and may have 1,000"),
        (["cat"], {"stuff": (str(i) for i in count())}, "the stuff names: more than the limit"),
        (["cat"], {"distractors": "a," * 200_000}, "the distractors: more than the limit"),
        (["cat"], {"templates": (f"{i} {{}}" for i in count())}, "the templates: more than"),
        (["cat"], {"templates": "{}" * 50}, "50 places for the name"),
        (["cat"], {"templates": [3]}, "the template 3 is no string"),
        (["cat"], {"stuff": 3}, "the stuff names are 3: give names"),
        (["cat"], {"templates": 3}, "the templates are 3"),
        ([f"name {i}" for i in range(9_000)], {"templates": CLIP_TEMPLATES * 20}, "2,520,000 str"),
        (["car", 10**5000], {}, "something of type int"),
    ],
)
def test_too_much_is_refused(written: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(MasqclipError, match=message) as caught:
        Vocabulary.parse(written, **options)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_what_is_within_the_limits_is_read() -> None:
    names = [f"name {i}" for i in range(name_limits.MAX_NAMES)]
    assert len(Vocabulary.parse(names)) == name_limits.MAX_NAMES
    long = "n" * name_limits.MAX_NAME_CHARACTERS
    assert Vocabulary.parse([f"  {long}  "]).names == (long,)


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ("cat, dog, cow", NameLimits(names=2)),
        (["cat", "dog", "cow"], NameLimits(names=2)),
        ([Category("cat"), Category("dog"), Category("cow")], NameLimits(names=2)),
        ("cat\ndog\ncow", NameLimits(lines=1)),
        ("cat\ndog\ncow", NameLimits(names=2)),
        ("cat, dog, cow", NameLimits(text_bytes=5)),
        (["a" * 11], NameLimits(name_characters=10)),
        ({"cat": ["a", "b"]}, NameLimits(prompts=1)),
        ([Category("cat", ("a", "b"))], NameLimits(prompts=1)),
        ("cat, dog, cow", NameLimits(strings=2)),
    ],
)
def test_a_caller_lowers_the_limits(written: object, limits: NameLimits) -> None:
    Vocabulary.parse(written)  # type: ignore[arg-type]
    with pytest.raises(MasqclipError):
        Vocabulary.parse(written, limits=limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[" * 90_000, "nested too deeply"),
        ("a.json", b'{"a": ' * 90_000 + b"0" + b"}" * 90_000, "nested too deeply"),
        ("a.json", b"[[]," * 150_000 + b"]", "more than the limit of 100,000"),
        ("a.json", b'{"cat": ["a"], "cat": ["b"]}', "'cat' stands twice"),
        ("a.json", b"[NaN]", "NaN is no number"),
        ("a.json", b'["\\ud800"]', r"holds the character U\+D800"),
        ("a.json", b'["cat\\u0000"]', r"holds the character U\+0000"),
        ("a.toml", b"a = " + b"[" * 90_000, "nested too deeply"),
        ("a.toml", b".".join([b"a"] * 100_000) + b" = 1", "nested too deeply"),
        ("a.toml", b"cat = []\ncat = []", "is no valid TOML"),
        ("a.toml", b"#\n" * 300_000, "500,000"),
        ("a.txt", b"cat\n" * 2_500_000, "larger than the limit of 8 MB"),
        ("a.txt", b"cat\x1b[31m", r"holds the character U\+001B"),
    ],
)
def test_files_that_are_too_much(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MasqclipError, match=message) as caught:
        Vocabulary.parse(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_path_of_millions_of_steps_is_told_shortly() -> None:
    with pytest.raises(MasqclipError, match="no vocabulary file") as caught:
        Vocabulary.parse("a/" * 3_000_000)
    assert len(str(caught.value)) < 800


def test_a_fifo_is_no_file_of_names(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "names.txt")
    with pytest.raises(MasqclipError, match="not a regular file"):
        Vocabulary.parse(tmp_path / "names.txt")


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\x7f", "\x9f", "\ud800", "\uffff"])
def test_what_cannot_be_written_is_no_name(bad: str) -> None:
    for written in ([f"c{bad}t"], f"dog, c{bad}t", f"dog\nc{bad}t", {"cat": [f"c{bad}t"]}):
        with pytest.raises(MasqclipError, match=rf"U\+{ord(bad):04X}"):
            Vocabulary.parse(written)  # type: ignore[arg-type]
    for option in ("stuff", "distractors"):
        with pytest.raises(MasqclipError, match=rf"U\+{ord(bad):04X}"):
            Vocabulary.parse(["cat"], **{option: [f"c{bad}t"]})  # type: ignore[arg-type]
    with pytest.raises(MasqclipError, match=rf"U\+{ord(bad):04X}"):
        Vocabulary.parse(["cat"], templates=f"a{bad} {{}}")
    with pytest.raises(MasqclipError, match=rf"U\+{ord(bad):04X}"):
        Category(f"c{bad}t")
    with pytest.raises(MasqclipError, match=r"U\+|cannot|no vocabulary file"):
        Vocabulary.parse(f"~{bad}/names.txt")


def test_words_of_all_languages_are_names() -> None:
    words = [
        "\u0645\u06cc\u200c\u0631\u0648\u062f",
        "\U0001f468\u200d\U0001f469",
        "a\u0301",
        "\u200fx",
    ]
    assert Vocabulary.parse(words).names == tuple(words)


def test_lookalikes_are_sought_for_a_bounded_time() -> None:
    word = LOOKALIKE[:60]
    chance = random.Random(3)
    others = ["".join(chance.sample(word, 60)) for _ in range(2_000)] * 20
    started = time.process_time()
    assert closest(word, others, cutoff=0.55) is None
    assert time.process_time() - started < 2
    assert closest(SHUFFLED, [LOOKALIKE], cutoff=0.1) is None
    assert closest("trafic light", [*others[:50], "traffic light"], cutoff=0.55) == "traffic light"
    assert closest("cat", ["car", "cat "], cutoff=0.5) == "cat "


def test_texts_are_looked_at_before_they_are_tokenised() -> None:
    tokenizer = load_tokenizer()
    assert read_text("a " * (MAX_TEXT_CHARACTERS // 2))
    for text in ("&amp;" * 6_000_000, "cat\ud800", "cat\x00"):
        with pytest.raises(MasqclipError, match=r"the name '(cat|&amp;)"):
            token_ids(["dog", text], tokenizer)


# One more than each limit is too much; just as many are not. What is written, and its measure.
EDGES: list[tuple[str, int, object]] = [
    ("names", 3, "cat, dog, cow"),
    ("names", 3, "cat; dog; cow"),
    ("names", 3, "cat. dog. cow."),
    ("names", 3, "cat\ndog\ncow"),
    ("names", 3, "cat,\ndog,\ncow"),
    ("names", 3, ["cat", "dog", "cow"]),
    ("names", 3, {"cat": [], "dog": [], "cow": []}),
    ("names", 3, [Category("cat"), Category("dog"), Category("cow")]),
    ("prompts", 3, {"cat": ["a", "b", "c"]}),
    ("prompts", 3, {"cat": "a, b, c"}),
    ("prompts", 4, {"cat": ["a", "b"], "dog": ["c", "d"]}),
    ("prompts", 3, "cat, a\ndog"),
    ("prompts", 4, "cat, a, b\ndog"),
    ("prompts", 3, "cat = a; b\ndog"),
    ("prompts", 3, [Category("cat", ("a", "b", "c"))]),
    ("lines", 2, "cat\n\ndog"),
    ("lines", 1, "cat\r\ndog"),
    ("text_bytes", 8, "cat, dog"),
    ("name_characters", 4, ["  lion  "]),
    ("name_characters", 4, "lion, cat"),
    ("name_characters", 4, {"cat": ["lion"]}),
    ("strings", 3, "cat, dog, cow"),
]


@pytest.mark.parametrize(("name", "most", "written"), EDGES)
def test_a_limit_is_the_most_there_may_be(name: str, most: int, written: object) -> None:
    within = Vocabulary.parse(written, limits=NameLimits(**{name: most}))  # type: ignore[arg-type]
    assert within == Vocabulary.parse(written)  # type: ignore[arg-type]
    with pytest.raises(MasqclipError):
        Vocabulary.parse(written, limits=NameLimits(**{name: most - 1}))  # type: ignore[arg-type]


def test_strings_are_prompts_and_distractors_in_every_template() -> None:
    """And their characters a hundred times as many at most, the names' in each of their places."""
    names = {"cat": ["a", "b"], "dog": ["c"]}
    options = {"distractors": ["cow"], "templates": ["{}", "a {}"]}
    assert Vocabulary.parse(names, **options, limits=NameLimits(strings=8))  # type: ignore[arg-type]
    with pytest.raises(MasqclipError, match=r"4 prompts in 2 templates are 8 strings"):
        Vocabulary.parse(names, **options, limits=NameLimits(strings=7))  # type: ignore[arg-type]
    # 2 strings may have 200 characters: 2 x 12 of the template and, in two places, 2 x 44 each.
    long, template = "n" * 44, "{} and {} or"
    both, limits = ["a" + long[1:], "b" + long[1:]], NameLimits(strings=2)
    assert Vocabulary.parse(both, templates=template, limits=limits)
    with pytest.raises(MasqclipError, match="2 strings of 202 characters"):
        Vocabulary.parse(both, templates=template + "!", limits=limits)


def test_a_template_may_be_as_long_as_a_name_and_have_nine_places() -> None:
    for template in ("{}" * 9, "{}" + "a" * 998):
        assert Vocabulary.parse("cat", templates=template).templates == (template,)
    with pytest.raises(MasqclipError, match="10 places"):
        Vocabulary.parse("cat", templates="{}" * 10)
    with pytest.raises(MasqclipError, match="1,001 characters"):
        Vocabulary.parse("cat", templates="{}" + "a" * 999)


def test_the_first_of_the_most_alike_is_meant() -> None:
    assert closest("cat", ["bat", "rat"], cutoff=0.5) == "bat"
    assert closest("abcd", ["abxy"], cutoff=0.5) == "abxy", "just alike enough"
    assert closest("abcd", ["abxy"], cutoff=0.51) is None
    assert closest("n" * 60, ["n" * 60], cutoff=0.5) == "n" * 60
    assert closest("n" * 61, ["n" * 61], cutoff=0.5) is None
    assert closest("n" * 60, ["n" * 61, "n" * 50], cutoff=0.5) == "n" * 50
    far = ["x"] * (name_limits._COMPARED_NAMES - 1)
    assert closest("cat", [*far, "cat"], cutoff=0.5) == "cat"
    assert closest("cat", [*far, "x", "cat"], cutoff=0.5) is None
    near = ["bat"] * (name_limits._COMPARED_CLOSELY - 1)
    assert closest("cat", [*near, "cat"], cutoff=0.5) == "cat"
    assert closest("cat", [*near, "bat", "cat"], cutoff=0.5) == "bat"


def test_values_are_shown_shortly_on_one_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert shown("n" * 78) == f"'{'n' * 78}'", "as long as it may be"
    cut = shown("n" * 79)
    assert (len(cut), cut[:3], cut[-3:]) == (80, "'nn", "nn'")
    assert "..." in cut
    assert len(shown(["n" * 30] * 10)) <= 80
    assert len(shown("n" * 100, longest=20)) == 20
    assert "  " not in shown("a   b")
