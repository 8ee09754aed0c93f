"""Images inside zip archives, in the order of the archive, and nothing that would fill the memory."""

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Lock

from hrseg.archived import check_packing
from hrseg.errors import DataError
from hrseg.imaging import IMAGE_SUFFIXES
from hrseg.inference.sources.names import safe_name
from hrseg.inference.sources.picture import Picture, Source, Wishes

_DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)


def archive_of(word: str) -> tuple[Path, str] | None:
    """Split "a.zip/inner" into the archive and the place in it; None where no part is an archive.

    Example:
        >>> archive_of("nowhere/b.png") is None
        True
    """
    path = Path(word).expanduser()
    for above in (path, *path.parents):
        if above.suffix.lower() == ".zip" and above.is_file():
            inside = path.relative_to(above).as_posix()
            return above, "" if inside == "." else inside
    return None


def open_archive(word: str, wishes: Wishes) -> Source:
    """Open the images in an archive, in a folder of it, or one of them.

    Results are named as the files inside, below the archive's own name.

    Raises:
        DataError: It is damaged, or holds no image.
    """
    found = archive_of(word)
    if found is None:
        raise DataError(f"No such archive: {word}. Check the path.")
    archive, inside = found
    try:
        # open until the last picture is read: its list is read once, and stays in memory
        packed = zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise DataError(
            f"{archive} is not a whole zip archive ({error}). Fetch it again, or unpack what can be had of it."
        ) from error
    members = [entry for entry in packed.infolist() if _is_image(entry, inside)]
    if not members:
        where = f"{archive}/{inside}" if inside else str(archive)
        raise DataError(
            f"{where} holds no images. Images end in {', '.join(sorted(IMAGE_SUFFIXES))}; videos and archives in "
            "archives have to be unpacked."
        )
    lock = Lock()  # an archive has one place where it reads

    def pictures() -> Iterator[Picture]:
        for entry in members:
            yield Picture(
                f"{archive}/{entry.filename}",
                f"{archive.stem}/{safe_name(entry.filename)}",
                fetch=partial(_read, packed, entry, lock, wishes),
            )

    return Source(pictures, lambda path: False)


def _is_image(entry: zipfile.ZipInfo, inside: str) -> bool:
    path = Path(entry.filename)
    hidden = any((p.startswith(".") and p.strip(".")) or p == "__MACOSX" for p in path.parts)
    within = not inside or entry.filename == inside or entry.filename.startswith(f"{inside}/")
    return within and not entry.is_dir() and not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def _read(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, lock: Lock, wishes: Wishes) -> bytes:
    name, limits = f"{packed.filename}/{entry.filename}", wishes.limits
    check_packing(name, entry, limits.size, limits.ratio)
    try:
        with lock:
            return packed.read(entry)  # never more than it claims
    except _DAMAGE as error:
        text = "it is encrypted" if "password" in str(error) else str(error) or "it ends too early"
        raise DataError(
            f"{name} cannot be read: {text}. Fetch or pack the archive again."
        ) from error
