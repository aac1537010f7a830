"""Label Studio's ML backend protocol: tasks in, regions of the interface's kind out.

The labelling interface says what to look for (`labelling_interface`): its labels are the
vocabulary, and come back letter by letter. Pictures come as ``data:`` addresses, or from where
`label_studio_files` says.

Label Studio sends all tasks that somebody has chosen in one request, waits for it so long and no
longer, and loses the answer to a request that took longer. So tasks are worked on side by side, and
what is not done by then is left for the next request: Label Studio asks again for tasks without a
prediction.

A task that is not answered is told apart from one with nothing in it. Where others are, its place
in the answer holds an ``error`` and no ``result``: Label Studio writes that to its log, keeps no
prediction, and asks again. Where none is, the request is refused with the first reason.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.export.label_studio import mask_regions
from masqclip.result import Segmentation, Task
from masqclip.serve.engine import Engine
from masqclip.serve.label_studio_files import TaskPictures
from masqclip.serve.labelling_interface import Control, Label, read_control
from masqclip.serve.problems import Problem
from masqclip.serve.schemas import SegmentRequest
from masqclip.serve.uploads import MAX_FIELD_CHARACTERS, BoundedRoute

logger = logging.getLogger("masqclip.serve")

#: Of one request. So many are never done in its time, but some are, and the others the next time.
MAX_TASKS = 20_000
#: Pages of a task whose picture is a list.
MAX_PAGES = 100
#: What of Label Studio's time is used: the answer must get there, too.
SHARE_OF_TIME = 0.9
#: Seconds after which room for a task is looked for again.
RETRY_SECONDS = 0.2
#: Pictures that are fetched beside those that the model works on.
_FETCHED_AHEAD = 4
# Of these the annotators' work is told; the other events are those of projects and tasks.
_TRAINING_EVENTS = (
    "ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING",
)  # fmt: skip


#: Makes regions as JSON, and their best score, of what was found in a picture.
Finish = Callable[[Segmentation], tuple[str, float]]


class _Route(BoundedRoute):
    """Tasks come with all that was drawn on them; what is painted has millions of numbers."""

    max_entries = 400_000
    emptied = (re.compile(rb'"rle"\s*+:\s*+\[[\d,\s]*+\]'), b'"rle":[]')


router = APIRouter(tags=["annotation tools"], route_class=_Route)


class PredictRequest(BaseModel):
    """Tasks to label."""

    tasks: Annotated[
        list[Any], Field(max_length=MAX_TASKS, description="Objects with `id` and `data`.")
    ]
    label_config: Annotated[
        str, Field(max_length=MAX_FIELD_CHARACTERS, description="The labelling interface, XML.")
    ]


class WebhookEvent(BaseModel):
    """What Label Studio tells of: the rest of the body is not looked at."""

    action: Annotated[str, Field(max_length=100, examples=["ANNOTATION_CREATED"])]


@router.get("/health")
async def health() -> dict[str, str]:
    """Label Studio: whether the backend lives."""
    return {"status": "UP", "model_class": "masqclip"}


@router.post("/setup")
async def setup(wish: dict[str, Any], request: Request) -> dict[str, str]:
    """Label Studio: a project introduces itself. Nothing of it is kept."""
    return {"model_version": request.app.state.engine.segmenter.name}


@router.get("/versions")
async def versions(request: Request) -> dict[str, list[str]]:
    """Label Studio: which versions of the model there are."""
    return {"versions": [request.app.state.engine.segmenter.name]}


@router.post("/webhook")
async def webhook(event: WebhookEvent, response: Response) -> dict[str, str | None]:
    """Label Studio: something happened in a project. Nothing of it is kept, or learned from."""
    if event.action not in _TRAINING_EVENTS:
        return {"status": "Unknown event"}
    response.status_code = 201
    detail = "nothing is learned here: export the annotations, and use masqclip train tune"
    return {"status": "ok", "result": None, "detail": detail}


@router.post("/predict")
async def predict(wish: PredictRequest, request: Request) -> Response:
    """Label Studio: a prediction for each task."""
    engine: Engine = request.app.state.engine
    control = await run_in_threadpool(read_control, wish.label_config)
    work = _Work(engine, control, request.app.state.task_pictures)
    results, failed = await work.answer(wish.tasks)
    if failed and len(failed) == len(results):
        raise next(iter(failed.values()))
    if failed:
        place, first = next(iter(failed.items()))
        logger.warning(
            "%d of %d tasks are not answered; the first, at place %d: %s",
            len(failed), len(results), place + 1, first.detail,
        )  # fmt: skip
    version = json.dumps(engine.segmenter.name)
    body = '{"results":[' + ",".join(results) + '],"model_version":' + version + "}"
    return Response(body, media_type="application/json")


class _Work:
    """The tasks of one request.

    Args:
        engine: the model.
        control: what the interface asks for.
        pictures: where they come from.
    """

    def __init__(self, engine: Engine, control: Control, pictures: TaskPictures) -> None:
        self._engine, self._control, self._pictures = engine, control, pictures
        self._words: dict[tuple[Label, ...], Vocabulary] = {}
        tasks = engine.segmenter.model.tasks
        # A box is one of a thing that is counted; masks are the fullest that the system has.
        boxes = control.kind in ("rectangle", "ellipse") and "instance" in tasks
        self._kind: Task = "instance" if boxes else tasks[-1]

    async def answer(self, tasks: list[Any]) -> tuple[list[str], dict[int, Problem]]:
        """The predictions in the tasks' order, as JSON, and the reasons of those that are none.

        Raises:
            Problem: 429, there is no room for the first task.
        """
        seconds = SHARE_OF_TIME * self._engine.settings.label_studio_timeout
        late = Problem(
            504, f"not done within {seconds:g} s: ask again, tasks that are done are left out then"
        )
        found: dict[int, str] = {}
        failed: dict[int, Problem] = {}
        todo = iter(enumerate(tasks))

        async def work(*, first: bool = False) -> None:
            for place, task in todo:
                try:
                    found[place] = await self._predict(task, patient=not first)
                except Problem as problem:
                    if first and problem.status_code == 429:
                        raise
                    failed[place] = problem
                if first:
                    return

        try:
            async with asyncio.timeout(seconds):
                # Whether there is room at all is seen by the first; the others wait for theirs.
                await work(first=True)
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._engine.settings.batch_size + _FETCHED_AHEAD):
                        group.create_task(work())
        except TimeoutError:
            pass
        failed |= {place: late for place in range(len(tasks)) if place not in found | failed}
        errors = {place: json.dumps({"error": p.detail}) for place, p in sorted(failed.items())}
        ordered = {**found, **errors}
        return [ordered[place] for place in range(len(tasks))], dict(sorted(failed.items()))

    async def _predict(self, task: Any, *, patient: bool) -> str:
        """One task's prediction as JSON, or whatever keeps it from being made as a problem."""
        try:
            data = task.get("data") if isinstance(task, dict) else None
            number = task.get("id") if isinstance(task, dict) else None
            labels = await run_in_threadpool(self._control.asked, data)
            addresses = await run_in_threadpool(self._control.addresses, data)
            if len(addresses) > MAX_PAGES:
                raise Problem(422, f"tasks: a task has more than {MAX_PAGES} pages")
            words = await self._read_words(labels)
            pages = []
            for page, address in enumerate(addresses):
                content = await self._pictures.get(address, number)
                finish = partial(
                    _regions, control=self._control, labels=labels,
                    page=page if self._control.listed else None,
                )  # fmt: skip
                pages.append(await self._segment(content, words, finish, patient=patient))
        except Problem:
            raise
        except MasqclipError as error:
            raise Problem(422, str(error)) from error
        except Exception as error:
            logger.exception("a defect, please report it")
            raise Problem(500, "the service failed on this task; its log says more") from error
        regions = ",".join(text for text, _ in pages if text)
        score = round(max(score for _, score in pages), 4)
        version = json.dumps(self._engine.segmenter.name)
        return f'{{"result":[{regions}],"score":{score},"model_version":{version}}}'

    async def _segment(
        self, content: bytes, words: Vocabulary, finish: Finish, *, patient: bool
    ) -> tuple[str, float]:
        """A picture's regions as JSON, and its score; whoever is patient waits for room."""
        while True:
            try:
                upload = await self._engine.open(content)
                async with self._engine.admitted():
                    _, encoded = await self._engine.keep(upload)
                    return await self._engine.name(encoded, words, self._kind, None, finish)
            except Problem as problem:
                if problem.status_code != 429 or not patient:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _read_words(self, labels: tuple[Label, ...]) -> Vocabulary:
        if labels not in self._words:
            wish = SegmentRequest(vocabulary=[label.shown for label in labels])
            self._words[labels] = await self._engine.read_words(wish)
        return self._words[labels]


def _regions(
    result: Segmentation, *, control: Control, labels: tuple[Label, ...], page: int | None
) -> tuple[str, float]:
    """A picture's regions, as the entries of a JSON list, and the score of its best segment."""
    of_page = "" if page is None else f"{page}-"
    regions = [
        region
        for segment in result.segments
        for region in mask_regions(
            segment.mask,
            region_id=f"masqclip-{of_page}{segment.id}",
            name=labels[segment.class_id].stored,
            score=round(segment.score, 4),
            kind=control.kind,
            from_name=control.name,
            to_name=control.image,
            shape_name=control.shape_name,
        )
    ]
    if page is not None:
        regions = [{**region, "item_index": page} for region in regions]
    score = max((segment.score for segment in result.segments), default=0.0)
    return json.dumps(regions)[1:-1], score
