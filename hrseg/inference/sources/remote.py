"""Images at http(s) addresses and in cloud storage, fetched one by one with limits of size and time."""

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from hrseg.errors import DataError, MissingExtraError, install_command
from hrseg.imaging import IMAGE_SUFFIXES
from hrseg.inference.sources.base import Limits, Picture, Source, SourceOptions, safe_name, stems_of
from hrseg.weights.http import TransferError, request


def is_address(argument: str) -> bool:
    """Return whether an argument is an http or https address."""
    return argument.lower().startswith(("http://", "https://"))


def open_address(argument: str, options: SourceOptions) -> Source:
    """Open one image at an address; its results are named after the last part of the path.

    Raises:
        DataError: The address names no host.
    """
    parts = urlsplit(argument)
    if not parts.hostname:
        raise DataError(f"{argument} names no host. An address is like https://example.org/street.jpg.")
    last = PurePosixPath(unquote(parts.path)).name
    name = safe_name(last or parts.hostname, stem=bool(last))

    def pictures() -> Iterator[Picture]:
        yield Picture(argument, name, fetch=partial(fetch_address, argument, options.limits))

    return Source(pictures)


def fetch_address(address: str, limits: Limits) -> bytes:
    """Fetch an address. Redirects are followed, but never from https to http.

    Raises:
        DataError: There is no answer, it is an error or a web page, or it is too large or too slow.
    """
    until = time.monotonic() + limits.seconds
    taken = bytearray()
    try:
        answer = request(_quoted(address), seconds=limits.seconds)
        with answer.stream:
            if (answer.total or 0) > limits.size:
                raise _too_large(address, answer.total or 0, limits)
            for chunk in answer.chunks():
                taken += chunk
                if len(taken) > limits.size:
                    raise _too_large(address, len(taken), limits)
    except TransferError as error:
        if time.monotonic() >= until:
            raise DataError(
                f"{address} gave {len(taken):,} bytes in {limits.seconds:g} seconds and was not done. Try again, or "
                "fetch it by other means."
            ) from error
        raise DataError(f"{address} cannot be fetched: {error}. Check the address in a browser.") from error
    if answer.total is not None and len(taken) != answer.total:
        raise DataError(f"{address} ended after {len(taken):,} of {answer.total:,} bytes. Try again.")
    return bytes(taken)


def _quoted(address: str) -> str:
    """Percent-encode characters that an address must not contain; existing codes stay."""
    parts = urlsplit(address)
    path, query = quote(parts.path, "/%:=&~+!$,;'@()*"), quote(parts.query, "/%:=&~+!$,;'@()*?")
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _too_large(address: str, size: int, limits: Limits) -> DataError:
    return DataError(
        f"{address} is at least {size:,} bytes, more than the {limits.size:,} that are fetched of one picture. Fetch "
        "it by other means and name the file."
    )


_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_MAGIC = re.compile(r"[*?[]")


def is_cloud(argument: str) -> bool:
    """Return whether an argument is on another file system, such as s3://.

    Example:
        >>> is_cloud("s3://bucket/a.png"), is_cloud("C:/a.png"), is_cloud("a.png")
        (True, False, False)
    """
    return _ADDRESS.match(argument) is not None


def open_cloud(argument: str, options: SourceOptions) -> Source:
    """Open a file, a folder or a glob of a file system of fsspec; the driver finds the credentials.

    Raises:
        DataError: There is no image, or no access.
        MissingExtraError: The driver is not installed.
    """
    system, path = _system(argument)
    scheme = argument.partition("://")[0].lower()
    names: list[str] | None
    if _MAGIC.search(path):
        found = sorted(str(one) for one in _call(argument, system.glob, path))
        root = PurePosixPath(path[: _MAGIC.search(path).start()] + "x").parent  # type: ignore[union-attr]
        names = [name for name in found if _is_image(name)]
    elif _call(argument, system.isfile, path):
        root, names = PurePosixPath(path).parent, [path]
    else:
        first = next(_walk(argument, system, path, options.recursive), None)
        root, names = PurePosixPath(path), None if first else []
    if names == []:
        raise DataError(
            f"No images at {argument}. Name a file, a folder with images, or a glob such as {scheme}://bucket/photos/*.jpg."
        )

    def pictures() -> Iterator[Picture]:
        if names is None:
            listed = _walk(argument, system, path, options.recursive)
        else:
            listed = ((name, _below(name.rpartition(".")[0], root)) for name in names)
        for place, name in listed:
            yield Picture(
                f"{scheme}://{place.lstrip('/')}",
                safe_name(name, stem=False),
                fetch=partial(_read, argument, system, place, options.limits),
            )

    return Source(pictures)


def _system(argument: str) -> tuple[Any, str]:
    import fsspec  # costs a tenth of a second, and comes with torch

    scheme = argument.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(argument)
    except ImportError as error:
        raise MissingExtraError(
            f"{scheme}:// needs another package ({error}). For s3:// and gs://: {install_command('cloud')}"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{argument} cannot be opened: {error}. Known are s3://, gs:// and the others of fsspec."
        ) from error
    return system, str(path)


def _walk(argument: str, system: Any, folder: str, recursive: bool) -> Iterator[tuple[str, str]]:
    """Yield path and name of the images in a folder and below; one folder is listed at a time."""
    entries = sorted(_call(argument, system.ls, folder, detail=True), key=lambda entry: entry["name"])
    files = [entry["name"] for entry in entries if entry["type"] == "file"]
    images = [name for name in files if _is_image(name)]
    stems = stems_of([PurePosixPath(name).name for name in images])
    for place, stem in zip(images, stems, strict=True):
        above = _below(str(PurePosixPath(place).parent), PurePosixPath(folder))
        prefix = "" if above == "." else f"{above}/"
        yield place, f"{prefix}{stem}"
    for entry in entries:
        subfolder = entry["name"].rstrip("/")
        if recursive and entry["type"] == "directory" and subfolder != folder.rstrip("/"):
            for place, name in _walk(argument, system, subfolder, recursive):
                yield place, f"{PurePosixPath(subfolder).name}/{name}"


def _read(argument: str, system: Any, place: str, limits: Limits) -> bytes:
    with _call(argument, system.open, place, "rb") as file:
        data: bytes = _call(argument, file.read, limits.size + 1)
    if len(data) > limits.size:
        raise DataError(
            f"{place} is larger than the {limits.size:,} bytes that are fetched of one picture. Copy it here and name "
            "the file."
        )
    return data


def _call(argument: str, call: Any, *arguments: Any, **options: Any) -> Any:
    """Call a driver and turn any of its errors into DataError: drivers share no exception class."""
    try:
        return call(*arguments, **options)
    except FileNotFoundError as error:
        raise DataError(f"There is no {arguments[0] if arguments else argument} ({argument}). Check it.") from error
    except Exception as error:  # of boto, google, aiohttp, ...
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{argument} cannot be read: {text}. Check the address, the connection and the keys."
        ) from error


def _below(name: str, root: PurePosixPath) -> str:
    path = PurePosixPath(name)
    return str(path.relative_to(root)) if root in (path, *path.parents) else path.name


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
