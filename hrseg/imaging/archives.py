"""Files inside zip archives, addressed by paths that treat the archive as a folder.

`data/leftImg8bit_trainvaltest.zip/leftImg8bit/train/...` is such a path. A folder with archives also contains their
files, so the archives of a dataset can stay in data.root as they were downloaded.
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
"""Bytes up to which any compression ratio is accepted."""
LARGEST = 256 << 20
"""Bytes of one picture that are read from an archive, an address or a pipe."""
_DEEPEST = 64
"""Folders in folders of an archive; each costs a path."""
_HANDLES: dict[tuple[int, Path, int], zipfile.ZipFile] = {}
"""(process, archive, its time) → open archive: a forked process must not share file positions with its parent."""


class ArchivedPath(type(Path())):  # type: ignore[misc]
    """A path that also finds files in zip archives: a parent that is one, or those in the nearest existing folder.

    It has only the methods that layouts use; for paths on disk they behave as those of `Path`.
    """

    __slots__ = ()

    def is_file(self, **options: Any) -> bool:
        """Return whether it is a file, on disk or in an archive."""
        return Path(self).is_file() or _entry(Path(self)) is not None

    def is_dir(self, **options: Any) -> bool:
        """Return whether it is a folder, on disk or in an archive."""
        return Path(self).is_dir() or any(inside in _folders(a) for a, inside in _candidates(self))

    def exists(self, **options: Any) -> bool:
        """Return whether it is a file or folder."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator["ArchivedPath"]:
        """Yield the files and folders in this folder."""
        names = {path.name for path in Path(self).iterdir()} if Path(self).is_dir() else set()
        for archive, inside in _candidates(self):
            names |= _folders(archive).get(inside, set())
        for name in sorted(names):
            yield self / name

    def glob(self, pattern: Any, **options: Any) -> Iterator["ArchivedPath"]:
        """Yield the paths that match a pattern such as `*/*_leftImg8bit.*` or `**/*`."""
        yield from _matches(self, str(pattern).split("/"))

    def read_text(self, *args: Any, **options: Any) -> str:
        """Return the text of a file."""
        return read_bytes(self).decode(options.get("encoding") or "utf-8")


def _matches(folder: ArchivedPath, patterns: list[str]) -> Iterator[ArchivedPath]:
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        yield from _matches(folder, rest)
        for path in folder.iterdir():
            if path.is_dir():
                yield from _matches(path, patterns)
        return
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if fnmatch.fnmatchcase(path.name, first):
            if not rest:
                yield path
            elif path.is_dir():
                yield from _matches(path, rest)


def archived_root(root: Path) -> Path:
    """Return a dataset's root as a path that layouts can walk, also if it is an archive or a folder with archives.

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
            return _opened(found[0]).read(entry)  # never more than the declared size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"No such file: {path}. Check the path.") from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}. It is probably damaged; copy it again.") from error


def check_packing(name: str, entry: zipfile.ZipInfo, size: int = LARGEST, ratio: int = 1100) -> None:
    """Reject a decompression bomb, by the sizes that the archive declares for a file.

    Args:
        name: For messages.
        entry: The archive's record of the file.
        size: Maximum of its bytes.
        ratio: Maximum of bytes per packed byte, above 16 MiB. Deflate reaches at most 1032, for a mask of one class.

    Raises:
        DataError: It exceeds a maximum.
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
            raise DataError(f"{archive} is not a whole zip archive. Fetch it again, or move it away.") from error
    return _HANDLES[key]


def _candidates(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each archive that could hold a path, and the path inside it."""
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
    for archive, inside in _candidates(path):
        above, _, name = inside.rpartition("/")
        if name in _folders(archive).get(above, set()) and inside not in _folders(archive):
            return archive, inside
    return None


def _folders(archive: Path) -> dict[str, set[str]]:
    """Return the folders of an archive and the names in each; "" is its top."""
    return _listed(archive, archive.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _listed(archive: Path, changed: int) -> dict[str, set[str]]:  # changed: in the cache's key
    found: dict[str, set[str]] = {"": set()}
    for name in _opened(archive).namelist():
        parts = [part for part in name.split("/") if part]
        if len(parts) > _DEEPEST:
            raise DataError(
                f"{archive} holds a path of {len(parts):,} folders in each other, and {_DEEPEST} are read. Unpack the "
                "archive if this is meant."
            )
        folders = parts if name.endswith("/") else parts[:-1]
        for depth, part in enumerate(parts):
            found.setdefault("/".join(parts[:depth]), set()).add(part)
        found.setdefault("/".join(folders), set())
    return found
