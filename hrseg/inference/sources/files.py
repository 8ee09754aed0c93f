"""Images on disk, in lists, in zip archives and from standard input; one folder is read at a time."""

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


def expand(arguments: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """List the images of files, folders and globs, each once, in the order of the arguments and then by name.

    Args:
        arguments: Files (of any suffix), folders, and globs, where `**` matches any depth.
        recursive: Whether folders include their subfolders.

    Raises:
        DataError: An argument that matches no image.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        for picture in open_path(os.fspath(argument), SourceOptions(recursive=recursive)).pictures():
            if picture.error is not None:
                raise picture.error
            if picture.path is not None:
                found.setdefault(os.path.abspath(picture.path), picture.path)
    return list(found.values())


def open_path(argument: str, options: SourceOptions) -> Source:
    """Open a file, a folder or a glob.

    Raises:
        DataError: It matches no image.
    """
    path = Path(os.path.expanduser(argument))
    if path.is_dir():
        return open_folder(path, options)
    if path.exists():
        return open_file(path)
    if glob.has_magic(str(path)):
        return open_glob(str(path), options)
    if path.is_symlink():
        raise DataError(_dangling(path))
    raise DataError(
        f"No such file or folder: {path}.{_suggest(path)} Give images, folders or globs, such as "
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

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        DataError: There is no image, or the folder cannot be read.
    """
    first = next(_walk(folder, "", options, verbose=False), None)
    if first is None:
        raise DataError(_no_images(folder, options.recursive))
    if first.error is not None and first.origin == str(folder):
        raise first.error
    top = folder.resolve()

    def covers(path: Path) -> bool:
        path = path.resolve()
        prefix = top in path.parents if options.recursive else path.parent == top
        return prefix and is_image(path) and not _skipped(path.parent, top, options)

    return Source(lambda: _walk(folder, options.prefix, options), covers)


def open_glob(pattern: str, options: SourceOptions) -> Source:
    """Open the images that a glob matches, by name. Raises DataError where there is none."""
    found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    paths = [path for path in found if is_image(Path(path))]
    if not paths:
        there = f" It matches other files, such as {Path(found[0]).name}." if found else ""
        raise DataError(f"No image matches {pattern}.{there} Check the folder; '**' reaches into subfolders.")
    root = glob_root(pattern)
    known = {digest(os.path.realpath(path)) for path in paths}

    def pictures() -> Iterator[Picture]:
        for path in map(Path, paths):
            name = path.relative_to(root).with_suffix("") if root in path.parents else path.stem
            yield Picture(str(path), _join(options.prefix, Path(name).as_posix()), path)

    return Source(pictures, lambda path: digest(os.path.realpath(path)) in known)


def glob_root(pattern: str) -> Path:
    """Return the folder above the first part with a wildcard.

    Example:
        >>> glob_root("photos/cam?/*.png").as_posix()
        'photos'
    """
    parts = Path(pattern).parts
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:first])


def is_image(path: Path) -> bool:
    """Return whether a path is a visible file with an image's suffix."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _walk(folder: Path, prefix: str, options: SourceOptions, verbose: bool = True) -> Iterator[Picture]:
    try:
        images, folders, dangling = _list(folder)
    except OSError as error:
        yield Picture(str(folder), _join(prefix, "folder"), error=_unreadable(folder, error))
        return
    for name, stem in zip(images, stems_of(images), strict=True):
        path = folder / name
        lost = DataError(_dangling(path)) if name in dangling else None
        yield Picture(str(path), _join(prefix, stem), path, error=lost)
    if not options.recursive:
        return
    for name in folders:
        if options.skip is not None and (folder / name).resolve() == options.skip.resolve():
            if verbose:
                log.info("%s holds the results; it is not read.", folder / name)
            continue
        yield from _walk(folder / name, _join(prefix, name), options, verbose)


def _list(folder: Path) -> tuple[list[str], list[str], set[str]]:
    """Return images, folders, and the images that are broken links, which are reported, not left out."""
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
    return f"{path} is a link to {os.readlink(path)}, which is not there. Mend the link or remove it."


def _skipped(folder: Path, top: Path, options: SourceOptions) -> bool:
    if options.skip is None:
        return False
    skip = options.skip.resolve()
    return skip != top and (folder == skip or skip in folder.parents)


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(f"Folder {folder} cannot be read: {error.strerror}. Check its permissions.")


def _no_images(folder: Path, recursive: bool) -> str:
    if not recursive:
        subfolder = next(_walk(folder, "", SourceOptions(), verbose=False), None)
        below = "" if subfolder is None or subfolder.path is None else subfolder.path.parent
        there = f" {below} has some: name it, or use '{folder}/**/*'." if below else ""
        return f"Folder {folder} holds no images itself.{there} Images end in {_suffixes()}."
    other = next((path.name for path in sorted(folder.iterdir()) if path.is_file()), None)
    there = f" It holds other files, such as {other}; videos and archives are named one by one."
    return f"Folder {folder} holds no images.{there if other else ''} Images end in {_suffixes()}."


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _suggest(path: Path) -> str:
    try:
        return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def _join(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


_CHUNK = 1 << 16


def is_list(argument: str) -> bool:
    """Return whether an argument is "@" and a file name, and not itself the name of a file."""
    return argument.startswith("@") and len(argument) > 1 and not Path(argument).exists()


def open_list(argument: str, options: SourceOptions, open_argument: Callable[[str, SourceOptions], Source]) -> Source:
    """Open each line of a text file as an argument; empty lines and those that begin with # are left out.

    Paths are relative to the working folder. Files are named by their path below the folder that all of them share.
    A line that matches nothing is reported like a broken image.

    Raises:
        DataError: The file cannot be read, or is empty.
    """
    path = Path(argument[1:]).expanduser()
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
                    yield from open_argument(line, options).pictures()
            except HrsegError as error:
                yield Picture(line, "line", error=error)

    return Source(pictures, lambda other: digest(os.path.realpath(other)) in known)


def open_stdin(argument: str, options: SourceOptions) -> Source:
    """Open the one image on standard input; its results are named stdin.

    Raises:
        DataError: Standard input is a terminal.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise DataError(
            "'-' reads an image from standard input, and nothing is connected to it. Such as: cat street.png | hrseg "
            "predict -"
        )
    return Source(lambda: iter([Picture("stdin", "stdin", fetch=lambda: _read_stdin(options.limits))]))


def _read_stdin(limits: Limits) -> bytes:
    """Read the descriptor: a thread blocked in sys.stdin would prevent exit after Ctrl-C."""
    taken = bytearray()
    while chunk := os.read(sys.stdin.fileno(), _CHUNK):
        taken += chunk
        if len(taken) > limits.size:
            raise DataError(
                f"Standard input gave more than {limits.size:,} bytes, the most that one picture may have. Write it "
                "to a file and name that."
            )
    if not taken:
        raise DataError("Standard input was empty; '-' expects one image, such as from cat street.png.")
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
    """Return whether a line names an image file by its suffix; a missing file is reported when it is read."""
    path = Path(line)
    return path.suffix.lower() in IMAGE_SUFFIXES and "://" not in line and not _is_glob(line)


def _is_glob(line: str) -> bool:
    return any(letter in line for letter in "*?[") and not Path(line).exists()


_ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    NotImplementedError,
)


def archive_of(argument: str) -> tuple[Path, str] | None:
    """Split "a.zip/inner" into the archive and the path in it; None where no part is an archive.

    Example:
        >>> archive_of("nowhere/b.png") is None
        True
    """
    path = Path(argument).expanduser()
    for above in (path, *path.parents):
        if above.suffix.lower() == ".zip" and above.is_file():
            prefix = path.relative_to(above).as_posix()
            return above, "" if prefix == "." else prefix
    return None


def open_archive(argument: str, options: SourceOptions) -> Source:
    """Open the images in a zip archive, in a folder of it, or one of them.

    Raises:
        DataError: It is damaged, or holds no image.
    """
    found = archive_of(argument)
    if found is None:
        raise DataError(f"No such archive: {argument}. Check the path.")
    archive, prefix = found
    try:
        # stays open until the last picture is read, so that the directory is read once
        archive_file = zipfile.ZipFile(archive)
    except _ARCHIVE_ERRORS as error:
        raise DataError(
            f"{archive} is not a whole zip archive ({error}). Fetch it again, or unpack what can be had of it."
        ) from error
    members = [entry for entry in archive_file.infolist() if _is_image(entry, prefix)]
    if not members:
        where = f"{archive}/{prefix}" if prefix else str(archive)
        raise DataError(
            f"{where} holds no images. Images end in {', '.join(sorted(IMAGE_SUFFIXES))}; videos and archives in "
            "archives have to be unpacked."
        )
    lock = Lock()  # a ZipFile has one read position

    def pictures() -> Iterator[Picture]:
        for entry in members:
            yield Picture(
                f"{archive}/{entry.filename}",
                f"{archive.stem}/{safe_name(entry.filename)}",
                fetch=partial(_read, archive_file, entry, lock, options),
            )

    return Source(pictures, lambda path: False)


def _is_image(entry: zipfile.ZipInfo, prefix: str) -> bool:
    path = Path(entry.filename)
    hidden = any((p.startswith(".") and p.strip(".")) or p == "__MACOSX" for p in path.parts)
    within = not prefix or entry.filename == prefix or entry.filename.startswith(f"{prefix}/")
    return within and not entry.is_dir() and not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def _read(archive_file: zipfile.ZipFile, entry: zipfile.ZipInfo, lock: Lock, options: SourceOptions) -> bytes:
    name, limits = f"{archive_file.filename}/{entry.filename}", options.limits
    check_packing(name, entry, limits.size, limits.ratio)
    try:
        with lock:
            return archive_file.read(entry)  # never more than it claims
    except _ARCHIVE_ERRORS as error:
        text = "it is encrypted" if "password" in str(error) else str(error) or "it ends too early"
        raise DataError(f"{name} cannot be read: {text}. Fetch or pack the archive again.") from error
