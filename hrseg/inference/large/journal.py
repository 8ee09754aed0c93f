"""Journal of finished strips on disk, from which a killed run resumes.

A folder beside the results holds one file of compressed strips for each map, and a journal with one line for each
strip. A line is written after its strips are flushed to disk, so that everything behind the last complete line is
truncated on resumption.
"""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from hrseg.errors import DataError, parse_json

log = logging.getLogger(__name__)

_JOURNAL = "journal.jsonl"
_LEVEL = 1  # fast: the final file is compressed again


class Journal:
    """Strips of several maps, appended from top to bottom.

    Args:
        folder: Created if missing.
        settings: All settings that the strips depend on. Strips of other settings are discarded.

    Raises:
        DataError: Another process writes here, or nothing can be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self.header: dict[str, Any] = {}
        self.strips: list[dict[str, Any]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / "lock", timeout=0)
            self._lock.acquire()
            self._open()
        except Timeout as error:
            raise DataError(
                f"{folder} belongs to a run that is still writing. Wait for it, or choose another folder with --out."
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    @property
    def rows(self) -> int:
        """Finished rows."""
        return int(self.strips[-1]["bottom"]) if self.strips else 0

    def begin(self) -> None:
        """Discard everything, and begin a new journal."""
        self.header = {"facts": self.settings}
        self.strips = []
        for file in self.folder.iterdir():
            if file.name != "lock":
                file.unlink()
        self._append(_JOURNAL, (json.dumps(self.header) + "\n").encode())

    def put(self, bottom: int, maps: dict[str, np.ndarray], **numbers: Any) -> None:
        """Add a strip of every map, and numbers about it.

        Raises:
            DataError: The disk is full.
        """
        ends, shapes = {}, {}
        try:
            for name, values in maps.items():
                packed = zlib.compress(np.ascontiguousarray(values).data, _LEVEL)
                ends[name] = self._append(f"{name}.z", packed)  # where the strip ends in its file
                shapes[name] = [*values.shape, values.dtype.str]
            strip = {"bottom": bottom, "ends": ends, "shapes": shapes, **numbers}
            self._append(_JOURNAL, (json.dumps(strip) + "\n").encode())
        except OSError as error:
            raise self._unwritable(error) from error
        self.strips.append(strip)

    def read(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the strips of a map with their first rows, from top to bottom.

        Raises:
            DataError: The file was damaged since.
        """
        begin = top = 0
        try:
            with (self.folder / f"{name}.z").open("rb") as file:
                for strip in self.strips:
                    packed = file.read(strip["ends"][name] - begin)
                    *shape, kind = strip["shapes"][name]
                    yield top, np.frombuffer(zlib.decompress(packed), kind).reshape(shape)
                    begin, top = strip["ends"][name], top + shape[0]
        except (OSError, zlib.error, ValueError) as error:
            raise DataError(
                f"The unfinished results in {self.folder} are damaged: {error}. Delete that folder and run again."
            ) from error

    def remove(self) -> None:
        """Delete the folder."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Release the folder, for a later run to resume."""
        self._lock.release()

    def _open(self) -> None:
        """Read the journal up to its last complete line, and truncate all files to it."""
        journal = self.folder / _JOURNAL
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        try:
            found = [parse_json(line) for line in lines]
            self.header, self.strips = found[0], found[1:]
            same = self.header["facts"] == self.settings
        except (ValueError, LookupError, TypeError):
            self.header, self.strips, same = {}, [], False
        if not same:
            if self.strips:
                before = self.header.get("facts", {})
                names = [name for name in self.settings if before.get(name) != self.settings[name]]
                log.warning(
                    "An earlier run finished %d rows, but with another %s; the image starts from the beginning.",
                    *(self.rows, ", ".join(names) or "version"),
                )
            self.header, self.strips = {}, []
            return
        found, self.strips = self.strips, self._whole(self.strips)
        if len(self.strips) < len(found):
            log.warning(
                "%s is damaged: what is unfinished there is computed again from row %d on.",
                *(self.folder, self.rows),
            )
        ends = self.strips[-1]["ends"] if self.strips else {}
        for file in self.folder.glob("*.z"):
            os.truncate(file, ends.get(file.stem, 0))
        complete = lines[: 1 + len(self.strips)]
        os.truncate(journal, sum(len(line) + 1 for line in complete))

    def _whole(self, strips: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the strips up to the first one that cannot be read."""
        begins: dict[str, int] = {}
        for number, strip in enumerate(strips):
            try:
                for name, end in strip["ends"].items():
                    with (self.folder / f"{name}.z").open("rb") as file:
                        file.seek(begins.get(name, 0))
                        packed = file.read(end - begins.get(name, 0))
                    *shape, kind = strip["shapes"][name]
                    np.frombuffer(zlib.decompress(packed), kind).reshape(shape)
                int(strip["bottom"])
            except (OSError, zlib.error, ValueError, LookupError, TypeError, AttributeError):
                return strips[:number]
            begins = strip["ends"]
        return strips

    def _append(self, name: str, content: bytes) -> int:
        with (self.folder / name).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(
            f"Cannot write to {self.folder}: {error.strerror or error}. Free some space, or choose another folder; "
            "the same command resumes."
        )
