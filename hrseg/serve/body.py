"""The body of a request: read no farther than its limit, and the image taken out of a form.

Nothing is written to disk, and names of files are used for nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hrseg.serve.limits import Limits, Refusal

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
FIELD = "image"
_FORM = "multipart/form-data"
_RAW = ("application/octet-stream", "image/")


class GoneError(Exception):
    """The client has hung up."""


def check_head(content_type: str | None, length: str | None, limits: Limits) -> None:
    """Refuse by the headers alone, before a byte of the body is read.

    Raises:
        Refusal: Not a type that can hold an image, or too long.
    """
    kind = (content_type or _RAW[0]).partition(";")[0].strip().lower()
    if kind != _FORM and not kind.startswith(_RAW):
        raise Refusal(
            415,
            f"A body of type '{kind[:80]}' is no image; send the file as multipart field '{FIELD}' "
            f"(curl -F {FIELD}=@street.jpg) or raw with its type (curl -H 'Content-Type: image/jpeg' --data-binary "
            "@street.jpg).",
        )
    if length is not None and length.isdecimal() and int(length) > limits.max_bytes:
        raise _too_long(limits)


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """Read a body, and stop at the limit even where no length was announced.

    Raises:
        Refusal: Too long, or too slow.
        GoneError: The client hung up.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                part = message.get("body", b"")
                size += len(part)
                if size > limits.max_bytes:
                    raise _too_long(limits)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError as error:
        raise Refusal(
            408, f"The image did not arrive within {limits.timeout:g} s; send it again."
        ) from error


def image_bytes(body: bytes, content_type: str | None) -> bytes:
    """Return the file of an image, out of a form where it came in one.

    Raises:
        Refusal: There is none.
    """
    if (content_type or "").partition(";")[0].strip().lower() == _FORM:
        body = _from_form(body, content_type or "")
    if not body:
        raise Refusal(422, "The image is empty; send the bytes of an image file.")
    return body


def _from_form(body: bytes, content_type: str) -> bytes:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refusal(422, "The form names no boundary; let your client write the Content-Type.")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        parser.write(body)
    except FormParserError as error:
        raise _broken_form() from error
    if not form.ended:
        raise _broken_form()
    if len(form.images) != 1:
        found = "holds no" if not form.images else f"holds {len(form.images)} fields"
        raise Refusal(
            422,
            f"The form {found} '{FIELD}'; send one file under this name (curl -F {FIELD}=@street.jpg).",
        )
    return b"".join(form.images[0])


class _Form:
    """Collects the fields named `image`, and forgets the others."""

    def __init__(self) -> None:
        self.images: list[list[bytes]] = []
        self.wanted = self.ended = False
        self.name = self.value = b""
        self.disposition = b""

    def callbacks(self) -> dict[str, Any]:
        names: Iterable[str] = (
            *("on_part_begin", "on_part_data", "on_header_field", "on_header_value"),
            *("on_header_end", "on_headers_finished", "on_end"),
        )
        return {name: getattr(self, name) for name in names}

    def on_part_begin(self) -> None:
        self.wanted, self.disposition = False, b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        if self.name.lower() == b"content-disposition":
            self.disposition = self.value
        self.name = self.value = b""

    def on_headers_finished(self) -> None:
        _, words = parse_options_header(self.disposition.decode("latin-1"))
        self.wanted = words.get(b"name") == FIELD.encode()
        if self.wanted:
            _refuse_paths(words.get(b"filename", b"").decode("utf-8", "replace"))
            self.images.append([])

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.wanted:
            self.images[-1].append(data[start:end])

    def on_end(self) -> None:
        self.ended = True


def _refuse_paths(name: str) -> None:
    """A name is used for nothing; one that leads somewhere was not sent by mistake."""
    if name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise Refusal(
            422,
            "The file's name holds a path; send the bare name of the image, such as street.jpg.",
        )


def _broken_form() -> Refusal:
    return Refusal(422, "The form cannot be read; it is cut off or not multipart/form-data.")


def _too_long(limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"The body is larger than {limits.max_bytes:,} bytes; send a smaller or more compressed image.",
    )
