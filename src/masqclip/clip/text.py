"""Names to text embeddings: the frozen text tower of a CLIP, with a cache by string.

- A category's embedding is the mean of its prompts' *un-normalised* embeddings, then L2
  normalised (paper, section 3.3). Normalising first would give another direction.
- Rows of a vocabulary: its categories, its distractors, and "background" last.
- A name too long for the tower is refused: cut silently, it would be another name.
- Threads may share an encoder. What is kept is published whole, so that reading it takes no lock;
  what is missing is computed by one thread at a time, a chunk of strings each turn.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from masqclip.clip.example_rows import Exampled, mix_examples
from masqclip.clip.name_items import BACKGROUND
from masqclip.clip.name_limits import shown
from masqclip.clip.reading import check_text, read_text, too_long
from masqclip.clip.templates import TOWER
from masqclip.clip.text_cache import EmbeddingCache
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.towers.families import family_of, words_of
from masqclip.towers.tokenizer import reads_as_openai

# Bounds on memory, whatever the number of names: tokens in one forward pass, strings whose
# embeddings are held at once, vocabularies kept whole.
BATCH_TOKENS = 4096
CHUNK_STRINGS = 4096
KEPT_VOCABULARIES = 4
#: What a CLIP is known by: words that every one reads, and a string that none was taught.
PROBE = ("a", "cat", "a red car on the road", "zyxw 7 qrs")


class TextEncoder:
    """The text side of a CLIP, held frozen.

    Args:
        clip: of any family (`masqclip.towers.families`); its word tower is used, on whatever device
            it is.
        tokenizer: the tokenizer that the tower was trained with.
        cache: true keeps embeddings in memory; a folder keeps them there as well, for every
            later run with the same weights; false embeds each call anew.

    Raises:
        MasqclipError: the tokenizer cannot be the tower's.
    """

    def __init__(self, clip: nn.Module, tokenizer: Any, *, cache: bool | str | Path = True) -> None:
        self.words = words_of(clip, tokenizer)
        self.clip: Any = clip
        self.tokenizer = tokenizer
        # What OpenAI's tokenizer reads alike others may tell apart: they are given what is written.
        given: Any = clip
        self._read = read_text if reads_as_openai(tokenizer) else check_text
        self._templates = family_of(given.config.model_type).templates
        self.context_length = self.words.context_length
        self._cache_choice = cache
        self._cache: EmbeddingCache | None = None
        self._vocabularies: Mapping[Vocabulary, Tensor] = {}
        self._turn = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: all but the lock, which cannot be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._turn = threading.RLock()

    def embed_strings(self, strings: Sequence[str]) -> Tensor:
        """Projected text features, not normalised, [N, D] float32 on the CLIP's device.

        Raises:
            MasqclipError: a string is longer than the tower reads; nothing is embedded then.
        """
        cache = self._opened_cache()
        result = self._embed(strings, cache)
        with self._turn:
            cache.save()
        return result

    def embed_vocabulary(self, vocabulary: Vocabulary) -> Tensor:
        """Rows [K + distractors + 1, D], float32 on the CLIP's device.

        Categories in order, then distractors, then "background". Templates go around all three,
        so that they compete on equal terms. Rows are L2-normalised but for those of categories with
        examples (`masqclip.clip.example_rows`).

        Raises:
            MasqclipError: a name, in its template, is longer than the tower reads; or examples are
                of another CLIP.
        """
        kept = self._vocabularies.get(vocabulary)
        if kept is None:
            kept = self._embed_rows(vocabulary)
            if self._cache_choice is not False:
                with self._turn:
                    newest = {**self._vocabularies, vocabulary: kept}
                    while len(newest) > KEPT_VOCABULARIES:
                        newest.pop(next(iter(newest)))
                    self._vocabularies = newest
        return kept.to(self.clip.device, copy=True)

    def check(self, vocabulary: Vocabulary) -> None:
        """Refuse names that are too long for the tower and examples of another CLIP, without
        embedding any name.

        Raises:
            MasqclipError: it is so.
        """
        if vocabulary not in self._vocabularies:
            self._check(sentence for sentence, _ in self._placed(vocabulary))
            self._check_examples(vocabulary)

    def probe(self) -> NDArray[np.float32]:
        """[P,D] unit embeddings of `PROBE`, by which a CLIP is known, in whatever precision."""
        return functional.normalize(self.embed_strings(PROBE), dim=-1).cpu().numpy()

    def _placed(self, vocabulary: Vocabulary) -> list[tuple[str, int]]:
        """All sentences that are embedded, each with the row that it belongs to."""
        groups = [category.prompts if category.worded else () for category in vocabulary.rows]
        groups.append((BACKGROUND,))
        templates: list[str] = []
        for template in vocabulary.templates:
            templates += self._templates if template == TOWER else (template,)
        return [
            (sentence, row)
            for row, prompts in enumerate(groups)
            for sentence in _sentences(prompts, templates, self._read)
        ]

    def _check_examples(self, vocabulary: Vocabulary) -> None:
        exampled = _exampled(vocabulary)
        if exampled and not exampled[0].examples.space.is_of(self.probe()):
            raise MasqclipError(
                f"the examples of {shown(vocabulary.rows[exampled[0].row].name)} were made with "
                f"another CLIP, that of {shown(exampled[0].examples.space.model)}: make them anew "
                "with this one"
            )

    def _check(self, sentences: Iterable[str]) -> None:
        # A token takes a byte at least, so nearly all are known to be short enough; three tokens
        # more may stand before the text and behind it.
        most = self.context_length - 3
        long = [s for s in sentences if len(s) > most or not s.isascii() or "&" in s]
        for start in range(0, len(long), CHUNK_STRINGS):
            chunk = long[start : start + CHUNK_STRINGS]
            tokens = self.words.token_ids([self._read(name) for name in chunk])
            for name, ids in zip(chunk, tokens, strict=True):
                if len(ids) > self.context_length:
                    raise too_long(name, len(ids), self.context_length)

    def clear(self) -> None:
        """Forget all embeddings in memory: needed after the text tower's weights changed."""
        with self._turn:
            self._vocabularies = {}
            self._cache = None

    def _embed_rows(self, vocabulary: Vocabulary) -> Tensor:
        placed = self._placed(vocabulary)
        # Before hours of work, not after.
        self._check(sentence for sentence, _ in placed)
        self._check_examples(vocabulary)
        # By length, so that those of a batch hold little padding.
        placed.sort(key=lambda entry: len(entry[0]), reverse=True)
        cache = self._opened_cache()
        number = len(vocabulary) + len(vocabulary.distractors) + 1
        size = (number, self.words.size)
        sums = torch.zeros(size, dtype=torch.float32, device=self.clip.device)
        for start in range(0, len(placed), CHUNK_STRINGS):
            strings, rows = zip(*placed[start : start + CHUNK_STRINGS], strict=True)
            index = torch.tensor(rows, device=sums.device)
            sums.index_add_(0, index, self._embed(strings, cache))
        with self._turn:
            cache.save()
        # The mean's divisor vanishes in the normalisation.
        return mix_examples(functional.normalize(sums, dim=-1), _exampled(vocabulary))

    def _opened_cache(self) -> EmbeddingCache:
        with self._turn:
            if self._cache is not None:
                return self._cache
            file = None
            if not isinstance(self._cache_choice, bool):
                name = f"text-{self._fingerprint()}.safetensors"
                file = Path(self._cache_choice).expanduser() / name
            cache = EmbeddingCache(self.words.size, file)
            if self._cache_choice is not False:
                self._cache = cache
            return cache

    def _embed(self, strings: Sequence[str], cache: EmbeddingCache) -> Tensor:
        read = [self._read(string) for string in strings]
        known = cache.table()
        if missing := known.missing(read):
            written = dict(zip(read, strings, strict=True))
            with self._turn:
                # Another thread may have computed them, or made room, since they were missed.
                known = cache.table()
                if missing := known.missing(read):
                    computed = self._run_tower(missing, [written[string] for string in missing])
                    known = cache.add(missing, computed)
        return known.lookup(read).to(self.clip.device)

    def _run_tower(self, strings: Sequence[str], written: Sequence[str]) -> Tensor:
        """Embeddings [N, D] of readings, float32 on the CPU."""
        tokens = self.words.token_ids(strings)
        for name, ids in zip(written, tokens, strict=True):
            if len(ids) > self.context_length:
                raise too_long(name, len(ids), self.context_length)
        size = (len(tokens), self.words.size)
        result = torch.empty(size, dtype=torch.float32)
        # The tower is frozen here. no_grad rather than inference_mode: training multiplies mask
        # embeddings that need gradients with these. Not in a caller's autocast: they are kept.
        with torch.no_grad(), torch.autocast(self.clip.device.type, enabled=False):
            for batch in _batches([len(ids) for ids in tokens]):
                padded = self.words.pad([tokens[i] for i in batch]).to(self.clip.device)
                result[batch] = self.words.embed(padded).float().cpu()
        return result

    def _fingerprint(self) -> str:
        """A digest of all that an embedding depends on: weights, their use, the tokenizer."""
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


def _exampled(vocabulary: Vocabulary) -> list[Exampled]:
    return [
        Exampled(row, category.examples, category.worded)
        for row, category in enumerate(vocabulary.rows)
        if category.examples is not None
    ]


def _sentences(
    prompts: Sequence[str], templates: Sequence[str], read: Callable[[str], str]
) -> list[str]:
    """The prompts in the templates. What CLIP reads alike counts once: twice, it weighs double."""
    if len(prompts) == len(templates) == 1:
        return [templates[0].replace("{}", prompts[0])]
    sentences: dict[str, str] = {}
    for prompt in prompts:
        for template in templates:
            sentence = template.replace("{}", prompt)
            sentences.setdefault(read(sentence), sentence)
    return list(sentences.values())


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of similar length, each of at most `BATCH_TOKENS` padded tokens."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // lengths[order[start]])
        yield order[start : start + size]
        start += size
