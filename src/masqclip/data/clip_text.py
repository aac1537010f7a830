"""What CLIP reads of a string: OpenAI's cleaning of text, and when two strings are one to it.

Strings are the same to CLIP if its tokenizer makes the same tokens of them. These tokens never
cross the borders of words, and blanks between words leave none, so the words decide it, and no
tokenizer is needed: "R&amp;D" and "r&d", "T-shirt" and "t - shirt" are one name each.

Of the first step of OpenAI's cleaning (ftfy), what changes characters is here: straight quotes,
plain letters for wide and joined ones, no marks that are never seen, composed accents. The repair
of wrongly decoded text is not; all else is the same, so tokens of well-formed text are identical.
"""

from __future__ import annotations

import html
import re
import unicodedata
from itertools import groupby

# Latin letters that are joined in one character: IJ, the Croatian DZ, LJ and NJ.
_JOINED = (0x132, 0x133, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4))
_PLAIN_CHARACTERS = (
    dict.fromkeys((0x2BC, 0x2018, 0x2019, 0x201A, 0x201B), "'")
    | dict.fromkeys((0x201C, 0x201D, 0x201E, 0x201F), '"')
    # The wide forms of East Asian keyboards, and typesetters' joined fi, fl and the like.
    | {c: unicodedata.normalize("NFKC", chr(c)) for c in range(0xFF01, 0xFFF0)}
    | {c: unicodedata.normalize("NFKC", chr(c)) for c in (*range(0xFB00, 0xFB07), *_JOINED)}
    | {0x149: "'n"}
    # Byte order marks, and what once controlled Arabic shapes and annotations.
    | dict.fromkeys((*range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)))
)
_ODD = re.compile(f"[{''.join(map(chr, _PLAIN_CHARACTERS))}]")

# Nearly all names: they are what is read of them.
_PLAIN = re.compile(r"[a-z]++(?: [a-z]++)*+")
_SPECIAL = r"\|(?:start|end)oftext\|>"
# CLIP's words: English endings, runs of letters, single digits, runs of anything else.
_PATTERN = rf"[^\W\d_]+|\d|'(?:s|t|re|ve|m|ll|d)|<{_SPECIAL}|(?:[^\w\s<]|_|<(?!{_SPECIAL}))+"
_WORDS, _ASCII_WORDS = re.compile(_PATTERN), re.compile(_PATTERN, re.ASCII)


def clean_text(text: str) -> str:
    """Text as OpenAI's CLIP saw it: entities resolved twice, single blanks, lower case."""
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if _ODD.search(text):
        text = text.translate(_PLAIN_CHARACTERS)
    # Composed last: the tokenizer does it too, and lower case can leave what is not.
    return unicodedata.normalize("NFC", " ".join(text.split()).lower())


def reading(text: str) -> str:
    """The words that CLIP reads of a text, a blank between each two; "" if there are none.

    Two texts have one reading if, and only if, CLIP's tokenizer makes the same tokens of them.
    The reading of a reading is itself.
    """
    if _PLAIN.fullmatch(text):
        return text
    if text.isascii() and text.isprintable() and "&" not in text:
        return " ".join(_ASCII_WORDS.findall(text.lower()))  # all that is left to clean
    words: list[str] = _WORDS.findall(clean_text(text))
    if not all(word.isascii() or word.isalpha() for word in words):
        words = [part for word in words for part in _without_numbers(word)]
    return " ".join(words)


def _without_numbers(word: str) -> list[str]:
    """A word parted at numbers that Python takes for parts of words, such as Roman ones."""
    if not word.isalnum():
        return [word]
    parts = []
    for letters, run in groupby(word, str.isalpha):
        part = "".join(run)
        parts += [part] if letters else list(part)
    return parts
