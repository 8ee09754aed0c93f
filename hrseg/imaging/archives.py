"""Files inside zip archives, under paths that read as if the archive were a folder.

`data/leftImg8bit_trainvaltest.zip/leftImg8bit/train/...` is such a path. A folder that holds archives serves what
is in them beside its own files, so the archives of a dataset can lie in data.root as they were fetched.
"""

import fnmatch
import functools
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hrseg.errors import DataError

_SMALL = 16 << 20
"""Bytes up to which it does not matter how well a file was packed."""
_HANDLES: dict[tuple[int, Path, int], zipfile.ZipFile] = {}
"""(process, archive, its time) → open archive: a forked process must not share a place in a file with its parent."""


class ArchivedPath(type(Path())):  # type: ignore[misc]
    """A path that looks into zip archives: one above it, or those in the nearest folder above it.

    Only what layouts ask of a path is there; a path on disk answers as always.
    """

    __slots__ = ()

    def is_file(self, **options: Any) -> bool:
        """Tell whether it is a file, on disk or in an archive."""
        return Path(self).is_file() or _entry(Path(self)) is not None

    def is_dir(self, **options: Any) -> bool:
        """Tell whether it is a folder, on disk or in an archive."""
        return Path(self).is_dir() or any(inside in _folders(a) for a, inside in _places(self))

    def exists(self, **options: Any) -> bool:
        """Tell whether there is such a file or folder."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator["ArchivedPath"]:
        """Give the files and folders in here."""
        names = {path.name for path in Path(self).iterdir()} if Path(self).is_dir() else set()
        for archive, inside in _places(self):
            names |= _folders(archive).get(inside, set())
        for name in sorted(names):
            yield self / name

    def glob(self, pattern: Any, **options: Any) -> Iterator["ArchivedPath"]:
        """Give what fits a pattern of names, such as `*/*_leftImg8bit.*` or `**/*`."""
        yield from _matches(self, str(pattern).split("/"))

    def read_text(self, *args: Any, **options: Any) -> str:
        """Read a list or table."""
        return read_bytes(self).decode(options.get("encoding") or "utf-8")


def _matches(place: ArchivedPath, patterns: list[str]) -> Iterator[ArchivedPath]:
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        yield from _matches(place, rest)
        for path in place.iterdir():
            if path.is_dir():
                yield from _matches(path, patterns)
        return
    if not place.is_dir():
        return
    for path in place.iterdir():
        if fnmatch.fnmatchcase(path.name, first):
            if not rest:
                yield path
            elif path.is_dir():
                yield from _matches(path, rest)


def archived_root(root: Path) -> Path:
    """Return the root of a dataset as layouts see it: an archive, or a folder with archives, can be walked.

    An archive with a single folder of its own name, as ADEChallengeData2016.zip has, counts as that folder.
    """
    if root.is_file() and zipfile.is_zipfile(root):
        tops = _folders(root)[""]
        return ArchivedPath(root / root.stem if tops == {root.stem} else root)
    if root.is_dir() and any(root.glob("*.zip")):
        return ArchivedPath(root)
    return root


def located(path: Path) -> Path:
    """Return a plain path that names the archive a file is in, and a file on disk as it is."""
    found = None if Path(path).is_file() else _entry(Path(path))
    return found[0] / found[1] if found else Path(path)


def in_archive(path: Path) -> Path | None:
    """Return the archive that holds a file, or None for a file on disk."""
    if ".zip" not in str(path) or path.is_file():
        return None
    found = _entry(path)
    return found[0] if found else None


def read_bytes(path: Path) -> bytes:
    """Read a file, on disk or in an archive.

    Raises:
        DataError: There is no such file, or its archive is damaged.
    """
    try:
        try:
            return Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            found = _entry(Path(path))
            if found is None:
                raise
            entry = _opened(found[0]).getinfo(found[1])
            check_packing(str(path), entry)
            return _opened(found[0]).read(entry)  # never more than it claims
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"No such file: {path}. Check the path.") from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be read: {reason}. It is probably damaged; copy it again."
        ) from error


def check_packing(name: str, entry: zipfile.ZipInfo, size: int = 2**31, ratio: int = 1100) -> None:
    """Refuse a file in an archive that is made to fill the memory, by what the archive says of it.

    Args:
        name: For messages.
        entry: What the archive says.
        size: Most bytes of one file.
        ratio: Most bytes for each packed one; up to 16 MiB it does not matter. Deflate packs a mask of one class by
            1032 at most.

    Raises:
        DataError: It claims more.
    """
    if entry.file_size > size:
        raise DataError(
            f"{name} would take {entry.file_size:,} bytes, more than the {size:,} that are read of one picture. Unpack "
            "the archive if this is meant."
        )
    if entry.file_size > max(_SMALL, ratio * entry.compress_size):
        raise DataError(
            f"{name} is {entry.file_size:,} bytes packed into {entry.compress_size:,}: no picture is, this is made to "
            "fill the memory. Leave it out, or unpack the archive if it is meant."
        )


def _opened(archive: Path) -> zipfile.ZipFile:
    key = (os.getpid(), archive, archive.stat().st_mtime_ns)
    if key not in _HANDLES:
        for old in [old for old in _HANDLES if old[0] != key[0]]:
            _HANDLES.pop(old, None)  # the parent's
        try:
            _HANDLES[key] = zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            raise DataError(
                f"{archive} is not a whole zip archive. Fetch it again, or move it away."
            ) from error
    return _HANDLES[key]


def _places(path: Path) -> Iterator[tuple[Path, str]]:
    """Give each archive that could hold a path, and the path inside it."""
    plain = Path(path)
    for above in (plain, *plain.parents):
        inside = plain.relative_to(above).as_posix()
        inside = "" if inside == "." else inside
        if above.is_file():
            if above.suffix.lower() == ".zip":
                yield above, inside
            return
        if above.is_dir():
            for archive in sorted(above.glob("*.zip")):
                yield archive, inside
            return


def _entry(path: Path) -> tuple[Path, str] | None:
    """Return archive and name inside it, or None."""
    for archive, inside in _places(path):
        above, _, name = inside.rpartition("/")
        if name in _folders(archive).get(above, set()) and inside not in _folders(archive):
            return archive, inside
    return None


def _folders(archive: Path) -> dict[str, set[str]]:
    """Return the folders of an archive and the names in each; "" is its top."""
    return _listed(archive, archive.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _listed(archive: Path, changed: int) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"": set()}
    for name in _opened(archive).namelist():
        parts = [part for part in name.split("/") if part]
        folders = parts if name.endswith("/") else parts[:-1]
        for depth, part in enumerate(parts):
            found.setdefault("/".join(parts[:depth]), set()).add(part)
        found.setdefault("/".join(folders), set())
    return found
