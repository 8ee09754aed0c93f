"""The door: who may come in, how many at once, for how long, and what every answer carries.

It wraps the whole application, so nothing behind it has to think of places, tokens, headers or hung clients.
"""

import asyncio
import hmac
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from hrseg.errors import ConfigError
from hrseg.serve.metrics import Metrics
from hrseg.serve.requests import GoneError, Limits, Places, Refusal, check_head, no_room, too_slow

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]

WORK = ("/predict", "/features")
"""Paths that take a place."""
LOCKED = (*WORK, "/labels", "/metrics")
"""Paths that need the token; the page itself and its question for health do not."""
OPEN = ("/", "/page.css", "/page.js", "/healthz", "/openapi.json")
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
_PART = 2**16


class Gate:
    """Stands before an ASGI application.

    Args:
        app: The application.
        limits: Bounds.
        places: The room.
        metrics: Where answers are counted.
        token: The password, or None.
        seconds_to_wait: Returns after how many seconds there may be room again.
    """

    def __init__(
        self,
        app: Application,
        *,
        limits: Limits,
        places: Places,
        metrics: Metrics,
        token: str | None,
        seconds_to_wait: Callable[[], float],
    ) -> None:
        self.app = app
        self.limits = limits
        self.places = places
        self.metrics = metrics
        self.token = token
        self.seconds_to_wait = seconds_to_wait

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        start = time.monotonic()
        path = scope["path"] if scope["path"] in (*LOCKED, *OPEN) else "other"
        working = path in WORK and scope["method"] == "POST"
        place: int | None = None
        try:
            place = self._admit(scope, path, working)
            scope.setdefault("state", {})["place"] = place
            # One timeout is for the answer; as much again for whoever reads it slowly.
            async with asyncio.timeout(2 * self.limits.timeout if working else None):
                await self.app(scope, receive, answer.send)
        except GoneError:
            answer.status = answer.status or 499
        except TimeoutError:
            await answer.refuse(too_slow(self.limits))
        except Refusal as refusal:
            await answer.refuse(refusal)
        except Exception:
            log.exception("%s %s failed", scope["method"], path)
            await answer.refuse(Refusal(500, "The server made a mistake; its log tells more."))
        finally:
            if place is not None:
                self.places.leave(place)
            seconds = time.monotonic() - start
            self.metrics.request(path, answer.status, seconds, place is not None)

    def _admit(self, scope: Scope, path: str, working: bool) -> int | None:
        """Return a place for work; None for what needs none."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if path in LOCKED and not admits(self.token, headers.get(b"authorization")):
            raise Refusal(
                401,
                "This server asks for a token; send it as header 'Authorization: Bearer TOKEN'.",
            )
        if not working:
            return None
        origin, host = headers.get(b"origin"), headers.get(b"host", "")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refusal(403, "Pages of other sites may not use this server; open its own page.")
        check_head(headers.get(b"content-type"), headers.get(b"content-length"), self.limits)
        place = self.places.take()
        if place is None:
            raise no_room(self.seconds_to_wait())
        return place


class _Answer:
    """Sends an answer in small parts, with the headers that all carry, and remembers its status."""

    def __init__(self, send: Callable[[Message], Awaitable[None]]) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name.lower() for name, _ in message.get("headers", [])}
            more = [
                (name.lower().encode(), value.encode())
                for name, value in HEADERS.items()
                if name.lower().encode() not in own
            ]
            message["headers"] = [*message.get("headers", []), *more]
        elif message["type"] == "http.response.body" and len(message.get("body", b"")) > _PART:
            # The server waits between parts for clients that read slowly, so their answers do not pile up.
            body, last = memoryview(message["body"]), message.get("more_body", False)
            for first in range(0, len(body), _PART):
                more_body = last or first + _PART < len(body)
                part = bytes(body[first : first + _PART])
                await self._send({"type": message["type"], "body": part, "more_body": more_body})
            return
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        if self.status:  # it has begun; the connection is cut and the client sees it
            return
        content = json.dumps({"detail": refusal.sentence}, ensure_ascii=False).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        headers |= refusal.headers
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": content})


VARIABLE = "HRSEG_SERVE_TOKEN"


def read_token(path: str | Path | None = None) -> str | None:
    """Return the token of a file, else of the environment variable HRSEG_SERVE_TOKEN, else None.

    Raises:
        ConfigError: The file cannot be read, or the token is empty or has other signs than plain ones.
    """
    if path is None:
        token, where = os.environ.get(VARIABLE), VARIABLE
    else:
        where = str(path)
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
            f"The token of {where} is {'not one plain word' if token else 'empty'}. Use letters and digits, such as "
            "those of: openssl rand -hex 32"
        )
    return token


def admits(token: str | None, header: str | None) -> bool:
    """Tell whether an Authorization header opens the door; the time taken does not tell how near it was.

    Example:
        >>> admits("open", "Bearer open"), admits("open", "Bearer ope"), admits("open", None), admits(None, None)
        (True, False, False, True)
    """
    if token is None:
        return True
    scheme, _, given = (header or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    return same and scheme.lower() == "bearer"
