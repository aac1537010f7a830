"""The service as one ASGI app: routes, page, middleware, and the engine's life."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware

from masqclip import __version__
from masqclip.segmenter import Segmenter
from masqclip.serve import label_studio, problems, routes, vocabulary_routes, x_anylabeling
from masqclip.serve.bodies import BodyLimit
from masqclip.serve.engine import Engine
from masqclip.serve.label_studio_files import TaskPictures
from masqclip.serve.metrics import Metrics
from masqclip.serve.security import OPEN_PATHS, Observer, OriginCheck, TokenCheck
from masqclip.serve.settings import ServeSettings

_STATIC = Path(__file__).parent / "static"

# As `TokenCheck` reads it; where the service has none, none is looked at.
_TOKENS: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token that the service was started with (`--token`).",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "The token as password, any name."},
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "Token",
        "description": "The token alone, as X-AnyLabeling sends it.",
    },
}

_ABOUT = """\
A picture and a list of names in; instance, semantic or panoptic masks out.

Upload a picture once (`POST /v1/images`) and ask about it as often as you like: the answers come
in a moment. Or send both at once (`POST /v1/segment`). Errors are JSON problems (RFC 9457)."""


def create_app(segmenter: Segmenter, settings: ServeSettings | None = None) -> FastAPI:
    """The service of a model.

    Args:
        segmenter: the model.
        settings: the bounds; the defaults suit one machine of a few cores.
    """
    settings = settings or ServeSettings()
    metrics = Metrics()
    engine = Engine(segmenter, settings, metrics)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await engine.warm_up()
        app.state.ready = True
        yield
        app.state.ready = False
        await engine.close()

    # The interactive pages of FastAPI fetch their scripts from elsewhere: /docs is this one's own.
    app = FastAPI(
        title="masqclip",
        version=__version__,
        description=_ABOUT,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.engine, app.state.ready = engine, False
    app.state.task_pictures = TaskPictures(settings)
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(vocabulary_routes.router)
    app.include_router(routes.state)
    app.include_router(x_anylabeling.router, responses=routes.WORK_PROBLEMS)
    app.include_router(label_studio.router, responses=routes.WORK_PROBLEMS)
    app.mount("/static", StaticFiles(directory=_STATIC))
    _describe_tokens(app, needed=bool(settings.token))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        """The page."""
        return FileResponse(_STATIC / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        """The API, to read."""
        return FileResponse(_STATIC / "docs.html")

    # The last one added is the first that a request meets.
    app.add_middleware(BodyLimit, settings=settings)
    if settings.token:
        app.add_middleware(TokenCheck, token=settings.token)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(OriginCheck, hosts=settings.allowed_hosts, origins=settings.cors_origins)
    app.add_middleware(Observer, metrics=metrics)
    return app


def _describe_tokens(app: FastAPI, *, needed: bool) -> None:
    """Say in the OpenAPI document how a token is sent, and whether this service needs one."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document["components"]["securitySchemes"] = _TOKENS
        if needed:
            document["security"] = [{scheme: []} for scheme in _TOKENS]
            for path in set(OPEN_PATHS) & set(document["paths"]):
                for operation in document["paths"][path].values():
                    operation["security"] = []
        return document

    app.openapi = openapi  # type: ignore[method-assign]
