"""What requests and answers about vocabularies with examples hold."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from masqclip.clip.category import Category
from masqclip.clip.saved_vocabulary import SavedVocabulary
from masqclip.serve.names_request import Names, NamesRequest
from masqclip.serve.problems import Problem
from masqclip.serve.schemas import Rle

#: Examples of one request: each picture of them goes through the model.
MAX_EXAMPLES_AT_ONCE = 32
_POLYGON_NUMBERS = 20_000

Box = Annotated[list[float], Field(min_length=4, max_length=4)]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]
Polygon = Annotated[list[float], Field(min_length=6, max_length=_POLYGON_NUMBERS)]
_IMAGE = "The identifier of a picture (`POST /v1/images`), or the picture in base64 (`data:`)."
_BOX = "x0, y0, x1, y1 in pixels: the proposal that fits."
_POINT = "x, y in pixels: the likeliest object there."
_MUG: JsonDict = {
    "name": "mug",
    "image": "9f86d081884c7d659a2feaa0c55ad015",
    "box": [120, 80, 210, 190],
}


class PlaceRequest(BaseModel):
    """A box or a point in a picture."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"box": [120, 80, 210, 190]}]}
    )

    box: Annotated[Box | None, Field(description=_BOX)] = None
    point: Annotated[Point | None, Field(description=_POINT)] = None

    @model_validator(mode="after")
    def _one(self) -> PlaceRequest:
        if (self.box is None) == (self.point is None):
            raise ValueError("give one of box and point")
        return self


class MaskInfo(BaseModel):
    """The mask that fits a place."""

    area: Annotated[int, Field(description="Pixels.")]
    bbox: Annotated[list[float], Field(description="x, y, width, height in pixels.")]
    segmentation: Rle


class ExampleRequest(BaseModel):
    """Something that a picture shows: by a mask, a box or a point."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [_MUG, {**_MUG, "name": "not a mug", "distractor": True}]},
    )

    name: Annotated[str, Field(max_length=1000, description="What results call it.")]
    image: Annotated[str, Field(description=_IMAGE)]
    box: Annotated[Box | None, Field(description=_BOX)] = None
    point: Annotated[Point | None, Field(description=_POINT)] = None
    segmentation: Annotated[
        Rle | Annotated[list[Polygon], Field(min_length=1, max_length=1000)] | None,
        Field(
            description="The mask: COCO's run lengths, as a segment of an answer has them, or "
            "polygons."
        ),
    ] = None
    prompts: Annotated[
        list[str] | None,
        Field(
            max_length=100,
            description="What CLIP reads beside the example: the name by default (of a distractor "
            "nothing); an empty list leaves it to the example.",
        ),
    ] = None
    stuff: Annotated[bool, Field(description="It is a region, not a countable thing.")] = False
    distractor: Annotated[
        bool, Field(description='"Not this": it competes and is never reported.')
    ] = False

    @model_validator(mode="after")
    def _one(self) -> ExampleRequest:
        given = (self.box, self.point, self.segmentation)
        if sum(value is not None for value in given) != 1:
            raise ValueError("give one of segmentation, box and point that shows the example")
        return self


Examples = Annotated[list[ExampleRequest], Field(max_length=MAX_EXAMPLES_AT_ONCE)]


class VocabularyRequest(NamesRequest):
    """A vocabulary to keep: of names, of a saved one, of examples, of all together."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"vocabulary": "plate, fork", "examples": [_MUG]},
                {"examples": [{**_MUG, "prompts": []}]},
            ]
        },
    )

    vocabulary: Annotated[
        Names | None, Field(description="As in a request to segment; none, for examples alone.")
    ] = None  # type: ignore[assignment]
    examples: Annotated[Examples, Field(default_factory=list, description="What pictures show.")]


class VocabularyChange(BaseModel):
    """What is to change in a vocabulary that is kept; first is removed, then added."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"add": [_MUG]}, {"remove": ["3f2a9c0d1b7e4f58"]}]},
    )

    add: Annotated[Examples, Field(description="Examples.")] = []
    remove: Annotated[
        list[str], Field(max_length=1000, description="Examples, by their identifiers.")
    ] = []
    remove_names: Annotated[
        list[str], Field(max_length=1000, description="Whole categories and distractors.")
    ] = []


class ExampleInfo(BaseModel):
    """An example of a category."""

    id: Annotated[str, Field(examples=["3f2a9c0d1b7e4f58"])]
    thumbnail: Annotated[str, Field(description="A small picture, as a `data:` address, or empty.")]


class CategoryInfo(BaseModel):
    """A category, or a distractor."""

    name: str
    prompts: Annotated[list[str], Field(description="What CLIP reads.")]
    thing: bool
    examples: list[ExampleInfo]
    min_score: Annotated[
        float | None, Field(description="The least score that is reported, if it has its own.")
    ] = None


class KeptVocabulary(BaseModel):
    """A vocabulary that is kept."""

    id: Annotated[str, Field(examples=["v-9f86d081884c7d659a2feaa0c55ad015"])]
    categories: list[CategoryInfo]
    distractors: list[CategoryInfo]


def described(identifier: str, saved: SavedVocabulary) -> KeptVocabulary:
    """A vocabulary as it is told."""
    return KeptVocabulary(
        id=identifier,
        categories=[_described(category, "category") for category in saved.categories],
        distractors=[_described(category, "distractor") for category in saved.rivals],
    )


def without(saved: SavedVocabulary, examples: list[str], names: list[str]) -> SavedVocabulary:
    """A vocabulary without some examples, and without categories of these names. A category that
    CLIP reads nothing of leaves with its last example.

    Raises:
        Problem: 422, one of them is not there.
    """
    left, unnamed = set(examples), set(names)

    def kept(rows: tuple[Category, ...], role: str) -> list[Category]:
        found = []
        for row in rows:
            if row.name in names:
                unnamed.discard(row.name)
                continue
            smaller: Category | None = row
            for identifier in _identifiers(row, role):
                if identifier in left and smaller is not None:
                    left.discard(identifier)
                    smaller = _without_one(smaller, _identifiers(smaller, role).index(identifier))
            if smaller is not None:
                found.append(smaller)
        return found

    categories = tuple(kept(saved.categories, "category"))
    distractors = tuple(row.competing for row in kept(saved.rivals, "distractor"))
    for missing, what in ((left, "example"), (unnamed, "name")):
        if missing:
            raise Problem(422, f"the vocabulary has no {what} {min(missing)[:100]!r} (any more)")
    there = {category.name for category in categories}
    assumed = tuple(name for name in saved.assumed if name in there)
    return replace(saved, categories=categories, distractors=distractors, assumed=assumed)


def _without_one(row: Category, place: int) -> Category | None:
    assert row.examples is not None
    examples = row.examples.without(place)
    return None if examples is None and not row.worded else replace(row, examples=examples)


def _described(row: Category, role: str) -> CategoryInfo:
    thumbnails = () if row.examples is None else row.examples.thumbnails
    return CategoryInfo(
        name=row.name,
        prompts=list(row.prompts) if row.worded else [],
        thing=row.thing,
        min_score=row.min_score,
        examples=[
            ExampleInfo(id=identifier, thumbnail=_address(thumbnail))
            for identifier, thumbnail in zip(_identifiers(row, role), thumbnails, strict=True)
        ],
    )


def _identifiers(row: Category, role: str) -> list[str]:
    """Of a category's examples: they follow from what an example is, so that a saved vocabulary
    that comes back has the same."""
    if row.examples is None:
        return []
    where = f"{role}\n{row.reading}\n".encode("utf-8", "surrogatepass")
    return [
        hashlib.blake2b(where + embedding.tobytes(), digest_size=8).hexdigest()
        for embedding in row.examples.embeddings
    ]


def _address(thumbnail: bytes) -> str:
    code = base64.b64encode(thumbnail).decode()
    return f"data:image/jpeg;base64,{code}" if code else ""
