"""Manifests of predicted images, by which an interrupted batch resumes.

A line holds the hashes of an image, of each of its results, and of all that they depend on: model, classes, protocol
and writer options. An image is done if all of these still match. Lines are appended and synced to disk one by one; a
truncated line is ignored, and its image is predicted again. Every shard has its own manifest, and all manifests in a
folder are read.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrseg.errors import DataError, HrsegError, parse_json, write_hint
from hrseg.inference.outputs import possible_paths
from hrseg.inference.outputs.class_areas import read_table, total, write_table
from hrseg.inference.outputs.options import Options, Shard
from hrseg.weights.checkpoint_io import file_digest

if TYPE_CHECKING:
    from hrseg.inference.pipeline import FileResult
    from hrseg.inference.sources import Picture

log = logging.getLogger(__name__)

TOTALS = {"areas": "areas.json", "areas_csv": "areas.csv"}
"""Kind of table → file of its total, beside the results."""
_TEMPORARY = re.compile(r"\.(.{1,40})-[0-9a-f]{12}(\.\w+)")
"""Name of a file that `imaging.write_atomic` has not renamed yet."""


def source_digest(picture: "Picture") -> "tuple[Picture, str | None]":
    """Hash an image's file or pixels; None where it cannot be read.

    Fetched content comes back in the picture, so that it is fetched once.
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
        return picture, None  # decoding will report the reason
    return replace(picture, fetch=lambda: content), hashlib.sha256(content).hexdigest()


def readable_digest(path: Path) -> str | None:
    """Hash a file; None where it cannot be read."""
    try:
        return file_digest(path)
    except OSError:
        return None


class Manifest:
    """The manifest of one shard in one folder.

    Args:
        out: Folder of the results.
        settings: What the results depend on, as plain values; see `dependencies`.
        kinds: Requested kinds of results.
        shard: The part of the images that is processed here.
        lines: Existing lines, where another process reads and writes the folder; None reads them.

    Attributes:
        done: Number of images that are done already.
        again: Reason to predict an image again → number of images.
        found: Kind → file of each image that is done already.

    Raises:
        DataError: A manifest cannot be read.
    """

    def __init__(
        self,
        out: str | Path,
        settings: Mapping[str, Any],
        kinds: Sequence[str],
        shard: Shard | None = None,
        lines: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        self.out = Path(out)
        self.path = self.out / f"{(shard or Shard()).named('manifest')}.jsonl"
        self.settings = json.loads(json.dumps(dict(settings)))
        self.made = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        self.kinds = tuple(kinds)
        self.done = 0
        self.again: Counter[str] = Counter()
        self.found: list[dict[str, Path]] = []
        self._sources: dict[str, str] = {}
        known = read_manifests(self.out) if lines is None else list(lines)
        self._models = {line["made"]: line["facts"].get("model") for line in known if "facts" in line}
        self._records: dict[str, list[Mapping[str, Any]]] = {}
        for line in known:
            if "name" in line:
                self._records.setdefault(line["name"], []).append(line)
        self._has_settings = self.made in self._models
        self._unfinished = Unfinished(self.out) if lines is None else None

    def missing(self, pictures: "Iterable[Picture]") -> "Iterator[Picture]":
        """Yield the images that are not done."""
        for fetched in pictures:
            picture, source = source_digest(fetched)
            reason = self._reason(picture.name, source)
            if reason is None:
                self.done += 1
                continue
            if reason:
                self.again[reason] += 1
            if source is not None:
                self._sources[picture.name] = source
            if self._unfinished is not None and self.kinds:
                self._unfinished.remove(possible_paths(self.out, picture.name, self.kinds))
            yield picture

    def record(self, results: "Iterable[FileResult]") -> "Iterator[FileResult]":
        """Append each result before it is passed on; failed ones are tried again next time."""
        for result in results:
            if (line := self.record_of(result)) is not None:
                self.append(line)
            yield result

    def summary(self) -> str:
        """Return the numbers of skipped and repeated images as text; empty where there are none."""
        done = f"{self.done} image{'s' * (self.done != 1)} done before and skipped"
        again = ", ".join(f"{count} {reason}" for reason, count in sorted(self.again.items()))
        parts = [done] * bool(self.done) + [f"done again: {again}"] * bool(again)
        return "; ".join(parts)

    def _reason(self, name: str, source: str | None) -> str | None:
        """Return why an image must be predicted: "" if it never was, None if it is done."""
        found = self._records.get(name, [])
        if not found or source is None:
            return ""
        same = [line for line in found if line["source"] == source]
        if not same:
            return "because the image changed"
        current = [line for line in same if line["made"] == self.made]
        if not current:
            models = {self._models.get(line["made"]) for line in same}
            known = self.settings.get("model") in models
            return f"made with {'other options' if known else 'another model'}"
        for line in reversed(current):
            if not set(self.kinds) <= set(line["kinds"]):
                continue
            files = {kind: self.out / entry["path"] for kind, entry in line["files"].items()}
            wanted = [kind for kind in files if kind in self.kinds]
            if all(_is_intact(files[kind], line["files"][kind]) for kind in wanted):
                self.found.append(files)
                return None
            return "with a result that is missing or changed"
        return "without some of the kinds asked for now"

    def record_of(self, result: "FileResult") -> dict[str, Any] | None:
        """Return the line of a result; None where prediction failed."""
        source = self._sources.pop(result.name, None)
        if result.error is not None or source is None:
            return None
        about = result.to_dict()
        return {
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

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line down, forced to disk.

        Raises:
            DataError: It cannot be written.
        """
        head = [] if self._has_settings else [{"made": self.made, "facts": self.settings}]
        try:
            with self.path.open("a+b") as file:
                end = file.seek(0, os.SEEK_END)
                cut = end > 0 and _last_byte(self.path) != b"\n"  # a killed run left half a line
                text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (*head, line))
                file.write(b"\n" * cut + text.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"Cannot write {self.path}: {error.strerror or error}. The results so far are whole. "
                f"{write_hint(error)}"
            ) from error
        self._has_settings = True


def dependencies(settings: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Return what results depend on besides the image: the predictor's settings and the options of the writers."""
    return {**settings, "options": asdict(options)}


def read_manifests(out: Path) -> list[dict[str, Any]]:
    """Read the valid lines of all manifests in a folder.

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
        rows = [_parse_line(row) for row in content.split(b"\n")]
        lines += [row for row in rows if row is not None]
        damaged = rows[:-1].count(None)  # a killed run leaves the last one cut off
        if damaged:
            log.warning(
                "%s: %d damaged lines are passed over; images that no other line names are done again.",
                *(path, damaged),
            )
    return lines


def _parse_line(row: bytes) -> dict[str, Any] | None:
    """Return a line of a manifest; None for one that is damaged."""
    try:
        line: dict[str, Any] = parse_json(row)
        texts = [line["made"]]
        if "facts" in line:
            line["facts"].get("model")
        else:
            texts += [line["name"], line["source"], *line["kinds"], *line["files"]]
            texts += [entry["path"] for entry in line["files"].values() if entry["bytes"] >= 0]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return line if all(isinstance(text, str) for text in texts) else None


def _entry(path: Path, out: Path) -> dict[str, Any]:
    place = path.relative_to(out).as_posix()
    return {"path": place, "bytes": path.stat().st_size, "sha256": readable_digest(path)}


def _is_intact(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        same = path.stat().st_size == entry["bytes"]
    except OSError:
        return False
    return same and readable_digest(path) == entry["sha256"]


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


class Job:
    """A run over many images, or one machine's shard of it.

    Args:
        out: Folder of the results.
        kinds: Kinds of results.
        options: Writer options.
        shard: The part of the images that this machine processes.
        settings: Those of the predictor; given, a manifest is written, and intact results are skipped.

    Raises:
        DataError: A manifest cannot be read.
    """

    def __init__(
        self,
        out: str | Path,
        kinds: Sequence[str],
        options: Options | None = None,
        shard: Shard | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.out = Path(out)
        self.kinds = tuple(kinds)
        self.shard = shard or Shard()
        self.manifest: Manifest | None = None
        if settings is not None:
            about = dependencies(settings, options or Options())
            self.manifest = Manifest(self.out, about, kinds, self.shard)

    def pictures(self, pictures: "Iterable[Picture]") -> "Iterator[Picture]":
        """Yield the images to predict, in order."""
        chosen = self.shard.take(pictures)
        return self._replacing(chosen) if self.manifest is None else self.manifest.missing(chosen)

    def _replacing(self, pictures: "Iterable[Picture]") -> "Iterator[Picture]":
        """Pass pictures on, and warn once if results of an earlier run are replaced."""
        warned = not self.kinds
        for picture in pictures:
            older = None if warned else _first_there(self.out, picture.name, self.kinds)
            if older is not None:
                warned = True
                log.warning(
                    "%s is replaced: an earlier run wrote it, perhaps of another image of that name. Other results in "
                    "%s are replaced as well. --out names another folder, --resume skips finished images.",
                    *(older.name, self.out),
                )
            yield picture

    def results(self, results: "Iterable[FileResult]") -> "Iterator[FileResult]":
        """Pass results on, record them, and write the totals at the end."""
        return self.summed(results if self.manifest is None else self.manifest.record(results))

    def summed(self, results: "Iterable[FileResult]") -> "Iterator[FileResult]":
        """Pass results on without recording them, and write the totals at the end."""
        tables: dict[str, list[Path]] = {kind: [] for kind in TOTALS if kind in self.kinds}
        for result in results:
            for kind, found in tables.items():
                if kind in result.files:
                    found.append(result.files[kind])
            yield result
        for kind, found in tables.items():
            known = [] if self.manifest is None else self.manifest.found
            found += [files[kind] for files in known if kind in files]
            if found:
                place = Path(TOTALS[kind])
                target = self.out / f"{self.shard.named(place.stem)}{place.suffix}"
                write_table(target, total(read_table(path) for path in sorted(found)))

    @property
    def summary(self) -> str:
        """See `Manifest.summary`."""
        return "" if self.manifest is None else self.manifest.summary()


def _first_there(out: Path, name: str, kinds: Iterable[str]) -> Path | None:
    return next((path for path in possible_paths(out, name, kinds) if path.exists()), None)


class Unfinished:
    """Temporary files of earlier, interrupted writers in a folder, listed once."""

    def __init__(self, out: Path) -> None:
        self._found: dict[tuple[Path, str, str], list[Path]] = defaultdict(list)
        for path in out.rglob(".*"):
            match = _TEMPORARY.fullmatch(path.name)
            if match:
                self._found[path.parent, match[1], match[2]].append(path)

    def remove(self, targets: Iterable[Path]) -> None:
        """Remove the temporary files of these targets; no other process may be writing them."""
        for target in targets if self._found else ():
            for path in self._found.pop((target.parent, target.stem[:40], target.suffix), []):
                with contextlib.suppress(OSError):
                    path.unlink()
