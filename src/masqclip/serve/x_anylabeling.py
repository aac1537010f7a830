"""X-AnyLabeling's remote-server protocol: a picture and words in, polygons out.

The tool asks ``GET /v1/models``, which is ours too (`model_entry` is its part of the answer), and
sends pictures to ``POST /v1/predict``. Its server address is this service's, without more.

Names are typed with commas or dots between them, on one line or several, and come back as typed.

A polygon has no holes there, so those of a mask are filled; a mask in parts is several polygons
with one ``group_id``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from masqclip.clip.name_limits import DEFAULT_LIMITS
from masqclip.clip.name_text import split_list, unquote
from masqclip.export.polygons import TOLERANCE, mask_polygons, simplify_ring
from masqclip.result import Segmentation, Task
from masqclip.serve.engine import Engine
from masqclip.serve.labels import asked_labels
from masqclip.serve.problems import Problem
from masqclip.serve.schemas import SegmentRequest
from masqclip.serve.uploads import MAX_FIELD_CHARACTERS, BoundedRoute, from_data_uri

router = APIRouter(tags=["annotation tools"], route_class=BoundedRoute)

_LINE_END = re.compile(r"[\r\n;\uff1b]+")
# The dots of "rocket.tulip", but not those of "U.S." and "1.5".
_DOT = re.compile(r"\s\.+(?:\s|$)|(?<=[^\W\d]{2})\.+(?=[^\W\d]{2})|(?<=\w{3})\.+$")
# A name in quotes, between what parts names.
_IN_QUOTES = re.compile(
    r'(?i:(?:^|(?<=[,.;\s]))(?:(?:stuff|thing):\s*+)?+)"(?:[^"]|"")++"(?=\s*+(?:[,.;]|$))'
)
_MIN_SCORE = 0.3
_TASKS = {"instance": "Things", "panoptic": "Things and regions", "semantic": "Regions by name"}
# The tool's own names for the controls that it shows; `10` is its default fineness of contours.
_WIDGETS: dict[str, Any] = {
    "edit_text": None,
    "button_send": None,
    "input_conf": None,
    "edit_conf": _MIN_SCORE,
    "mask_fineness_slider": 10,
    "mask_fineness_value_label": None,
    "toggle_preserve_existing_annotations": False,
    "remote_task_select_combobox": None,
}


class PredictParams(BaseModel):
    """What the tool sends of its controls; what is not used here is let pass."""

    text_prompt: Annotated[
        str, Field(max_length=MAX_FIELD_CHARACTERS, description="Names between dots or commas.")
    ] = ""
    conf_threshold: Annotated[float, Field(ge=0, le=1)] = _MIN_SCORE
    epsilon_factor: Annotated[
        float, Field(ge=0, le=1, description="Tolerance of contours, as a share of their length.")
    ] = 0.001
    current_task: Task = "instance"


class PredictRequest(BaseModel):
    """One picture for X-AnyLabeling."""

    model: str = ""
    image: Annotated[str, Field(description="A data: address in base64, or bare base64.")]
    params: PredictParams = PredictParams()


def model_entry(name: str, tasks: Collection[str]) -> dict[str, Any]:
    """What the tool wants to know of a model: its controls, its tasks, that it takes words."""
    return {
        "display_name": name,
        "classes": [],
        "batch_processing_mode": "text_prompt",
        "widgets": [{"name": widget, "value": value} for widget, value in _WIDGETS.items()],
        "available_tasks": [
            {
                "id": task,
                "name": label,
                "batch_processing_mode": "text_prompt",
                "active_widgets": {
                    widget: {"placeholder": "rocket, tulip"} if widget == "edit_text" else {}
                    for widget in _WIDGETS
                },
            }
            for task, label in _TASKS.items()
            if task in tasks
        ],
    }


@router.post("/v1/predict")
async def predict(wish: PredictRequest, request: Request) -> Response:
    """X-AnyLabeling: polygons of what the words describe."""
    engine: Engine = request.app.state.engine
    labels = await run_in_threadpool(read_prompt, wish.params.text_prompt)
    words = await engine.read_words(SegmentRequest(vocabulary=list(labels)))
    upload = await engine.open(await run_in_threadpool(from_data_uri, wish.image))
    async with engine.admitted():
        _, encoded = await engine.keep(upload)
        finish = partial(_answer, labels=labels, epsilon=wish.params.epsilon_factor)
        task, least = wish.params.current_task, wish.params.conf_threshold
        body = await engine.name(encoded, words, task, least, finish)
    return Response(body, media_type="application/json")


def read_prompt(text: str) -> tuple[str, ...]:
    """The names that somebody typed.

    Raises:
        MasqclipError: one of them is too long, or holds what is no part of words.
        Problem: 422, there are none.
    """
    # Line by line: "a, b" and "c. d." may both be there.
    lines = [line for line in _LINE_END.split(text) if line.strip()]
    written = [name for line in lines for name in _split_line(line)]
    labels = asked_labels(written, what="params.text_prompt: a name")
    if not labels:
        raise Problem(422, "params.text_prompt: type the names to look for, 'rocket, tulip'")
    return labels


def _split_line(line: str) -> list[str]:
    names: list[str] = []
    begin = 0
    # What stands in quotes is a name, whatever parts the others.
    for quoted in _IN_QUOTES.finditer(line):
        names += [*_split_plain(line[begin : quoted.start()]), unquote(quoted[0])]
        begin = quoted.end()
    return names + _split_plain(line[begin:])


def _split_plain(text: str) -> list[str]:
    text = text.strip(" ,\t").lstrip(". ")
    names = split_list(text, what="params.text_prompt", limits=DEFAULT_LIMITS)
    # As the prompts of detectors are written, with blanks on both sides of a dot or on none.
    parts = (part.strip() for name in names for part in _DOT.split(name))
    return [part for part in parts if part.strip(".")]


def _answer(result: Segmentation, *, labels: Sequence[str], epsilon: float) -> bytes:
    shapes = [
        {
            "label": labels[segment.class_id],
            "shape_type": "polygon",
            "points": polygon.tolist(),
            "score": round(segment.score, 4),
            "group_id": segment.id if len(polygons) > 1 else None,
        }
        for segment in result.segments
        for polygons in [_polygons(segment.mask, epsilon)]
        for polygon in polygons
    ]
    return json.dumps({"success": True, "data": {"shapes": shapes, "description": ""}}).encode()


def _polygons(mask: np.ndarray, epsilon: float) -> list[np.ndarray]:
    """Contours, each simplified as the tool asks: by a share of its length.

    Any simplification takes the stairs of slopes away as well; none keeps every corner.
    """
    rings = mask_polygons(mask, tolerance=0)
    if epsilon == 0:
        return rings
    lengths = [float(np.hypot(*(ring - np.roll(ring, 1, axis=0)).T).sum()) for ring in rings]
    return [
        simplify_ring(ring, max(TOLERANCE, epsilon * length))
        for ring, length in zip(rings, lengths, strict=True)
    ]
