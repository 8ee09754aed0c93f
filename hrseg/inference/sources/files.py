"""Images on disk: files, folders, globs. Folders are read one at a time, when their turn comes."""

import glob
import logging
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Lock

from hrseg.errors import DataError, HrsegError, did_you_mean, guarded
from hrseg.imaging import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from hrseg.imaging.archives import check_packing
from hrseg.inference.sources.base import (
    Limits,
    Picture,
    Source,
    SourceOptions,
    common_folder,
    digest,
    safe_name,
    stems_of,
)

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
        for picture in open_path(os.fspath(word), SourceOptions(recursive=recursive)).pictures():
            if picture.error is not None:
                raise picture.error
            if picture.path is not None:
                found.setdefault(os.path.abspath(picture.path), picture.path)
    return list(found.values())


def open_path(word: str, options: SourceOptions) -> Source:
    """Open a file, a folder or a glob.

    Raises:
        DataError: It means no image.
    """
    path = Path(os.path.expanduser(word))
    if path.is_dir():
        return open_folder(path, options)
    if path.exists():
        return open_file(path)
    if glob.has_magic(str(path)):
        return open_glob(str(path), options)
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


def open_folder(folder: Path, options: SourceOptions) -> Source:
    """Open the images in a folder, by name, and then its subfolders by name.

    Hidden files and folders are left out, links to folders are not followed, and the names of one folder at a
    time are held.

    Raises:
        DataError: There is no image, or the folder cannot be read.
    """
    first = next(_walk(folder, "", options, aloud=False), None)
    if first is None:
        raise DataError(_no_images(folder, options.recursive))
    if first.error is not None and first.origin == str(folder):
        raise first.error
    top = folder.resolve()

    def covers(path: Path) -> bool:
        path = path.resolve()
        inside = top in path.parents if options.recursive else path.parent == top
        return inside and is_image(path) and not _skipped(path.parent, top, options)

    return Source(lambda: _walk(folder, options.inside, options), covers)


def open_glob(pattern: str, options: SourceOptions) -> Source:
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
            yield Picture(str(path), _joined(options.inside, Path(name).as_posix()), path)

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


def _walk(
    folder: Path, inside: str, options: SourceOptions, aloud: bool = True
) -> Iterator[Picture]:
    try:
        images, folders, dangling = _listed(folder)
    except OSError as error:
        yield Picture(str(folder), _joined(inside, "folder"), error=_unreadable(folder, error))
        return
    for name, stem in zip(images, stems_of(images), strict=True):
        path = folder / name
        lost = DataError(_dangling(path)) if name in dangling else None
        yield Picture(str(path), _joined(inside, stem), path, error=lost)
    if not options.recursive:
        return
    for name in folders:
        if options.skip is not None and (folder / name).resolve() == options.skip.resolve():
            if aloud:
                log.info("%s holds the results; it is not read.", folder / name)
            continue
        yield from _walk(folder / name, _joined(inside, name), options, aloud)


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


def _skipped(folder: Path, top: Path, options: SourceOptions) -> bool:
    if options.skip is None:
        return False
    skip = options.skip.resolve()
    return skip != top and (folder == skip or skip in folder.parents)


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(f"Folder {folder} cannot be read: {error.strerror}. Check its permissions.")


def _no_images(folder: Path, recursive: bool) -> str:
    if not recursive:
        deeper = next(_walk(folder, "", SourceOptions(), aloud=False), None)
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


_CHUNK = 1 << 16


def is_list(word: str) -> bool:
    """Tell whether a word is "@" and a file; a file that is itself called so is no list."""
    return word.startswith("@") and len(word) > 1 and not Path(word).exists()


def open_list(
    word: str, options: SourceOptions, opened: Callable[[str, SourceOptions], Source]
) -> Source:
    """Open what the lines of a file mean: empty ones and those that begin with # are left out.

    Relative paths are those of the command line. Files are named by their place below the folder that all files
    of the list share. A line that means nothing is reported like a broken image.

    Args:
        word: "@" and the file.
        wishes: What is asked for.
        opened: What opens a word.

    Raises:
        DataError: The file cannot be read, or is empty.
    """
    path = Path(word[1:]).expanduser()
    known: set[bytes] = set()

    def files() -> Iterator[Path]:
        for line in _lines(path):
            if _is_file(line):
                full = Path(os.path.abspath(Path(line).expanduser()))
                known.add(digest(os.path.realpath(full)))
                yield full

    root = common_folder(files())
    if next(_lines(path), None) is None:
        raise DataError(f"The list {path} is empty. Write one image a line.")

    def pictures() -> Iterator[Picture]:
        for line in _lines(path):
            if _is_file(line):
                file = Path(line).expanduser()
                full = Path(os.path.abspath(file))
                name = full.relative_to(root) if root in full.parents else Path(full.name)  # type: ignore[arg-type]
                yield Picture(str(file), name.with_suffix("").as_posix(), file)
                continue
            try:
                if line == "-" or is_list(line):
                    raise DataError(
                        f"'{line}' in {path} is not an image; lists do not nest, and standard input has one place."
                    )
                with guarded(line):
                    yield from opened(line, options).pictures()
            except HrsegError as error:
                yield Picture(line, "line", error=error)

    return Source(pictures, lambda other: digest(os.path.realpath(other)) in known)


def open_stdin(word: str, options: SourceOptions) -> Source:
    """Open the one image that comes through standard input; its results are called stdin.

    Raises:
        DataError: Standard input is a terminal.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise DataError(
            "'-' reads an image from standard input, and nothing is connected to it. Such as: cat street.png | hrseg "
            "predict -"
        )
    return Source(
        lambda: iter([Picture("stdin", "stdin", fetch=lambda: _read_stdin(options.limits))])
    )


def _read_stdin(limits: Limits) -> bytes:
    """Read by the descriptor: a thread that waits in sys.stdin could not be left behind when the user stops."""
    taken = bytearray()
    while chunk := os.read(sys.stdin.fileno(), _CHUNK):
        taken += chunk
        if len(taken) > limits.size:
            raise DataError(
                f"Standard input gave more than {limits.size:,} bytes, the most that one picture may have. Write it "
                "to a file and name that."
            )
    if not taken:
        raise DataError(
            "Standard input was empty; '-' expects one image, such as from cat street.png."
        )
    return bytes(taken)


def _lines(path: Path) -> Iterator[str]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"The list {path} is no file; it is read twice. Write one first.")
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                text = line.rstrip("\r\n").strip()
                if text and not text.startswith("#"):
                    yield text
    except OSError as error:
        raise DataError(
            f"The list {path} cannot be read: {error.strerror}. '@' is followed by a file with one image a line."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The list {path} is no text in UTF-8. '@' is followed by a text file with one image a line."
        ) from error


def _is_file(line: str) -> bool:
    """Images by their suffix, there or not: what is missing is told when its turn comes."""
    path = Path(line)
    return path.suffix.lower() in IMAGE_SUFFIXES and "://" not in line and not _magic(line)


def _magic(line: str) -> bool:
    return any(letter in line for letter in "*?[") and not Path(line).exists()


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


def open_archive(word: str, options: SourceOptions) -> Source:
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
                fetch=partial(_read, packed, entry, lock, options),
            )

    return Source(pictures, lambda path: False)


def _is_image(entry: zipfile.ZipInfo, inside: str) -> bool:
    path = Path(entry.filename)
    hidden = any((p.startswith(".") and p.strip(".")) or p == "__MACOSX" for p in path.parts)
    within = not inside or entry.filename == inside or entry.filename.startswith(f"{inside}/")
    return within and not entry.is_dir() and not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def _read(
    packed: zipfile.ZipFile, entry: zipfile.ZipInfo, lock: Lock, options: SourceOptions
) -> bytes:
    name, limits = f"{packed.filename}/{entry.filename}", options.limits
    check_packing(name, entry, limits.size, limits.ratio)
    try:
        with lock:
            return packed.read(entry)  # never more than it claims
    except _DAMAGE as error:
        text = "it is encrypted" if "password" in str(error) else str(error) or "it ends too early"
        raise DataError(
            f"{name} cannot be read: {text}. Fetch or pack the archive again."
        ) from error
