"""Label Studio's ML backend protocol: tasks in, brush strokes or polygons out.

The labelling interface says what to look for: the labels of its ``BrushLabels`` or
``PolygonLabels`` are the vocabulary, and come back letter by letter. Pictures come as ``data:``
addresses, or lie in the Label Studio that the operator named; no other address is fetched, whatever
a task says.

A task that cannot be answered is told apart from one with nothing in it. Where others can, its
place in the answer holds an ``error`` and no ``result``: Label Studio writes that to its log, keeps
no prediction, and asks again. Where none can, the request is refused with the first reason.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import urljoin, urlsplit

import httpx
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from masqclip.data.xml_files import parse_xml
from masqclip.errors import MasqclipError
from masqclip.export.label_studio import RegionKind, mask_regions
from masqclip.result import Segmentation
from masqclip.serve.engine import Engine
from masqclip.serve.labels import asked_labels
from masqclip.serve.problems import Problem
from masqclip.serve.schemas import SegmentRequest
from masqclip.serve.settings import ServeSettings
from masqclip.serve.uploads import MAX_FIELD_CHARACTERS, BoundedRoute, from_data_uri

router = APIRouter(tags=["annotation tools"], route_class=BoundedRoute)

#: Of one request; a tool that has more asks again.
MAX_TASKS = 1000

_KINDS: dict[str, RegionKind] = {"BrushLabels": "brush", "PolygonLabels": "polygon"}


class Task(BaseModel):
    """A task of a project, with what its pictures are called."""

    data: Any = None


class PredictRequest(BaseModel):
    """Tasks to label."""

    tasks: Annotated[list[Task], Field(max_length=MAX_TASKS)]
    label_config: Annotated[
        str, Field(max_length=MAX_FIELD_CHARACTERS, description="The labelling interface, XML.")
    ]


@dataclass(frozen=True)
class Control:
    """A tag of the labelling interface that asks for masks."""

    kind: RegionKind
    name: str  # "from_name"
    image: str  # "to_name"
    key: str  # of the picture in a task's data
    labels: tuple[str, ...]  # that are looked for, as written


@router.get("/health")
async def health() -> dict[str, str]:
    """Label Studio: whether the backend lives."""
    return {"status": "UP", "model_class": "masqclip"}


@router.post("/setup")
async def setup(wish: dict[str, Any], request: Request) -> dict[str, str]:
    """Label Studio: a project introduces itself. Nothing of it is kept."""
    return {"model_version": request.app.state.engine.segmenter.name}


@router.post("/predict")
async def predict(wish: PredictRequest, request: Request) -> Response:
    """Label Studio: a prediction for each task."""
    engine: Engine = request.app.state.engine
    control = await run_in_threadpool(read_control, wish.label_config)
    words = await engine.read_words(SegmentRequest(vocabulary=list(control.labels)))
    version = engine.segmenter.name
    finish = partial(_prediction, control=control, version=version)
    kind = engine.segmenter.model.tasks[-1]  # the fullest that the model's system has: panoptic
    results, failed = [], []
    for task in wish.tasks:
        address = task.data.get(control.key) if isinstance(task.data, dict) else None
        try:
            upload = await engine.open(await _picture(address, engine.settings))
            async with engine.admitted():
                _, encoded = await engine.keep(upload)
                results.append(await engine.name(encoded, words, kind, None, finish))
        except (MasqclipError, Problem) as error:
            failed.append(error)
            reason = error.detail if isinstance(error, Problem) else str(error)
            results.append(json.dumps({"error": reason}))
    if failed and len(failed) == len(results):
        raise failed[0]
    body = '{"results":[' + ",".join(results) + '],"model_version":' + json.dumps(version) + "}"
    return Response(body, media_type="application/json")


def read_control(label_config: str) -> Control:
    """The first tag of a labelling interface that asks for masks of a picture.

    Raises:
        MasqclipError: the interface is no XML, or a label is no name.
        Problem: 422, there is no such tag, or it has no labels.
    """
    tree = parse_xml(label_config, source="label_config")
    pictures = {image.get("name", ""): image.get("value", "") for image in tree.iter("Image")}
    for tag in tree.iter():
        image = tag.get("toName", "")
        if tag.tag in _KINDS and image in pictures:
            written = [label.get("value", "") for label in tag.iter("Label")]
            labels = asked_labels(written, what="label_config: a label")
            if not labels:
                raise Problem(422, f"label_config: {tag.tag} has no label to look for")
            key = pictures[image].removeprefix("$")
            return Control(_KINDS[tag.tag], tag.get("name", ""), image, key, labels)
    raise Problem(422, "label_config: needs BrushLabels or PolygonLabels on an Image")


async def _picture(address: Any, settings: ServeSettings) -> bytes:
    """The file behind a task's picture."""
    if not isinstance(address, str) or not address:
        raise Problem(422, "tasks: a task has no picture under the name that the interface gives")
    if address.startswith("data:"):
        return await run_in_threadpool(from_data_uri, address)
    home = settings.label_studio_url
    if not home:
        raise Problem(
            422,
            "tasks: pictures are not fetched: start the service with --label-studio-url, or give "
            "data: addresses",
        )
    try:
        target = urljoin(home.rstrip("/") + "/", address)
        inside = urlsplit(target)[:2] == urlsplit(home)[:2]
    except ValueError:  # brackets that are no IPv6 address, and the like
        inside = False
    if not inside:
        raise Problem(422, "tasks: a picture lies outside the Label Studio of --label-studio-url")
    return await _fetch(target, settings)


async def _fetch(address: str, settings: ServeSettings) -> bytes:
    token = settings.label_studio_token
    headers = {"Authorization": f"Token {token}"} if token else {}
    chunks, size = [], 0
    try:
        async with (
            asyncio.timeout(settings.deadline),
            httpx.AsyncClient(headers=headers, timeout=settings.deadline) as client,
            client.stream("GET", address) as answer,
        ):
            if answer.status_code != 200:
                raise Problem(422, f"tasks: Label Studio answers {answer.status_code} for a file")
            async for chunk in answer.aiter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > settings.max_upload_bytes:
                    raise Problem(413, "tasks: a picture is larger than this service takes")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise Problem(422, f"tasks: Label Studio cannot be reached ({reason})") from error
    return b"".join(chunks)


def _prediction(result: Segmentation, *, control: Control, version: str) -> str:
    """One task's prediction as JSON; its score is that of its best segment."""
    regions = [
        region
        for segment in result.segments
        for region in mask_regions(
            segment.mask,
            region_id=f"masqclip-{segment.id}",
            name=control.labels[segment.class_id],
            score=round(segment.score, 4),
            kind=control.kind,
            from_name=control.name,
            to_name=control.image,
        )
    ]
    score = max((segment.score for segment in result.segments), default=0.0)
    return json.dumps({"result": regions, "score": round(score, 4), "model_version": version})
