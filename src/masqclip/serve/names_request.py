"""The names of a request: typed, of a vocabulary that is kept, or of one that was saved."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from masqclip.clip.name_limits import NameLimits
from masqclip.clip.saved_vocabulary import SavedVocabulary, check_joined, from_json, rescaled
from masqclip.clip.vocabulary import Vocabulary
from masqclip.serve.problems import Problem
from masqclip.serve.vocabulary_store import IDENTIFIER

#: Letters of the names of a request.
MAX_TEXT = 1_000_000
_BRIEF = 1_000

NAMES_HELP = (
    "What to look for: names between commas (in double quotes where a name holds one), one name a "
    "line with synonyms after commas, the name of a built-in vocabulary, a list of names, or an "
    "object from names to synonyms, which a string may also write out as JSON. `stuff:` before a "
    "name marks a region, `thing:` what is counted; sky, grass and the like are regions anyway. Or "
    "a vocabulary with examples: the identifier of one that is kept (`/v1/vocabularies`), or the "
    "document of a saved one. `everything` is all there is, each with a suggestion."
)


class SavedDocument(BaseModel):
    """A vocabulary as `Vocabulary.save`, and `/v1/vocabularies/{id}/file`, write it."""

    masqclip_vocabulary: Annotated[int, Field(description="The version.", examples=[1])]
    categories: list[dict[str, Any]]
    distractors: list[str | dict[str, Any]] = []
    templates: list[str] = ["{}"]
    assumed: list[str] = []
    parents: dict[str, str] = {}
    calibration: list[float] | None = None
    unnamed: bool = False
    space: dict[str, Any] | None = None
    digest: str | None = None


Names = str | list[str] | dict[str, str | list[str]] | SavedDocument
Kept = Mapping[str, SavedVocabulary]


class NamesRequest(BaseModel):
    """Names, and what is said of them."""

    model_config = ConfigDict(extra="forbid")

    vocabulary: Annotated[Names, Field(description=NAMES_HELP)]
    join: Annotated[
        str | SavedDocument | None,
        Field(
            description="Another vocabulary that is put to it, by its identifier or as the "
            "document of a saved one: a name of both has the synonyms and examples of both."
        ),
    ] = None
    stuff: Annotated[
        str | list[str], Field(description="Names of the vocabulary that are regions.")
    ] = []
    things: Annotated[
        str | list[str], Field(description="Names of the vocabulary that are counted.")
    ] = []
    distractors: Annotated[
        str | list[str] | SavedDocument,
        Field(
            description="Names that compete and are never reported; or a vocabulary with examples "
            "that do, by its identifier or as a document."
        ),
    ] = []

    # The values of a form's field that is repeated; `vocabulary` is the first of them.
    _texts: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def from_texts(cls, texts: tuple[str, ...], **fields: object) -> Self:
        """A wish whose vocabulary is that of several texts, one after the other.

        Raises:
            ValidationError: pydantic's, a field is not as it must be.
        """
        wish = cls.model_validate({**fields, "vocabulary": texts[0]} if texts else fields)
        wish._texts = texts
        return wish

    @property
    def brief(self) -> bool:
        """Whether so few letters are read as quickly as another thread is asked to."""
        given = (self.vocabulary, self.stuff, self.things, self.distractors)
        letters = [len(names) for names in given if isinstance(names, str)]
        return (
            all(isinstance(names, str) or names == [] for names in given)
            and sum(letters) <= _BRIEF
            and len(self._texts) <= 1
            and self.join is None
            and not self.identifiers
        )

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Those of vocabularies that are kept."""
        given = (*self._values, self.join, self._others)
        return tuple(value for value in given if isinstance(value, str) and _is_kept(value))

    @property
    def _others(self) -> str | list[str] | SavedDocument:
        """The distractors; a form sends an identifier as a list of names."""
        others = self.distractors
        return others[0] if isinstance(others, list) and len(others) == 1 else others

    @property
    def _values(self) -> tuple[Names, ...]:
        return self._texts or (self.vocabulary,)

    def words(
        self, max_names: int, *, max_examples: int = 0, kept: Kept | None = None
    ) -> Vocabulary:
        """The vocabulary, read as the library does, but never from a file of this machine.

        Args:
            max_names: names and synonyms, distractors included.
            max_examples: examples of all categories together.
            kept: the vocabularies of `identifiers`.

        Raises:
            MasqclipError: it cannot be used.
            Problem: 422, there are more names or examples than may be.
        """
        for given in (*self._values, self.stuff, self.things, self.distractors):
            # Counted before anything is read: a million names are refused in a millisecond.
            _check_count(given, max_names)
        # Lower than the library's: what is left may still be written at length.
        limits = NameLimits(text_bytes=MAX_TEXT, names=max_names, prompts=max_names)

        def read(value: Names) -> Vocabulary:
            if isinstance(value, str) and _is_kept(value):
                return Vocabulary.from_document((kept or {})[value])
            plain = _document(value) if isinstance(value, SavedDocument) else value
            return Vocabulary.parse(plain, limits=limits, files=False)

        def saved(value: Names) -> SavedVocabulary | None:
            # It may hold nothing but what something is not, which is no vocabulary by itself.
            if isinstance(value, SavedDocument):
                return without_categories(value, max_names)
            return (kept or {})[value] if isinstance(value, str) and _is_kept(value) else None

        parts: list[Vocabulary] = []
        for value in self._values:
            parts.append(read(value))
            if (count := sum(map(len, parts))) > max_names:
                raise _too_many(count, max_names)
        words = parts[0] if len(parts) == 1 else _in_order(parts)
        if self.join is not None:
            other = saved(self.join) or read(self.join).document()
            words = Vocabulary.from_document(words.document().joined(other))
        others: str | list[str] | Vocabulary
        if (rivals := saved(self._others)) is not None:
            whole = bool(rivals.categories)
            others = Vocabulary.from_document(rivals) if whole else Vocabulary(rivals.rivals)
        else:
            assert not isinstance(self.distractors, SavedDocument)
            others = self.distractors
        words = Vocabulary.parse(
            words,
            stuff=self.stuff,
            things=self.things,
            distractors=others,
            limits=limits,
            files=False,
        )
        check_bounds(words.document(), max_names=max_names, max_examples=max_examples)
        return words


def _in_order(parts: list[Vocabulary]) -> Vocabulary:
    """One vocabulary of several, which have no name in common.

    Raises:
        MasqclipError: they have, or one asks for everything.
    """
    check_joined(*(part.unnamed for part in parts))
    meant = next((part.calibration for part in parts if part.calibration is not None), None)
    scored = [rescaled(part.categories, part.calibration, meant) for part in parts]
    return Vocabulary(
        tuple(chain.from_iterable(scored)),
        tuple(chain.from_iterable(part.distractors for part in parts)),
        parts[0].templates,
        tuple(chain.from_iterable(part.assumed for part in parts)),
        tuple(chain.from_iterable(part.parents for part in parts)),
        meant,
    )


def without_categories(document: SavedDocument, max_names: int) -> SavedVocabulary:
    """A saved vocabulary, which may say only what something is not.

    Raises:
        MasqclipError: it is not whole, or was changed.
    """
    return from_json(
        _document(document), source="the vocabulary", limits=NameLimits(names=max_names)
    )


def check_bounds(saved: SavedVocabulary, *, max_names: int, max_examples: int) -> None:
    """Refuse more names or examples than a service takes.

    Raises:
        Problem: 422.
    """
    count = sum(len(category.prompts) for category in saved.categories) + len(saved.distractors)
    if count > max_names:
        raise _too_many(count, max_names)
    rows = (*saved.categories, *saved.rivals)
    shown = sum(len(row.examples) for row in rows if row.examples is not None)
    if shown > max_examples:
        raise Problem(
            422,
            f"the vocabulary holds {shown} examples; this service takes {max_examples}: remove "
            "some",
        )


def _is_kept(text: str) -> bool:
    return IDENTIFIER.fullmatch(text) is not None


def _document(saved: SavedDocument) -> dict[str, Any]:
    return saved.model_dump(exclude_none=True)


def _too_many(count: int, max_names: int) -> Problem:
    return Problem(422, f"the vocabulary holds {count} names; this service takes {max_names}")


def _check_count(names: Names, max_names: int) -> None:
    """Refuse, by its separators, what holds far more names than are taken."""
    if isinstance(names, SavedDocument):
        count = len(names.categories) + len(names.distractors)
    elif isinstance(names, dict):
        count = sum(1 + _count(synonyms) for synonyms in names.values())
    else:
        count = _count(names)
    if count > 4 * max_names + 100:  # blank lines and comments are no names
        raise Problem(
            422, f"the vocabulary holds about {count} names; this service takes {max_names}"
        )


def _count(names: str | list[str]) -> int:
    return 1 + sum(map(names.count, ",;\n\r")) if isinstance(names, str) else len(names)
