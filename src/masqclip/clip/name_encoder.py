"""Names to embeddings, whatever runs the text tower: what is read, asked, averaged and kept.

- A category's embedding is the mean of its prompts' *un-normalised* embeddings, then L2
  normalised (paper, section 3.3). Normalising first would give another direction.
- Rows of a vocabulary: its categories, its distractors, and "background" last.
- A name too long for the tower is refused: cut silently, it would be another name.
- Threads may share an encoder. What is kept is published whole, so that reading it takes no lock;
  what is missing is computed by one thread at a time, a chunk of strings each turn.

Free of torch: `masqclip.clip.text` has a tower of PyTorch run, `masqclip.runtime` one of ONNX.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.example_rows import Exampled, mix_examples
from masqclip.clip.name_items import BACKGROUND
from masqclip.clip.name_limits import shown
from masqclip.clip.read_names import check_text, read_text, too_long
from masqclip.clip.templates import TOWER
from masqclip.clip.text_cache import EmbeddingCache
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.refinements import Synonyms

# Bounds on memory, whatever the number of names: tokens in one forward pass, strings whose
# embeddings are held at once, vocabularies kept whole.
BATCH_TOKENS = 4096
CHUNK_STRINGS = 4096
KEPT_VOCABULARIES = 4
#: What a CLIP is known by: words that every one reads, and a string that none was taught.
PROBE = ("a", "cat", "a red car on the road", "zyxw 7 qrs")


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings [..., D], each of length one; those of zeros stay."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)


class NameEncoder(ABC):
    """The text side of a CLIP, held frozen.

    Args:
        width: D, of an embedding.
        context_length: the most tokens that the tower reads of a text.
        templates: that the CLIP's own makers put names into.
        as_openai: whether its tokenizer cuts texts as OpenAI's does, of which is known what it
            reads alike; others are given what is written.
        cache: true keeps embeddings in memory; a folder keeps them there as well, for every
            later run with the same weights; false embeds each call anew.
    """

    def __init__(
        self,
        *,
        width: int,
        context_length: int,
        templates: Sequence[str],
        as_openai: bool,
        cache: bool | str | Path = True,
    ) -> None:
        self.width = width
        self.context_length = context_length
        self._templates = tuple(templates)
        self._read = read_text if as_openai else check_text
        self._cache_choice = cache
        self._cache: EmbeddingCache | None = None
        self._vocabularies: Mapping[tuple[Vocabulary, Synonyms], NDArray[np.float32]] = {}
        self._turn = threading.RLock()

    @abstractmethod
    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts at their own lengths, with all that the tower wants around them."""

    @abstractmethod
    def run_tower(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """[N, D], not normalised, of texts' tokens, none of which are too many."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of all that an embedding depends on: weights, their use, the tokenizer."""

    def unit(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows [..., D] of length one; those of zeros stay."""
        return unit_rows(rows)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: all but the lock, which cannot be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._turn = threading.RLock()

    def string_rows(self, strings: Sequence[str]) -> NDArray[np.float32]:
        """Projected text features, not normalised, [N, D].

        Raises:
            MasqclipError: a string is longer than the tower reads; nothing is embedded then.
        """
        cache = self._opened_cache()
        result = self._embed(strings, cache)
        with self._turn:
            cache.save()
        return result

    def vocabulary_rows(
        self, vocabulary: Vocabulary, *, synonyms: Synonyms = "mean"
    ) -> NDArray[np.float32]:
        """Rows [K + distractors + 1, D]; or, where the ``best`` of a category's prompts is to
        count, [K + distractors + 1, S, D] of the S prompts that the category with the most has,
        whose others repeat their first. Nobody writes to them.

        Categories in order, then distractors, then "background". Templates go around all three,
        so that they compete on equal terms. Rows are L2-normalised but for those of categories with
        examples (`masqclip.clip.example_rows`).

        Raises:
            MasqclipError: a name, in its template, is longer than the tower reads; or examples are
                of another CLIP.
        """
        kept = self._vocabularies.get((vocabulary, synonyms))
        if kept is None:
            kept = self._embed_rows(vocabulary, synonyms)
            kept.setflags(write=False)
            if self._cache_choice is not False:
                with self._turn:
                    newest = {**self._vocabularies, (vocabulary, synonyms): kept}
                    while len(newest) > KEPT_VOCABULARIES:
                        newest.pop(next(iter(newest)))
                    self._vocabularies = newest
        return kept

    def check(self, vocabulary: Vocabulary) -> None:
        """Refuse names that are too long for the tower and examples of another CLIP, without
        embedding any name.

        Raises:
            MasqclipError: it is so.
        """
        if not any(vocabulary == known for known, _ in self._vocabularies):
            self._check(place.sentence for place in self._placed(vocabulary))
            self._check_examples(vocabulary)

    def probe(self) -> NDArray[np.float32]:
        """[P,D] unit embeddings of `PROBE`, by which a CLIP is known, in whatever precision."""
        return self.unit(self.string_rows(PROBE))

    def _placed(self, vocabulary: Vocabulary) -> list[_Place]:
        """All sentences that are embedded."""
        groups = [category.prompts if category.worded else () for category in vocabulary.rows]
        groups.append((BACKGROUND,))
        templates: list[str] = []
        for template in vocabulary.templates:
            templates += self._templates if template == TOWER else (template,)
        return [
            _Place(sentence, row, prompt)
            for row, prompts in enumerate(groups)
            for sentence, prompt in _sentences(prompts, templates, self._read).items()
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
            tokens = self.token_ids([self._read(name) for name in chunk])
            for name, ids in zip(chunk, tokens, strict=True):
                if len(ids) > self.context_length:
                    raise too_long(name, len(ids), self.context_length)

    def clear(self) -> None:
        """Forget all embeddings in memory: needed after the text tower's weights changed."""
        with self._turn:
            self._vocabularies = {}
            self._cache = None

    def _embed_rows(self, vocabulary: Vocabulary, synonyms: Synonyms) -> NDArray[np.float32]:
        placed = self._placed(vocabulary)
        # Before hours of work, not after.
        self._check(place.sentence for place in placed)
        self._check_examples(vocabulary)
        # By length, so that those of a batch hold little padding.
        placed.sort(key=lambda place: len(place.sentence), reverse=True)
        cache = self._opened_cache()
        number = len(vocabulary) + len(vocabulary.distractors) + 1
        slots = 1 + max(place.prompt for place in placed) if synonyms == "best" else 1
        sums = np.zeros((number * slots, self.width), np.float32)
        for start in range(0, len(placed), CHUNK_STRINGS):
            chunk = placed[start : start + CHUNK_STRINGS]
            rows = [place.row * slots + min(place.prompt, slots - 1) for place in chunk]
            found = self._embed([place.sentence for place in chunk], cache)
            np.add.at(sums, rows, found)
        with self._turn:
            cache.save()
        # The mean's divisor vanishes in the normalisation.
        by_prompt = self.unit(sums).reshape(number, slots, -1)
        if slots == 1:
            return mix_examples(by_prompt[:, 0], _exampled(vocabulary))
        return self._prompts_apart(by_prompt, vocabulary)

    def _prompts_apart(
        self, by_prompt: NDArray[np.float32], vocabulary: Vocabulary
    ) -> NDArray[np.float32]:
        """Rows [R,S,D] of S prompts, of which a row may lack some; one with examples has one."""
        empty = (by_prompt == 0).all(axis=-1, keepdims=True)
        apart = np.where(empty, by_prompt[:, :1], by_prompt)
        if exampled := _exampled(vocabulary):
            mixed = self.vocabulary_rows(vocabulary)
            for one in exampled:
                apart[one.row] = mixed[one.row]
        return apart

    def _opened_cache(self) -> EmbeddingCache:
        with self._turn:
            if self._cache is not None:
                return self._cache
            file = None
            if not isinstance(self._cache_choice, bool):
                name = f"text-{self.fingerprint()}.safetensors"
                file = Path(self._cache_choice).expanduser() / name
            cache = EmbeddingCache(self.width, file)
            if self._cache_choice is not False:
                self._cache = cache
            return cache

    def _embed(self, strings: Sequence[str], cache: EmbeddingCache) -> NDArray[np.float32]:
        read = [self._read(string) for string in strings]
        known = cache.table()
        if missing := known.missing(read):
            written = dict(zip(read, strings, strict=True))
            with self._turn:
                # Another thread may have computed them, or made room, since they were missed.
                known = cache.table()
                if missing := known.missing(read):
                    computed = self._run(missing, [written[string] for string in missing])
                    known = cache.add(missing, computed)
        return known.lookup(read)

    def _run(self, strings: Sequence[str], written: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings [N, D] of readings."""
        tokens = self.token_ids(strings)
        for name, ids in zip(written, tokens, strict=True):
            if len(ids) > self.context_length:
                raise too_long(name, len(ids), self.context_length)
        result = np.empty((len(tokens), self.width), np.float32)
        for batch in _batches([len(ids) for ids in tokens]):
            result[batch] = self.run_tower([tokens[i] for i in batch])
        return result


def _exampled(vocabulary: Vocabulary) -> list[Exampled]:
    return [
        Exampled(row, category.examples, category.worded)
        for row, category in enumerate(vocabulary.rows)
        if category.examples is not None
    ]


@dataclass(frozen=True)
class _Place:
    """A sentence that is embedded, the row that it belongs to, and which prompt of it it holds."""

    sentence: str
    row: int
    prompt: int


def _sentences(
    prompts: Sequence[str], templates: Sequence[str], read: Callable[[str], str]
) -> dict[str, int]:
    """The prompts in the templates, and which prompt each holds. What CLIP reads alike counts once:
    twice, it weighs double."""
    if len(prompts) == len(templates) == 1:
        return {templates[0].replace("{}", prompts[0]): 0}
    sentences: dict[str, tuple[str, int]] = {}
    for number, prompt in enumerate(prompts):
        for template in templates:
            sentence = template.replace("{}", prompt)
            sentences.setdefault(read(sentence), (sentence, number))
    return dict(sentences.values())


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of similar length, each of at most `BATCH_TOKENS` padded tokens."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // lengths[order[start]])
        yield order[start : start + size]
        start += size
