"""A category of a vocabulary: what is looked for under one name. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from masqclip.clip.examples import Examples
from masqclip.clip.name_items import BACKGROUND, tidy
from masqclip.clip.name_limits import shown
from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError

_STEEPEST = 100.0  # of a calibration


@dataclass(frozen=True)
class Category:
    """A name to look for. Blanks at the ends are stripped, inner runs of blanks become one.

    Attributes:
        name: what results call it.
        prompts: the strings that are embedded and averaged; left empty, the name itself. The
            name is among them only where it is listed. Of those that CLIP reads alike, such as
            "fig" and "Fig", the first is kept.
        thing: a countable thing (true) or a region of stuff such as sky.
        examples: masks that show what it is; how much they count beside the words follows from how
            well the words fit them (`masqclip.clip.example_rows`).
        worded: whether CLIP reads the prompts; false leaves it to the examples alone.
        min_score: what scores less is left out, 0..1, in the place of a call's own.
    """

    name: str
    prompts: tuple[str, ...] = ()
    thing: bool = True
    examples: Examples | None = None
    worded: bool = True
    min_score: float | None = None

    def __post_init__(self) -> None:
        name = tidy(self.name, what="a name of the vocabulary")
        given: object = self.prompts
        if isinstance(given, str):
            raise MasqclipError(
                f"the prompts of {shown(name)} are one string: give a tuple of strings"
            )
        if not isinstance(given, Iterable):
            raise MasqclipError(
                f"the prompts of {shown(name)} are {shown(given)}: give a tuple of them"
            )
        what = f"a synonym of {shown(name)}"
        # The first is the name itself as a rule.
        prompts = [p if p is name else tidy(p, what=what) for p in self.prompts]
        object.__setattr__(self, "name", name)
        if len(prompts) > 1:
            # A synonym given twice would weigh double in the average.
            first: dict[str, str] = {}
            for prompt in prompts:
                first.setdefault(reading(prompt), prompt)
            prompts = list(first.values())
            self.__dict__["prompt_readings"] = frozenset(first)
        object.__setattr__(self, "prompts", tuple(prompts) or (name,))
        if self.min_score is not None and not 0 <= self.min_score <= 1:  # NaN is refused, too
            raise MasqclipError(f"min_score of {shown(name)} is {self.min_score:g}: give 0 to 1")
        if not self.worded and self.examples is None:
            raise MasqclipError(
                f"{shown(name)} has neither words nor examples: give it one of them"
            )

    @cached_property
    def reading(self) -> str:
        """What CLIP reads of the name: what tells it from others."""
        return reading(self.name)

    @cached_property
    def prompt_readings(self) -> frozenset[str]:
        """What CLIP reads of the prompts: what the embedding depends on."""
        return frozenset(self.reading if p is self.name else reading(p) for p in self.prompts)

    @property
    def competing(self) -> str | Category:
        """It as a distractor: its name, where that is all that there is to it."""
        plain = self.examples is None and self.prompts == (self.name,)
        return self.name if plain else self

    def joined(self, other: Category) -> Category:
        """This one with the prompts and examples of another, and its least score if it has none."""
        prompts = [*(self.prompts if self.worded else ()), *(other.prompts if other.worded else ())]
        examples = self.examples or other.examples
        if self.examples is not None and other.examples is not None:
            examples = self.examples.joined(other.examples)
        return replace(
            self,
            prompts=tuple(prompts),
            examples=examples,
            worded=bool(prompts),
            min_score=other.min_score if self.min_score is None else self.min_score,
        )


def check_names(categories: Sequence[Category]) -> None:
    """Refuse names of which one would take all that belongs to another, or to nothing."""
    named: dict[str, str] = {}
    for category in categories:
        name, key = category.name, category.reading
        if not key:
            raise MasqclipError(f"CLIP reads nothing of the name {shown(name)}: give words")
        if key == BACKGROUND:
            raise MasqclipError(
                f"{shown(name)} is always part of a vocabulary: leave it out, and what it wins "
                "stays unlabelled"
            )
        if key in named:
            raise MasqclipError(
                f"the name {shown(name)} is given twice: keep one of them"
                if name == named[key]
                else f"{shown(named[key])} and {shown(name)} are one name to CLIP: keep one of them"
            )
        named[key] = name
    if any(category.prompts != (category.name,) for category in categories):
        _check_prompts(categories)


def _check_prompts(categories: Sequence[Category]) -> None:
    prompted: dict[frozenset[str], str] = {}
    for category in categories:
        name, read = category.name, category.prompt_readings
        if "" in read:
            raise MasqclipError(f"CLIP reads nothing of a synonym of {shown(name)}: give words")
        if read == {BACKGROUND}:
            raise MasqclipError(
                f"{shown(name)} is read as {BACKGROUND!r}, which is always part of a vocabulary: "
                "leave it out, and what it wins stays unlabelled"
            )
        if read in prompted:
            raise MasqclipError(
                f"{shown(prompted[read])} and {shown(name)} have the same prompts and are one name "
                "to CLIP: keep one of them"
            )
        prompted[read] = name


def check_calibration(calibration: tuple[float, float, float] | None) -> None:
    """Refuse numbers by which a higher score of a model would not be a higher one.

    Raises:
        MasqclipError: they are such.
    """
    if calibration is None:
        return
    a, b, c = calibration
    if not (0 <= a <= _STEEPEST and 0 <= b <= _STEEPEST and a + b > 0.01 and abs(c) <= _STEEPEST):
        raise MasqclipError(
            f"the calibration {a:g}, {b:g}, {c:g}: give two numbers of 0 to 100, not both 0, and "
            "one of -100 to 100"
        )


def join_categories(
    categories: Sequence[Category], others: Iterable[Category]
) -> tuple[Category, ...]:
    """Categories and more of them; one that is there already gets the examples and prompts of both.

    Raises:
        MasqclipError: their examples are of different CLIPs.
    """
    place = {category.reading: i for i, category in enumerate(categories)}
    joined = list(categories)
    for category in others:
        at = place.get(category.reading)
        if at is None:
            joined.append(category)
        else:
            joined[at] = joined[at].joined(category)
    return tuple(joined)
