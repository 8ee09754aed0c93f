"""Images in other file systems, through fsspec: s3://, gs:// and whatever else it has a driver for."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from hrseg.errors import DataError, MissingExtraError
from hrseg.imaging import IMAGE_SUFFIXES
from hrseg.inference.sources.names import safe_name, stems_of
from hrseg.inference.sources.picture import Limits, Picture, Source, Wishes

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_MAGIC = re.compile(r"[*?[]")


def is_cloud(word: str) -> bool:
    """Tell whether a word names another file system.

    Example:
        >>> is_cloud("s3://bucket/a.png"), is_cloud("C:/a.png"), is_cloud("a.png")
        (True, False, False)
    """
    return _ADDRESS.match(word) is not None


def open_cloud(word: str, wishes: Wishes) -> Source:
    """Open a file, a folder or a glob of another file system. Keys are taken where its driver looks for them.

    Raises:
        DataError: There is nothing, or no access.
        MissingExtraError: The driver is not installed.
    """
    system, path = _system(word)
    scheme = word.partition("://")[0].lower()
    names: list[str] | None
    if _MAGIC.search(path):
        found = sorted(str(one) for one in _ask(word, system.glob, path))
        root = PurePosixPath(path[: _MAGIC.search(path).start()] + "x").parent  # type: ignore[union-attr]
        names = [name for name in found if _is_image(name)]
    elif _ask(word, system.isfile, path):
        root, names = PurePosixPath(path).parent, [path]
    else:
        first = next(_walk(word, system, path, wishes.recursive), None)
        root, names = PurePosixPath(path), None if first else []
    if names == []:
        raise DataError(
            f"No images at {word}. Name a file, a folder with images, or a glob such as {scheme}://bucket/photos/*.jpg."
        )

    def pictures() -> Iterator[Picture]:
        if names is None:
            listed = _walk(word, system, path, wishes.recursive)
        else:
            listed = ((name, _below(name.rpartition(".")[0], root)) for name in names)
        for place, name in listed:
            yield Picture(
                f"{scheme}://{place.lstrip('/')}",
                safe_name(name, stem=False),
                fetch=partial(_read, word, system, place, wishes.limits),
            )

    return Source(pictures)


def _system(word: str) -> tuple[Any, str]:
    """Return the file system and the path in it."""
    import fsspec  # costs a tenth of a second, and comes with torch

    scheme = word.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(word)
    except ImportError as error:
        raise MissingExtraError(
            f"{scheme}:// needs another package ({error}). For s3:// and gs://: pip install 'hrseg[cloud]'"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{word} cannot be opened: {error}. Known are s3://, gs:// and the others of fsspec."
        ) from error
    return system, str(path)


def _walk(word: str, system: Any, folder: str, recursive: bool) -> Iterator[tuple[str, str]]:
    """Give path and name of the images in a folder and below, one folder's list at a time."""
    entries = sorted(_ask(word, system.ls, folder, detail=True), key=lambda entry: entry["name"])
    files = [entry["name"] for entry in entries if entry["type"] == "file"]
    images = [name for name in files if _is_image(name)]
    stems = stems_of([PurePosixPath(name).name for name in images])
    for place, stem in zip(images, stems, strict=True):
        above = _below(str(PurePosixPath(place).parent), PurePosixPath(folder))
        inside = "" if above == "." else f"{above}/"
        yield place, f"{inside}{stem}"
    for entry in entries:
        deeper = entry["name"].rstrip("/")
        if recursive and entry["type"] == "directory" and deeper != folder.rstrip("/"):
            for place, name in _walk(word, system, deeper, recursive):
                yield place, f"{PurePosixPath(deeper).name}/{name}"


def _read(word: str, system: Any, place: str, limits: Limits) -> bytes:
    with _ask(word, system.open, place, "rb") as file:
        data: bytes = _ask(word, file.read, limits.size + 1)
    if len(data) > limits.size:
        raise DataError(
            f"{place} is larger than the {limits.size:,} bytes that are fetched of one picture. Copy it here and name "
            "the file."
        )
    return data


def _ask(word: str, call: Any, *words: Any, **options: Any) -> Any:
    """Call a driver; what it raises is anybody's choice, and all of it means that there is no picture."""
    try:
        return call(*words, **options)
    except FileNotFoundError as error:
        raise DataError(f"There is no {words[0] if words else word} ({word}). Check it.") from error
    except Exception as error:  # of boto, google, aiohttp, ...: they share no parent
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{word} cannot be read: {text}. Check the address, the connection and the keys."
        ) from error


def _below(name: str, root: PurePosixPath) -> str:
    path = PurePosixPath(name)
    return str(path.relative_to(root)) if root in (path, *path.parents) else path.name


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
