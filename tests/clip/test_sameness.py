"""What CLIP reads of a string, and that everything which asks whether two are one asks for that."""

from __future__ import annotations

import random
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from test_text import small_clip

from masqclip.clip.category import Category
from masqclip.clip.name_items import BACKGROUND
from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import Vocabulary, builtin_vocabularies
from masqclip.data.class_lists import read_class_list
from masqclip.data.clip_text import clean_text, reading
from masqclip.errors import MasqclipError
from masqclip.towers.tokenizer import load_tokenizer

SAME = [
    ("R&D", "R&amp;D"),
    ("R&D", "r&amp;amp;d"),
    ("cat", "\uff43\uff41\uff54"),  # full width
    ("fig", "\ufb01g"),  # a ligature
    ("dog's bowl", "dog\u2019s bowl"),
    ('7" vinyl', "7\u201d vinyl"),
    ("caf\u00e9", "cafe\u0301"),  # composed, decomposed
    ("t-shirt", "T - shirt"),
    ("type 12", "type 1 2"),
    ("it's", "it 's"),
    ("cat", "cat\ufeff"),  # a byte order mark
    ("ijs", "\u0133s"),
]
DIFFERENT = [("cat", "cats"), ("a..", "a. ."), ("cat", "cat\u200b"), ("it's", "it ' s"), ("a", "b")]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(small_clip(), load_tokenizer())


def tokens(encoder: TextEncoder, texts: list[str]) -> list[tuple[int, ...]]:
    """What the tokenizer itself makes of texts, in OpenAI's cleaning."""
    found = encoder.tokenizer([clean_text(text) for text in texts], truncation=False, verbose=False)
    return [tuple(ids) for ids in found["input_ids"]]


def test_cleaning() -> None:
    assert clean_text("  A &amp;amp; B\t\u3000C ") == "a & b c"
    assert (
        clean_text("\u201cit\u2019s\u201d \uff26\uff35\uff2c\uff2c \ufb01ne") == '"it\'s" full fine'
    )
    assert clean_text("&amp;amp;amp;") == "&amp;"


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_name_in_two_forms(encoder: TextEncoder, one: str, other: str) -> None:
    first, second = tokens(encoder, [one, other])
    assert first == second
    with pytest.raises(MasqclipError, match="are one name to CLIP: keep one of them") as caught:
        Vocabulary.parse([one, "dog", other])
    assert repr(one) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(MasqclipError, match="are one name to CLIP"):
        Vocabulary.parse([one], distractors=[other])
    assert Category("x", (one, other, "dog")).prompts == (Category(one).name, "dog")
    words = Vocabulary.parse([one, "dog"], stuff=[other])
    assert words.stuff_ids == {0}
    assert words.subset([other]).names == (Category(one).name,)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_names(encoder: TextEncoder, one: str, other: str) -> None:
    first, second = tokens(encoder, [one, other])
    assert first != second
    assert len(Vocabulary.parse([one, other])) == 2


def test_the_error_is_one_line() -> None:
    with pytest.raises(MasqclipError) as caught:
        Vocabulary.parse(["R&D", "R&amp;D"])
    assert str(caught.value) == "'R&D' and 'R&amp;D' are one name to CLIP: keep one of them"


def test_one_reading_if_and_only_if_the_same_tokens(encoder: TextEncoder) -> None:
    """Over names of pieces that are easily taken for one another, twice as many as there are."""
    chance = random.Random(12)
    pieces = [
        "a", "B", "ab", "1", "12", "-", "_", ".", "'", "'s", "s", "'LL", " ", "  ", "&amp;", "&",
        ";", "amp", "&#233;", "\u00e9", "e\u0301", "\u0301", "\uff41", "\uff0d", "\ufb01", "\u2019",
        "\u02bc", "\u00b2", "\u2167", "\u4e00", "\u00df", "\u0130", "\u03a3", "\u200b", "\ufeff",
        "\u00a0", "<|endoftext|>", "<|", "|>", "<", "\U0001f600", "\u0661", "\u01c6",
    ]  # fmt: skip
    texts = ["".join(chance.choices(pieces, k=chance.randint(1, 4))) for _ in range(40_000)]
    by_tokens: dict[tuple[int, ...], set[str]] = {}
    for text, ids in zip(texts, tokens(encoder, texts), strict=True):
        by_tokens.setdefault(ids, set()).add(reading(text))
    assert all(len(readings) == 1 for readings in by_tokens.values())
    readings = [reading for (reading,) in by_tokens.values()]
    assert len(set(readings)) == len(readings) < 0.9 * len(set(texts))
    assert tokens(encoder, readings) == list(by_tokens)
    assert [reading(text) for text in readings] == readings


def test_every_character_is_read_as_the_tokenizer_reads_it(encoder: TextEncoder) -> None:
    known = [chr(c) for c in range(1, sys.maxunicode + 1)]
    # Of the letters without case, which are most of them, some.
    odd = ("Cn", "Cs", "Co", "Lo")
    chosen = [*(c for c in known if unicodedata.category(c) not in odd), *known[0x3400:0xD800:97]]
    texts = [f"a{c}b{c}{c} 1{c}'s" for c in chosen]
    assert tokens(encoder, texts) == tokens(encoder, [reading(text) for text in texts])


@pytest.mark.parametrize("name", ["\uff22ackground", "BACKGROUND", "back\ufeffground"])
def test_the_background_in_any_form(name: str) -> None:
    with pytest.raises(MasqclipError, match="is always part of a vocabulary: leave it out"):
        Vocabulary.parse([name, "cat"])
    with pytest.raises(MasqclipError, match="is always part of a vocabulary: leave it out"):
        Vocabulary.parse(["cat"], distractors=[name])
    with pytest.raises(MasqclipError, match="'wall' is read as 'background', which is always"):
        Vocabulary.parse({"wall": [name], "cat": []})
    assert len(Vocabulary.parse({"wall": [name, "wall"], "cat": []})) == 2


def test_the_background_of_tools_in_any_form(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("names: [\uff42ackground, cat]", "utf-8")
    assert Vocabulary.parse(file).names == ("cat",)


def test_names_with_the_same_prompts_are_one() -> None:
    for prompts in ({"a": ["cat"], "b": ["Cat"]}, {"a": ["cat", "dog"], "b": ["DOG", "cat"]}):
        with pytest.raises(MasqclipError, match="'a' and 'b' have the same prompts and are one na"):
            Vocabulary.parse(prompts)
    with pytest.raises(MasqclipError, match="'a' and 'cat' have the same prompts"):
        Vocabulary.parse({"a": ["cat"]}, distractors="cat")
    assert len(Vocabulary.parse({"a": ["cat", "dog"], "b": ["cat"]})) == 2


def test_names_of_which_nothing_is_read() -> None:
    with pytest.raises(MasqclipError, match="CLIP reads nothing of the name '&nbsp;': give words"):
        Vocabulary.parse(["&nbsp;", "cat"])
    with pytest.raises(MasqclipError, match="CLIP reads nothing of a synonym of 'cat'"):
        Vocabulary.parse({"cat": ["cat", "&nbsp;"]})


def test_what_repeats_counts_once(encoder: TextEncoder) -> None:
    def row(prompts: tuple[str, ...], *templates: str) -> torch.Tensor:
        return encoder.embed_vocabulary(Vocabulary((Category("x", prompts),), (), templates))[0]

    torch.testing.assert_close(row(("cat", "\uff23at", "dog"), "{}"), row(("cat", "dog"), "{}"))
    once = row(("cat",), "a {}.", "the {}.")
    torch.testing.assert_close(row(("cat",), "a {}.", "the {}.", "a {}."), once)
    torch.testing.assert_close(row(("cat",), "a {}.", "the {}.", "A  {} ."), once)
    # "a cat" comes of both.
    sentences = ["cat", "a cat", "a a cat"]
    mean = encoder.embed_strings(sentences).mean(0)
    expected = torch.nn.functional.normalize(mean, dim=0)
    torch.testing.assert_close(row(("cat", "a cat"), "{}", "a {}"), expected)


def test_strings_are_embedded_once_as_they_are_tokenised(encoder: TextEncoder) -> None:
    written = ["&amp;amp;amp;amp;", "&amp;amp;amp;", "t - shirt"]
    embedded = encoder.embed_strings(written)
    rows = encoder.embed_strings(["& amp;amp;", "& amp;", "t-shirt"])
    torch.testing.assert_close(embedded[0], rows[0])
    assert torch.equal(embedded[2], rows[2])
    known = len(encoder._opened_cache())
    encoder.embed_strings(["T-Shirt", "\uff54-shirt", "t -shirt"])
    assert len(encoder._opened_cache()) == known


@pytest.mark.parametrize("name", builtin_vocabularies())
def test_published_lists_are_as_before(name: str) -> None:
    """No two of their names are one to CLIP, and no prompt is left out."""
    words = Vocabulary.parse(name)
    listed = read_class_list(name).classes
    assert [category.prompts for category in words.categories] == [c.prompts for c in listed]
    assert len({category.reading for category in words.categories} | {BACKGROUND}) > len(words)
