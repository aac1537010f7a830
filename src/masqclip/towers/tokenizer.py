"""Words to CLIP's tokens: the shipped OpenAI byte-pair encoding.

The merges stand in ``openai_bpe/`` (see the notice beside them); the vocabulary follows from
them. What is read of a text before it is tokenised says `masqclip.data.clip_text`.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masqclip.errors import MasqclipError
from masqclip.hub import find_tokenizer
from masqclip.hub.local import has_tokenizer
from masqclip.towers.tokenizer_files import read_tables

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT_LENGTH = 77  # of OpenAI's text towers, start and end included
# transformers: text configurations from before its fix say 2 and pool at the highest token id.
LEGACY_END_ID = 2
PADDING_ID = 0  # what OpenAI pads with; the causal tower never looks past the end token


def load_tokenizer(source: str | Path | None = None) -> CLIPTokenizer:
    """CLIP's tokenizer.

    Args:
        source: a folder with tokenizer files (``tokenizer.json``, or ``vocab.json`` and
            ``merges.txt``), a Hub name such as ``openai/clip-vit-base-patch32``, or None for the
            OpenAI tokenizer that the package ships.

    Raises:
        MasqclipError: there is no tokenizer there.
    """
    from transformers import CLIPTokenizer

    if source is None:
        merges = _openai_merges()
        return CLIPTokenizer(
            vocab=_openai_vocabulary(merges), merges=merges, model_max_length=CONTEXT_LENGTH
        )
    folder = Path(source)
    if not folder.is_dir():
        if isinstance(source, Path) or not re.fullmatch(r"[\w][\w.-]*/[\w.-]+", source):
            raise MasqclipError(f"there is no tokenizer folder {str(source)!r}: check the path")
        folder = find_tokenizer(source)
    if not has_tokenizer(folder):
        raise MasqclipError(
            f"the folder {str(source)!r} holds no tokenizer: it needs tokenizer.json, or "
            "vocab.json and merges.txt"
        )
    names = {"bos_token": START, "eos_token": END, "unk_token": END}
    try:
        tables = read_tables(folder, special=names, context_length=CONTEXT_LENGTH)
        return CLIPTokenizer(
            vocab=tables.vocabulary,
            merges=tables.merges,
            model_max_length=tables.context_length,
            **tables.special,
        )
    except Exception as error:  # tokenizers raises bare Exceptions for tables that do not fit
        cause = str(error).strip().split("\n")[0]
        raise MasqclipError(
            f"the tokenizer of {str(source)!r} cannot be loaded: {cause}"
        ) from error


def check_tokenizer(
    text_config: CLIPTextConfig, tokenizer: CLIPTokenizer, *, remedy: str = ""
) -> None:
    """Refuse a tokenizer that cannot be a text tower's: its words would be nonsense.

    Args:
        text_config: the tower's configuration.
        tokenizer: from `load_tokenizer`.
        remedy: what to do about it.

    Raises:
        MasqclipError: it has more tokens than the tower, or ends texts with another one.
    """
    remedy = remedy or "load the tokenizer that belongs to it"
    if len(tokenizer) > text_config.vocab_size:
        raise MasqclipError(
            f"the tokenizer has {len(tokenizer)} tokens and the CLIP's text tower "
            f"{text_config.vocab_size}: {remedy}"
        )
    # transformers pools at the highest token of a text where the configuration says 2.
    end = text_config.eos_token_id
    if end == LEGACY_END_ID:
        end = max(tokenizer.eos_token_id, *tokenizer.get_vocab().values())
    if tokenizer.eos_token_id not in (end, text_config.eos_token_id):
        raise MasqclipError(
            f"the tokenizer ends a text with token {tokenizer.eos_token_id} and the CLIP's "
            f"text tower looks for {end}: {remedy}"
        )


def tower_tokenizer(folder: Path, text_config: CLIPTextConfig) -> CLIPTokenizer:
    """The tokenizer of the CLIP in a folder: its own, or OpenAI's where it has none.

    Args:
        folder: of the CLIP.
        text_config: of its text tower.

    Raises:
        MasqclipError: it does not fit the tower.
    """
    if has_tokenizer(folder):
        tokenizer = load_tokenizer(folder)
        check_tokenizer(text_config, tokenizer)
        return tokenizer
    tokenizer = load_tokenizer()
    remedy = (
        f"{str(folder)!r} holds no tokenizer, and OpenAI's is not its own: put its tokenizer's "
        "files into that folder"
    )
    check_own_vocabulary(text_config, tokenizer, remedy=remedy)
    return tokenizer


def check_own_vocabulary(
    text_config: CLIPTextConfig, tokenizer: CLIPTokenizer, *, remedy: str
) -> None:
    """`check_tokenizer` for OpenAI's tokenizer and a tower that came without one.

    A tower of more tokens was trained with another tokenizer, of which OpenAI's knows nothing.

    Raises:
        MasqclipError: it is not the tower's.
    """
    if len(tokenizer) != text_config.vocab_size:
        raise MasqclipError(
            f"the CLIP's text tower has {text_config.vocab_size} tokens, and OpenAI's tokenizer "
            f"{len(tokenizer)}: {remedy}"
        )
    check_tokenizer(text_config, tokenizer, remedy=remedy)


def reads_as_openai(tokenizer: Any) -> bool:
    """Whether a tokenizer cuts texts as OpenAI's does, of which `masqclip.data.clip_text` knows
    what it reads alike."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerBase

    other = isinstance(tokenizer, PreTrainedTokenizerBase)
    return isinstance(tokenizer, CLIPTokenizer) or not other


def plain_token_ids(tokenizer: Any, texts: Sequence[str], most: int | None) -> list[list[int]]:
    """Tokens of texts at their own lengths, special ones included.

    Args:
        tokenizer: of transformers.
        texts: N strings.
        most: longer ones are cut to so many tokens; None = none is.
    """
    if not texts:
        return []
    # verbose=False: the callers measure lengths themselves, the library need not warn.
    encoded = tokenizer(
        list(texts), padding=False, truncation=most is not None, max_length=most, verbose=False
    )
    return list(encoded["input_ids"])


def _openai_merges() -> list[tuple[str, str]]:
    file = resources.files("masqclip.towers").joinpath("openai_bpe", "merges.txt.gz")
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()
    return [(first, second) for first, second in (line.split(" ") for line in lines)]


def _openai_vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Token to id: bytes, bytes that end a word, merges, then the start and end tokens."""
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [first + second for first, second in merges]
    return {word: i for i, word in enumerate([*words, START, END])}


def _byte_letters() -> list[str]:
    """The visible character that stands for each byte, in the order of OpenAI's ids.

    Bytes that are visible characters of Latin-1 stand for themselves and come first; the others
    (blanks, control codes) borrow the characters from code point 256 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = 256 - len(visible)
    return [chr(code) for code in visible] + [chr(256 + i) for i in range(hidden)]
