"""What was done, one line an image, so that a killed batch goes on where it stopped.

A line holds the hashes of the image and of each result, and of everything that the results depend on: model, classes,
the way to look, and what the writers were told. An image is done when all of these are as they would be now.
Lines are appended and forced to disk one by one; a line cut off by a crash counts as not written, and its image is
done again. Every shard has a manifest of its own, and all those in a folder are read.
"""

import contextlib
import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from hrseg.errors import DataError, HrsegError
from hrseg.inference.outputs import result_paths
from hrseg.inference.outputs.options import Options
from hrseg.inference.outputs.shards import Shard

_BLOCK = 2**20
_UNFINISHED = re.compile(r"\.(.{1,40})-[0-9a-f]{12}(\.\w+)")
"""Name of a file that `imaging.write_atomic` was about to write when the process was killed."""


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


class Done(Protocol):
    """What became of it: `runtime.FileResult` is one."""

    @property
    def name(self) -> str:
        """What its results are called."""
        ...

    @property
    def files(self) -> dict[str, Path]:
        """Kind → file."""
        ...

    @property
    def error(self) -> HrsegError | None:
        """Why it failed."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        ...


A = TypeVar("A", bound=Asked)
D = TypeVar("D", bound=Done)


class Manifest:
    """The record of one shard in one folder.

    Args:
        out: Folder of the results.
        facts: What the results depend on, as plain values; see `dependencies`.
        kinds: Kinds of results that are asked for.
        shard: Which part of the images this is.

    Attributes:
        kept: How many images were found done.
        again: Why others were done before and are done again → how many.
        found: Kind → file of each image that was found done.

    Raises:
        DataError: A manifest cannot be read.
    """

    def __init__(
        self,
        out: str | Path,
        facts: Mapping[str, Any],
        kinds: Sequence[str],
        shard: Shard | None = None,
    ) -> None:
        self.out = Path(out)
        self.path = self.out / f"{(shard or Shard()).named('manifest')}.jsonl"
        self.facts = json.loads(json.dumps(dict(facts)))
        self.made = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        self.kinds = tuple(kinds)
        self.kept = 0
        self.again: Counter[str] = Counter()
        self.found: list[dict[str, Path]] = []
        self._sources: dict[str, str] = {}
        self._lines = read_manifests(self.out)
        self._models = {
            line["made"]: line["facts"].get("model") for line in self._lines if "facts" in line
        }
        self._records: dict[str, list[dict[str, Any]]] = {}
        for line in self._lines:
            if "name" in line:
                self._records.setdefault(line["name"], []).append(line)
        self._told = self.made in self._models
        self._unfinished = _unfinished(self.out)

    def missing(self, pictures: Iterable[A]) -> Iterator[A]:
        """Yield the images that are not done; the results of the others are left as they are."""
        for fetched in pictures:
            picture, source = source_digest(fetched)
            reason = self._why(picture.name, source)
            if reason is None:
                self.kept += 1
                continue
            if reason:
                self.again[reason] += 1
            if source is not None:
                self._sources[picture.name] = source
            self._tidy(picture.name)
            yield picture

    def record(self, results: Iterable[D]) -> Iterator[D]:
        """Write down each result before it is handed on; those that failed are tried again next time."""
        for result in results:
            source = self._sources.pop(result.name, None)
            if result.error is None and source is not None:
                self._append(result, source)
            yield result

    def summary(self) -> str:
        """Say what was found; empty where there was nothing."""
        kept = f"{self.kept} image{'s' * (self.kept != 1)} done before and left as they are"
        again = ", ".join(f"{count} {reason}" for reason, count in sorted(self.again.items()))
        parts = [kept] * bool(self.kept) + [f"done again: {again}"] * bool(again)
        return "; ".join(parts)

    def _why(self, name: str, source: str | None) -> str | None:
        """Say why an image must be done: "" because it never was, None not at all."""
        found = self._records.get(name, [])
        if not found or source is None:
            return ""
        same = [line for line in found if line["source"] == source]
        if not same:
            return "because the image changed"
        ours = [line for line in same if line["made"] == self.made]
        if not ours:
            models = {self._models.get(line["made"]) for line in same}
            known = self.facts.get("model") in models
            return f"made with {'other options' if known else 'another model'}"
        for line in reversed(ours):
            if not set(self.kinds) <= set(line["kinds"]):
                continue
            files = {kind: self.out / entry["path"] for kind, entry in line["files"].items()}
            wanted = [kind for kind in files if kind in self.kinds]
            if all(_is(files[kind], line["files"][kind]) for kind in wanted):
                self.found.append(files)
                return None
            return "with a result that is missing or changed"
        return "without some of the kinds asked for now"

    def _tidy(self, name: str) -> None:
        """Remove what a killed run was about to write for an image; nobody else writes for it."""
        for target in result_paths(self.out, name, self.kinds).values() if self.kinds else ():
            for path in self._unfinished.pop((target.parent, target.stem[:40], target.suffix), []):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _append(self, result: Done, source: str) -> None:
        about = result.to_dict()
        line = {
            "name": result.name,
            "image": about["image"],
            "source": source,
            "made": self.made,
            "kinds": list(self.kinds),
            "height": about["height"],
            "width": about["width"],
            "confidence": about["confidence"],
            "files": {kind: _entry(path, self.out) for kind, path in result.files.items()},
        }
        lines = [] if self._told else [{"made": self.made, "facts": self.facts}]
        try:
            with self.path.open("a+b") as file:
                end = file.seek(0, os.SEEK_END)
                cut = end > 0 and _last_byte(self.path) != b"\n"
                text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in [*lines, line])
                file.write(b"\n" * cut + text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"Cannot write {self.path}: {error.strerror or error}. The results so far are whole. Free some space, "
                "or choose another folder."
            ) from error
        self._told = True


def _unfinished(out: Path) -> dict[tuple[Path, str, str], list[Path]]:
    found: dict[tuple[Path, str, str], list[Path]] = defaultdict(list)
    for path in out.rglob(".*"):
        match = _UNFINISHED.fullmatch(path.name)
        if match:
            found[path.parent, match[1], match[2]].append(path)
    return found


def dependencies(facts: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Put together what results depend on but the image: a predictor's facts and the writers' options."""
    return {**facts, "options": asdict(options)}


def read_manifests(out: Path) -> list[dict[str, Any]]:
    """Read the lines of all manifests in a folder, those that were cut off or damaged left out.

    Raises:
        DataError: A file cannot be read.
    """
    lines = []
    for path in sorted(out.glob("manifest*.jsonl")):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"The manifest {path} cannot be read: {error.strerror}. Give access to it, or choose another folder "
                "with --out."
            ) from error
        for row in content.splitlines():
            try:
                line = json.loads(row)
            except ValueError:
                continue
            if isinstance(line, dict) and "made" in line:
                lines.append(line)
    return lines


def source_digest(picture: A) -> tuple[A, str | None]:
    """Hash an image's file, or its pixels where it has none; None where it cannot be read.

    What had to be fetched for it comes back with the picture, so that it is fetched once.
    """
    if picture.path is not None:
        return picture, file_digest(Path(picture.path))
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


def file_digest(path: Path) -> str | None:
    """Hash a file; None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def _entry(path: Path, out: Path) -> dict[str, Any]:
    place = path.relative_to(out).as_posix()
    return {"path": place, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def _is(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        same = path.stat().st_size == entry["bytes"]
    except OSError:
        return False
    return same and file_digest(path) == entry["sha256"]


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
