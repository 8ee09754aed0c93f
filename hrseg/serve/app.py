"""FastAPI application: routes, OpenAPI descriptions and error answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hrseg.inference.predictor import Prediction, Predictor
from hrseg.serve import responses
from hrseg.serve.batching import Service, batch_limit
from hrseg.serve.metrics import CONTENT_TYPE
from hrseg.serve.middleware import PATHS, AdmissionMiddleware, refusal
from hrseg.serve.requests import FIELD, Limits, RequestError
from hrseg.serve.site import Site
from hrseg.viz.pages import render_text

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION = """
Semantic segmentation by HTTP. `POST /predict` takes an image and gives its classes as a mask, an overlay or JSON.
Refusals are JSON with one sentence in `detail`; with 429 and 503 the header `Retry-After` says when to come again.
"""
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/view.js": ("view.js", "text/javascript"),
}
_REASONS = {
    401: "The token is missing or wrong.",
    403: "A page of another site asked, or the Host header is not a name of the server.",
    408: "The body came too slowly.",
    409: "An exported file shows no branches.",
    413: "Too many bytes or pixels.",
    415: "Not an image.",
    422: "Damaged, empty, or an option that does not exist.",
    429: "The server is full.",
    503: "No answer in time.",
}
_ROUTER_ERRORS = {
    404: "There is nothing at this path; /openapi.json names all.",
    405: "This path takes another method; /openapi.json names it.",
}
_INFERENCE_ERRORS = (408, 413, 415, 422, 429, 503)
_BINARY = {"type": "string", "format": "binary"}
_RAW = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": {FIELD: _BINARY}, "required": [FIELD]}},
            **{kind: {"schema": _BINARY} for kind in (*_RAW, "application/octet-stream")},
        },
    }
}


def create_app(
    predictor: Predictor,
    model: str = "model",
    limits: Limits | None = None,
    token: str | None = None,
    site: Site | None = None,
) -> FastAPI:
    """Build the ASGI application of a predictor.

    `app.state.service` has its queue, capacity and metrics, `app.state.paths` what each path needs.

    Args:
        predictor: The network with its labels.
        model: Display name.
        limits: None takes the defaults.
        token: Required of clients, or None.
        site: Names of the server, and sites whose pages may use it; None answers to any name.

    Raises:
        ConfigError: The model does not take RGB images.
    """
    service = Service(predictor, model, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.queue.start()
        yield
        await asyncio.to_thread(service.queue.close)
        service.threads.shutdown()

    app = FastAPI(
        title="hrseg", version="1", description=DESCRIPTION.strip(), lifespan=lifespan,
        docs_url=None, redoc_url=None,  # their pages load scripts from elsewhere
    )  # fmt: skip
    app.state.service, app.state.paths = service, dict(PATHS)
    admission = {"service": service, "token": token, "site": site or Site(), "paths": app.state.paths}
    app.add_middleware(AdmissionMiddleware, **admission)
    app.add_exception_handler(RequestValidationError, _option_error)
    app.add_exception_handler(HTTPException, _router_error)
    protected = (401, 403) if token is not None else (403,)
    _add_inference(app, service, protected)
    _add_status(app, service, protected)
    _add_page(app)
    return app


def _add_inference(app: FastAPI, service: Service, protected: tuple[int, ...]) -> None:
    """Add the routes that run the network."""
    errors = _errors(*protected, *_INFERENCE_ERRORS)
    png = {"image/png": {"schema": _BINARY}}
    success: Responses = {200: {"description": "The answer.", "model": responses.Answer, "content": png}}

    @app.post("/predict", responses={**success, **errors}, response_class=Response, openapi_extra=_BODY)
    async def predict(
        request: Request,
        output: Annotated[
            Literal["mask", "overlay", "json"],
            Query(description="A palette PNG of ids, a PNG of image and classes, or JSON."),
        ] = "mask",
        alpha: Annotated[float, Query(ge=0, le=1, description="Strength of the overlay's colors.")] = 0.55,
        legend: Annotated[bool, Query(description="Whether the overlay has a legend.")] = True,
        maps: Annotated[bool, Query(description="Whether JSON brings mask and confidence as PNG files.")] = False,
    ) -> Response:
        """Segment one image."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        image = await service.read_image(request)
        size = image.pixels.shape[:2]
        max_batch = batch_limit(size, service.limits.max_batch)
        future = service.queue.submit("segment", image, size, max_batch)
        prediction = await service.result(request, future, start + service.limits.timeout)
        if output == "json":
            seconds = loop.time() - start
            answer = await service.in_thread(responses.answer, prediction, service.model, seconds, maps)
            content = answer.model_dump_json(exclude_none=True)
            return Response(content, media_type="application/json")
        if output == "mask":
            png = await service.in_thread(responses.mask_png, prediction)
        else:
            png = await service.in_thread(_overlay_png, prediction, alpha, legend)
        return Response(png, media_type="image/png")

    @app.post("/features", responses=errors | _errors(409), openapi_extra=_BODY)
    async def features(request: Request) -> responses.Features:
        """Show what every branch of the network sees in one image."""
        if not service.shows_branches:
            raise RequestError(
                409,
                f"{service.model} shows no branches, as exported files do not; serve a checkpoint.",
            )
        start = asyncio.get_running_loop().time()
        image = await service.read_image(request)
        future = service.queue.submit("branches", image)
        branches = await service.result(request, future, start + service.limits.timeout)
        return await service.in_thread(responses.features, branches, service.model)


def _add_status(app: FastAPI, service: Service, protected: tuple[int, ...]) -> None:
    """Add the routes about the model and the server."""

    @app.get("/labels", responses=_errors(*protected))
    async def labels() -> responses.Labels:
        """Return the classes of the model, and what the server takes."""
        return responses.Labels(
            model=service.model,
            name=service.labels.name,
            classes=responses.class_entries(service.labels),
            branches=service.shows_branches,
            max_bytes=service.limits.max_bytes,
            max_pixels=service.limits.max_pixels,
        )

    down = _errors(403) | {503: {"description": "The worker has ended.", "model": responses.Problem}}

    @app.get("/healthz", responses=down)
    async def healthz() -> responses.Health:
        """Tell whether images can be segmented."""
        if not service.queue.alive:
            raise RequestError(503, "The worker has ended; start the server again.")
        return responses.Health(status="ok", model=service.model, queue=service.queue.length)

    @app.get("/metrics", responses=_errors(*protected), response_class=Response)
    async def metrics() -> Response:
        """Return counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_page(app: FastAPI) -> None:
    """Add the page and its files; no other name leads to a file."""

    def add(path: str, name: str, media_type: str) -> None:
        content = (files("hrseg.serve") / "page" / name).read_text(encoding="utf-8")
        if name.endswith(".html"):
            content = render_text(content, site=False)

        @app.get(path, include_in_schema=False)
        async def page() -> Response:
            headers = {"Cache-Control": "no-cache"}
            return Response(content, media_type=media_type, headers=headers)

    for path, (name, media_type) in _PAGE.items():
        add(path, name, media_type)


def _errors(*statuses: int) -> Responses:
    return {i: {"description": _REASONS[i], "model": responses.Problem} for i in statuses}


def _overlay_png(prediction: Prediction, alpha: float, legend: bool) -> bytes:
    return responses.png(prediction.overlay(alpha, legend))


async def _option_error(_: Request, error: Exception) -> JSONResponse:
    """Answer with one sentence on the first wrong option."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name, reason = first["loc"][-1], first["msg"][:1].lower() + first["msg"][1:]
    return JSONResponse({"detail": f"Option '{name}': {reason}."}, 422)


async def _router_error(request: Request, error: Exception) -> JSONResponse:
    """Answer the router's errors in the form of all others."""
    assert isinstance(error, HTTPException)
    detail = _ROUTER_ERRORS.get(error.status_code, f"{error.detail}.")
    return JSONResponse(refusal(request.url.path, detail), error.status_code, headers=error.headers)
