"""HTTP requests for files or the rest of them, with proxies, redirects, ranges and readable errors.

The standard library's client is enough, and honors the proxy variables; nothing here touches a disk.
"""

import http.client
import io
import math
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any, Literal
from urllib.parse import urlsplit

CHUNK = 1 << 17
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_LONGEST_WAIT = 120.0
_MARKUP = re.compile(rb"\s*(?:<!doctype html|<html|<head|<\?xml|\{\s*\"error)", re.IGNORECASE)


class TransferError(Exception):
    """A request that failed.

    Attributes:
        passing: Whether another try may succeed.
        wait: Seconds to wait, where the server names them.
        reached: Whether a server answered at all.
        stale: Whether the unfinished download is of no use.
        kind: "denied" (401 and 403), "page" (a web page came, as of a login) or "elsewhere" (a redirect that is not
            followed); "" for all else.
    """

    def __init__(
        self,
        text: str,
        *,
        passing: bool = False,
        wait: float | None = None,
        reached: bool = True,
        stale: bool = False,
        kind: Literal["", "denied", "page", "elsewhere"] = "",
    ) -> None:
        super().__init__(text)
        self.passing, self.wait, self.reached, self.stale, self.kind = passing, wait, reached, stale, kind


@dataclass
class Answer:
    """An open response.

    Attributes:
        stream: Its body.
        start: Offset of the body's first byte in the file; 0 if the server sends all of it.
        total: Size of the whole file, where the server states it.
        validator: ETag or date that identifies this version of the file; may be empty.
        sha256: Digest of the file, where the server names it; may be empty.
    """

    stream: Any
    start: int
    total: int | None
    validator: str
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces.

        Raises:
            TransferError: The connection broke.
        """
        while True:
            try:
                chunk = self.stream.read1(CHUNK)  # what is there, without waiting for a whole chunk
            except (OSError, http.client.HTTPException) as error:
                raise TransferError(f"the connection broke ({_reason(error)})", passing=True) from error
            if not chunk:
                return
            yield chunk


class _TimedSocket(socket.SocketIO):
    """A socket's bytes until a moment of `time.monotonic()`, however slowly they come."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        super().__init__(connection, "r")
        self._connection, self._until, self._stall = connection, until, connection.gettimeout()
        connection._io_refs += 1  # type: ignore[attr-defined]  # as socket.makefile does

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for it is over")
        self._connection.settimeout(left if self._stall is None else min(left, self._stall))
        return super().readinto(buffer)


def _timed(seconds: float) -> tuple[urllib.request.BaseHandler, ...]:
    """Return handlers for connections that end after some seconds: their status, headers, bodies and redirects."""
    until = time.monotonic() + seconds

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            self.fp.close()
            self.fp = io.BufferedReader(_TimedSocket(sock, until))

    class Plain(http.client.HTTPConnection):
        response_class = Response

    class Secure(http.client.HTTPSConnection):
        response_class = Response

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(Secure, req)

    return PlainHandler(), SecureHandler()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, never from https to less, and keep their headers about the file."""

    def __init__(self, stay: bool = False) -> None:
        self.stay = stay
        self.linked: dict[str, str] = {}

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        unsafe = new not in ("http", "https") or (old, new) == ("https", "http")
        if unsafe or (self.stay and origin(newurl) != origin(req.full_url)):
            fp.close()
            where = f"from {old} to {new}, which is not safe" if unsafe else f"to another site, {newurl[:100]}"
            raise TransferError(f"it redirects {where}", kind="" if unsafe else "elsewhere")
        self.linked |= {name.lower(): headers[name] for name in ("X-Linked-ETag", "X-Linked-Size") if headers[name]}
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address.

    Raises:
        ValueError: It is none.

    Example:
        >>> origin("https://Example.org/a") == origin("https://example.org:443/b")
        True
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def request(
    url: str,
    start: int = 0,
    validator: str = "",
    seconds: float | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
    stay: bool = False,
) -> Answer:
    """Ask for a file, or for the rest of it.

    Args:
        url: Its address.
        start: Bytes that are here already.
        validator: ETag or date of their version; the server starts again if it has another one by now.
        seconds: After which the request is cut, whatever has come of it; None waits while bytes come.
        headers: More of them.
        data: Body of a POST request; None asks by GET.
        stay: Whether redirects to other hosts, ports or schemes are errors.

    Raises:
        TransferError: No answer, an error, or a web page instead of a file.
    """
    headers = {"User-Agent": "hrseg", "Accept": "*/*", "Accept-Encoding": "identity"} | dict(headers or {})
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    redirects = _Redirects(stay)
    opener = urllib.request.build_opener(redirects, *(_timed(seconds) if seconds else ()))
    try:
        asked = urllib.request.Request(url, data, headers)
        stream = opener.open(asked, timeout=min(seconds or TIMEOUT, TIMEOUT))
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, start)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _no_answer(url, error) from error
    return _answer(stream, redirects.linked, start)


def _answer(stream: Any, linked: dict[str, str], asked: int) -> Answer:
    headers: Message = stream.headers
    kind = headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        stream.close()
        raise TransferError(
            "it answers with a web page instead of a file; the link is dead, or something between here and there (a "
            "login page, a filter) answers in its place",
            kind="page",
        )
    if headers.get("Content-Encoding", "identity") != "identity":
        stream.close()
        raise TransferError("it sends the file packed, though that was not asked for")
    start, total = 0, _number(headers["Content-Length"])
    if stream.status == http.client.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers["Content-Range"] or "")
        if not span or int(span[1]) != asked:
            stream.close()
            raise TransferError("it sends another part of the file than was asked for")
        start, total = asked, _number(span[2]) or (None if total is None else asked + total)
    etag = headers["ETag"] or ""
    strong = etag if etag.startswith('"') else ""
    by_hub = linked.get("x-linked-etag") or (etag if headers["X-Repo-Commit"] else "")
    named = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64})"?', by_hub)
    return Answer(
        stream,
        start,
        total if total is not None else _number(linked.get("x-linked-size")),
        strong or headers["Last-Modified"] or "",
        named[1] if named else "",
    )


def looks_like_page(first: bytes) -> bool:
    """Return whether the first bytes are those of a web page or a server's message.

    Example:
        >>> looks_like_page(b"<!DOCTYPE html><html>"), looks_like_page(b"PK\\x03\\x04")
        (True, False)
    """
    return _MARKUP.match(first) is not None


def _refused(error: urllib.error.HTTPError, start: int) -> Answer:
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers["Content-Range"] or "")
        if whole and int(whole[1]) == start:  # all of it is here already
            return Answer(error, start, start, "", "")
        raise TransferError("the part that is here belongs to another file", passing=True, wait=0.0, stale=True)
    if error.code in _REDIRECTS:
        target = urllib.parse.urljoin(error.url or "", error.headers["Location"] or "")
        if urlsplit(target).scheme in ("http", "https") and error.headers["Location"]:
            raise TransferError("it redirects in a circle, or too often")
        raise TransferError(f"it redirects to '{target[:100]}', which is no http or https address")
    reason = http.client.responses.get(error.code, "")
    raise TransferError(
        f"it answers {error.code} {reason}".rstrip(),
        passing=error.code in _PASSING,
        wait=_retry_after(error.headers["Retry-After"]),
        kind="denied" if error.code in (401, 403) else "",
    )


def _retry_after(text: str | None) -> float | None:
    if not text:
        return None
    if text.strip().isdecimal():
        return min(float(text), _LONGEST_WAIT)
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(0.0, math.ceil(seconds)), _LONGEST_WAIT)


def _no_answer(url: str, error: Exception) -> TransferError:
    host, scheme = urlsplit(url).hostname or "", urlsplit(url).scheme
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    through = ""
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        through = f" through the proxy {urlsplit(proxy).hostname or proxy.rpartition('@')[2]}"
    certificate = isinstance(cause, ssl.SSLCertVerificationError)
    text = f"{host or url} cannot be reached{through} ({_reason(cause)})"
    return TransferError(text, passing=not certificate and bool(host), reached=False)


def _reason(cause: object) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return str(cause.strerror)
    return str(cause) or type(cause).__name__


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
