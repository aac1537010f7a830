"""What changes how masks are read and named without any training: off, unless it is asked for.

The published method has none of these. Each comes from a later paper, is measured beside the others
in ``docs/refinements.md``, and is off where it does not win there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from masqclip.errors import MasqclipError

Coverage = Literal["any", "share"]
Synonyms = Literal["mean", "best"]
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "patch_coverage": ("any", "share"),
    "synonyms": ("mean", "best"),
}
_MOST_BLOCKS = 256


@dataclass(frozen=True)
class Refinements:
    """How masks are read and named; the defaults are the published method.

    Attributes:
        patch_coverage: what a proposal sees of a patch that it covers in part: all of it (``any``,
            published), or its ``share`` (MaskCLIP++, Zeng et al., 2024, soft coverage).
        mask_from_block: mask class tokens see the whole picture in the blocks before this one,
            counted from 0, and what is under their mask from it on (MaskCLIP++: the last ones).
        trust: how far an object score that doubts gives way to a class that is sure, 0..1. The
            probability of no object is multiplied by 1 - `trust` times that of the best class
            (OVRCOAT, 2026, with 0.5).
        prune: a name takes no part in a picture where no mask is it with this probability or more
            (S2C2Seg, 2025: vocabularies cut to what is there).
        synonyms: of several prompts of a name, what counts: their ``mean`` (published), or the one
            that fits a mask ``best`` (OpenSeg, Ghiasi et al., 2022).
        untuned_seen, untuned_unseen: the weight of CLIP's own, untuned answer in a geometric mean
            with the tuned one, 0..1: for names that tuning had annotations of, and for others
            (FC-CLIP, Yu et al., 2023, with 0.4 and 0.8).
    """

    patch_coverage: Coverage = "any"
    mask_from_block: int = 0
    trust: float = 0.0
    prune: float = 0.0
    synonyms: Synonyms = "mean"
    untuned_seen: float = 0.0
    untuned_unseen: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in _CHOICES:
                if value not in _CHOICES[name]:
                    raise MasqclipError(
                        f"{name} is {str(value)[:40]!r}; it is {' or '.join(_CHOICES[name])}"
                    )
            elif name == "mask_from_block":
                if type(value) is not int or not 0 <= value <= _MOST_BLOCKS:
                    raise MasqclipError(
                        f"{name} is {str(value)[:40]}; it is a whole number, 0 to {_MOST_BLOCKS}"
                    )
            elif not _is_share(value):
                raise MasqclipError(f"{name} is {str(value)[:40]}; it is a number from 0 to 1")

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> Self:
        """Refinements from a dictionary of some of them.

        Raises:
            MasqclipError: there is no such one, or a value is out of its bounds.
        """
        names = [field.name for field in fields(cls)]
        for name in given or {}:
            if name not in names:
                raise MasqclipError(
                    f"there is no refinement {str(name)[:60]!r}: it is one of {', '.join(names)}"
                )
        return cls(**(given or {}))

    @classmethod
    def parse(cls, assignments: Sequence[str]) -> Self:
        """Refinements from texts such as ``prune=0.05``.

        Raises:
            MasqclipError: a text is no assignment, there is no such one, or a value is out of its
                bounds.
        """
        given: dict[str, Any] = {}
        for text in assignments:
            name, equals, value = (part.strip() for part in text.partition("="))
            if not equals:
                raise MasqclipError(f"{text[:60]!r} sets no refinement: write NAME=VALUE")
            given[name] = value if name in _CHOICES else _number(name, value)
        return cls.read(given)

    @property
    def changed(self) -> dict[str, Any]:
        """Those that are not as published."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


def _number(name: str, text: str) -> int | float:
    try:
        return int(text) if name == "mask_from_block" else float(text)
    except ValueError:
        raise MasqclipError(f"{name} is {text[:40]!r}; it is a number") from None


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= 1
