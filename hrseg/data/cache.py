"""Decoded images on disk: the second epoch reads pixels instead of unpacking files.

Each file becomes one uint8 (or integer) array under data.cache, mapped into memory, so that a crop reads only its
own pages. An entry is named by the file's path, size and time of change; a changed file gets a new entry, and the
old one goes. Several processes may share a cache: entries appear whole, and a lock guards the count of bytes. A
full cache takes nothing more in; it never drops an entry for another, since every epoch comes by all of them.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from hrseg.data.dataset import read_ids
from hrseg.data.layouts import Pair
from hrseg.errors import DataError
from hrseg.imaging import write_atomic
from hrseg.imaging.archives import in_archive
from hrseg.imaging.png_rows import open_picture, pixels

log = logging.getLogger(__name__)
_HEAD = 4096
"""Bytes that an entry may be larger than its pixels."""


class CachedReader:
    """Reads pairs as `read_pair` does, through a cache. It can be sent to loader processes.

    Args:
        folder: Of the cache; it is made.
        gigabytes: Most that the cache may hold, in 10^9 bytes.
        bands: Bands of the images, see `read_bands`; None reads RGB.
        bits: Significant bits of 16-bit files; None: what the file says.

    Raises:
        DataError: The folder cannot be made or written.
    """

    def __init__(
        self,
        folder: str | Path,
        gigabytes: float,
        bands: Sequence[int] | None = None,
        bits: int | None = None,
    ) -> None:
        self.bands, self.bits = bands, bits
        self.folder = Path(folder).expanduser().resolve()
        self.limit = int(gigabytes * 1e9)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"The cache {self.folder} cannot be made: {error.strerror}. Set data.cache to a folder that can be "
                "written, or to null."
            ) from error

    def __call__(self, pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
        """Read image and ids of a pair."""
        kind = "rgb" if self.bands is None else f"bands {list(self.bands)}"
        kind += "" if self.bits is None else f" of {self.bits} bits"
        image = self._kept(
            pair.image, kind, lambda: pixels(open_picture(pair.image, self.bands, self.bits))
        )
        if pair.mask is None:
            return image, None
        return image, self._kept(pair.mask, "ids", lambda: _ids(pair))

    def _kept(self, path: Path, kind: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        place, stamp = self._entry(path, kind)
        entry = place / f"{stamp}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged: made anew
            return np.asarray(np.load(entry, mmap_mode="r", allow_pickle=False))
        values = decode()
        if self._reserve(values.nbytes + _HEAD, place):
            try:
                with write_atomic(entry) as temporary:
                    np.save(temporary, values, allow_pickle=False)
            except DataError:  # the disk is full before the cache is
                self._count(-(values.nbytes + _HEAD))
        return values

    def _entry(self, path: Path, kind: str) -> tuple[Path, str]:
        """Return the folder of a file's entries and the name of the one that is true now."""
        named = os.fsencode(f"{kind}:{os.path.abspath(path)}")
        name = hashlib.sha256(named).hexdigest()[:32]
        try:
            there = (in_archive(path) or path).stat()
        except OSError as error:
            raise DataError(f"No such file: {path}. Check the path.") from error
        return self.folder / name[:2] / name, f"{there.st_size}-{there.st_mtime_ns}"

    def _reserve(self, size: int, place: Path) -> bool:
        """Count the bytes of a new entry, unless the cache would hold too much; older entries of the file go."""
        with self._lock:
            used = self._used()
            for old in place.glob("*.npy"):
                used -= old.stat().st_size
                old.unlink()
            fits = used + size <= self.limit
            self._write(used + size if fits else used)
        if not fits and not (self.folder / "full").exists():
            with contextlib.suppress(OSError):
                (self.folder / "full").touch()
            log.info(
                "the cache %s is full (%.1f GB); other files are decoded each time",
                self.folder,
                used / 1e9,
            )
        return fits

    def _count(self, change: int) -> None:
        with self._lock:
            self._write(self._used() + change)

    @property
    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock", timeout=60)

    def _used(self) -> int:
        """Return the bytes counted so far; where the count is missing, the files are looked at."""
        try:
            return int((self.folder / "bytes").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return sum(path.stat().st_size for path in self.folder.rglob("*.npy"))

    def _write(self, used: int) -> None:
        with write_atomic(self.folder / "bytes") as temporary:
            temporary.write_text(str(used), encoding="ascii")


def _ids(pair: Pair) -> np.ndarray:
    ids = read_ids(pair)
    if ids is None:
        raise DataError(f"{pair.image} has no mask.")
    return ids
