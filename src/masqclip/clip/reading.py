"""What is read of a name, and its tokens: one that is too long, or cannot be read, is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from masqclip.clip.name_limits import check_writable, shown
from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError
from masqclip.towers.tokenizer import CONTEXT_LENGTH, PADDING_ID, plain_token_ids

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

# Ten times what any tower reads: cleaning and tokenising take 150 bytes for each character.
MAX_TEXT_CHARACTERS = 10_000


def read_text(text: str) -> str:
    """What CLIP reads of a text (`masqclip.data.clip_text.reading`), if it can be read.

    Raises:
        MasqclipError: as in `check_text`.
    """
    return reading(check_text(text))


def check_text(text: str) -> str:
    """A text as it is written, if it can be read.

    Raises:
        MasqclipError: it is far longer than any tower reads, or holds what no tokenizer takes.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise MasqclipError(
            f"the name {shown(text)} has {len(text):,} characters, more than the limit of "
            f"{MAX_TEXT_CHARACTERS:,}: shorten it"
        )
    if not text.isprintable():
        check_writable(text, what=f"the name {shown(text)}")
    return text


def token_ids(texts: Sequence[str], tokenizer: CLIPTokenizer) -> list[list[int]]:
    """Tokens of each text, start and end included, at their own lengths."""
    return plain_token_ids(tokenizer, [read_text(text) for text in texts], None)


def tokenize(
    texts: Sequence[str],
    tokenizer: CLIPTokenizer,
    *,
    context_length: int = CONTEXT_LENGTH,
    truncate: bool = False,
) -> Tensor:
    """Tokens in OpenAI's layout, [N, context_length] int64, padded with zeros.

    Args:
        texts: N strings.
        tokenizer: from `load_tokenizer`.
        context_length: tokens that the text tower reads, start and end included.
        truncate: cut what is longer and end it with the end token.

    Raises:
        MasqclipError: a text is longer and `truncate` is not set.
    """
    result = torch.full((len(texts), context_length), PADDING_ID, dtype=torch.long)
    for row, text, ids in zip(result, texts, token_ids(texts, tokenizer), strict=True):
        if len(ids) > context_length:
            if not truncate:
                raise too_long(text, len(ids), context_length)
            ids = [*ids[: context_length - 1], ids[-1]]
        row[: len(ids)] = torch.tensor(ids)
    return result


def too_long(text: str, length: int, limit: int) -> MasqclipError:
    """The error for a text of `length` tokens where the tower reads `limit`."""
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return MasqclipError(
        f"the name {shown!r} is {length} tokens long and this CLIP reads at most {limit}, start "
        "and end tokens included: shorten it"
    )
