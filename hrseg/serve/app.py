"""The application: which path does what.

`create_app` puts a predictor behind HTTP; `server.run` listens.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from hrseg.inference.predictor import Prediction, Predictor
from hrseg.serve import responses
from hrseg.serve.batching import Service, most_together
from hrseg.serve.middleware import Gate
from hrseg.serve.requests import FIELD, Limits, Refusal

Responses = dict[int | str, dict[str, Any]]

ABOUT = """
Semantic segmentation by HTTP. `POST /predict` takes an image and gives its classes as a mask, an overlay or JSON.
Refusals are JSON with one sentence in `detail`; with 429 and 503 the header `Retry-After` says when to come again.
"""
_PAGE = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css")}
_PAGE |= {"/page.js": ("page.js", "text/javascript")}
_WHY = {
    401: "The token is missing or wrong.",
    403: "A page of another site asked.",
    408: "The body came too slowly.",
    413: "Too many bytes or pixels.",
    415: "Not an image.",
    422: "Damaged, empty, or an option that does not exist.",
    429: "The server is full.",
    503: "No answer in time.",
}
_BINARY = {"type": "string", "format": "binary"}
_RAW = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {FIELD: _BINARY}, "required": [FIELD]}
            },
            **{kind: {"schema": _BINARY} for kind in (*_RAW, "application/octet-stream")},
        },
    }
}


def create_app(
    predictor: Predictor,
    model: str = "model",
    limits: Limits | None = None,
    token: str | None = None,
) -> FastAPI:
    """Put a predictor behind HTTP.

    Args:
        predictor: The network with its labels.
        model: Its name, as people know it.
        limits: Bounds; None takes the defaults.
        token: The password, or None.

    Returns:
        An ASGI application; `app.state.service` holds its queue, places and metrics.

    Raises:
        ConfigError: The model does not see RGB images.
    """
    service = Service(predictor, model, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.queue.start()
        yield
        await asyncio.to_thread(service.queue.close)
        service.threads.shutdown()

    app = FastAPI(
        title="hrseg", version="1", description=ABOUT.strip(), lifespan=lifespan,
        docs_url=None, redoc_url=None,  # their pages load scripts from elsewhere
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(
        Gate,
        limits=service.limits,
        places=service.places,
        metrics=service.metrics,
        token=token,
        seconds_to_wait=service.seconds_to_wait,
    )
    app.add_exception_handler(RequestValidationError, _wrong_option)
    app.add_exception_handler(HTTPException, _plain)
    _add_work(app, service, token is not None)
    _add_facts(app, service, token is not None)
    _add_page(app)
    return app


def _add_work(app: FastAPI, service: Service, locked: bool) -> None:
    """Add the paths that use the network."""
    refusals = _refusals(locked, *(status for status in _WHY if status != 401))
    pictures = {"image/png": {"schema": _BINARY}}
    good: Responses = {
        200: {"description": "The answer.", "model": responses.Answer, "content": pictures}
    }

    @app.post(
        "/predict", responses={**good, **refusals}, response_class=Response, openapi_extra=_BODY
    )
    async def predict(
        request: Request,
        output: Annotated[
            Literal["mask", "overlay", "json"],
            Query(description="A palette PNG of ids, a PNG of image and classes, or JSON."),
        ] = "mask",
        alpha: Annotated[
            float, Query(ge=0, le=1, description="Strength of the overlay's colors.")
        ] = 0.55,
        legend: Annotated[bool, Query(description="Whether the overlay has a legend.")] = True,
        maps: Annotated[
            bool, Query(description="Whether JSON brings mask and confidence as PNG files.")
        ] = False,
    ) -> Response:
        """Segment one image."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        image = await service.image(request)
        form = image.pixels.shape[:2]
        most = most_together(form, service.limits.max_batch)
        future = service.queue.submit("segment", image, form, most)
        prediction = await service.turn(request, future, start + service.limits.timeout)
        if output == "mask":
            return _png(await service.aside(responses.mask_png, prediction))
        if output == "overlay":
            return _png(await service.aside(_overlay, prediction, alpha, legend))
        seconds = loop.time() - start
        found = await service.aside(responses.answer, prediction, service.model, seconds, maps)
        return Response(found.model_dump_json(exclude_none=True), media_type="application/json")

    @app.post("/features", responses=refusals | _CANNOT, openapi_extra=_BODY)
    async def features(request: Request) -> responses.Features:
        """Show what every branch of the network sees in one image."""
        if not service.work.shows_branches:
            raise Refusal(
                409,
                f"{service.model} shows no branches, as exported files do not; serve a checkpoint.",
            )
        start = asyncio.get_running_loop().time()
        image = await service.image(request)
        future = service.queue.submit("branches", image)
        views = await service.turn(request, future, start + service.limits.timeout)
        return await service.aside(responses.features, views, service.model)


def _add_facts(app: FastAPI, service: Service, locked: bool) -> None:
    """Add the paths that say how things are."""

    @app.get("/labels", responses=_refusals(locked))
    async def labels() -> responses.Labels:
        """Return the classes of the model, and what the server takes."""
        return responses.Labels(
            model=service.model,
            name=service.labels.name,
            classes=responses.class_entries(service.labels),
            branches=service.work.shows_branches,
            max_bytes=service.limits.max_bytes,
            max_pixels=service.limits.max_pixels,
        )

    down: Responses = {503: {"description": "The worker has ended.", "model": responses.Problem}}

    @app.get("/healthz", responses=down)
    async def healthz() -> responses.Health:
        """Tell whether images can be segmented."""
        if not service.queue.alive:
            raise Refusal(503, "The worker has ended; start the server again.")
        return responses.Health(status="ok", model=service.model, queue=service.queue.length)

    @app.get("/metrics", responses=_refusals(locked), response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Return counters for Prometheus."""
        gauges = {"queue_length": service.queue.length, "places_taken": service.places.taken}
        text = service.metrics.text(**gauges)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI) -> None:
    """Add the page and its two files; no other name leads to a file."""
    folder = files("hrseg.serve") / "page"

    def add(path: str, name: str, kind: str) -> None:
        content = (folder / name).read_bytes()

        @app.get(path, include_in_schema=False)
        async def page() -> Response:
            return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    for path, (name, kind) in _PAGE.items():
        add(path, name, kind)


_ROUTER = {
    404: "There is nothing at this path; /openapi.json names all.",
    405: "This path takes another method; /openapi.json names it.",
}
_CANNOT: Responses = {
    409: {"description": "An exported file shows no branches.", "model": responses.Problem}
}


def _refusals(locked: bool, *statuses: int) -> Responses:
    chosen = ((401,) if locked else ()) + statuses
    return {i: {"description": _WHY[i], "model": responses.Problem} for i in chosen}


def _overlay(prediction: Prediction, alpha: float, legend: bool) -> bytes:
    return responses.png(prediction.overlay(alpha, legend))


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


async def _wrong_option(_: Request, error: Exception) -> JSONResponse:
    """Say in one sentence which option is wrong."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name, why = first["loc"][-1], first["msg"][:1].lower() + first["msg"][1:]
    return JSONResponse({"detail": f"Option '{name}': {why}."}, 422)


async def _plain(_: Request, error: Exception) -> JSONResponse:
    """Say what the router says, as every refusal is said."""
    assert isinstance(error, HTTPException)
    sentence = _ROUTER.get(error.status_code, f"{error.detail}.")
    return JSONResponse({"detail": sentence}, error.status_code, headers=error.headers)
