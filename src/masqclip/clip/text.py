"""Names to text embeddings by a text tower of PyTorch; see `masqclip.clip.name_encoder`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from masqclip.clip.name_encoder import NameEncoder
from masqclip.clip.vocabulary import Vocabulary
from masqclip.refinements import Synonyms
from masqclip.towers.families import family_of, words_of
from masqclip.towers.tokenizer import reads_as_openai


class TextEncoder(NameEncoder):
    """The text side of a CLIP, held frozen.

    Args:
        clip: of any family (`masqclip.towers.families`); its word tower is used, on whatever device
            it is.
        tokenizer: the tokenizer that the tower was trained with.
        cache: as in `NameEncoder`.

    Raises:
        MasqclipError: the tokenizer cannot be the tower's.
    """

    def __init__(self, clip: nn.Module, tokenizer: Any, *, cache: bool | str | Path = True) -> None:
        self.words = words_of(clip, tokenizer)
        self.clip: Any = clip
        self.tokenizer = tokenizer
        given: Any = clip
        super().__init__(
            width=self.words.size,
            context_length=self.words.context_length,
            templates=family_of(given.config.model_type).templates,
            as_openai=reads_as_openai(tokenizer),
            cache=cache,
        )

    def embed_strings(self, strings: Sequence[str]) -> Tensor:
        """Projected text features, not normalised, [N, D] float32 on the CLIP's device.

        Raises:
            MasqclipError: a string is longer than the tower reads; nothing is embedded then.
        """
        return torch.from_numpy(self.string_rows(strings)).to(self.clip.device)

    def embed_vocabulary(self, vocabulary: Vocabulary, *, synonyms: Synonyms = "mean") -> Tensor:
        """`vocabulary_rows` as float32 on the CLIP's device, to keep."""
        rows = self.vocabulary_rows(vocabulary, synonyms=synonyms)
        return torch.tensor(rows, device=self.clip.device)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `NameEncoder`."""
        return self.words.token_ids(texts)

    def run_tower(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """See `NameEncoder`."""
        # The tower is frozen here. Not in a caller's autocast: embeddings are kept.
        with torch.no_grad(), torch.autocast(self.clip.device.type, enabled=False):
            padded = self.words.pad(tokens).to(self.clip.device)
            found: NDArray[np.float32] = self.words.embed(padded).float().cpu().numpy()
            return found

    def unit(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `NameEncoder`."""
        return functional.normalize(torch.from_numpy(rows), dim=-1).numpy()

    def fingerprint(self) -> str:
        """See `NameEncoder`."""
        digest = hashlib.blake2b(digest_size=16)
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        digest.update(repr((self.words.settings, vocabulary)).encode())
        if not reads_as_openai(self.tokenizer):  # whose scores and pairs follow from no vocabulary
            digest.update(self.tokenizer.backend_tokenizer.to_str().encode())
        for module in self.words.modules:
            for name, weight in module.state_dict().items():
                digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
                whole = weight.detach().cpu().contiguous().reshape(-1)
                digest.update(whole.view(torch.uint8).numpy().data)
        return digest.hexdigest()
