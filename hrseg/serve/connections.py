"""HTTP connections with a time for every step, where idle ones make room for new ones.

uvicorn bounds the time between two requests and the number of connections, but not the time for a request's head, for a
body that is not read, or for an answer that is not taken, and its limit shuts out all clients alike.
"""

import asyncio
from typing import Any

import h11
from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from hrseg.serve.requests import Limits, client_of

CLIENT_CONNECTIONS = 64
"""Connections of one client beyond its places: refused requests, and open pages."""
EXTRA_CONNECTIONS = 512
"""The same of all clients."""
_CLOSING_SECONDS = 1.0


class Connection(H11Protocol):
    """One connection: it is closed where its client sends or takes too slowly, or opens too many others."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        app: Any = self.config.app
        self.limits: Limits = app.state.service.limits
        self.since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is in work: its head is awaited, or not all of it has come."""
        waits = self.cycle is None or self.cycle.response_complete
        return waits and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the client's longest idle connection where it has too many, else that of all clients."""
        super().connection_made(transport)
        self._await_head()
        everyone: Any = list(self.connections)
        own = [one for one in everyone if client_of(one.client) == client_of(self.client)]
        crowded = len(own) > CLIENT_CONNECTIONS + self.limits.places_per_client
        if crowded or len(everyone) > EXTRA_CONNECTIONS + self.limits.max_queue:
            idle = [one for one in (own if crowded else everyone) if one.idle]
            min(idle, key=lambda one: one.since, default=self).transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._limit(None)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Give a request whose head is complete its time; the middleware ends it earlier."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._limit(3 * self.limits.timeout)

    def on_response_complete(self) -> None:
        """Await the next request; what is left of this one's body has the same time."""
        self._await_head()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, msg)

    def _await_head(self) -> None:
        self.since = self.loop.time()
        self._limit(self.limits.head_seconds)

    def _limit(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()  # the client does not take what is left
            return
        self._limit(_CLOSING_SECONDS)
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            seconds = self.limits.head_seconds
            self._refuse(408, f"The head of the request did not arrive within {seconds:g} s.")
        self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without a request, where no answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = JSONResponse({"detail": detail}, status, headers={"Connection": "close"})
            headers = answer.raw_headers
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
