"""SHA-256 of what is to be segmented: of an image's file, its pixels, or the bytes that were fetched for it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from hrseg.digests import file_digest
from hrseg.errors import HrsegError


class Asked(Protocol):
    """What is to be segmented: `inference.sources.Picture` is one."""

    @property
    def origin(self) -> str:
        """What a person would call it."""
        ...

    @property
    def name(self) -> str:
        """What its results are called."""
        ...

    @property
    def path(self) -> Path | None:
        """Its file."""
        ...

    @property
    def pixels(self) -> np.ndarray | None:
        """Its pixels, where it has no file."""
        ...

    @property
    def fetch(self) -> Callable[[], bytes] | None:
        """Gives the bytes of its file, where that is not on disk."""
        ...


A = TypeVar("A", bound=Asked)


def source_digest(picture: A) -> tuple[A, str | None]:
    """Hash an image's file, or its pixels where it has none; None where it cannot be read.

    What had to be fetched for it comes back with the picture, so that it is fetched once.
    """
    if picture.path is not None:
        return picture, readable_digest(Path(picture.path))
    if picture.pixels is not None:
        pixels = np.ascontiguousarray(picture.pixels)
        digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
        digest.update(pixels.data)
        return picture, digest.hexdigest()
    if picture.fetch is None:
        return picture, None
    try:
        content = picture.fetch()
    except HrsegError:
        return picture, None  # whoever decodes it will say why
    kept: Any = replace(picture, fetch=lambda: content)  # type: ignore[type-var]
    return kept, hashlib.sha256(content).hexdigest()


def readable_digest(path: Path) -> str | None:
    """Hash a file; None where it cannot be read."""
    try:
        return file_digest(path)
    except OSError:
        return None
