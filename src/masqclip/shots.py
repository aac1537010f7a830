"""Examples from an annotated dataset: a few pictures of each category, of each the largest mask."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from masqclip.clip.category import Category
from masqclip.clip.examples import MAX_EXAMPLES, Examples
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.open_coco import CocoFiles
from masqclip.engine import A, E
from masqclip.errors import MasqclipError
from masqclip.segmenting import BaseSegmenter


@dataclass(frozen=True)
class Shots:
    """What was taken from a dataset.

    Attributes:
        vocabulary: its categories, those of which a picture shows something with examples.
        lacking: the categories with fewer examples than asked for, and how many they have.
    """

    vocabulary: Vocabulary
    lacking: dict[str, int]


def take_shots(
    segmenter: BaseSegmenter[E, A],
    dataset: CocoFiles,
    shots: int,
    *,
    seed: int = 0,
    words: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Shots:
    """Examples of every category that is kept.

    Args:
        segmenter: whose CLIP they are for.
        dataset: annotated pictures.
        shots: pictures of each category, chosen by chance.
        seed: which.
        words: whether CLIP reads the categories' names as well.
        report: is told how many of how many pictures are done.

    Raises:
        MasqclipError: there would be more examples than a vocabulary may have, or none; or a
            picture cannot be used.
    """
    kept = sorted(dataset.categories.kept)
    if shots * len(kept) > MAX_EXAMPLES:
        raise MasqclipError(
            f"{shots} examples of {len(kept)} categories each are more than the {MAX_EXAMPLES:,} "
            f"that a vocabulary may have: at most {MAX_EXAMPLES // len(kept)} each"
        )
    wanted = _choose(dataset, kept, shots, seed)
    found: dict[int, Examples] = {}
    for done, (row, categories) in enumerate(sorted(wanted.items())):
        report(done, len(wanted))
        sample = dataset[row]
        encoded = segmenter.encode(sample.image)
        for category in categories:
            masks = sample.masks[sample.category_ids == category]
            if not len(masks):
                continue
            largest = masks[masks.sum((1, 2)).argmax()]
            shown = segmenter.examples_of(encoded, [largest])
            found[category] = found[category].joined(shown) if category in found else shown
    report(len(wanted), len(wanted))
    if not found:
        raise MasqclipError("no picture shows anything of the categories")
    names = dataset.categories.names
    counts = {names[i]: len(found[i]) if i in found else 0 for i in kept}
    categories_ = tuple(
        _category(names[i], dataset.categories.is_thing(i), found.get(i), words=words)
        for i in kept
        if words or i in found
    )
    return Shots(Vocabulary(categories_), {name: n for name, n in counts.items() if n < shots})


def _category(name: str, thing: bool, examples: Examples | None, *, words: bool) -> Category:
    worded = words or examples is None
    return Category(name, (name,), thing, examples, worded=worded)


def _choose(dataset: CocoFiles, kept: Iterable[int], shots: int, seed: int) -> dict[int, list[int]]:
    """By row of a picture, the categories that it is an example of."""
    rows: dict[int, list[int]] = {category: [] for category in kept}
    for row in range(len(dataset)):
        for category in {e["category_id"] for e in dataset.masks_of(row) if not e["iscrowd"]}:
            if category in rows:
                rows[category].append(row)
    chosen: dict[int, list[int]] = {}
    chance = random.Random(seed)
    for category, there in rows.items():
        for row in chance.sample(there, min(shots, len(there))):
            chosen.setdefault(row, []).append(category)
    return chosen
