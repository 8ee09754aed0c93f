"""Machine learning backend of Label Studio on `hrseg serve`: its paths are below /label-studio.

Label Studio asks `GET health`, sends the labeling configuration to `POST setup`, and tasks to `POST predict`. Each
class that occurs in an image becomes one brush, under the label of its name. Images are taken from Label Studio and the
sites that were named, and from nowhere else, whatever a request says.

Source:
    The client in label-studio 1.23, `label_studio/ml/api_connector.py` and `models.py`.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from hrseg.convert.files import parse_xml
from hrseg.errors import ConfigError, DataError, first_few, parse_json
from hrseg.imaging.rle import to_label_studio
from hrseg.inference.predictor import Prediction
from hrseg.labels import LabelSet
from hrseg.serve.batching import Service, batch_limit
from hrseg.serve.requests import Access, Limits, RequestError, read_body
from hrseg.weights.http import TransferError, origin, request

log = logging.getLogger(__name__)

PREFIX = "/label-studio"
KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
FETCH_SECONDS = 30.0
"""Time for one image of a task."""
_ACCESS_SECONDS = 240.0  # an access token lives for five minutes
_UNREADABLE = (413, 415, 422, 424)  # concern one task; the other tasks of a request are done


class Setup(BaseModel):
    """Answer to Label Studio's setup."""

    model_version: str = Field(
        description="Name and digest of the weights: predictions of other weights have another version."
    )


class TaskPredictions(BaseModel):
    """Answer to Label Studio's tasks."""

    results: list[dict[str, Any] | list[Any]] = Field(description="Of each task; an empty list where it failed.")


@dataclass
class Site:
    """Label Studio, and the other sites whose images it shows.

    Args:
        url: Of Label Studio, as this machine reaches it.
        key: API key: a personal access token, or a legacy token.
        others: Origins such as "https://images.example.org"; they get no key.

    Raises:
        ConfigError: An address that is none, or no key.
    """

    url: str
    key: str = field(repr=False)
    others: tuple[str, ...] = ()
    _access: tuple[float, str] = field(default=(0.0, ""), init=False, repr=False)  # until when, and the token

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        for url in (self.url, *self.others):
            _check_address(url)
        if not self.key.isprintable() or not self.key.isascii() or not self.key.strip():
            raise ConfigError(
                f"Label Studio gives its images to those with an API key. Copy one from its page Account & Settings "
                f"into the variable: export {KEY_VARIABLE}=..."
            )

    def address(self, value: object) -> str:
        """Return the address of an image in a task.

        Raises:
            DataError: It is neither in Label Studio nor on one of the other sites.
        """
        text = value if isinstance(value, str) else ""
        url = f"{self.url}{text.removeprefix(urlsplit(self.url).path)}" if text.startswith("/") else text
        url = quote(url, safe="%/?=&:+,;@~!$'()*[]#")
        try:
            known = origin(url) in map(origin, (self.url, *self.others))
        except ValueError:
            known = False
        if not known:
            raise DataError(
                f"The image '{text[:100]}' is not in Label Studio at {self.url}. Upload it there or import it as local "
                "file; or name its site when the server starts, as in --label-studio URL https://images.example.org."
            )
        return url

    def fetch(self, value: object, max_bytes: int, seconds: float = FETCH_SECONDS) -> bytes:
        """Return the image file of a task.

        Args:
            value: As the task has it: a path in Label Studio, or an address.
            max_bytes: Where reading stops.
            seconds: After which the transfer is cut.

        Raises:
            DataError: It is elsewhere, too large, or cannot be fetched.
        """
        url = self.address(value)
        end = time.monotonic() + seconds
        parts, size = [], 0
        try:
            headers = self._authorization(seconds) if origin(url) == origin(self.url) else {}
            answer = request(url, seconds=max(0.1, end - time.monotonic()), headers=headers, stay=True)
            with answer.stream:
                for part in answer.chunks():
                    size += len(part)
                    if size > max_bytes:
                        raise DataError(
                            f"The image at {url} is larger than {max_bytes:,} bytes. Make it smaller, or start hrseg "
                            "serve with a larger --max-megabytes."
                        )
                    parts.append(part)
        except TransferError as error:
            raise DataError(f"The image at {url} cannot be fetched: {error}. {self._step(error)}") from error
        return b"".join(parts)

    def _authorization(self, seconds: float) -> dict[str, str]:
        """Return the header with the key; a personal access token is exchanged for one that lives for minutes."""
        if self.key.count(".") != 2:  # no JSON web token
            return {"Authorization": f"Token {self.key}"}
        until, access = self._access
        if time.monotonic() >= until:
            body, kind = f'{{"refresh": "{self.key}"}}'.encode(), {"Content-Type": "application/json"}
            url = f"{self.url}/api/token/refresh"
            answer = request(url, seconds=seconds, headers=kind, data=body, stay=True)
            with answer.stream:
                try:
                    access = str(parse_json(answer.stream.read(2**16))["access"])
                except (ValueError, KeyError, TypeError) as error:
                    raise TransferError(f"{url} answers without an access token") from error
            self._access = (time.monotonic() + _ACCESS_SECONDS, access)
        return {"Authorization": f"Bearer {access}"}

    def _step(self, error: TransferError) -> str:
        if error.kind in ("denied", "page"):
            return f"Check the key in {KEY_VARIABLE}, and that its user sees the project."
        if error.kind == "elsewhere":
            return "Let the cloud storage of Label Studio pass the files itself: switch its pre-signed URLs off."
        return f"Check that this machine reaches {self.url}."


def read_site(addresses: list[str]) -> Site:
    """Return the site of `--label-studio URL [ORIGIN ...]`, with the key of the environment.

    Raises:
        ConfigError: An address that is none, or no key.
    """
    return Site(addresses[0], os.environ.get(KEY_VARIABLE, ""), tuple(addresses[1:]))


@dataclass(frozen=True)
class Brushes:
    """Brush and labels of a labeling configuration that predictions are written for.

    Attributes:
        from_name: Name of its BrushLabels.
        to_name: Name of its Image.
        key: Of the image in a task's data.
        labels: trainId → label.
        missing: Classes without a label; their pixels are left out.
    """

    from_name: str
    to_name: str
    key: str
    labels: Mapping[int, str]
    missing: tuple[str, ...]


def read_config(xml: str, classes: LabelSet) -> Brushes:
    """Find the labels of the classes: of the same name, or that name them in `predicted_values`.

    Args:
        xml: The labeling configuration of a project.
        classes: Of the model.

    Raises:
        DataError: It has no brush for an image, or none of the classes.
    """
    try:
        root = parse_xml(xml.encode())
    except ValueError as error:
        raise DataError(
            f"The labeling configuration is no XML: {error}. Copy it from the project's settings."
        ) from error
    images = {image.get("name"): image.get("value", "") for image in root.iter("Image")}
    control = next((c for c in root.iter("BrushLabels") if c.get("toName") in images), None)
    if control is None:
        wanted = '<Image name="image" value="$image"/> and <BrushLabels name="label" toName="image">'
        raise DataError(f"The labeling configuration has no brush for an image. It needs {wanted} with the labels.")
    value = images[control.get("toName")]
    by_name: dict[str, str] = {}
    for row in control.iter("Label"):
        label = row.get("alias") or row.get("value") or ""
        for name in (row.get("value", ""), *row.get("predicted_values", "").split(",")):
            by_name.setdefault(name.strip().lower(), label)
    labels = {i: by_name[name.lower()] for i, name in enumerate(classes.names) if name.lower() in by_name}
    if not labels or not value.startswith("$"):
        what = f"takes the image from '{value}', not from '$image'" if labels else "names none of the model's classes"
        raise DataError(f"The labeling configuration {what}. Classes: {first_few(classes.names, 20)}.")
    missing = tuple(name for i, name in enumerate(classes.names) if i not in labels)
    return Brushes(control.get("name", ""), str(control.get("toName")), value[1:], labels, missing)


def regions(prediction: Prediction, brushes: Brushes) -> list[dict[str, Any]]:
    """Return one brush for each class that occurs and has a label; pixels without data have none."""
    height, width = prediction.size
    mask = prediction.mask
    return [
        {
            "id": f"hrseg-{number}",
            "from_name": brushes.from_name,
            "to_name": brushes.to_name,
            "type": "brushlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": to_label_studio(mask == number), "brushlabels": [brushes.labels[number]]},
        }
        for number in np.unique(mask).tolist()
        if number in brushes.labels
    ]


def add_routes(app: FastAPI, site: Site) -> None:
    """Add the paths to an application of `hrseg.serve.app.create_app`.

    Args:
        app: Before it serves.
        site: Where images may be taken from.
    """
    backend = _Backend(app.state.service, site)
    access = Access(token=True, place=True, basic=True)
    app.state.paths |= {f"{PREFIX}/setup": access, f"{PREFIX}/predict": access, f"{PREFIX}/health": Access()}

    @app.get(f"{PREFIX}/health")
    async def health() -> dict[str, str]:
        """Tell Label Studio that the model is there."""
        if not backend.service.queue.alive:
            raise RequestError(503, "The worker has ended; start the server again.")
        return {"status": "UP", "model_class": "hrseg"}

    @app.post(f"{PREFIX}/setup")
    async def setup(request: Request) -> Setup:
        """Check the labeling configuration of a project."""
        body = await _json(request, backend.service.limits)
        brushes = backend.brushes(body.get("schema"))
        if brushes.missing:
            log.warning(
                "Label Studio's project %s has no label for %s: their pixels are left out.",
                *(str(body.get("project"))[:50], first_few(brushes.missing, 20)),
            )
        return Setup(model_version=backend.version)

    @app.post(f"{PREFIX}/predict")
    async def predict(request: Request) -> TaskPredictions:
        """Segment the images of tasks.

        Of more tasks than go through the network together the first is answered alone: Label Studio then asks for
        one after the other, so that no request outlasts its time.
        """
        end = asyncio.get_running_loop().time() + backend.service.limits.timeout
        body = await _json(request, backend.service.limits)
        brushes = backend.brushes(body.get("label_config"))
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise RequestError(422, "The request has no list 'tasks', as Label Studio sends it.")
        if len(tasks) > backend.service.limits.max_batch:
            tasks = tasks[:1]
        return await backend.predict(request, tasks, brushes, end)


class _Backend:
    """A served model as Label Studio's backend."""

    def __init__(self, service: Service, site: Site) -> None:
        self.service, self.site = service, site
        # of the weights too: a run that was trained again has its old name
        self.version = f"{service.model} {service.predictor.settings()['model'][:8]}"

    def brushes(self, config: object) -> Brushes:
        try:
            return read_config(config if isinstance(config, str) else "", self.service.labels)
        except DataError as error:
            raise RequestError(422, str(error)) from error

    async def predict(
        self, request: Request, tasks: list[dict[str, Any]], brushes: Brushes, end: float
    ) -> TaskPredictions:
        """Segment tasks in turn; one whose image cannot be read is logged and left without a prediction."""
        results: list[dict[str, Any] | list[Any]] = []
        for task in tasks:
            try:
                results.append(await self._task(request, task, brushes, end))
            except RequestError as error:
                if error.status not in _UNREADABLE or len(tasks) == 1:
                    raise
                log.warning("Label Studio's task %s: %s", str(task.get("id"))[:50], error.detail)
                results.append([])
        return TaskPredictions(results=results)

    async def _task(self, request: Request, task: dict[str, Any], brushes: Brushes, end: float) -> dict[str, Any]:
        service, data = self.service, task.get("data")
        value = data.get(brushes.key) if isinstance(data, dict) else None
        left = max(0.1, min(FETCH_SECONDS, end - asyncio.get_running_loop().time()))
        try:
            content = await asyncio.to_thread(self.site.fetch, value, service.limits.max_bytes, left)
        except DataError as error:
            raise RequestError(424, str(error)) from error
        image = await service.decoded(request, content)
        size = image.pixels.shape[:2]
        future = service.queue.submit("segment", image, size, batch_limit(size, service.limits.max_batch))
        prediction = await service.result(request, future, end)
        score = prediction.mean_confidence
        return {
            "result": await service.in_thread(regions, prediction, brushes),
            "score": None if np.isnan(score) else round(score, 6),
            "model_version": self.version,
        }


async def _json(request: Request, limits: Limits) -> dict[str, Any]:
    try:
        body = parse_json(await read_body(request, limits, "request"))
    except ValueError as error:
        raise RequestError(422, f"The body is no JSON: {error}.") from error
    if not isinstance(body, dict):
        raise RequestError(422, "The body is no JSON object, as Label Studio sends it.")
    return body


def _check_address(url: str) -> None:
    try:
        scheme, host, _ = origin(url)
        valid = scheme in ("http", "https") and bool(host) and "@" not in url and "?" not in url
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"--label-studio {url} is no address. Give one such as: --label-studio http://localhost:8080")
