"""Finished bands on disk, and the journal that tells which: a run that is killed goes on after the last of them.

A folder beside the results holds one file of packed bands for each map, and a journal with one line for each
band. A line is written when its bands are safely on disk, so whatever a kill leaves behind the last whole line
is cut off.
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

from hrseg.errors import DataError

log = logging.getLogger(__name__)

_JOURNAL = "journal.jsonl"
_LEVEL = 1  # the final file is packed again


class Spool:
    """Bands of several maps, appended from top to bottom.

    Args:
        folder: Is made where it is missing, and goes with `remove`.
        facts: All that the bands depend on. Bands of other facts are thrown away.

    Raises:
        DataError: Another process writes here, or nothing can be written.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.facts = json.loads(json.dumps(facts))
        self.head: dict[str, Any] = {}
        self.bands: list[dict[str, Any]] = []
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
        """How many rows are finished."""
        return int(self.bands[-1]["bottom"]) if self.bands else 0

    def begin(self) -> None:
        """Start anew."""
        self.head = {"facts": self.facts}
        self.bands = []
        for file in self.folder.iterdir():
            if file.name != "lock":
                file.unlink()
        self._append(_JOURNAL, (json.dumps(self.head) + "\n").encode())

    def put(self, bottom: int, maps: dict[str, np.ndarray], **numbers: Any) -> None:
        """Add a band of every map, and what else is known of it.

        Raises:
            DataError: The disk is full.
        """
        ends, shapes = {}, {}
        try:
            for name, values in maps.items():
                packed = zlib.compress(np.ascontiguousarray(values).data, _LEVEL)
                ends[name] = self._append(f"{name}.z", packed)
                shapes[name] = [*values.shape, values.dtype.str]
            band = {"bottom": bottom, "ends": ends, "shapes": shapes, **numbers}
            self._append(_JOURNAL, (json.dumps(band) + "\n").encode())
        except OSError as error:
            raise self._unwritable(error) from error
        self.bands.append(band)

    def read(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the bands of a map with their first rows, from top to bottom.

        Raises:
            DataError: The file was damaged since.
        """
        begin = top = 0
        try:
            with (self.folder / f"{name}.z").open("rb") as file:
                for band in self.bands:
                    packed = file.read(band["ends"][name] - begin)
                    *shape, kind = band["shapes"][name]
                    yield top, np.frombuffer(zlib.decompress(packed), kind).reshape(shape)
                    begin, top = band["ends"][name], top + shape[0]
        except (OSError, zlib.error, ValueError) as error:
            raise DataError(
                f"The unfinished results in {self.folder} are damaged: {error}. Delete that folder and run again."
            ) from error

    def remove(self) -> None:
        """Delete the folder."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Leave the folder for a later run."""
        self._lock.release()

    def _open(self) -> None:
        """Read the journal up to its last whole line, and cut all files to it."""
        journal = self.folder / _JOURNAL
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        try:
            found = [json.loads(line) for line in lines]
            self.head, self.bands = found[0], found[1:]
            same = self.head["facts"] == self.facts
        except (ValueError, LookupError, TypeError):
            self.head, self.bands, same = {}, [], False
        if not same:
            if self.bands:
                log.warning("%s", self._changed())
            self.head, self.bands = {}, []
            return
        while self.bands and not self._there(self.bands[-1]):
            self.bands.pop()
        ends = self.bands[-1]["ends"] if self.bands else {}
        for file in self.folder.glob("*.z"):
            os.truncate(file, ends.get(file.stem, 0))
        kept = b"".join(line + b"\n" for line in lines[: 1 + len(self.bands)])
        os.truncate(journal, len(kept))

    def _there(self, band: dict[str, Any]) -> bool:
        files = {name: self.folder / f"{name}.z" for name in band["ends"]}
        return all(
            file.exists() and file.stat().st_size >= band["ends"][name]
            for name, file in files.items()
        )

    def _changed(self) -> str:
        before = self.head.get("facts", {})
        names = [name for name in self.facts if before.get(name) != self.facts[name]]
        return (
            f"An earlier run finished {self.rows} rows, but with another {', '.join(names) or 'version'}; all begins "
            "anew."
        )

    def _append(self, name: str, content: bytes) -> int:
        with (self.folder / name).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(
            f"Cannot write to {self.folder}: {error.strerror or error}. Free some space, or choose another folder; "
            "the same command goes on where this one stopped."
        )
