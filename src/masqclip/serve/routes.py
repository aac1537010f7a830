"""The service's own routes: pictures, segmentation, models, vocabularies, and its state."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse

from masqclip.clip.builtin_lists import listed_vocabularies
from masqclip.clip.vocabulary import Vocabulary
from masqclip.encoding import EncodedImage
from masqclip.hub.local import model_summary
from masqclip.serve import x_anylabeling
from masqclip.serve.answers import PNG, PNG_HELP, Form, wanted
from masqclip.serve.engine import Engine
from masqclip.serve.metrics import MEDIA_TYPE
from masqclip.serve.problems import MEDIA_TYPE as PROBLEM
from masqclip.serve.problems import Problem
from masqclip.serve.schemas import (
    Health,
    ImageInfo,
    ProblemDocument,
    SegmentRequest,
    SegmentResponse,
    VocabularyInfo,
)
from masqclip.serve.uploads import (
    SEGMENT_FORM,
    UPLOAD_BODY,
    BoundedRoute,
    read_segment_form,
    read_upload,
)

router = APIRouter(route_class=BoundedRoute)
state = APIRouter(tags=["state"])


def get_engine(request: Request) -> Engine:
    """The engine behind the app that a request came to."""
    engine: Engine = request.app.state.engine
    return engine


TheEngine = Annotated[Engine, Depends(get_engine)]
Accept = Annotated[str, Header()]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These errors, for the OpenAPI document."""
    schema = {PROBLEM: {"schema": ProblemDocument.model_json_schema()}}
    return {status: {"description": "A problem.", "content": schema} for status in statuses}


#: What any route that works on pictures may answer.
WORK_PROBLEMS = problems(400, 401, 413, 415, 422, 429, 504)
_SEGMENT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": SegmentResponse, "description": PNG_HELP, "content": {PNG: {}}},
    **WORK_PROBLEMS,
    **problems(406),
}


@router.post(
    "/v1/images",
    tags=["pictures"],
    status_code=201,
    responses=WORK_PROBLEMS,
    openapi_extra=UPLOAD_BODY,
)
async def upload_image(request: Request, engine: TheEngine) -> ImageInfo:
    """Encode a picture once and keep it, for any number of questions about it."""
    # At the sender's pace, before any room is taken.
    upload = await engine.open(await read_upload(request))
    async with engine.admitted():
        key, encoded = await engine.keep(upload)
    return _info(key, encoded)


@router.get("/v1/images/{image_id}", tags=["pictures"], responses=problems(401, 404, 422))
async def get_image(image_id: str, engine: TheEngine) -> ImageInfo:
    """Whether a picture is still kept, and its size."""
    return _info(image_id, engine.stored(image_id))


@router.delete(
    "/v1/images/{image_id}", tags=["pictures"], status_code=204, responses=problems(401, 404, 422)
)
async def delete_image(image_id: str, engine: TheEngine) -> None:
    """Forget a picture now."""
    engine.forget(image_id)


@router.post(
    "/v1/images/{image_id}/segment",
    tags=["segmentation"],
    responses={**_SEGMENT_ANSWERS, **problems(404)},
    response_model=SegmentResponse,
)
async def segment_image(
    image_id: str, wish: SegmentRequest, engine: TheEngine, accept: Accept = "*/*"
) -> Response:
    """Find what names describe in a picture that is kept: any names, any task, in a moment."""
    return await _segment(engine, engine.stored(image_id), wish, accept)


@router.post(
    "/v1/segment",
    tags=["segmentation"],
    responses=_SEGMENT_ANSWERS,
    response_model=SegmentResponse,
    openapi_extra=SEGMENT_FORM,
)
async def segment_once(request: Request, engine: TheEngine, accept: Accept = "*/*") -> Response:
    """Find what names describe in a picture that is sent along; nothing of it is kept."""
    data, wish = await read_segment_form(request)
    # A bad vocabulary, or an answer that is not made, costs no encoding.
    form = wanted(accept, wish.task)
    words = await engine.read_words(wish)
    upload = await engine.open(data)
    async with engine.admitted():
        return await _answer(engine, await engine.encode(upload), wish, words, form)


@router.get("/v1/models", tags=["models"], responses=problems(401))
async def list_models(engine: TheEngine) -> JSONResponse:
    """The model that is loaded, by its name, and what it knows.

    The document is also what X-AnyLabeling expects of its remote servers.
    """
    name, tasks = engine.segmenter.name, engine.segmenter.model.tasks
    return JSONResponse(
        {
            "data": {
                name: {
                    **x_anylabeling.model_entry(name, tasks),
                    "summary": model_summary(name),
                    "tasks": list(tasks),
                    "device": str(engine.segmenter.device),
                }
            }
        }
    )


@router.get("/v1/vocabularies", tags=["models"], responses=problems(401))
async def list_vocabularies() -> list[VocabularyInfo]:
    """The built-in vocabularies."""
    return [VocabularyInfo(**listed) for listed in listed_vocabularies()]


@state.get("/healthz")
async def health() -> Health:
    """The process lives."""
    return Health()


@state.get("/readyz", responses=problems(503))
async def ready(request: Request) -> Health:
    """Requests are taken: the model is loaded, and the service is not about to end."""
    if not request.app.state.ready:
        raise Problem(503, "the service is starting or ending")
    return Health()


@state.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **problems(401)})
async def metrics(engine: TheEngine) -> Response:
    """Counters for Prometheus."""
    return Response(engine.metrics.text(), media_type=MEDIA_TYPE)


def _info(key: str, encoded: EncodedImage) -> ImageInfo:
    image = encoded.image
    return ImageInfo(id=key, width=image.width, height=image.height, notes=list(image.notes))


async def _segment(
    engine: Engine, encoded: EncodedImage, wish: SegmentRequest, accept: str
) -> Response:
    form = wanted(accept, wish.task)
    words = await engine.read_words(wish)
    async with engine.admitted():
        return await _answer(engine, encoded, wish, words, form)


async def _answer(
    engine: Engine, encoded: EncodedImage, wish: SegmentRequest, words: Vocabulary, form: Form
) -> Response:
    media_type, finish = form
    body = await engine.name(encoded, words, wish.task, wish.min_score, finish)
    return Response(body, media_type=media_type)
