"""The Open Inference Protocol, version 2, on the server of `hrseg serve`: what clients of KServe and Triton speak.

Tensors are those of an exported file: image uint8 (N, H, W, 3) in, labels uint8 (N, H, W) and probability float32
(N, H, W) out. They come as JSON or, by the extension for binary data, as bytes after the JSON. Queue, limits, token
and metrics are the server's.

Source: the protocol's REST specification and Triton's extension "binary_tensor_data"; code is ours.
"""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from fastapi import FastAPI, Request, Response

from hrseg.errors import parse_json
from hrseg.imaging import LoadedImage
from hrseg.inference.model_card import INPUT
from hrseg.inference.prediction import Prediction
from hrseg.serve.batching import Service, batch_limit
from hrseg.serve.requests import Access, RequestError, read_body, server_full

HEADER = "Inference-Header-Content-Length"
"""Bytes of JSON at the beginning of a body with binary tensors."""
VERSION = "1"
_OUTPUTS = {"labels": ("UINT8", np.uint8), "probability": ("FP32", np.float32)}


def add_open_inference(app: FastAPI) -> None:
    """Add the protocol's paths to a server's application, before it starts.

    Args:
        app: Of `hrseg.serve.app.create_app`.
    """
    service: Service = app.state.service
    about = f"/v2/models/{service.model}"
    for base in (about, f"{about}/versions/{VERSION}"):
        access = {"": Access(token=True), "/ready": Access(), "/infer": Access(token=True, place=True)}
        app.state.paths.update({base + end: needs for end, needs in access.items()})
    app.state.paths.update(dict.fromkeys(("/v2", "/v2/health/live", "/v2/health/ready"), Access()))
    _add_status(app, service)
    route = "/v2/models/{name:path}"
    for ending in (f"/versions/{VERSION}", ""):  # the longer first: a name may hold slashes
        _add_model(app, service, route + ending)


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/v2")
    async def server() -> dict[str, Any]:
        """Describe the server, by the Open Inference Protocol."""
        return {"name": "hrseg", "version": metadata.version("hrseg"), "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Tell that the server answers."""
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        """Tell whether images can be segmented."""
        _check_worker(service)
        return {"ready": True}


def _add_model(app: FastAPI, service: Service, route: str) -> None:
    """Add the paths of the model, most specific first."""
    label = "without version" if route.endswith("}") else "with version"

    @app.get(f"{route}/ready", name=f"model ready, {label}")
    async def ready(name: str) -> dict[str, Any]:
        """Tell whether the model can segment images."""
        _check_name(service, name)
        _check_worker(service)
        return {"name": name, "ready": True}

    @app.post(f"{route}/infer", name=f"infer, {label}")
    async def infer(name: str, request: Request) -> Response:
        """Segment a batch of images of one size."""
        _check_name(service, name)
        return await _infer(service, request)

    @app.get(route, name=f"model, {label}")
    async def model(name: str) -> dict[str, Any]:
        """Describe the model's tensors."""
        _check_name(service, name)
        return {
            "name": name,
            "versions": [VERSION],
            "platform": "hrseg",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
            "outputs": [{"name": n, "datatype": kind, "shape": [-1, -1, -1]} for n, (kind, _) in _OUTPUTS.items()],
        }


def _check_name(service: Service, name: str) -> None:
    if name != service.model:
        raise RequestError(404, f"There is no model '{name[:80]}' here; this server has {service.model}, version 1.")


def _check_worker(service: Service) -> None:
    if not service.queue.alive:
        raise RequestError(503, "The worker has ended; start the server again.")


async def _infer(service: Service, request: Request) -> Response:
    loop = asyncio.get_running_loop()
    end = loop.time() + service.limits.timeout
    body = await read_body(request, service.limits)
    question = await service.in_thread(read_request, body, request.headers.get(HEADER))
    images = question.images
    count, height, width = images.shape[:3]
    if count * height * width > service.limits.max_pixels:
        raise RequestError(
            413,
            f"The images have {count} x {height} x {width} pixels, and at most {service.limits.max_pixels:,} are taken "
            "at once; send fewer or smaller ones.",
        )
    if not service.capacity.reserve(request.state.place, count * height * width):
        raise server_full(service.seconds_to_wait())
    size = (height, width)
    batch = batch_limit(size, service.limits.max_batch)
    futures = [service.queue.submit("segment", LoadedImage(image, None, None, ()), size, batch) for image in images]
    try:
        predictions = [await service.result(request, future, end) for future in futures]
    finally:
        for future in futures:
            future.cancel()  # no harm to those that are done
    return await service.in_thread(answer, question, service.model, predictions)


class Question(NamedTuple):
    """A request for inference: images uint8 (N, H, W, 3), output name → whether as bytes, and its id."""

    images: np.ndarray
    outputs: Mapping[str, bool]
    id: str | None


def read_request(body: bytes, json_length: str | None) -> Question:
    """Parse a request for inference.

    Args:
        body: JSON, with the binary tensors after it.
        json_length: The header HEADER; None where all of the body is JSON.

    Raises:
        RequestError: It is not of the protocol, or asks for other tensors than the model has.
    """
    length = len(body)
    if json_length is not None:
        length = int(json_length) if json_length.isdecimal() else -1
        if not 0 < length <= len(body):
            raise _wrong(f"its {HEADER} is '{json_length[:20]}', and its body has {len(body):,} bytes")
    try:
        content = parse_json(body[:length].decode())
        (tensor,) = content["inputs"]
        name, kind, shape = tensor["name"], tensor["datatype"], tuple(tensor["shape"])
        binary = (tensor.get("parameters") or {}).get("binary_data_size")
        parameters = content.get("parameters") or {}
        everything: Any = [{"name": one} for one in _OUTPUTS]
        outputs = {
            one["name"]: bool((one.get("parameters") or {}).get("binary_data", parameters.get("binary_data_output")))
            for one in content.get("outputs") or everything
        }
        id = None if content.get("id") is None else str(content["id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)[:100]
        raise _wrong(f"{reason}. Such a body has one input: {_SUCH}") from error
    if (name, kind) != (INPUT, "UINT8") or len(shape) != 4 or shape[3] != 3:
        raise _wrong(f"its input is {str(name)[:40]} {str(kind)[:10]} {list(shape)[:6]}. Right is: {_SUCH}")
    if not all(type(side) is int and side > 0 for side in shape):
        raise _wrong(f"its shape is {list(shape)}")
    for output in outputs:
        if output not in _OUTPUTS:
            raise _wrong(f"it asks for output '{str(output)[:40]}'; the model has {' and '.join(_OUTPUTS)}")
    rest = body[length:]
    if binary is None:
        return Question(_from_json(tensor.get("data"), shape), outputs, id)
    if binary != math.prod(shape) or len(rest) != binary:
        raise _wrong(f"its tensor should have {math.prod(shape):,} bytes, declares {binary} and brings {len(rest):,}")
    return Question(np.frombuffer(rest, np.uint8).reshape(shape), outputs, id)


_SUCH = '{"name": "image", "datatype": "UINT8", "shape": [N, H, W, 3], "data": […]}.'


def _from_json(data: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor of numbers, nested or flat."""
    try:
        values = np.asarray(data)
    except ValueError as error:  # rows of several lengths
        raise _wrong(f"its data are no tensor: {str(error)[:80]}") from error
    if values.dtype.kind not in "iu" or values.size != math.prod(shape):
        raise _wrong(
            f"its data should be {math.prod(shape):,} whole numbers, and are {values.size:,} of {values.dtype}"
        )
    if values.min() < 0 or values.max() > 255:
        raise _wrong(f"its data go from {values.min()} to {values.max()}; pixels go from 0 to 255")
    return values.astype(np.uint8).reshape(shape)


def _wrong(reason: str) -> RequestError:
    end = "" if reason.endswith(".") else "."
    return RequestError(400, f"The request cannot be read: {reason}{end}")


def answer(question: Question, model: str, predictions: Sequence[Prediction]) -> Response:
    """Return the response to a request: JSON, with the tensors that were wanted as bytes after it.

    Args:
        question: The request.
        model: Its name.
        predictions: One for each image.
    """
    maps = {"labels": lambda one: one.mask, "probability": lambda one: one.require_map("confidence")}
    tensors, tail = [], []
    for name, binary in question.outputs.items():
        kind, dtype = _OUTPUTS[name]
        values = np.stack([maps[name](one) for one in predictions]).astype(dtype)  # (N, H, W)
        tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(values.shape)}
        if binary:
            tail.append(values.tobytes())
            tensor["parameters"] = {"binary_data_size": values.nbytes}
        else:
            tensor["data"] = values.ravel().tolist()
        tensors.append(tensor)
    content: dict[str, Any] = {"model_name": model, "model_version": VERSION, "outputs": tensors}
    if question.id is not None:
        content["id"] = question.id
    text = json.dumps(content).encode()
    if not tail:
        return Response(text, media_type="application/json")
    headers = {HEADER: str(len(text))}
    return Response(b"".join((text, *tail)), media_type="application/octet-stream", headers=headers)
