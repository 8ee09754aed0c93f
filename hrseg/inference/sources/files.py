"""Images on disk: files, folders, globs. Folders are read one at a time, when their turn comes."""

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hrseg.errors import DataError, did_you_mean
from hrseg.imaging import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from hrseg.inference.sources.names import digest, stems_of
from hrseg.inference.sources.picture import Picture, Source, Wishes

log = logging.getLogger(__name__)

SUFFIXES = IMAGE_SUFFIXES | ARRAY_SUFFIXES


def expand(words: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """List the images on disk that words mean, for callers that need all of them at once.

    A file is taken as it is, whatever its suffix. A folder stands for the images in it; a glob for the images it
    matches, `**` for any depth. Order is that of the words, by name inside a folder or glob, and an image meant
    twice is listed once.

    Args:
        words: Files, folders and globs.
        recursive: Whether folders stand for their subfolders too.

    Raises:
        DataError: A word that means no image.
    """
    found: dict[str, Path] = {}
    for word in words:
        for picture in open_path(os.fspath(word), Wishes(recursive=recursive)).pictures():
            if picture.error is not None:
                raise picture.error
            if picture.path is not None:
                found.setdefault(os.path.abspath(picture.path), picture.path)
    return list(found.values())


def open_path(word: str, wishes: Wishes) -> Source:
    """Open a file, a folder or a glob.

    Raises:
        DataError: It means no image.
    """
    path = Path(os.path.expanduser(word))
    if path.is_dir():
        return open_folder(path, wishes)
    if path.exists():
        return open_file(path)
    if glob.has_magic(str(path)):
        return open_glob(str(path), wishes)
    if path.is_symlink():
        raise DataError(_dangling(path))
    raise DataError(
        f"No such file or folder: {path}.{_near(path)} Give images, folders or globs, such as "
        "photos/ or 'photos/*.jpg'."
    )


def open_file(path: Path) -> Source:
    """Open one image, whatever its suffix."""
    return Source(
        lambda: iter([Picture(str(path), path.stem, path)]),
        lambda other: other.resolve() == path.resolve(),
    )


def open_folder(folder: Path, wishes: Wishes) -> Source:
    """Open the images in a folder, by name, and then its subfolders by name.

    Hidden files and folders are left out, links to folders are not followed, and the names of one folder at a
    time are held.

    Raises:
        DataError: There is no image, or the folder cannot be read.
    """
    first = next(_walk(folder, "", wishes, aloud=False), None)
    if first is None:
        raise DataError(_no_images(folder, wishes.recursive))
    if first.error is not None and first.origin == str(folder):
        raise first.error
    top = folder.resolve()

    def covers(path: Path) -> bool:
        path = path.resolve()
        inside = top in path.parents if wishes.recursive else path.parent == top
        return inside and is_image(path) and not _skipped(path.parent, top, wishes)

    return Source(lambda: _walk(folder, wishes.inside, wishes), covers)


def open_glob(pattern: str, wishes: Wishes) -> Source:
    """Open the images that a glob matches, by name; `**` reaches into subfolders.

    Raises:
        DataError: There is none.
    """
    found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    paths = [path for path in found if is_image(Path(path))]
    if not paths:
        there = f" It matches other files, such as {Path(found[0]).name}." if found else ""
        raise DataError(
            f"No image matches {pattern}.{there} Check the folder; '**' reaches into subfolders."
        )
    root = glob_root(pattern)
    known = {digest(os.path.realpath(path)) for path in paths}

    def pictures() -> Iterator[Picture]:
        for path in map(Path, paths):
            name = path.relative_to(root).with_suffix("") if root in path.parents else path.stem
            yield Picture(str(path), _joined(wishes.inside, Path(name).as_posix()), path)

    return Source(pictures, lambda path: digest(os.path.realpath(path)) in known)


def glob_root(pattern: str) -> Path:
    """Return the folder above the first part with a wildcard.

    Example:
        >>> glob_root("photos/cam?/*.png").as_posix()
        'photos'
    """
    parts = Path(pattern).parts
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:plain])


def is_image(path: Path) -> bool:
    """Tell whether a path is a visible file with an image's suffix."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _walk(folder: Path, inside: str, wishes: Wishes, aloud: bool = True) -> Iterator[Picture]:
    try:
        images, folders, dangling = _listed(folder)
    except OSError as error:
        yield Picture(str(folder), _joined(inside, "folder"), error=_unreadable(folder, error))
        return
    for name, stem in zip(images, stems_of(images), strict=True):
        path = folder / name
        lost = DataError(_dangling(path)) if name in dangling else None
        yield Picture(str(path), _joined(inside, stem), path, error=lost)
    if not wishes.recursive:
        return
    for name in folders:
        if wishes.skip is not None and (folder / name).resolve() == wishes.skip.resolve():
            if aloud:
                log.info("%s holds the results; it is not read.", folder / name)
            continue
        yield from _walk(folder / name, _joined(inside, name), wishes, aloud)


def _listed(folder: Path) -> tuple[list[str], list[str], set[str]]:
    """Return images, folders, and which of the images are links that lead nowhere: they are named, not left out."""
    images, folders, dangling = [], [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                if entry.is_symlink() and not os.path.exists(entry.path):
                    dangling.add(entry.name)
                elif not entry.is_file():
                    continue
                images.append(entry.name)
    return sorted(images), sorted(folders), dangling


def _dangling(path: Path) -> str:
    return (
        f"{path} is a link to {os.readlink(path)}, which is not there. Mend the link or remove it."
    )


def _skipped(folder: Path, top: Path, wishes: Wishes) -> bool:
    if wishes.skip is None:
        return False
    skip = wishes.skip.resolve()
    return skip != top and (folder == skip or skip in folder.parents)


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(f"Folder {folder} cannot be read: {error.strerror}. Check its permissions.")


def _no_images(folder: Path, recursive: bool) -> str:
    if not recursive:
        deeper = next(_walk(folder, "", Wishes(), aloud=False), None)
        below = "" if deeper is None or deeper.path is None else deeper.path.parent
        there = f" {below} has some: name it, or use '{folder}/**/*'." if below else ""
        return f"Folder {folder} holds no images itself.{there} Images end in {_suffixes()}."
    other = next((path.name for path in sorted(folder.iterdir()) if path.is_file()), None)
    there = f" It holds other files, such as {other}; videos and archives are named one by one."
    return f"Folder {folder} holds no images.{there if other else ''} Images end in {_suffixes()}."


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _near(path: Path) -> str:
    try:
        return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def _joined(inside: str, name: str) -> str:
    return f"{inside}/{name}" if inside else name
