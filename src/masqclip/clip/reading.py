"""Names as tokens in OpenAI's layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from masqclip.clip.read_names import read_text, too_long
from masqclip.towers.tokenizer import CONTEXT_LENGTH, PADDING_ID, plain_token_ids

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


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
