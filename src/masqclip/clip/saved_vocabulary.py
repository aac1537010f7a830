"""Vocabularies as masqclip's own files: JSON that keeps all of a vocabulary, examples included.

    {"masqclip_vocabulary": 1,
     "categories": [{"name": "mug", "prompts": ["mug"], "thing": true,
                     "examples": {"embeddings": "...", "context": "...", "thumbnails": ["..."]}}],
     "distractors": [], "templates": ["{}"], "assumed": [],
     "parents": {"mug": "vessel"}, "calibration": [1.0, 1.0, 0.0],
     "space": {...}, "digest": "..."}

A category may have a ``min_score``.

Numbers are base64 of little-endian half precision (of ``space``, single). A category without
prompts is its examples alone. The digest is of all numbers: a file that was cut or changed is told.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.category import Category, join_categories
from masqclip.clip.examples import Examples, ExampleSpace
from masqclip.clip.name_items import tidy
from masqclip.clip.name_limits import NameLimits, shown, too_many
from masqclip.clip.templates import PLAIN_TEMPLATES
from masqclip.data.clip_text import reading
from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError
from masqclip.score_scale import Calibration, calibrated, of_model

MARK = "masqclip_vocabulary"
VERSION = 1
#: Of a file: ten thousand examples of 1,024 numbers each, with their small pictures.
MAX_SAVED_BYTES = 128_000_000


@dataclass(frozen=True)
class SavedVocabulary:
    """What a vocabulary is made of (`masqclip.clip.vocabulary.Vocabulary`)."""

    categories: tuple[Category, ...]
    distractors: tuple[str | Category, ...] = ()
    templates: tuple[str, ...] = PLAIN_TEMPLATES
    assumed: tuple[str, ...] = ()
    parents: tuple[tuple[str, str], ...] = ()
    calibration: tuple[float, float, float] | None = None
    unnamed: bool = False

    @property
    def rivals(self) -> tuple[Category, ...]:
        """The distractors as categories."""
        return tuple(n if isinstance(n, Category) else Category(n) for n in self.distractors)

    def joined(self, other: SavedVocabulary) -> SavedVocabulary:
        """As `Vocabulary.joined`; either may be without categories.

        Raises:
            MasqclipError: either asks for everything.
        """
        check_joined(self.unnamed, other.unnamed)
        known = {category.reading for category in self.categories}
        above = {reading(name) for name, _ in self.parents}
        new = {category.name for category in other.categories if category.reading not in known}
        meant = self.calibration or other.calibration
        return SavedVocabulary(
            join_categories(
                rescaled(self.categories, self.calibration, meant),
                rescaled(other.categories, other.calibration, meant),
            ),
            tuple(category.competing for category in join_categories(self.rivals, other.rivals)),
            self.templates if self.categories else other.templates,
            (*self.assumed, *(name for name in other.assumed if name in new)),
            (*self.parents, *(pair for pair in other.parents if reading(pair[0]) not in above)),
            meant,
        )


def check_joined(*unnamed: bool) -> None:
    """Refuse to put vocabularies together of which one asks for everything.

    Args:
        unnamed: of each, whether it does.

    Raises:
        MasqclipError: one does.
    """
    if any(unnamed):
        raise MasqclipError("'everything' is no list of names that others could be put to")


def rescaled(
    categories: Sequence[Category], before: Calibration | None, after: Calibration | None
) -> tuple[Category, ...]:
    """Categories with least scores that are of another calibration, and leave out the same."""
    return tuple(
        category
        if category.min_score is None or before == after
        else replace(category, min_score=calibrated(of_model(category.min_score, before), after))
        for category in categories
    )


def is_saved(document: object) -> bool:
    """Whether a document is such a file."""
    return isinstance(document, Mapping) and MARK in document


def write_vocabulary(saved: SavedVocabulary, path: str | Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        MasqclipError: its name does not end in ``.json``.
    """
    path = Path(path)
    if path.suffix.lower() != ".json":
        raise MasqclipError(
            f"{path}: a vocabulary is saved as JSON: give a name that ends in .json"
        )
    write_atomically(path, file_bytes(saved))


def file_bytes(saved: SavedVocabulary) -> bytes:
    """The file."""
    return json.dumps(to_json(saved), ensure_ascii=False, indent=1).encode()


def to_json(saved: SavedVocabulary) -> dict[str, Any]:
    """The document of a vocabulary."""
    document: dict[str, Any] = {
        MARK: VERSION,
        "categories": [_category_json(category) for category in saved.categories],
        "distractors": [
            _category_json(one) if isinstance(one, Category) else one for one in saved.distractors
        ],
        "templates": list(saved.templates),
        "assumed": list(saved.assumed),
        "parents": dict(saved.parents),
    }
    if saved.unnamed:
        document["unnamed"] = True
    if saved.calibration is not None:
        document["calibration"] = list(saved.calibration)
    if examples := _examples(saved):
        space = examples[0].space
        document["space"] = {
            "model": space.model,
            "probe": [_text(row, "<f4") for row in space.probe],
            "word_mean": _text(space.word_mean, "<f4"),
            "word_spread": space.word_spread,
            "logit_scale": space.logit_scale,
        }
        document["digest"] = _digest(examples)
    return document


def from_json(document: Mapping[str, Any], *, source: str, limits: NameLimits) -> SavedVocabulary:
    """The vocabulary of a document.

    Args:
        document: as `to_json` makes it.
        source: what holds it, for errors.
        limits: how many categories there may be.

    Raises:
        MasqclipError: it is not whole, or was changed.
    """
    version = document.get(MARK, VERSION)
    if version != VERSION:
        raise MasqclipError(
            f"{source}: a vocabulary of version {shown(version)}, and this masqclip reads version "
            f"{VERSION}: update masqclip, or save it anew"
        )
    entries = document.get("categories")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise MasqclipError(f"{source}: its 'categories' are no list of objects")
    if len(entries) > limits.names:
        raise too_many(source, limits.names)
    try:
        space = _read_space(document["space"]) if "space" in document else None
        categories = tuple(_read_category(entry, space) for entry in entries)
        distractors = tuple(
            one if isinstance(one, str) else _read_category(one, space)
            for one in _listed(document.get("distractors", []), "distractors")
        )
        lists = {
            key: tuple(_strings(document[key]))
            for key in ("templates", "assumed")
            if key in document
        }
        saved = SavedVocabulary(
            categories,
            distractors,
            **lists,
            parents=_read_parents(document.get("parents", {})),
            calibration=_read_calibration(document.get("calibration")),
            unnamed=document.get("unnamed") is True,
        )
    except MasqclipError as error:
        raise MasqclipError(f"{source}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise MasqclipError(
            f"{source}: no whole vocabulary of masqclip ({type(error).__name__}: {error}): save it "
            "anew"
        ) from error
    examples = _examples(saved)
    if document.get("digest") != (_digest(examples) if examples else None):
        raise MasqclipError(
            f"{source}: its examples are not those that were saved: the file was changed or is "
            "damaged; save it anew"
        )
    return saved


def _examples(saved: SavedVocabulary) -> list[Examples]:
    rows = (*saved.categories, *saved.rivals)
    return [category.examples for category in rows if category.examples is not None]


def _category_json(category: Category) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": category.name,
        "prompts": list(category.prompts) if category.worded else [],
        "thing": category.thing,
    }
    if category.min_score is not None:
        entry["min_score"] = category.min_score
    if (examples := category.examples) is not None:
        entry["examples"] = {
            "embeddings": _text(examples.embeddings, "<f2"),
            "context": _text(examples.context, "<f2"),
            "thumbnails": [base64.b64encode(one).decode() for one in examples.thumbnails],
        }
    return entry


def _read_category(entry: Mapping[str, Any], space: ExampleSpace | None) -> Category:
    prompts = tuple(_strings(entry["prompts"]))
    thing = entry["thing"]
    if not isinstance(thing, bool):
        raise MasqclipError(f"'thing' of {shown(entry['name'])} is {shown(thing)}: true or false")
    examples = None
    if "examples" in entry:
        if space is None:
            raise MasqclipError("there are examples, and no 'space' that they are of")
        given = entry["examples"]
        width = len(space.word_mean)
        examples = Examples(
            space,
            _numbers(given["embeddings"], "<f2").reshape(-1, width).astype(np.float16),
            _numbers(given["context"], "<f2").astype(np.float16),
            tuple(base64.b64decode(one, validate=True) for one in _strings(given["thumbnails"])),
        )
    least = entry.get("min_score")
    if least is not None:
        least = _number(least, f"min_score of {shown(entry['name'])}")
    return Category(entry["name"], prompts, thing, examples, bool(prompts), least)


def _read_parents(given: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and isinstance(parent, str) for name, parent in given.items()
    ):
        raise MasqclipError(f"its 'parents' are {shown(given)}: give names and what each is")
    return tuple(
        (tidy(name, what="a name of a hierarchy"), tidy(parent, what="a name of a hierarchy"))
        for name, parent in given.items()
    )


def _read_calibration(given: object) -> tuple[float, float, float] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 3:
        raise MasqclipError(f"its 'calibration' is {shown(given)}: give three numbers")
    a, b, c = (_number(value, "a number of the calibration") for value in given)
    return a, b, c


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MasqclipError(f"{what} is {shown(value)}: give a number")
    return float(value)


def _read_space(given: Mapping[str, Any]) -> ExampleSpace:
    spread, scale = float(given["word_spread"]), float(given["logit_scale"])
    mean = _numbers(given["word_mean"], "<f4").astype(np.float32)
    probe = np.stack([_numbers(row, "<f4") for row in _strings(given["probe"])]).astype(np.float32)
    sound = np.isfinite(mean).all() and np.isfinite(probe).all() and 0 < spread < 10
    if not sound or not 0 < scale < 1e4 or probe.shape[1:] != mean.shape:
        raise MasqclipError("its 'space' holds numbers that cannot be those of a CLIP")
    return ExampleSpace(str(given["model"])[:200], probe, mean, spread, scale)


def _listed(value: object, what: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise MasqclipError(f"its {what!r} are {shown(value)}: give a list")
    return value


def _strings(value: object) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MasqclipError(f"{shown(value)} is no list of strings")
    return value


def _text(array: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()


def _numbers(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=kind)


def _digest(examples: Sequence[Examples]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for one in examples:
        digest.update(one.digest)
        for thumbnail in one.thumbnails:
            digest.update(hashlib.blake2b(thumbnail, digest_size=16).digest())
    return digest.hexdigest()
