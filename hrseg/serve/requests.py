"""The body of a request: read no farther than its limit, and the image taken out of a form.

Nothing is written to disk, and names of files are used for nothing.
"""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, fields
from typing import Any

from PIL import Image
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hrseg.errors import ConfigError, DataError, HrsegError
from hrseg.imaging import ImageFile, LoadedImage, open_image

PIXEL_BUDGET = 4
"""Decoded images held at once, in images of the largest size allowed."""


class Refusal(HrsegError):
    """A request that is not answered, with the reason in one sentence.

    Args:
        status: HTTP status.
        sentence: What is wrong and what would be right.
        retry_after: Seconds after which it may go better; None where it never will.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        max_queue: Images held at once, from the first byte of the request to the last of the answer.
        max_bytes: Size of a request's body.
        max_pixels: Height times width of an image.
        max_batch: Images of equal size that go through the network together.
        max_wait: Seconds that the first of a batch waits for others.
        timeout: Seconds from a request's arrival to its answer.

    Raises:
        ConfigError: A bound that lets nothing through.
    """

    max_queue: int = 16
    max_bytes: int = 32 * 2**20
    max_pixels: int = 25_000_000
    max_batch: int = 8
    max_wait: float = 0.005
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "max_wait" else None
            if not math.isfinite(value) or value < 0 or (least is None and value == 0):
                raise ConfigError(
                    f"--{field.name.replace('_', '-')} {value} lets nothing through. Give a number above 0."
                )


class Places:
    """The server's room: so many requests, and so many decoded pixels.

    A place is taken before a body is read, so what waits is bounded whatever clients send.

    Args:
        limits: Of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self.count = limits.max_queue
        self.pixels = PIXEL_BUDGET * limits.max_pixels
        self._taken: dict[int, int] = {}  # place → its pixels
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """Return a place, or None where all are taken."""
        with self._lock:
            if len(self._taken) >= self.count:
                return None
            self._next += 1
            self._taken[self._next] = 0
            return self._next

    def weigh(self, place: int, pixels: int) -> bool:
        """Say how many pixels a place will hold; False where there is no room for them now."""
        with self._lock:
            if sum(self._taken.values()) + pixels > self.pixels:
                return False
            self._taken[place] = pixels
            return True

    def leave(self, place: int) -> None:
        """Give a place back."""
        with self._lock:
            self._taken.pop(place, None)

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return len(self._taken)


def no_room(seconds: float) -> Refusal:
    """Say that the server is full, and when there may be room again."""
    after = min(60, max(1, math.ceil(seconds)))
    return Refusal(429, f"The server is full; try again in {after} s.", after)


def too_slow(limits: Limits) -> Refusal:
    """Say that an answer took too long."""
    return Refusal(
        503, f"No answer within {limits.timeout:g} s; send a smaller image, or try later.", 5
    )


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


FORMATS = {
    "PNG": (b"\x89PNG",),
    "JPEG": (b"\xff\xd8\xff",),
    "WebP": (b"RIFF",),
    "GIF": (b"GIF8",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
"""What is opened, and how such files begin; the other formats have decoders that nobody needs here."""


def open_picture(content: bytes, limits: Limits, bits: int | None = None) -> ImageFile:
    """Open an image without decoding it.

    Args:
        content: Of its file.
        limits: Bounds.
        bits: Significant bits of 16-bit files; None takes what the file says.

    Raises:
        Refusal: Not one of FORMATS, damaged, not what the model sees, or too many pixels.
    """
    if not any(content.startswith(marks) for marks in FORMATS.values()):
        *others, last = FORMATS
        raise Refusal(
            415, f"This file is no image that can be read; send {', '.join(others)} or {last}."
        )
    try:
        file = open_image(content, bits=bits, name="The image")
    except DataError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise _too_many("more", limits) from error
        raise Refusal(422, str(error)) from error
    if file.width * file.height > limits.max_pixels:
        file.close()
        raise _too_many(f"{file.height} x {file.width}", limits)
    return file


def decode(file: ImageFile) -> LoadedImage:
    """Decode to RGB, and close the file.

    Raises:
        Refusal: It is damaged.
    """
    try:
        with file:
            pixels, valid = file.rows(0, file.height)
            return LoadedImage(pixels, valid, file.georeference, file.notes)
    except DataError as error:
        raise Refusal(422, str(error)) from error


def _too_many(size: str, limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"The image has {size} pixels, and at most {limits.max_pixels:,} are taken; make it smaller, "
        "or use hrseg predict.",
    )
