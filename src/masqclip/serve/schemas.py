"""What requests and answers hold, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from masqclip.result import Task
from masqclip.serve.names_request import NamesRequest


class SegmentRequest(NamesRequest):
    """What to find in a picture."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"vocabulary": "rocket, tulip, stuff: sand", "task": "panoptic"},
                {"vocabulary": {"car": ["car", "taxi"]}, "task": "instance", "min_score": 0.5},
                {"vocabulary": "v-9f86d081884c7d659a2feaa0c55ad015", "task": "instance"},
            ]
        },
    )

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
    suggestion: Annotated[
        str | None, Field(description='Of "everything": the name that comes nearest.')
    ] = None


class SegmentResponse(BaseModel):
    """What was found in a picture."""

    task: Task
    height: int
    width: int
    vocabulary: list[str]
    notes: list[str]
    segments: list[SegmentInfo]
    kinds: Annotated[
        dict[str, list[str]], Field(description="What a name is a kind of, the widest first.")
    ] = {}


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
