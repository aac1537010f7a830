"""Examples as rows among the words' embeddings.

A mask is nearer to another mask of its kind than to the kind's own name: pictures and words lie in
two different parts of CLIP's space, and a plain mean of a name and an example, or an example in the
place of a name, takes masks away from all other names. So an example counts by its *direction from
what masks look like in general*, and that direction is laid where words lie:

    row = m + (1 - w) (t - m) + w c s d / |d|,      d = p - x

with m the mean of many words, s their mean distance from it, t the category's own text embedding, p
the mean of its examples, x the mean of what else there is in their pictures, and c how far out a
row of examples is put. A row stays one row, so that examples cost nothing at run time.

The weight w is chosen for each category by leaving out one example at a time: the one that makes
the left-out ones likeliest, leaning on what suits all categories; beside a word that fits, more
than a little has to earn itself. A word that says nothing to CLIP gets none of the row; one that
fits keeps nearly all. Measured by ``benchmarks/examples.py``; caches of examples that are compared
one by one (Tip-Adapter, Zhang et al., ECCV 2022) came out no better here.

Shapes: R rows, S examples of a category, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.examples import Examples

#: How far from the words' mean a row of examples lies, beside a word.
REACH = 0.7
#: The weights that are tried.
WEIGHTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
#: What suits all categories counts as so many examples of each.
_SHARED = 5.0
#: Several examples always count so much.
_LEAST = 0.15
#: A name fits its examples that has at least this probability for them; beside it they count a
#: little,
_FITS, _LITTLE = 0.1, 0.3
#: and by so much the log-probability is held to fall from there to the whole row: a few examples
#: are like each other by chance, and their likelihood says too much for them.
_DOUBT = 3.5
_VALUES = 1 << 22  # logits that are held at a time


@dataclass(frozen=True)
class Exampled:
    """A row that has examples.

    Attributes:
        row: which.
        examples: what it has.
        worded: whether it has words as well.
    """

    row: int
    examples: Examples
    worded: bool


def mix_examples(rows: NDArray[np.float32], exampled: Sequence[Exampled]) -> NDArray[np.float32]:
    """Rows with examples in them.

    Args:
        rows: [R,E], the words' unit embeddings; those of categories without words are not read.
        exampled: the rows that have examples, all of one CLIP.

    Returns:
        [R,E]. The rows of examples are not of length one.
    """
    if not exampled:
        return rows
    mixed = rows.astype(np.float64)
    space = exampled[0].examples.space
    mean = space.word_mean.astype(np.float64)
    counts = np.array([len(one.examples) for one in exampled], float)
    contexts = np.stack([one.examples.context.astype(np.float64) for one in exampled])
    context = (contexts * counts[:, None]).sum(0) / counts.sum()
    far = REACH * space.word_spread
    parts = [_Part(one, mixed[one.row] - mean, context, far) for one in exampled]
    places = [one.row for one in exampled]
    likely = _likelihoods(mixed, mean, parts, places, space.logit_scale)
    # A mean of probabilities: one example that no weight suits must not speak for all.
    shared = _SHARED * np.log(np.exp(np.concatenate(likely)).mean(axis=0).clip(1e-30))
    chosen = [_weight(found, shared, part) for found, part in zip(likely, parts, strict=True)]
    for part, weight in zip(parts, chosen, strict=True):
        mixed[part.row] = mean + part.offset(weight)
    return mixed.astype(np.float32)


class _Part:
    """The two directions of a row: of its words, and of its examples."""

    def __init__(
        self, one: Exampled, word: NDArray[np.float64], context: NDArray[np.float64], far: float
    ) -> None:
        self.row = one.row
        self.worded = one.worded
        self.masks = one.examples.embeddings.astype(np.float64)
        self._word, self._context, self._far = word, context, far
        self._all = self._direction(self.masks.sum(0))

    def offset(self, weight: float, without: int | None = None) -> NDArray[np.float64]:
        """The row's place from the words' mean, without one of its examples if that is asked."""
        if without is None or len(self.masks) == 1:
            shown = self._all
        else:
            shown = self._direction(self.masks.sum(0) - self.masks[without])
        return shown if not self.worded else (1 - weight) * self._word + weight * shown

    def _direction(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        found = total / max(float(np.linalg.norm(total)), 1e-12) - self._context
        return self._far * found / max(float(np.linalg.norm(found)), 1e-12)


def _likelihoods(
    rows: NDArray[np.float64],
    mean: NDArray[np.float64],
    parts: Sequence[_Part],
    places: Sequence[int],
    scale: float,
) -> list[NDArray[np.float64]]:
    """For each category [S,W], of each of its examples and weights the log-probability of its row,
    made without that example."""
    table = np.zeros((sum(len(part.masks) for part in parts), len(WEIGHTS)))
    masks = np.concatenate([part.masks for part in parts])
    counts = [len(part.masks) for part in parts]
    owners = np.repeat(np.arange(len(parts)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])
    mixed = [np.stack([mean + part.offset(weight) for part in parts]) for weight in WEIGHTS]
    step = max(1, _VALUES // len(rows))
    for start in range(0, len(masks), step):
        some, owner = masks[start : start + step], owners[start : start + step]
        plain = scale * some @ rows.T
        place = (np.arange(len(some)), np.asarray(places)[owner])
        for column, weight in enumerate(WEIGHTS):
            left = zip(owner, numbers[start : start + step], strict=True)
            own = np.stack([mean + parts[i].offset(weight, without=j) for i, j in left])
            logits = plain.copy()
            logits[:, places] = scale * some @ mixed[column].T
            logits[place] = scale * (some * own).sum(1)
            table[start : start + step, column] = logits[place] - _log_sums(logits)
    return np.split(table, np.cumsum(counts)[:-1])


def _log_sums(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """[S]: the logarithms of the sums of exponentials of [S,R]."""
    highest = logits.max(axis=1)
    sums: NDArray[np.float64] = np.exp(logits - highest[:, None]).sum(axis=1)
    return np.log(sums) + highest


def _weight(found: NDArray[np.float64], shared: NDArray[np.float64], part: _Part) -> float:
    """The weight of a category's examples, of which `found` [S,W] are the log-probabilities."""
    if not part.worded:
        return 1.0
    fits = np.exp(found[:, 0]).mean() >= _FITS
    if len(found) == 1:  # which cannot be left out
        return _LITTLE if fits else 1.0
    total = found.sum(axis=0) + shared
    if fits:
        total -= _DOUBT * (np.array(WEIGHTS) - _LITTLE).clip(0.0) / (1 - _LITTLE)
    return max(_LEAST, WEIGHTS[int(total.argmax())])
