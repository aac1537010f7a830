"""Which characters CLIP's cleaning makes others, and where a text is parted into words."""

from __future__ import annotations

import unicodedata

import pytest

from masqclip.data.clip_text import clean_text, reading


def test_quotes_are_straight() -> None:
    for code in (0x2BC, 0x2018, 0x2019, 0x201A, 0x201B):
        assert clean_text(f"a{chr(code)}b") == "a'b"
    for code in (0x201C, 0x201D, 0x201E, 0x201F):
        assert clean_text(f"a{chr(code)}b") == 'a"b'
    for code in (0x2BB, 0x2BD, 0x2017, 0x2020):  # their neighbours are not
        assert clean_text(f"a{chr(code)}b") == f"a{chr(code)}b"
    assert clean_text("\u0149") == "'n"


def test_wide_and_joined_letters_are_plain() -> None:
    wide = "".join(map(chr, range(0xFF01, 0xFF5F)))
    assert clean_text(wide) == "".join(map(chr, range(0x21, 0x7F))).lower()
    assert [clean_text(chr(c)) for c in range(0xFB00, 0xFB07)] == [
        "ff", "fi", "fl", "ffi", "ffl", "st", "st"
    ]  # fmt: skip
    assert clean_text("\ufb07") == "\ufb07"
    assert clean_text("\uffee") == unicodedata.normalize("NFKC", "\uffee")
    for codes, letters in (
        ((0x132, 0x133), "ij"), (range(0x1C4, 0x1C7), "d\u017e"), (range(0x1C7, 0x1CA), "lj"),
        (range(0x1CA, 0x1CD), "nj"), (range(0x1F1, 0x1F4), "dz"),
    ):  # fmt: skip
        assert {clean_text(chr(code)) for code in codes} == {letters}
    for code in (0x131, 0x1CE, 0x1F0, 0x1F5):  # in lower case, and not joined
        assert clean_text(chr(code)) == chr(code)


def test_marks_that_are_never_seen_are_left_out() -> None:
    for code in (*range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)):
        assert clean_text(f"a{chr(code)}b") == "ab"
    for code in (0x2069, 0x2070, 0xFFFD, 0xFFF8):
        assert clean_text(f"a{chr(code)}b") == f"a{chr(code)}b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""), ("  ", ""), ("a", "a"), ("a b", "a b"), ("a  b", "a b"), (" a", "a"), ("a ", "a"),
        ("AB", "ab"), ("ab12", "ab 1 2"), ("a-b", "a - b"), ("a--b", "a -- b"), ("a_b", "a _ b"),
        ("it's", "it 's"), ("'d've'll're'm't", "'d 've 'll 're 'm 't"), ("o'x", "o ' x"),
        ("a<b", "a < b"), ("<|endoftext|>", "<|endoftext|>"),
        ("<|starToftext|>", "<|startoftext|>"),
        ("<|endoftext|", "<| endoftext |"), ("a.<|endoftext|>", "a . <|endoftext|>"),
        ("a&amp;b", "a & b"), ("a\tb", "a b"), ("a\nb", "a b"), ("caf\u00e9", "caf\u00e9"),
        ("x\u00b2", "x \u00b2"), ("\u00b2\u2167a", "\u00b2 \u2177 a"), ("\u4e00a", "\u4e00a"),
        ("\u0661\u0662", "\u0661 \u0662"), ("\u00e9\u00b2\u00b2!", "\u00e9 \u00b2 \u00b2 !"),
        ("a\u0301", "\u00e1"), ("E\u0301", "\u00e9"), ("a\u00a0b", "a b"),
    ],
)  # fmt: skip
def test_words_of_a_text(text: str, words: str) -> None:
    assert reading(text) == words
    assert reading(words) == words
