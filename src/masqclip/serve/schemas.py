"""What requests and answers hold, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from masqclip.clip.name_limits import NameLimits
from masqclip.clip.vocabulary import Vocabulary
from masqclip.result import Task
from masqclip.serve.problems import Problem

Names = str | list[str] | dict[str, str | list[str]]

#: Letters of the names of a request.
MAX_TEXT = 1_000_000
_BRIEF = 1_000

NAMES_HELP = (
    "What to look for: names between commas (in double quotes where a name holds one), one name a "
    "line with synonyms after commas, the name of a built-in vocabulary, a list of names, or an "
    "object from names to synonyms, which a string may also write out as JSON. `stuff:` before a "
    "name marks a region, `thing:` what is counted; sky, grass and the like are regions anyway."
)


class SegmentRequest(BaseModel):
    """What to find in a picture."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"vocabulary": "rocket, tulip, stuff: sand", "task": "panoptic"},
                {"vocabulary": {"car": ["car", "taxi"]}, "task": "instance", "min_score": 0.5},
            ]
        },
    )

    vocabulary: Annotated[Names, Field(description=NAMES_HELP)]
    task: Annotated[
        Task,
        Field(
            description="instance: a mask for each thing. semantic: a name for each pixel. "
            "panoptic: both, without overlap."
        ),
    ] = "panoptic"
    min_score: Annotated[
        float | None,
        Field(ge=0, le=1, description="What scores less is left out; 0.3 by default."),
    ] = None
    stuff: Annotated[
        str | list[str], Field(description="Names of the vocabulary that are regions.")
    ] = []
    things: Annotated[
        str | list[str], Field(description="Names of the vocabulary that are counted.")
    ] = []
    distractors: Annotated[
        str | list[str], Field(description="Names that compete and are never reported.")
    ] = []

    # The values of a form's field that is repeated; `vocabulary` is the first of them.
    _texts: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def from_texts(cls, texts: tuple[str, ...], **fields: object) -> SegmentRequest:
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
        return (
            all(isinstance(names, str) or names == [] for names in given)
            and sum(map(len, given)) <= _BRIEF
            and len(self._texts) <= 1
        )

    def words(self, max_names: int) -> Vocabulary:
        """The vocabulary, read as the library does, but never from a file of this machine.

        Raises:
            MasqclipError: it cannot be used.
            Problem: 422, more names than `max_names`.
        """
        values = self._texts or (self.vocabulary,)
        for given in (*values, self.stuff, self.things, self.distractors):
            # Counted before anything is read: a million names are refused in a millisecond.
            _check_count(given, max_names)
        # Lower than the library's: what is left may still be written at length.
        limits = NameLimits(text_bytes=MAX_TEXT, names=max_names, prompts=max_names)
        words = Vocabulary.parse(values[0], limits=limits, files=False)
        if len(values) > 1:
            categories, assumed = list(words.categories), list(words.assumed)
            for value in values[1:]:
                more = Vocabulary.parse(value, limits=limits, files=False)
                categories += more.categories
                assumed += more.assumed
                if len(categories) > max_names:
                    raise _too_many(len(categories), max_names)
            words = Vocabulary(tuple(categories), assumed=tuple(assumed))
        words = Vocabulary.parse(
            words,
            stuff=self.stuff,
            things=self.things,
            distractors=self.distractors,
            limits=limits,
        )
        count = sum(len(category.prompts) for category in words.categories)
        count += len(words.distractors)
        if count > max_names:
            raise _too_many(count, max_names)
        return words


def _too_many(count: int, max_names: int) -> Problem:
    return Problem(422, f"the vocabulary holds {count} names; this service takes {max_names}")


def _check_count(names: Names, max_names: int) -> None:
    """Refuse, by its separators, what holds far more names than are taken."""
    if isinstance(names, dict):
        count = sum(1 + _count(synonyms) for synonyms in names.values())
    else:
        count = _count(names)
    if count > 4 * max_names + 100:  # blank lines and comments are no names
        raise Problem(
            422, f"the vocabulary holds about {count} names; this service takes {max_names}"
        )


def _count(names: str | list[str]) -> int:
    return 1 + sum(map(names.count, ",;\n\r")) if isinstance(names, str) else len(names)


class ImageInfo(BaseModel):
    """A picture in the store."""

    id: Annotated[str, Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])]
    width: Annotated[int, Field(examples=[512])]
    height: Annotated[int, Field(examples=[512])]
    notes: Annotated[list[str], Field(description="What was decided to read the picture.")] = []


class Rle(BaseModel):
    """COCO's compressed run lengths."""

    size: Annotated[list[int], Field(description="Height, width.", examples=[[512, 512]])]
    counts: str


class SegmentInfo(BaseModel):
    """One mask and its name."""

    id: Annotated[int, Field(description="Counts from 1; the value in a panoptic PNG.")]
    name: Annotated[str, Field(examples=["rocket"])]
    class_id: Annotated[int, Field(description="The name's place in the vocabulary.")]
    score: Annotated[float, Field(examples=[0.91])]
    thing: bool
    area: Annotated[int, Field(description="Pixels.")]
    bbox: Annotated[list[float], Field(description="x, y, width, height in pixels.")]
    segmentation: Rle
    colour: Annotated[str, Field(description="As in the overlay.", examples=["#e2507b"])]


class SegmentResponse(BaseModel):
    """What was found in a picture."""

    task: Task
    height: int
    width: int
    vocabulary: list[str]
    notes: list[str]
    segments: list[SegmentInfo]


class VocabularyInfo(BaseModel):
    """A built-in vocabulary."""

    name: Annotated[str, Field(examples=["coco-panoptic"])]
    description: str
    things: list[str]
    stuff: list[str]
    synonyms: Annotated[
        dict[str, list[str]],
        Field(description="Every name, in the vocabulary's order, and all that is read for it."),
    ]


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Health(BaseModel):
    """Whether the service is there."""

    status: Literal["ok"] = "ok"
