"""Limits and validation of requests: admission, body, form, and the decoded image.

Nothing is written to disk, and file names are only checked.
"""

import asyncio
import ipaddress
import math
import threading
from dataclasses import dataclass, fields

from PIL import Image
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import Request

from hrseg.errors import ConfigError, DataError, HrsegError
from hrseg.imaging import ImageFile, LoadedImage, open_image

HEAD_SECONDS = 10.0
"""Time for the head of a request; as much for the first bytes of its body."""
BODY_RATE = 2048
"""Bytes of a body in each second after that; slower ones would hold a place for little."""
PIXEL_BUDGET = 4
"""Decoded images in memory at once, in images of the largest size allowed."""
FIELD = "image"
_FORM = "multipart/form-data"
_RAW = ("application/octet-stream", "image/")
FORMATS = {
    "PNG": (b"\x89PNG",),
    "JPEG": (b"\xff\xd8\xff",),
    "WebP": (b"RIFF",),
    "GIF": (b"GIF8",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
"""Accepted formats → magic bytes; decoders of other formats are never reached."""


class RequestError(HrsegError):
    """A refused request.

    Args:
        status: HTTP status.
        detail: What is wrong and what would be right, in one sentence.
        retry_after: Seconds after which a retry may succeed, else None.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_queue: Images in the server at once, from the first byte of the request to the last of the answer.
        max_per_client: Those of one client address; None leaves a quarter of the places to others.
        max_bytes: Size of a request's body.
        max_pixels: Height times width of an image.
        max_batch: Images of equal size that go through the network together.
        max_wait: Seconds that the first of a batch waits for others.
        timeout: Seconds from a request's arrival to its answer.

    Raises:
        ConfigError: A limit that refuses every request.
    """

    max_queue: int = 16
    max_bytes: int = 32 * 2**20
    max_pixels: int = 25_000_000
    max_batch: int = 8
    max_wait: float = 0.005
    timeout: float = 60.0
    max_per_client: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            zero_allowed = field.name == "max_wait"
            if not math.isfinite(value) or value < 0 or (value == 0 and not zero_allowed):
                raise ConfigError(
                    f"--{field.name.replace('_', '-')} {value} lets nothing through. Give a number above 0."
                )

    @property
    def head_seconds(self) -> float:
        """Seconds for the head of a request."""
        return min(HEAD_SECONDS, self.timeout)

    @property
    def places_per_client(self) -> int:
        """Places that one client address may take."""
        return self.max_per_client or math.ceil(0.75 * self.max_queue)


class Capacity:
    """Bounded number of requests, and of their decoded pixels.

    A place is acquired before a body is read, so memory is bounded whatever clients send.
    """

    def __init__(self, limits: Limits) -> None:
        self.max_places = limits.max_queue
        self.max_per_client = limits.places_per_client
        self.max_pixels = PIXEL_BUDGET * limits.max_pixels
        self._pixels: dict[int, int] = {}  # place → its pixels
        self._clients: dict[int, str] = {}  # place → its client
        self._next = 0
        self._lock = threading.Lock()

    def acquire(self, client: str = "") -> int | None:
        """Return a place, or None where all are taken, or all that a client may take."""
        with self._lock:
            own = sum(other == client for other in self._clients.values())
            if len(self._pixels) >= self.max_places or own >= self.max_per_client:
                return None
            self._next += 1
            self._pixels[self._next], self._clients[self._next] = 0, client
            return self._next

    def reserve(self, place: int, pixels: int) -> bool:
        """Reserve the pixels of a place's image; False where they exceed the budget now."""
        with self._lock:
            if sum(self._pixels.values()) + pixels > self.max_pixels:
                return False
            self._pixels[place] = pixels
            return True

    def release(self, place: int) -> None:
        """Give a place and its pixels back."""
        with self._lock:
            self._pixels.pop(place, None)
            self._clients.pop(place, None)

    @property
    def taken(self) -> int:
        """Number of places taken."""
        return len(self._pixels)


def client_of(client: tuple[str, int] | None) -> str:
    """Return who a client is: its IPv4 address, or the network of its IPv6 address, which is one customer's.

    Example:
        >>> client_of(("192.0.2.7", 50000)), client_of(("2001:db8::1:2:3:4", 50000)), client_of(None)
        ('192.0.2.7', '2001:db8::/64', '')
    """
    address = client[0].partition("%")[0] if client else ""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))


def server_full(seconds: float) -> RequestError:
    """Return the error of a full server, with the estimated seconds until a place is free."""
    after = min(60, max(1, math.ceil(seconds)))
    return RequestError(429, f"The server is full; try again in {after} s.", after)


def timed_out(limits: Limits) -> RequestError:
    """Return the error of an answer that took too long."""
    text = f"No answer within {limits.timeout:g} s; send a smaller image, or try later."
    return RequestError(503, text, 5)


@dataclass(frozen=True)
class Access:
    """Conditions that a request to a path must meet.

    Attributes:
        token: The token, where the server has one.
        place: A place in the server, for the network's work.
        image: A body of a type that can contain an image.
        basic: The token may be the password of Basic authentication, which some programs alone can send.
    """

    token: bool = False
    place: bool = False
    image: bool = False
    basic: bool = False


def check_headers(headers: Headers, limits: Limits, image: bool = True) -> None:
    """Refuse by the headers alone, before a byte of the body is read.

    Raises:
        RequestError: Not a type that can contain an image, where one is expected, or too long.
    """
    kind = _media_type(headers) or _RAW[0]
    if image and kind != _FORM and not kind.startswith(_RAW):
        raise RequestError(
            415,
            f"A body of type '{kind[:80]}' is no image; send the file as multipart field '{FIELD}' "
            f"(curl -F {FIELD}=@street.jpg) or raw with its type (curl -H 'Content-Type: image/jpeg' --data-binary "
            "@street.jpg).",
        )
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.max_bytes:
        raise _body_too_long(limits)


async def read_body(request: Request, limits: Limits, what: str = "image") -> bytes:
    """Read a body, up to the limits of size and time.

    Args:
        request: Of the client.
        limits: Of the server.
        what: What the body is, for messages.

    Raises:
        RequestError: Too long or too slow.
        ClientDisconnect: The client has gone.
    """
    parts: list[bytes] = []
    size = 0
    start = asyncio.get_running_loop().time()
    limit = limits.head_seconds
    try:
        async with asyncio.timeout(limit) as deadline:
            async for part in request.stream():
                size += len(part)
                if size > limits.max_bytes:  # Content-Length may be missing or wrong
                    raise _body_too_long(limits)
                parts.append(part)
                limit = min(limits.timeout, limits.head_seconds + size / BODY_RATE)
                deadline.reschedule(start + limit)
    except TimeoutError as error:
        raise RequestError(
            408,
            f"The {what} did not arrive within {limit:.3g} s, only {size:,} bytes of it; send it again.",
        ) from error
    return b"".join(parts)


async def read_image_bytes(request: Request, limits: Limits) -> bytes:
    """Read the image file of a request, raw or out of a form.

    Raises:
        RequestError: As of `read_body`, or empty, or no form with one image.
        ClientDisconnect: The client has gone.
    """
    content = await read_body(request, limits)
    if _media_type(request.headers) == _FORM:
        content = _form_image(content, request.headers["content-type"])
    if not content:
        raise RequestError(422, "The image is empty; send the bytes of an image file.")
    return content


def _form_image(body: bytes, content_type: str) -> bytes:
    """Return the content of the field `image`, with or without a file name."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RequestError(422, "The form names no boundary; let your client write the Content-Type.")
    images: list[bytes] = []
    complete: list[bool] = []

    def on_part(part: Field | File) -> None:
        if part.field_name != FIELD.encode():
            return
        if isinstance(part, File):
            _check_file_name((part.file_name or b"").decode("utf-8", "replace"))
            part.file_object.seek(0)
            images.append(part.file_object.read())
        else:
            images.append(part.value or b"")

    try:
        parser = FormParser(
            *(_FORM, on_part, on_part, lambda: complete.append(True), boundary),
            config={"MAX_MEMORY_FILE_SIZE": len(body)},  # never spooled to disk
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _broken_form() from error
    if not complete:
        raise _broken_form()
    if len(images) != 1:
        found = f"holds {len(images)} fields" if images else "holds no"
        raise RequestError(
            422,
            f"The form {found} '{FIELD}'; send one file under this name (curl -F {FIELD}=@street.jpg).",
        )
    return images[0]


def _check_file_name(name: str) -> None:
    """Refuse paths: the name is not used, but one that leads elsewhere is not sent by mistake."""
    if name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise RequestError(
            422,
            "The file's name holds a path; send the bare name of the image, such as street.jpg.",
        )


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _broken_form() -> RequestError:
    return RequestError(422, "The form cannot be read; it is cut off or not multipart/form-data.")


def _body_too_long(limits: Limits) -> RequestError:
    return RequestError(
        413,
        f"The body is larger than {limits.max_bytes:,} bytes; send a smaller or more compressed image.",
    )


def _too_many_pixels(size: str, limits: Limits) -> RequestError:
    return RequestError(
        413,
        f"The image has {size} pixels, and at most {limits.max_pixels:,} are taken; make it smaller, "
        "or use hrseg predict.",
    )


def open_upload(content: bytes, limits: Limits, bits: int | None = None) -> ImageFile:
    """Open an image without decoding it.

    Args:
        content: Of its file.
        limits: Of the server.
        bits: Significant bits of 16-bit files; None takes what the file declares.

    Raises:
        RequestError: Not one of FORMATS, damaged, unsuitable, or too many pixels.
    """
    if not any(content.startswith(magic) for magic in FORMATS.values()):
        *others, last = FORMATS
        raise RequestError(415, f"This file is no image that can be read; send {', '.join(others)} or {last}.")
    try:
        file = open_image(content, bits=bits, name="The image")
    except DataError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise _too_many_pixels("more", limits) from error
        raise RequestError(422, str(error)) from error
    if file.width * file.height > limits.max_pixels:
        file.close()
        raise _too_many_pixels(f"{file.height} x {file.width}", limits)
    return file


def decode(file: ImageFile) -> LoadedImage:
    """Decode to RGB, and close the file.

    Raises:
        RequestError: It is damaged.
    """
    try:
        with file:
            pixels, valid = file.rows(0, file.height)
            return LoadedImage(pixels, valid, file.georeference, file.notes)
    except DataError as error:
        raise RequestError(422, str(error)) from error
