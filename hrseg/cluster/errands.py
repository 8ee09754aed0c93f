"""What goes to the workers and comes back: plain records, as few and small as can be.

Pictures travel as paths and addresses, never as pixels: each worker reads its own from the shared disk or the web.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hrseg.errors import ConfigError, HrsegError
from hrseg.inference.outputs import Options
from hrseg.inference.predict_files import FileResult
from hrseg.inference.sources import Picture

LARGEST = 64
"""Pictures in one errand at most: so many are begun again when a worker dies."""
SHARES = 8
"""Errands for each worker at least, where there are pictures enough, so that all are busy until the end."""
Line = Mapping[str, Any]
"""One line of a manifest."""


@dataclass(frozen=True)
class Plan:
    """What all workers are told.

    Attributes:
        out: Folder of the results, from the root of the shared disk.
        kinds: Kinds of results.
        options: What their writers are told.
        opening: Options of `runtime.open_predictor`.
        working: Options of `runtime.predict_files`.
        facts: Lines of older manifests that say what results were made with.
    """

    out: Path
    kinds: tuple[str, ...]
    options: Options
    opening: Mapping[str, Any] = field(default_factory=dict)
    working: Mapping[str, Any] = field(default_factory=dict)
    facts: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Errand:
    """A few pictures for one worker.

    Attributes:
        number: Of the errand; none is used twice in a job.
        pictures: With paths from the root of the disk, or with addresses.
        known: Lines of older manifests about them.
    """

    number: int
    pictures: tuple[Picture, ...]
    known: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What became of an errand.

    Attributes:
        number: Of the errand.
        facts: What this worker's results depend on but the image.
        results: One for each picture that was not done before.
        lines: For the manifest, of the results that did not fail.
        kept: How many pictures were found done.
        again: Why others are done again → how many.
        found: Kind → file of each picture that was found done.
        failure: Why the whole job cannot go on.
    """

    number: int
    facts: dict[str, Any] = field(default_factory=dict)
    results: tuple[FileResult, ...] = ()
    lines: tuple[Line, ...] = ()
    kept: int = 0
    again: Counter[str] = field(default_factory=Counter)
    found: tuple[dict[str, Path], ...] = ()
    failure: Exception | None = None


def portable(picture: Picture) -> Picture:
    """Return a picture that any machine can read: its path from the root, or its address.

    Raises:
        ConfigError: Only one machine can read it.
    """
    if picture.path is not None:
        return replace(picture, path=picture.path.expanduser().absolute())
    if picture.clip is None and picture.pixels is None and "://" in picture.origin:
        return picture
    raise ConfigError(
        f"{picture.origin} comes from a video, a camera, an archive or standard input, which one machine reads from "
        "beginning to end. Predict it without --ray, or put its images into a folder on the shared disk and name that."
    )


def errands_of(
    pictures: Sequence[Picture],
    workers: int,
    known: Mapping[str, Iterable[Line]],
    *,
    first: int = 0,
    largest: int = LARGEST,
) -> list[Errand]:
    """Divide pictures among workers, in order.

    Args:
        pictures: All of them.
        workers: How many share them.
        known: Name → lines of older manifests.
        first: Number of the first errand.
        largest: Pictures in an errand at most.

    Example:
        >>> pictures = [Picture(name, name) for name in "abcdefghijklmnopq"]
        >>> [len(errand.pictures) for errand in errands_of(pictures, 1, {})]
        [3, 3, 3, 3, 3, 2]
    """
    size = min(largest, max(1, math.ceil(len(pictures) / (workers * SHARES))))
    groups = [tuple(pictures[i : i + size]) for i in range(0, len(pictures), size)]
    return [
        Errand(first + i, group, tuple(line for one in group for line in known.get(one.name, ())))
        for i, group in enumerate(groups)
    ]


def failed(picture: Picture, error: HrsegError) -> FileResult:
    """Return the result of a picture that nobody could do."""
    return FileResult(shown(picture), name=picture.name, time=picture.time, error=error)


def shown(picture: Picture) -> Path | str:
    """Return what a picture was called when it was named."""
    return picture.origin if picture.path is None else Path(picture.origin)
