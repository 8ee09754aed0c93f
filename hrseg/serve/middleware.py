"""ASGI middleware for admission: names, other sites, token, capacity, time limits, security headers and metrics.

It wraps the whole application, so the routes need none of these.
"""

import asyncio
import base64
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from hrseg.errors import ConfigError
from hrseg.serve.batching import Service
from hrseg.serve.requests import (
    Access,
    RequestError,
    check_headers,
    client_of,
    server_full,
    timed_out,
)
from hrseg.serve.site import Site

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]

PATHS = {
    **dict.fromkeys(("/predict", "/features"), Access(token=True, place=True, image=True)),
    **dict.fromkeys(("/labels", "/metrics"), Access(token=True)),
    **dict.fromkeys(("/", "/page.css", "/page.js", "/view.js", "/healthz", "/openapi.json"), Access()),
}
"""Paths of the server; others lead nowhere."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TOKEN_VARIABLE = "HRSEG_SERVE_TOKEN"
_CHUNK = 2**16
_bearer = HTTPBearer(auto_error=False)


class AdmissionMiddleware:
    """Admits requests to an ASGI application, and answers the errors that it raises.

    Args:
        app: The application.
        service: With the limits, the capacity and the metrics.
        token: Required of clients, or None.
        site: Names of the server, and sites whose pages may use it.
        paths: What each path needs.
    """

    def __init__(
        self, app: Application, *, service: Service, token: str | None, site: Site, paths: Mapping[str, Access]
    ) -> None:
        self.app = app
        self.paths = paths
        self.service = service
        self.token = token
        self.site = site
        self._allowed: Application = self._answer
        if site.origins:
            self._allowed = CORSMiddleware(
                self._answer,
                allow_origins=site.origins,
                allow_methods=("GET", "HEAD", "POST"),
                allow_headers=("*",),
                expose_headers=("Retry-After",),
            )

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self.site.check(Headers(scope=scope))
        except RequestError as error:
            await _Sender(scope, receive, send).refuse(error)
            self.service.metrics.requests.labels("other", error.status).inc()
        else:
            await self._allowed(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request for this server, by a page that may."""
        if scope["method"] == "HEAD":  # the server sends no body then
            scope = {**scope, "method": "GET"}
        service = self.service
        sender = _Sender(scope, receive, send)
        start = time.monotonic()
        path = scope["path"] if scope["path"] in self.paths else "other"  # bounds the metric's labels
        place: int | None = None
        try:
            place = await self._admit(scope, self.paths.get(path, Access()))
            scope.setdefault("state", {})["place"] = place
            # One timeout is for the answer; as much again for clients that read it slowly.
            async with asyncio.timeout(2 * service.limits.timeout):
                await self.app(scope, receive, sender.send)
        except ClientDisconnect:
            sender.status = sender.status or 499
        except TimeoutError:
            await sender.refuse(timed_out(service.limits))
        except RequestError as error:
            await sender.refuse(error)
        except Exception:
            log.exception("%s %s failed", scope["method"], path)
            await sender.refuse(RequestError(500, "The server made a mistake; its log tells more."))
        finally:
            if place is not None:
                service.capacity.release(place)
                service.metrics.latency.observe(time.monotonic() - start)
            service.metrics.requests.labels(path, sender.status).inc()

    async def _admit(self, scope: Scope, access: Access) -> int | None:
        """Return a place for inference; None for other paths."""
        headers = Headers(scope=scope)
        if access.token and self.token is not None:
            credentials = await _bearer(Request(scope))
            given = credentials.credentials.strip() if credentials else ""
            if access.basic and credentials is None:  # programs such as Label Studio send no other
                given = basic_password(headers.get("authorization", ""))
            # Compared in constant time: the time taken does not show how near a guess is.
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise RequestError(
                    401,
                    "This server asks for a token; send it as header 'Authorization: Bearer TOKEN'.",
                )
        if not access.place or scope["method"] != "POST":
            return None
        check_headers(headers, self.service.limits, access.image)
        place = self.service.capacity.acquire(client_of(scope["client"]))
        if place is None:
            raise server_full(self.service.seconds_to_wait())
        return place


def refusal(path: str, text: str) -> dict[str, str]:
    """Return the JSON of a refusal; clients of the Open Inference Protocol read another key.

    Example:
        >>> refusal("/predict", "No."), refusal("/v2/models/a", "No.")
        ({'detail': 'No.'}, {'error': 'No.'})
    """
    return {"error" if path.startswith("/v2/") else "detail": text}


class _Sender:
    """Adds the security headers, splits large bodies, and stores the status."""

    def __init__(self, scope: Scope, receive: Any, send: Any) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.status = 0

    async def refuse(self, error: RequestError) -> None:
        if not self.status:  # else the answer has begun, and the connection is cut
            content = refusal(self._scope["path"], error.detail)
            response = JSONResponse(content, error.status, headers=error.headers)
            await response(self._scope, self._receive, self.send)

    async def send(self, message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        elif len(body) > _CHUNK:
            # uvicorn waits between chunks for clients that read slowly, so their answers do not pile up.
            view, last = memoryview(body), message.get("more_body", False)
            for first in range(0, len(body), _CHUNK):
                more = last or first + _CHUNK < len(body)
                chunk = bytes(view[first : first + _CHUNK])
                await self._send({"type": message["type"], "body": chunk, "more_body": more})
            return
        await self._send(message)


def basic_password(header: str) -> str:
    """Return the password of an Authorization header of kind Basic; empty if it is none.

    Example:
        >>> basic_password("Basic YTpiOmM="), basic_password("Bearer x")
        ('b:c', '')
    """
    kind, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded).decode() if kind.lower() == "basic" else ""
    except ValueError:
        return ""
    return text.partition(":")[2]


def read_token(path: str | Path | None = None) -> str | None:
    """Return the token of a file, else of the environment variable HRSEG_SERVE_TOKEN, else None.

    Raises:
        ConfigError: The file cannot be read, or the token is empty or not printable ASCII.
    """
    if path is None:
        token, source = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    else:
        source = str(path)
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The token file {path} cannot be read: {getattr(error, 'strerror', None) or error}. Write one, such "
                f"as: openssl rand -hex 32 > {path}"
            ) from error
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"The token of {source} is {'not one plain word' if token else 'empty'}. Use letters and digits, such as "
            "those of: openssl rand -hex 32"
        )
    return token
