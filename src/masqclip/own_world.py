"""What a small model was trained on, so that it can say where it knows nothing.

A model that has read a hundred words gives a stranger's word a confident score all the same, and a
photograph is to it a drawing of something. Its ``model_card.json`` says under ``world`` which names
its CLIP has read, and how its own pictures differ from photographs:

- A name outside is told by what CLIP reads of it (`masqclip.data.clip_text`); a plural counts as
  its singular.
- A picture is told by a linear discriminant (Fisher's) of CLIP's values in one block: of each
  channel the mean and the deviation over the picture's patches. They are there anyway, so that
  this costs a sum. `benchmarks/own_world.py` fits and measures it.

Real weights have no such card, and nothing is said of them. Free of torch; the statistics are
taken in `masqclip.picture_statistics`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.name_limits import few_names
from masqclip.clip.region_names import singulars
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.clip_text import reading
from masqclip.data.files import write_atomically
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.result import Task

CARD = "model_card.json"
_KEY = "world"
# How, on the command line, in a request and in a vocabulary alike.
_COUNT_THEM = "'thing: NAME', or --things, counts them"


@dataclass(frozen=True)
class PictureTest:
    """A linear discriminant of pictures: at home below the threshold.

    Attributes:
        block: whose values are looked at, counted from 0.
        weights: [2 C], of the channels' means and deviations.
        threshold: of the weighted sum.
    """

    block: int
    weights: tuple[float, ...]
    threshold: float

    def is_foreign(self, statistics: NDArray[np.float32]) -> bool:
        """Whether a picture of these statistics [2 C] is unlike those of training."""
        return bool(statistics @ np.array(self.weights, np.float32) > self.threshold)


@dataclass(frozen=True)
class OwnWorld:
    """What a model knows, and what it says of all else.

    Attributes:
        model: what it is called.
        names: what its CLIP has read, as it reads them.
        about: the end of each note: what it knows, and what to take instead.
        pictures: tells its own from others, where that was measured.
    """

    model: str
    names: frozenset[str]
    about: str
    pictures: PictureTest | None = None

    def unread(self, words: Vocabulary) -> tuple[str, ...]:
        """The names of a vocabulary of which CLIP has read no prompt, and that nothing shows."""
        return tuple(
            category.name
            for category in words.categories
            if category.examples is None
            and not any(self._knows(prompt) for prompt in category.prompt_readings)
        )

    def _knows(self, word: str) -> bool:
        return any(form in self._forms for form in (word, *singulars(word)))

    @cached_property
    def _forms(self) -> frozenset[str]:
        """The names, and what those that are plurals are plurals of."""
        return self.names | {form for name in self.names for form in singulars(name)}

    def word_note(self, words: Vocabulary) -> tuple[str, ...]:
        """A line on the names that were never read, if there are any."""
        unread = self.unread(words)
        if not unread:
            return ()
        return (f"{self.model} has never read: {few_names(unread)}; {self.about}",)

    def picture_note(self, statistics: NDArray[np.float32] | None) -> tuple[str, ...]:
        """A line on a picture that is unlike those of training.

        Args:
            statistics: [2 C] of its values in the block of `pictures`; None where they are not
                there, and nothing is said.
        """
        if self.pictures is None or statistics is None or not self.pictures.is_foreign(statistics):
            return ()
        return (f"{self.model} was never trained on pictures like this one; {self.about}",)

    def save(self, folder: Path) -> None:
        """Write it into a folder's card, beside what stands there."""
        card = folder / CARD
        document = read_json(card, what="the model card") if card.is_file() else {}
        world: dict[str, Any] = {
            "model": self.model,
            "about": self.about,
            "names": sorted(self.names),
        }
        if self.pictures is not None:
            world["pictures"] = {
                "block": self.pictures.block,
                "threshold": self.pictures.threshold,
                "weights": list(self.pictures.weights),
            }
        write_atomically(card, json.dumps(document | {_KEY: world}, indent=1).encode())


def vocabulary_notes(
    words: Vocabulary, task: Task | None, world: OwnWorld | None
) -> tuple[str, ...]:
    """What is to be said of names, whatever the picture.

    Args:
        words: the names.
        task: that they are asked for in; None of masks that are only named.
        world: what the model knows, if that is little.
    """
    if words.unnamed:
        return (
            "names with a question mark are guesses; scores say that there is an object, not which",
        )
    notes = []
    if words.assumed and task == "panoptic":
        notes.append(f"taken as regions: {few_names(words.assumed)} ({_COUNT_THEM})")
    if task == "instance" and (regions := words.counted.stuff_ids):
        names = few_names([words.names[i] for i in sorted(regions)])
        notes.append(f"regions, which have no instances: {names} ({_COUNT_THEM})")
    return (*notes, *(world.word_note(words) if world is not None else ()))


def load_world(folder: Path) -> OwnWorld | None:
    """What a model's folder says of its world; None where it says nothing.

    Raises:
        MasqclipError: its card is damaged.
    """
    card = folder / CARD
    if not card.is_file():
        return None
    document = read_json(card, what="the model card")
    world = document.get(_KEY) if isinstance(document, dict) else None
    if world is None:
        return None
    try:
        names, test = world["names"], world.get("pictures")
        pictures = None
        if test is not None:
            weights = tuple(float(weight) for weight in test["weights"])
            pictures = PictureTest(int(test["block"]), weights, float(test["threshold"]))
        if not isinstance(names, list):
            raise TypeError("names")
        return OwnWorld(
            model=str(world["model"]),
            names=frozenset(reading(str(name)) for name in names),
            about=str(world["about"]),
            pictures=pictures,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MasqclipError(f"the model card {str(card)!r} is damaged: {error!r}") from error
